//! The tap server: shows requests to the one client that may see them.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{BoxError, Router};
use futures_util::StreamExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use proxy_api::{
    decode, encode,
    wire::tap::{
        ObserveRequest, TapEvent,
        tap_server::{Tap, TapServer},
    },
};
use proxy_http::tap::{ObserveError, Registry};
use proxy_model::{Id, limits};
use proxy_tls::Tls;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    admin::{Hello, hello},
    io::AnyIo,
};

/// Window of a stream, in bytes; upstream's figure.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Connections at a time: observers come one on each.
const CONNECTIONS: usize = limits::TAP_OBSERVERS.value;
/// Time between PINGs: who taps may be gone for good.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// What the tap server needs.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) tls: Tls,
    pub(crate) registry: Registry,
    /// Who may tap.
    pub(crate) client: Id,
    /// Number of the next observation.
    pub(crate) next: Arc<AtomicU32>,
}

impl Server {
    /// Serves until it is dropped.
    pub(crate) async fn serve(self, listener: TcpListener) -> Result<(), Infallible> {
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
                Ok((socket, _)) => {
                    let server = self.clone();
                    connections.spawn(async move {
                        server.connection(socket).await;
                        drop(room);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "tap cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(self, socket: TcpStream) {
        let (hello, io) = hello(socket, self.tls.local_id()).await;
        let ended = match hello {
            Hello::Ours => match self.tls.accept(io, proxy_tls::Alpn::None).await {
                Ok(accepted) => {
                    let allowed = match accepted.client_id {
                        Some(id) if id == self.client => Ok(()),
                        _ => Err("Unauthorized client"),
                    };
                    self.http2(Box::new(accepted.io), allowed).await
                }
                Err(error) => {
                    tracing::debug!(%error, "tap refused a connection");
                    return;
                }
            },
            Hello::NotOurs => self.http2(Box::new(io), Err("no_tls_from_remote")).await,
            Hello::Silent => return,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a tap connection broke");
        }
    }

    /// Served as the admin server serves, so that the program has the code once.
    async fn http2(&self, io: AnyIo, allowed: Result<(), &'static str>) -> Result<(), BoxError> {
        let observer = Observer {
            server: self.clone(),
            allowed,
        };
        let router = Router::new().fallback_service(TapServer::new(observer));
        let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits::TAP_STREAMS.value)
            .initial_stream_window_size(STREAM_WINDOW)
            .max_frame_size(16_384)
            .max_header_list_size(limits::HEADER_LIST_BYTES.value)
            .keep_alive_interval(PING_INTERVAL);
        builder
            .serve_connection(TokioIo::new(io), TowerToHyperService::new(router))
            .await
    }
}

/// One client, and whether it may.
#[derive(Debug)]
struct Observer {
    server: Server,
    allowed: Result<(), &'static str>,
}

#[tonic::async_trait]
impl Tap for Observer {
    type ObserveStream = Pin<Box<dyn futures_util::Stream<Item = Result<TapEvent, Status>> + Send>>;

    async fn observe(&self, request: Request<ObserveRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        self.allowed.map_err(Status::unauthenticated)?;
        let observation = decode::observe_request(request.into_inner())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let limit = u64::from(observation.limit);
        let events = self
            .server
            .registry
            .observe(observation.matches, limit, observation.headers);
        let events = events.map_err(|refused| match refused {
            ObserveError::NoLimit => Status::invalid_argument(refused.to_string()),
            ObserveError::TooMany => Status::resource_exhausted(refused.to_string()),
        })?;
        let base = self.server.next.fetch_add(1, Relaxed);
        let stream = ReceiverStream::new(events).map(move |event| Ok(encode::tap_event(&event, base)));
        Ok(Response::new(stream.boxed()))
    }
}

#[cfg(test)]
mod tests;
