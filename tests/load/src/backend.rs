//! The application: answers HTTP/1 and HTTP/2 with the same 128 bytes, or 1 MiB, and echoes other bytes.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::spawn_local,
};

/// Body of the small response.
pub const BODY: &[u8; 128] = &[FILL; 128];
/// Path of the large response.
pub const LARGE_PATH: &str = "/large";
/// Length of the large response.
pub const LARGE: usize = 1 << 20;
/// Byte that fills every response.
pub const FILL: u8 = b'm';

/// Executor that spawns on the current thread.
#[derive(Copy, Clone)]
pub struct Local;

impl<F: Future + 'static> Executor<F> for Local
where
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

/// Listens, and serves HTTP on tasks of the running `LocalSet` from then on.
pub fn start(addr: SocketAddr) -> Result<SocketAddr> {
    let large = Bytes::from(vec![FILL; LARGE]);
    accept(addr, move |socket| {
        let large = large.clone();
        async move {
            let service = service_fn(|request: Request<Incoming>| {
                let body = match (request.method(), request.uri().path()) {
                    (&Method::HEAD, _) => Bytes::new(),
                    (_, LARGE_PATH) => large.clone(),
                    _ => Bytes::from_static(BODY),
                };
                std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(body))))
            });
            // A client may close the connection at any time.
            let _ = auto::Builder::new(Local)
                .serve_connection(TokioIo::new(socket), service)
                .await;
        }
    })
}

/// Listens, and echoes all bytes.
pub fn echo(addr: SocketAddr) -> Result<SocketAddr> {
    accept(addr, |mut socket| async move {
        let mut bytes = [0; BODY.len()];
        while let Ok(read @ 1..) = socket.read(&mut bytes).await {
            if socket.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    })
}

/// Listens with a backlog for a burst.
pub fn listen(addr: SocketAddr) -> Result<TcpListener> {
    proxy_transport::listen(addr)
        .and_then(|socket| TcpListener::from_std(socket).map_err(Into::into))
        .with_context(|| format!("cannot listen on {addr}"))
}

fn accept<F>(addr: SocketAddr, serve: impl Fn(TcpStream) -> F + 'static) -> Result<SocketAddr>
where
    F: Future<Output = ()> + 'static,
{
    let listener = listen(addr)?;
    let addr = listener.local_addr()?;
    spawn_local(async move {
        while let Some(socket) = next(&listener).await {
            spawn_local(serve(socket));
        }
    });
    Ok(addr)
}

async fn next(listener: &TcpListener) -> Option<TcpStream> {
    let (socket, _) = listener.accept().await.ok()?;
    // Send small responses at once.
    let _ = socket.set_nodelay(true);
    Some(socket)
}
