//! The bare pair: the cost of hyper and rustls alone for the same bytes. No discovery, no policy, no metrics.
//!
//! HTTP/1 in, one HTTP/2 connection with mutual TLS between the two, HTTP/1 out; or HTTP/2 all the way; or bytes, each
//! connection in a TLS connection of its own. TLS is configured as in the mesh, with the streams of tokio-rustls. One
//! thread does it all, or several with a runtime and connections of their own, like the workers of the mesh.

mod accepts;
pub(crate) mod http2;
mod tcp;

use std::{cell::RefCell, convert::Infallible, net::SocketAddr, path::PathBuf, rc::Rc};

use anyhow::{Context as _, Result};
use http::{Request, Response, Uri, Version, header::HOST, uri};
use hyper::{
    body::Incoming,
    client::conn::{http1 as client1, http2 as client2},
    server::conn::http1 as server1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use proxy_tls::{Alpn, Anchors, Credentials, Tls};
use tests_harness::{Pki, certificates::identity};
use tokio::{
    net::TcpStream,
    task::{LocalSet, spawn_local},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream as ClientStream, server::TlsStream as ServerStream};

pub(crate) use self::accepts::Accepts;
use crate::orders::{self, Answer};

/// Protocol that a bare pair carries.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Speaks {
    /// HTTP/1, as HTTP/2 between the two
    Http1,
    /// HTTP/2
    Http2,
    /// Bytes
    Tcp,
}

impl Speaks {
    /// Name on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tcp => "tcp",
        }
    }
}

/// Options of a bare sidecar.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// Address to forward to
    #[arg(long)]
    pub(crate) target: SocketAddr,
    /// Protocol
    #[arg(long)]
    pub(crate) speaks: Speaks,
    /// Directory with trust anchor and issuer, as the benchmark writes them
    #[arg(long, value_name = "DIR")]
    pub(crate) pki: PathBuf,
    /// Threads
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
}

/// Runs the client side until it is killed.
pub(crate) fn outbound(args: &Args) -> Result<()> {
    match args.speaks {
        Speaks::Http1 => on_threads(args, "client", serve_outbound),
        Speaks::Http2 => on_threads(args, "client", http2::outbound),
        Speaks::Tcp => on_threads(args, "client", tcp::outbound),
    }
}

/// Runs the server side until it is killed.
pub(crate) fn inbound(args: &Args) -> Result<()> {
    match args.speaks {
        Speaks::Http1 => on_threads(args, "server", serve_inbound),
        Speaks::Http2 => on_threads(args, "server", http2::inbound),
        Speaks::Tcp => on_threads(args, "server", tcp::inbound),
    }
}

fn on_threads<F>(
    args: &Args,
    account: &str,
    serve: impl Fn(Accepts, SocketAddr, Tls) -> F + Copy + Send + 'static,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let (tls, target) = (tls(&args.pki, account)?, args.target);
    let mut others = Vec::new();
    for _ in 1..args.workers {
        let (to, accepts) = Accepts::other();
        others.push(to);
        let tls = tls.clone();
        let thread = move || {
            // The load sees that its answers are missing; there is no other way out of a measurement.
            if let Err(error) = on_this_thread(async { serve(accepts, target, tls).await }) {
                eprintln!("mesh-bench: {error:#}");
                std::process::exit(1);
            }
        };
        std::thread::Builder::new().name("bare".to_owned()).spawn(thread)?;
    }
    on_this_thread(async {
        let accepts = Accepts::first(crate::backend::listen(args.listen)?, others);
        orders::answer(&Answer::Listening(accepts.local_addr()?))?;
        serve(accepts, target, tls).await
    })
}

fn on_this_thread(serve: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(serve))
}

fn tls(pki: &std::path::Path, account: &str) -> Result<Tls> {
    workload(&Pki::load(pki)?, account)
}

/// Identity of a workload of the benchmark.
pub(crate) fn workload(pki: &Pki, account: &str) -> Result<Tls> {
    let name = identity("bench", account);
    let made = pki.credentials(&name);
    let tls = Tls::new(name.parse()?, Anchors::from_pem(&pki.anchors_pem())?)?;
    tls.publish(&Credentials::new(
        made.leaf_der,
        made.intermediates_der,
        made.key_pkcs8_der,
        made.valid_until,
    ))?;
    Ok(tls)
}

/// The client side, on one thread.
pub(crate) async fn serve_outbound(mut accepts: Accepts, target: SocketAddr, tls: Tls) -> Result<()> {
    let sender = http2::connect(secure(target, &tls).await?).await?;
    loop {
        let socket = accepts.accept().await?;
        let sender = sender.clone();
        spawn_local(async move {
            let service = service_fn(move |request| to_http2(sender.clone(), request));
            // A client that goes away is the client's affair.
            let _ = server1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

/// A TLS connection to the other side.
async fn secure(target: SocketAddr, tls: &Tls) -> Result<ClientStream<TcpStream>> {
    let server = identity("bench", "server").try_into()?;
    let connector = TlsConnector::from(tls.client_config(Alpn::None));
    Ok(connector.connect(server, connect(target).await?).await?)
}

/// A TLS connection from the other side.
async fn accept(socket: TcpStream, tls: &Tls) -> Result<ServerStream<TcpStream>> {
    let config = tls.server_config(Alpn::None).context("the server has no leaf")?;
    Ok(TlsAcceptor::from(config).accept(socket).await?)
}

async fn connect(target: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(target)
        .await
        .with_context(|| format!("cannot connect to {target}"))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

async fn to_http2(
    mut sender: client2::SendRequest<Incoming>,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, hyper::Error> {
    let host = request.headers_mut().remove(HOST);
    let authority = host.and_then(|host| uri::Authority::from_maybe_shared(bytes::Bytes::from_owner(host)).ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(uri::Scheme::HTTP);
    parts.authority = authority;
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    *request.version_mut() = Version::HTTP_2;
    let mut response = sender.send_request(request).await?;
    *response.version_mut() = Version::HTTP_11;
    Ok(response)
}

/// The server side, on one thread.
pub(crate) async fn serve_inbound(mut accepts: Accepts, target: SocketAddr, tls: Tls) -> Result<()> {
    let pool = Rc::new(Pool {
        target,
        idle: RefCell::default(),
    });
    loop {
        let socket = accepts.accept().await?;
        let (tls, pool) = (tls.clone(), pool.clone());
        spawn_local(async move {
            let Ok(accepted) = accept(socket, &tls).await else {
                return;
            };
            let service = service_fn(move |request| to_http1(pool.clone(), request));
            let connection = http2::server().serve_connection(TokioIo::new(accepted), service);
            let _ = connection.await; // As above.
        });
    }
}

/// Connections to the application.
struct Pool {
    target: SocketAddr,
    idle: RefCell<Vec<client1::SendRequest<Incoming>>>,
}

impl Pool {
    async fn take(&self) -> Result<client1::SendRequest<Incoming>> {
        let idle = {
            let mut idle = self.idle.borrow_mut();
            idle.retain(|sender| !sender.is_closed());
            idle.iter()
                .rposition(|sender| sender.is_ready())
                .map(|at| idle.swap_remove(at))
        };
        if let Some(sender) = idle {
            return Ok(sender);
        }
        let socket = connect(self.target).await?;
        let (sender, connection) = client1::handshake(TokioIo::new(socket)).await?;
        spawn_local(connection);
        Ok(sender)
    }
}

async fn to_http1(pool: Rc<Pool>, request: Request<Incoming>) -> Result<Response<Incoming>, Infallible> {
    match exchange(&pool, request).await {
        Ok(response) => Ok(response),
        // The load sees that its answer is missing; there is no other way out of a measurement.
        Err(error) => {
            eprintln!("mesh-bench: {error:#}");
            std::process::exit(1);
        }
    }
}

async fn exchange(pool: &Pool, mut request: Request<Incoming>) -> Result<Response<Incoming>> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = parts.authority.take() {
        request
            .headers_mut()
            .insert(HOST, http::HeaderValue::from_str(authority.as_str())?);
    }
    parts.scheme = None;
    *request.uri_mut() = Uri::from_parts(parts)?;
    *request.version_mut() = Version::HTTP_11;
    let mut sender = pool.take().await?;
    sender.ready().await?;
    let mut response = sender.send_request(request).await?;
    pool.idle.borrow_mut().push(sender);
    *response.version_mut() = Version::HTTP_2;
    Ok(response)
}
