//! One client connection: handshake over an established I/O, then requests over it until it ends.

mod adaptive;
mod http2;

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1 as h1};
use hyper_util::rt::TokioIo;
use proxy_transport::Witness;

pub use self::http2::{Http2, http2};
use crate::{Body, Error, SendError, reads::Reads, server::Io};

/// An HTTP/1 connection: one request at a time.
#[derive(Debug)]
pub struct Http1 {
    send: h1::SendRequest<Body>,
    /// Can tell of a failed request whether it was read.
    witness: Option<Witness>,
}

/// Makes an HTTP/1 connection of `io`. A task of the current worker drives it and ends with it.
pub async fn http1<I: Io>(io: I) -> Result<Http1, Error> {
    let (sender, connection) = h1::Builder::new().handshake(TokioIo::new(Reads::bounded(io))).await?;
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

impl Http1 {
    /// Sends a request, and leaves nothing of it where it was. Its target goes out as the URI is written: origin form,
    /// absolute form, or authority form.
    pub async fn send(&mut self, request: &mut Request<Body>) -> Result<Response<Incoming>, SendError> {
        let sent = self.send.try_send_request(std::mem::take(request));
        sent.await.map_err(|mut failed| {
            let untaken = failed.take_message().map(|untaken| *request = untaken);
            SendError {
                error: failed.into_error().into(),
                untaken: untaken.is_some(),
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
