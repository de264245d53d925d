//! One client connection: handshake over an established I/O, then requests over it until it ends.

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{http1 as h1, http2 as h2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use proxy_model::{Http2Params, limits};
use proxy_transport::Witness;

use crate::{Body, Error, LocalExec, SendError, server::Io};

/// An HTTP/1 connection: one request at a time.
#[derive(Debug)]
pub struct Http1 {
    send: h1::SendRequest<Body>,
    /// Can tell of a failed request whether it was read.
    witness: Option<Witness>,
}

/// An HTTP/2 connection: cheap to clone, any number of requests at a time.
#[derive(Clone, Debug)]
pub struct Http2(h2::SendRequest<Body>);

/// Makes an HTTP/1 connection of `io`. A task of the current worker drives it and ends with it.
pub async fn http1<I: Io>(io: I) -> Result<Http1, Error> {
    let (sender, connection) = h1::Builder::new().handshake(TokioIo::new(io)).await?;
    let connection = connection.with_upgrades();
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP/1 client connection failed");
        }
    });
    Ok(Http1 {
        send: sender,
        witness: None,
    })
}

/// Makes an HTTP/2 connection of `io`. A task of the current worker drives it and ends with it.
pub async fn http2<I: Io>(io: I, params: &Http2Params) -> Result<Http2, Error> {
    let (sender, connection) = http2_builder(params).handshake(TokioIo::new(io)).await?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP/2 client connection failed");
        }
    });
    Ok(Http2(sender))
}

fn http2_builder(params: &Http2Params) -> h2::Builder<LocalExec> {
    let mut builder = h2::Builder::new(LocalExec);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .max_header_list_size(limits::HEADER_LIST_BYTES);
    if let Some(flow) = &params.flow_control {
        if flow.initial_stream_window_size != 0 {
            builder.initial_stream_window_size(flow.initial_stream_window_size);
        }
        if flow.initial_connection_window_size != 0 {
            builder.initial_connection_window_size(flow.initial_connection_window_size);
        }
        if flow.adaptive_flow_control {
            builder.adaptive_window(true);
        }
    }
    if let Some(keep_alive) = &params.keep_alive {
        builder
            .keep_alive_interval(keep_alive.interval)
            .keep_alive_while_idle(keep_alive.while_idle);
        if let Some(timeout) = keep_alive.timeout {
            builder.keep_alive_timeout(timeout);
        }
    }
    if let Some(internals) = &params.internals {
        if internals.max_concurrent_reset_streams != 0 {
            builder.max_concurrent_reset_streams(internals.max_concurrent_reset_streams as usize);
        }
        // hyper panics on a size outside of what HTTP/2 allows.
        if (16_384..=16_777_215).contains(&internals.max_frame_size) {
            builder.max_frame_size(internals.max_frame_size);
        }
        if internals.max_send_buf_size != 0 {
            builder.max_send_buf_size(internals.max_send_buf_size as usize);
        }
    }
    builder
}

impl Http1 {
    /// Sends a request. Its target goes out as the URI is written: origin form, absolute form, or authority form.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        self.send.try_send_request(request).await.map_err(|mut failed| {
            let request = failed.take_message().map(Box::new);
            SendError {
                error: failed.into_error().into(),
                request,
                unread: self.witness.as_ref().is_some_and(Witness::is_unread),
            }
        })
    }

    /// Has the connection's witness look at the requests that are sent from now on.
    #[must_use]
    pub fn with_witness(mut self, witness: Option<Witness>) -> Self {
        self.witness = witness;
        self
    }

    /// The next request goes out on a connection that was idle: the server may be closing it.
    pub(crate) fn watch(&self) {
        if let Some(witness) = &self.witness {
            witness.watch();
        }
    }

    /// Whether the connection can take a request now.
    pub fn is_ready(&self) -> bool {
        self.send.is_ready()
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.send.is_closed()
    }
}

impl Http2 {
    /// Sends a request. Its URI must be absolute.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        self.0.try_send_request(request).await.map_err(|mut failed| {
            let request = failed.take_message().map(Box::new);
            SendError {
                error: failed.into_error().into(),
                request,
                unread: false,
            }
        })
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}
