//! The admin server of the proxy: what every program has, the proxy's own endpoints, and mesh TLS for clients that ask
//! for our name.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::BytesMut;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use proxy_core::detect;
use proxy_discovery::{Discovery, Status};
use proxy_model::{ClientAddr, Id, limits::DETECT_TLS_BYTES};
use proxy_process::{admin::Admin, log};
use proxy_tls::{Alpn, Tls};
use proxy_transport::PrefixedIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::io::AnyIo;

/// Time for a client's first bytes; upstream's figure.
const DETECT: Duration = Duration::from_secs(1);
/// First size of the buffer for them: a ClientHello with a hybrid key share fits.
const HELLO_BYTES: usize = 2048;
/// Connections at a time: probes, scrapers, a person.
const CONNECTIONS: usize = 256;

/// What the proxy's own endpoints show and do.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) log: log::Handle,
    pub(crate) discovery: Discovery,
    pub(crate) environment: Arc<BTreeMap<String, String>>,
    /// Begins the shutdown; none if that may not be asked for.
    pub(crate) shutdown: Option<CancellationToken>,
}

/// The proxy's own endpoints.
pub(crate) fn router(parts: Parts) -> Router {
    Router::new()
        .route("/env.json", get(environment))
        .route("/discovery.json", get(discovery))
        .route("/shutdown", post(shutdown))
        .route("/proxy-log-level", get(log_level).put(set_log_level))
        .with_state(parts)
}

async fn environment(State(parts): State<Parts>, RawQuery(query): RawQuery) -> Response {
    let wanted: Vec<_> = query
        .iter()
        .flat_map(|q| q.split('&'))
        .filter(|name| !name.is_empty())
        .collect();
    let shown = parts
        .environment
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.contains(&name.as_str()));
    Json(shown.collect::<BTreeMap<_, _>>()).into_response()
}

async fn discovery(State(parts): State<Parts>) -> Json<Vec<Status>> {
    let mut status = parts.discovery.status();
    status.sort_by(|a, b| (a.kind, &a.target).cmp(&(b.kind, &b.target)));
    Json(status)
}

/// The refusal for a client that is not on this host.
fn unless_local(client: SocketAddr) -> Option<Response> {
    let refusal = || {
        let plain = [(header::CONTENT_TYPE, "text/plain")];
        (
            StatusCode::FORBIDDEN,
            plain,
            "Requests are only permitted from localhost.",
        )
            .into_response()
    };
    (!client.ip().to_canonical().is_loopback()).then(refusal)
}

async fn shutdown(State(parts): State<Parts>, Extension(ClientAddr(client)): Extension<ClientAddr>) -> Response {
    if let Some(refused) = unless_local(client) {
        return refused;
    }
    match &parts.shutdown {
        None => (StatusCode::NOT_FOUND, "shutdown endpoint is not enabled").into_response(),
        Some(stop) => {
            tracing::info!("shutting down, as asked by POST /shutdown");
            stop.cancel();
            "shutdown\n".into_response()
        }
    }
}

async fn log_level(State(parts): State<Parts>, Extension(ClientAddr(client)): Extension<ClientAddr>) -> Response {
    unless_local(client).unwrap_or_else(|| parts.log.filter().into_response())
}

async fn set_log_level(
    State(parts): State<Parts>,
    Extension(ClientAddr(client)): Extension<ClientAddr>,
    filter: String,
) -> Response {
    if let Some(refused) = unless_local(client) {
        return refused;
    }
    match parts.log.set_filter(&filter) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

/// What a connection to one of our own ports begins with.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// TLS that asks for our name.
    Ours,
    /// Anything else.
    NotOurs,
    /// Nothing in time.
    Silent,
}

/// Looks at the first bytes of a connection; they come again when it is read.
pub(crate) async fn hello<I: AsyncRead + Unpin>(mut io: I, local_id: &Id) -> (Hello, PrefixedIo<I>) {
    let mut buf = BytesMut::with_capacity(HELLO_BYTES);
    let looked = tokio::time::timeout(DETECT, async {
        loop {
            match detect::client_hello(&buf) {
                detect::Hello::Hello { sni } if sni.as_deref() == Some(local_id.as_str()) => return Hello::Ours,
                detect::Hello::NeedMore if buf.len() < DETECT_TLS_BYTES.value => {}
                _ => return Hello::NotOurs,
            }
            match io.read_buf(&mut buf).await {
                Ok(0) | Err(_) => return Hello::Silent,
                Ok(_) => {}
            }
        }
    });
    let hello = looked
        .await
        .unwrap_or(if buf.is_empty() { Hello::Silent } else { Hello::NotOurs });
    (hello, PrefixedIo::new(buf.freeze(), io))
}

/// Serves until it is dropped: TLS if a client asks for our name, else plaintext; HTTP/1 or HTTP/2.
pub(crate) async fn serve(listener: TcpListener, admin: Admin, tls: Tls) -> Result<(), Infallible> {
    if let Ok(addr) = listener.local_addr() {
        tracing::info!("Admin interface on {addr}");
    }
    let router = admin.router();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let room = Arc::clone(&room).acquire_owned().await;
        let accepted = loop {
            tokio::select! {
                accepted = listener.accept() => break accepted,
                Some(_) = connections.join_next() => {}
            }
        };
        match accepted {
            Ok((socket, client)) => {
                let (router, tls) = (router.clone().layer(Extension(ClientAddr(client))), tls.clone());
                connections.spawn(async move {
                    connection(socket, router, &tls).await;
                    drop(room);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, router: Router, tls: &Tls) {
    let (hello, io) = hello(socket, tls.local_id()).await;
    match hello {
        Hello::Ours => match tls.accept(io, Alpn::None).await {
            Ok(accepted) => http(Box::new(accepted.io), router).await,
            Err(error) => tracing::debug!(%error, "admin refused a connection"),
        },
        Hello::NotOurs => http(Box::new(io), router).await,
        Hello::Silent => {}
    }
}

async fn http(io: AnyIo, router: Router) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    let served = builder
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection broke");
    }
}

#[cfg(test)]
mod tests;
