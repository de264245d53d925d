//! Connections: plaintext HTTP/2, as the sidecar of this pod handles TLS.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{interval, sleep},
};
use tonic::Status;

use crate::{Service, body::ResponseBody, limits, rpc::Rpc};

/// Time between PINGs to a client, which detect one that has silently gone.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Time for the response to a PING.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause after a system error, such as running out of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

impl Service {
    /// Serves all calls on `listener` until the service's `stop`; then each stream ends, and each connection.
    pub async fn serve(self, listener: TcpListener) -> Result<(), Infallible> {
        let room = Arc::new(Semaphore::new(limits::CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut sweep = interval(limits::SHARED_FOR);
        loop {
            let accept = async {
                // At the limit, further connections wait in the backlog.
                let permit = room.clone().acquire_owned().await;
                (permit, listener.accept().await)
            };
            tokio::select! {
                (permit, accepted) = accept => match accepted {
                    Ok((io, _)) => {
                        let connection = self.clone().connection(io);
                        connections.spawn(async move {
                            let _permit = permit;
                            connection.await;
                        });
                    }
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        sleep(PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                _ = sweep.tick() => self.caches.sweep(),
                () = self.stop.cancelled() => break,
            }
        }
        self.index().close();
        while connections.join_next().await.is_some() {}
        Ok(())
    }

    async fn connection(self, io: TcpStream) {
        // Small messages should not be delayed; failure only costs latency.
        let _ = io.set_nodelay(true);
        let stop = self.stop.clone();
        let service = service_fn(move |request| self.clone().respond(request));
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
            .max_header_list_size(limits::HEADER_BYTES)
            .initial_stream_window_size(limits::REQUEST_BYTES as u32)
            .auto_date_header(false);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!("connection ended: {error}");
        }
    }

    async fn respond(self, request: Request<Incoming>) -> Result<Response<ResponseBody>, Infallible> {
        // Only the body is kept while it is read.
        let (rpc, body) = (Rpc::from_path(request.uri().path()), request.into_body());
        let Some(rpc) = rpc else {
            return Ok(Status::unimplemented("unknown method").into_http());
        };
        let result = match self.call(rpc, body).await {
            // The index has been or will be closed, which this stream might miss.
            Ok(_) if self.stop.is_cancelled() => Err(Status::unavailable("the control plane is stopping")),
            result => result,
        };
        Ok(match result {
            Ok(body) => body.into_response(),
            Err(status) => {
                self.metrics.refused(rpc, &status);
                status.into_http()
            }
        })
    }
}
