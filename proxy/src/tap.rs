//! The tap server: shows requests to the one client that may see them.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use axum::Router;
use futures_util::StreamExt;
use hyper_util::service::TowerToHyperService;
use proxy_api::{
    decode, encode,
    wire::tap::{
        ObserveRequest, TapEvent,
        tap_server::{Tap, TapServer},
    },
};
use proxy_http::tap::{ObserveError, Registry};
use proxy_metrics::Metrics;
use proxy_model::{Id, Reason, limits};
use proxy_process::serve::{self, Acceptor, AnyIo, Client, Limits, Protocol};
use proxy_tls::{Alpn, Tls};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::admin::{Hello, read_client_hello};

/// Server of the tap port.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) tls: Tls,
    pub(crate) registry: Registry,
    /// Identity that may tap.
    pub(crate) client: Id,
    /// Number of the next observation.
    pub(crate) next: Arc<AtomicU32>,
}

impl Server {
    /// Serves until `stop`; refusals are counted in `metrics`.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        let mut server = serve::Server::new("tap", move |limit| metrics.limit_refused(limit));
        server.protocol = Protocol::Http2;
        server.limits = Limits {
            connections: limits::TAP_OBSERVERS,
            per_client: limits::TAP_OBSERVERS_PER_CLIENT,
            probes: None,
            call: None,
            streams: limits::TAP_STREAMS,
            header_list_bytes: limits::HEADER_LIST_BYTES,
            stream_window: limits::TAP_STREAM_WINDOW,
            ..Limits::default()
        };
        server.serve(listener, self, stop).await
    }

    fn authorize(&self, client: Option<&Id>) -> Result<(), Reason> {
        match client {
            Some(id) if *id == self.client => Ok(()),
            _ => Err(Reason::TapUnauthorized),
        }
    }
}

impl Acceptor for Server {
    type Service = TowerToHyperService<Router>;

    async fn accept(&self, socket: TcpStream, _: Client) -> io::Result<(AnyIo, Self::Service)> {
        let (hello, stream) = read_client_hello(socket, self.tls.local_id()).await;
        let (stream, allowed): (AnyIo, _) = match hello {
            Hello::Ours => {
                let accepted = self.tls.accept(stream, Alpn::None).await;
                let accepted = accepted.map_err(io::Error::other)?;
                let allowed = self.authorize(accepted.client_id.as_ref());
                (Box::new(accepted.io), allowed)
            }
            Hello::NotOurs => (Box::new(stream), Err(Reason::TapPlaintext)),
            Hello::Silent => return Err(io::ErrorKind::TimedOut.into()),
        };
        let observer = Observer {
            server: self.clone(),
            allowed,
        };
        // A router, as the admin server's, so that the program has the code of a server once.
        let router = Router::new().fallback_service(TapServer::new(observer));
        Ok((stream, TowerToHyperService::new(router)))
    }
}

/// Service of one client, with the reason if it may not tap.
#[derive(Debug)]
struct Observer {
    server: Server,
    allowed: Result<(), Reason>,
}

#[tonic::async_trait]
impl Tap for Observer {
    type ObserveStream = Pin<Box<dyn futures_util::Stream<Item = Result<TapEvent, Status>> + Send>>;

    async fn observe(&self, request: Request<ObserveRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        self.allowed.map_err(|reason| match reason {
            Reason::TapPlaintext => rejection(reason, "no_tls_from_remote"),
            _ => rejection(reason, "Unauthorized client"),
        })?;
        let observation = decode::observe_request(request.into_inner())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let limit = u64::from(observation.limit);
        let events = self
            .server
            .registry
            .observe(observation.matches, limit, observation.headers);
        let events = events.map_err(|refused| match refused {
            ObserveError::NoLimit => rejection(Reason::TapWithoutLimit, refused.to_string()),
            ObserveError::TooMany => rejection(Reason::TapTooMany, refused.to_string()),
        })?;
        let base = self.server.next.fetch_add(1, Relaxed);
        let stream = ReceiverStream::new(events).map(move |event| Ok(encode::tap_event(&event, base)));
        Ok(Response::new(stream.boxed()))
    }
}

/// Status for a rejected observation; texts are upstream's.
fn rejection(reason: Reason, message: impl Into<String>) -> Status {
    tracing::debug!(%reason, "rejected an observation");
    let code = reason.row().grpc.map_or(Code::Unknown, |code| i32::from(code).into());
    Status::new(code, message)
}

#[cfg(test)]
mod tests;
