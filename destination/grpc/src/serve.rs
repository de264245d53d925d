//! Connections: HTTP/2 without TLS (the sidecar beside us has it), as many as there are clients.

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

use crate::{Service, answer::Answer, call::Rpc, limits};

/// Time between PINGs to a client, so that the streams of one that is gone go too.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Time for the answer to one.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause after an error of the system, such as no file being left.
const PAUSE: Duration = Duration::from_millis(100);

impl Service {
    /// Serves all calls at `listener` until the service's `stop`; then each stream ends, and each connection.
    pub async fn serve(self, listener: TcpListener) -> Result<(), Infallible> {
        let room = Arc::new(Semaphore::new(limits::CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut sweep = interval(limits::SHARED_FOR);
        loop {
            let accept = async {
                // Who finds no room waits with the system until somebody leaves.
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
                        tracing::warn!("a connection cannot be accepted: {error}");
                        sleep(PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                _ = sweep.tick() => self.shared.sweep(),
                () = self.stop.cancelled() => break,
            }
        }
        self.index().close();
        while connections.join_next().await.is_some() {}
        Ok(())
    }

    async fn connection(self, io: TcpStream) {
        // Small messages that somebody waits for; without it they only come later.
        let _ = io.set_nodelay(true);
        let stop = self.stop.clone();
        let service = service_fn(move |request| self.clone().answer(request));
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
            tracing::debug!("a connection ended: {error}");
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
        // Of the request only its body is kept while it is read.
        let (rpc, body) = (Rpc::of_path(request.uri().path()), request.into_body());
        let Some(rpc) = rpc else {
            return Ok(Status::unimplemented("there is no such call").into_http());
        };
        let answer = match self.call(rpc, body).await {
            // The index was closed before, or will be: this stream would perhaps not hear of it.
            Ok(_) if self.stop.is_cancelled() => Err(Status::unavailable("the control plane is stopping")),
            answer => answer,
        };
        Ok(match answer {
            Ok(answer) => answer.into_response(),
            Err(status) => {
                self.metrics.refused(rpc, &status);
                status.into_http()
            }
        })
    }
}
