//! Common server of all roles: accept, serve, and drain on SIGTERM.

use std::{convert::Infallible, future::Future, net::SocketAddr};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;

/// HTTP response.
pub(super) type Reply = Response<Body>;

/// Protocol of a port.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Grpc,
}

/// Servers of one process.
pub(super) struct Servers {
    tasks: TaskTracker,
    drain: CancellationToken,
}

impl Servers {
    pub(super) fn new() -> Self {
        Self {
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
        }
    }

    /// Serves `port` with `handler`.
    pub(super) async fn serve<F, R>(&self, port: u16, protocol: Protocol, handler: F) -> Result<()>
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        let addr = SocketAddr::from(([0, 0, 0, 0], port));
        let listener = TcpListener::bind(addr)
            .await
            .with_context(|| format!("cannot listen on port {port}"))?;
        let (tasks, drain) = (self.tasks.clone(), self.drain.clone());
        self.tasks.spawn(async move {
            loop {
                let stream = tokio::select! {
                    () = drain.cancelled() => return,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => stream,
                        Err(_) => continue,
                    },
                };
                drop(stream.set_nodelay(true));
                tasks.spawn(connection(stream, protocol, handler.clone(), drain.clone()));
            }
        });
        Ok(())
    }

    /// Waits for SIGTERM or Ctrl-C, then for requests in flight.
    pub(super) async fn finish(self) -> Result<()> {
        stopped().await?;
        self.drain.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        Ok(())
    }
}

/// Waits for SIGTERM or Ctrl-C.
pub(super) async fn stopped() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        result = tokio::signal::ctrl_c() => Ok(result?),
    }
}

async fn connection<F, R>(stream: TcpStream, protocol: Protocol, handler: F, drain: CancellationToken)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Reply> + Send + 'static,
{
    let io = TokioIo::new(stream);
    let service = service_fn(move |request| {
        let reply = handler(request);
        async move { Ok::<_, Infallible>(reply.await) }
    });
    // The two connection types share no trait, but the same life.
    macro_rules! drive {
        ($connection:expr) => {{
            let mut connection = std::pin::pin!($connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = drain.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    drop(connection.await);
                }
            }
        }};
    }
    match protocol {
        Protocol::Http1 => drive!(hyper::server::conn::http1::Builder::new().serve_connection(io, service)),
        Protocol::Grpc => {
            drive!(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
        }
    }
}

/// Builds a text response.
pub(super) fn text(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Body::new(Full::new(text.into())));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    reply
}

/// Builds a JSON response.
pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Reply {
    text(status, "application/json", value.to_string())
}

/// Builds the response to an unknown path.
pub(super) fn not_found() -> Reply {
    text(StatusCode::NOT_FOUND, "text/plain", "not found\n")
}
