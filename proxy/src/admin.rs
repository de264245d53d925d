//! The admin server of the proxy: the endpoints of every program, the proxy's own, and mesh TLS for clients that ask
//! for the proxy's identity.

mod access;

use std::{collections::BTreeMap, convert::Infallible, io, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{RawQuery, State},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::BytesMut;
use hyper_util::service::TowerToHyperService;
use proxy_core::{authorize::ClientTls, detect};
use proxy_discovery::{Discovery, Status};
use proxy_metrics::Metrics;
use proxy_model::{Id, limits::DETECT_TLS_BYTES};
use proxy_process::{
    admin::Admin,
    local::LocalClient,
    log,
    serve::{self, Acceptor, AnyIo, Client, Plain},
};
use proxy_tls::{Alpn, Tls};
use proxy_transport::{
    PrefixedIo,
    peek::{Peek, peek},
};
use tokio::{
    io::AsyncRead,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use access::Reader;

pub(crate) use access::Gate;

/// Time for a client's first bytes; upstream's figure.
const DETECT: Duration = Duration::from_secs(1);
/// Initial size of the buffer for them: a ClientHello with a hybrid key share fits.
const HELLO_BYTES: usize = 2048;

/// State of the proxy that its own endpoints show or change.
#[derive(Clone, Debug)]
pub(crate) struct AdminState {
    pub(crate) log: log::Handle,
    pub(crate) discovery: Discovery,
    pub(crate) environment: Arc<BTreeMap<String, String>>,
    /// Begins the shutdown; none if the endpoint is disabled.
    pub(crate) shutdown: Option<CancellationToken>,
    pub(crate) gate: Gate,
}

impl AsRef<Gate> for AdminState {
    fn as_ref(&self) -> &Gate {
        &self.gate
    }
}

/// The proxy's own endpoints.
pub(crate) fn router(state: AdminState) -> Router {
    Router::new()
        .route("/env.json", get(environment))
        .route("/discovery.json", get(discovery))
        .route("/shutdown", post(shutdown))
        .route("/proxy-log-level", get(log_level).put(set_log_level))
        .with_state(state)
}

async fn environment(State(state): State<AdminState>, _: Reader, RawQuery(query): RawQuery) -> Response {
    let wanted: Vec<_> = query
        .iter()
        .flat_map(|q| q.split('&'))
        .filter(|name| !name.is_empty())
        .collect();
    let shown = state
        .environment
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.contains(&name.as_str()));
    Json(shown.collect::<BTreeMap<_, _>>()).into_response()
}

async fn discovery(State(state): State<AdminState>, _: Reader) -> Json<Vec<Status>> {
    let mut status = state.discovery.status();
    status.sort_by(|a, b| (a.kind, &a.target).cmp(&(b.kind, &b.target)));
    Json(status)
}

async fn shutdown(State(state): State<AdminState>, _: LocalClient) -> Response {
    match &state.shutdown {
        None => (StatusCode::NOT_FOUND, "shutdown endpoint is not enabled").into_response(),
        Some(stop) => {
            tracing::info!("shutting down: POST /shutdown");
            stop.cancel();
            "shutdown\n".into_response()
        }
    }
}

async fn log_level(State(state): State<AdminState>, _: LocalClient) -> String {
    state.log.filter()
}

async fn set_log_level(State(state): State<AdminState>, _: LocalClient, filter: String) -> Response {
    match state.log.set_filter(&filter) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

/// Beginning of a connection to one of the proxy's own ports.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// TLS for the proxy's identity.
    Ours,
    /// Anything else.
    NotOurs,
    /// Nothing, in time.
    Silent,
}

/// Reads the first bytes of a connection, which the returned stream repeats.
pub(crate) async fn read_client_hello<I: AsyncRead + Unpin>(mut io: I, local_id: &Id) -> (Hello, PrefixedIo<I>) {
    let mut buf = BytesMut::with_capacity(HELLO_BYTES);
    let reading = peek(
        &mut io,
        &mut buf,
        DETECT_TLS_BYTES.value,
        |bytes| match detect::client_hello(bytes) {
            detect::Hello::Hello { sni } if sni.as_deref() == Some(local_id.as_str()) => Some(Hello::Ours),
            detect::Hello::NeedMore => None,
            _ => Some(Hello::NotOurs),
        },
    );
    let hello = match tokio::time::timeout(DETECT, reading).await {
        Ok(Ok(Peek::Known(hello))) => hello,
        Ok(Ok(Peek::Unknown)) => Hello::NotOurs,
        Ok(Ok(Peek::Closed) | Err(_)) => Hello::Silent,
        Err(_) if buf.is_empty() => Hello::Silent,
        Err(_) => Hello::NotOurs,
    };
    (hello, PrefixedIo::new(buf.freeze(), io))
}

/// Connections to the admin port: mesh TLS for clients that ask for the proxy's identity, else plaintext.
struct MeshOrPlain {
    tls: Tls,
    plain: Plain,
}

impl Acceptor for MeshOrPlain {
    type Service = TowerToHyperService<Router>;

    async fn accept(&self, socket: TcpStream, client: Client) -> io::Result<(AnyIo, Self::Service)> {
        let (hello, stream) = read_client_hello(socket, self.tls.local_id()).await;
        let (stream, tls): (AnyIo, _) = match hello {
            Hello::Ours => {
                let accepted = self.tls.accept(stream, Alpn::None).await;
                let accepted = accepted.map_err(io::Error::other)?;
                let client_id = accepted.client_id;
                (Box::new(accepted.io), ClientTls::Mesh { client_id })
            }
            Hello::NotOurs => (Box::new(stream), ClientTls::None),
            Hello::Silent => return Err(io::ErrorKind::TimedOut.into()),
        };
        let router = self.plain.router(client).layer(Extension(tls));
        Ok((stream, TowerToHyperService::new(router)))
    }
}

/// Services of connections, behind the gate.
fn guarded(admin: &Admin, gate: Gate) -> Plain {
    let Plain { service, probes } = admin.plain();
    let service = service.layer(middleware::from_fn_with_state(gate, access::check));
    Plain { service, probes }
}

/// Server of the admin port.
pub(crate) struct Server {
    pub(crate) admin: Admin,
    pub(crate) tls: Tls,
    pub(crate) metrics: Metrics,
    pub(crate) gate: Gate,
}

impl Server {
    /// Serves until `stop`.
    pub(crate) async fn serve(self, listener: TcpListener, stop: CancellationToken) -> Result<(), Infallible> {
        let Self {
            admin,
            tls,
            metrics,
            gate,
        } = self;
        if let Ok(addr) = listener.local_addr() {
            tracing::info!("Admin interface on {addr}");
        }
        let plain = guarded(&admin, gate);
        let acceptor = MeshOrPlain { tls, plain };
        serve::Server::new("admin", move |limit| metrics.limit_refused(limit))
            .serve(listener, acceptor, stop)
            .await
    }
}

#[cfg(test)]
mod tests;
