//! Errors of an exchange, and whether they prove that the request did not reach the other end.

use std::io;

use proxy_model::{
    Reason,
    limits::{self, Limit, Value},
};

/// Error of an exchange or a body.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// HTTP/1 failed in hyper: I/O or a protocol error.
    #[error("{0}")]
    Hyper(#[from] hyper::Error),
    /// An HTTP/2 stream or connection failed.
    #[error("{0}")]
    Http2(#[from] h2::Error),
    /// The connection had already ended.
    #[error("the connection has ended")]
    Closed,
    /// The proxy reset the stream with this HTTP/2 code.
    #[error("the stream was reset: {0}")]
    Reset(#[source] h2::Error),
    /// The server allowed no further streams in time; the request was not sent.
    #[error("the server allows no further streams")]
    NoStream,
    /// A later attempt took over the body.
    #[error("a later attempt took over the request body")]
    Superseded,
}

impl Error {
    /// Creates a reset with `reason`; a server that receives it from a service or body resets the stream with the same
    /// reason.
    pub fn reset(reason: h2::Reason) -> Self {
        Self::Reset(reason.into())
    }

    /// Returns the underlying HTTP/2 code, if any.
    pub fn h2_reason(&self) -> Option<h2::Reason> {
        match self {
            Self::Http2(error) | Self::Reset(error) => error.reason(),
            Self::Hyper(_) | Self::Closed | Self::NoStream | Self::Superseded => None,
        }
    }

    /// Returns true if an HTTP/1 connection ended early, which its client may do.
    pub fn is_end(&self) -> bool {
        let Self::Hyper(error) = self else { return false };
        error.is_incomplete_message() || error.is_closed() || error.is_canceled() || error.is_shutdown()
    }

    /// Returns true if an HTTP/1 server closed the connection instead of answering.
    pub fn is_closed_by_server(&self) -> bool {
        let Self::Hyper(error) = self else { return false };
        // hyper reports the I/O error as the source of its own.
        let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
        error.is_incomplete_message()
            || matches!(
                io.map(io::Error::kind),
                Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            )
    }

    /// Returns the limit that the server reached, with the reason for the client.
    pub fn limit(&self) -> Option<(Limit<Value>, Reason)> {
        match self {
            Self::NoStream => Some((limits::HTTP2_STREAM_WAIT.row(), Reason::NoStream)),
            // The limit of their number shows in the same error.
            Self::Hyper(error) if error.is_parse_too_large() => {
                Some((limits::HTTP1_HEAD_BYTES.row(), Reason::ResponseHeadTooLarge))
            }
            _ => None,
        }
    }

    /// Returns true if the request provably did not reach the other end's application.
    pub fn never_arrived(&self) -> bool {
        match self {
            // hyper's own "canceled" on sending: the connection ended before it accepted the request.
            Self::Hyper(error) => error.is_canceled(),
            Self::Http2(error) => was_excluded(error),
            Self::Closed | Self::NoStream => true,
            Self::Reset(_) | Self::Superseded => false,
        }
    }
}

/// Failure of a request before the head of its response.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct SendError {
    /// Cause of the failure.
    #[source]
    pub error: Error,
    /// Not one byte of the request was written, and it remains, untouched, where it was sent from.
    pub not_sent: bool,
    /// The server closed the connection before it could read anything of the request.
    pub not_read: bool,
}

impl SendError {
    /// Returns true if the request provably did not reach the other end's application. It may have to be rebuilt from a
    /// replay buffer unless it is [`SendError::not_sent`].
    pub fn never_arrived(&self) -> bool {
        self.not_sent || self.not_read || self.error.never_arrived()
    }
}

/// The peer refused the stream, or its GOAWAY excluded it: h2 reports a remote GOAWAY as a stream's error only for
/// streams above the last one that the peer will process.
fn was_excluded(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

#[cfg(test)]
mod tests;
