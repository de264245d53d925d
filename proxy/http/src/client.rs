//! Client connections: a handshake over an established I/O, then requests over it until it ends.

mod http2;

use std::{future::poll_fn, task::Poll};

use futures_util::FutureExt as _;
use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1 as h1};
use hyper_util::rt::TokioIo;
use proxy_model::limits;
use proxy_transport::CloseObserver;

pub use self::http2::{Http2, http2};
use crate::{Body, Error, SendError, bounded_reads::BoundedReads, budget::Account, server::Io};

/// HTTP/1 connection: one request at a time.
#[derive(Debug)]
pub struct Http1 {
    send: h1::SendRequest<Body>,
    /// Tells whether the server read a failed request.
    close_observer: Option<CloseObserver>,
}

/// Starts an HTTP/1 connection over `io`. A task of the current worker drives it and ends with it.
pub async fn http1<I: Io>(io: I) -> Result<Http1, Error> {
    let io = BoundedReads::new(io);
    let (blocked, account) = (io.blocked(), Account::new(None));
    let (sender, connection) = h1::Builder::new()
        .max_header_size(limits::HTTP1_HEAD_BYTES.value)
        .max_buf_size(limits::HTTP1_BUFFER_BYTES.value)
        .handshake(TokioIo::new(io))
        .await?;
    let mut connection = connection.with_upgrades();
    tokio::task::spawn_local(async move {
        let ended = poll_fn(|cx| {
            let ended = connection.poll_unpin(cx);
            if ended.is_pending() && account.is_shed(blocked.held(), || cx.waker().clone()) {
                return Poll::Ready(Ok(()));
            }
            ended
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "HTTP/1 client connection failed");
        }
    });
    Ok(Http1 {
        send: sender,
        close_observer: None,
    })
}

impl Http1 {
    /// Sends a request, moving it out of its place. Its target is written as the URI stands: origin form, absolute
    /// form, or authority form.
    pub async fn send(&mut self, request: &mut Request<Body>) -> Result<Response<Incoming>, SendError> {
        let sent = self.send.try_send_request(std::mem::take(request));
        sent.await.map_err(|mut failed| {
            let not_sent = failed.take_message().map(|not_sent| *request = not_sent);
            SendError {
                error: failed.into_error().into(),
                not_sent: not_sent.is_some(),
                not_read: self.close_observer.as_ref().is_some_and(CloseObserver::is_not_read),
            }
        })
    }

    /// Attaches the connection's observer to later requests.
    #[must_use]
    pub fn with_close_observer(mut self, close_observer: Option<CloseObserver>) -> Self {
        self.close_observer = close_observer;
        self
    }

    /// Called before a request on a previously idle connection, which the server may be closing.
    pub(crate) fn watch(&self) {
        if let Some(close_observer) = &self.close_observer {
            close_observer.watch();
        }
    }

    /// Returns true if the connection can accept a request now.
    pub fn is_ready(&self) -> bool {
        self.send.is_ready()
    }

    /// Returns true if the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.send.is_closed()
    }
}

#[cfg(test)]
mod tests;
