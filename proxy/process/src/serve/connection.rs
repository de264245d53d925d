//! One connection: handshake, HTTP, the end.

use std::{error::Error as StdError, io, pin::pin, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use proxy_model::limits::{Limit, Value};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Acceptor, AnyIo, BoxError, Client, HttpService, Protocol, Server, Ticket, limits,
    timed_io::{Observed, TimedIo},
};

impl Server {
    pub(super) async fn connection<A: Acceptor>(
        &self,
        socket: TcpStream,
        acceptor: &A,
        ticket: Ticket,
        stop: CancellationToken,
    ) {
        let _ = socket.set_nodelay(true);
        let handshake = timeout(self.limits.handshake.value, acceptor.accept(socket, ticket.client));
        let (io, service) = match stop.run_until_cancelled(handshake).await {
            Some(Ok(Ok(accepted))) => accepted,
            Some(Ok(Err(error))) if error.kind() == io::ErrorKind::TimedOut => {
                return self.refuse(self.limits.first_bytes.row());
            }
            Some(Ok(Err(error))) => return tracing::debug!(server = self.name, %error, "cannot accept a client"),
            Some(Err(_)) => return self.refuse(self.limits.handshake.row()),
            None => return,
        };
        if !ticket.client.probes_only {
            return self.http(io, service, &ticket, stop).await;
        }
        let time = limits::SERVER_PROBE_TIME;
        if timeout(time.value, self.http(io, service, &ticket, stop))
            .await
            .is_err()
        {
            self.refuse(time.row());
        }
    }

    async fn http<S: HttpService>(&self, io: AnyIo, service: S, ticket: &Ticket, stop: CancellationToken) {
        let io = TimedIo::new(io, self.limits.first_bytes.value, self.limits.write.value);
        let (observed, calls) = (io.observed(), &ticket.calls);
        calls.restart();
        let builder = self.builder(ticket.client);
        let mut served = pin!(builder.serve_connection(TokioIo::new(io), calls.count(service)));
        let ended = tokio::select! {
            ended = served.as_mut() => ended,
            limit = calls.exceeded(&self.limits, || observed.is_http2()) => {
                self.refuse(limit.row());
                served.as_mut().graceful_shutdown();
                let Ok(ended) = timeout(self.limits.drain.value, served).await else { return };
                ended
            }
            () = stop.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = ended {
            if let Some(limit) = self.exceeded(&error, &observed) {
                self.refuse(limit);
            }
            tracing::debug!(server = self.name, %error, "a connection ended early");
        }
    }

    fn builder(&self, client: Client) -> auto::Builder<TokioExecutor> {
        let limits = &self.limits;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .keep_alive(!client.probes_only)
            .header_read_timeout(limits.head.value)
            .max_buf_size(limits.head_bytes.value)
            .max_headers(limits.headers.value);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams.value)
            .max_header_list_size(limits.header_list_bytes.value)
            .initial_stream_window_size(limits.stream_window.value)
            .keep_alive_interval(limits.ping_interval.value)
            .keep_alive_timeout(limits.ping_timeout.value);
        match self.protocol {
            _ if client.probes_only => builder.http1_only(),
            Protocol::Http2 => builder.http2_only(),
            Protocol::Detect => builder,
        }
    }

    /// Limit that ended a connection, if one did.
    fn exceeded(&self, error: &BoxError, observed: &Observed) -> Option<Limit<Value>> {
        let limits = &self.limits;
        if observed.is_unread() {
            return Some(limits.write.row());
        }
        let io = causes(&**error).find_map(|cause| cause.downcast_ref::<io::Error>());
        if io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return Some(limits.first_bytes.row());
        }
        let error = error.downcast_ref::<hyper::Error>()?;
        let timeout: Limit<Duration> = if observed.is_http2() {
            limits.ping_timeout
        } else {
            limits.head
        };
        match error {
            error if error.is_timeout() => Some(timeout.row()),
            error if error.is_parse_too_large() => Some(limits.head_bytes.row()),
            _ => None,
        }
    }
}

fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
