//! What can go wrong in an exchange, and the one question that matters about it: did the request reach the other end?

use std::error::Error as StdError;

/// Why an exchange, or a body, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// hyper or h2 failed: I/O, a protocol error, a reset stream.
    #[error("{0}")]
    Hyper(#[from] hyper::Error),
    /// A stream or a connection of HTTP/2 failed.
    #[error("{0}")]
    Http2(#[from] h2::Error),
    /// The connection had ended before.
    #[error("the connection has ended")]
    Closed,
    /// A stream that we reset ourselves, with this HTTP/2 code.
    #[error("the stream was reset: {0}")]
    Reset(#[source] h2::Error),
    /// A body that a later attempt took over.
    #[error("a later attempt took over this request's body")]
    Superseded,
    /// A boxed body failed.
    #[error("{0}")]
    Other(#[source] Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// A reset with `reason`; a server that gets it from a service or body resets the stream with the same reason.
    pub fn reset(reason: h2::Reason) -> Self {
        Self::Reset(reason.into())
    }

    /// The HTTP/2 code behind it, if there is one.
    pub fn h2_reason(&self) -> Option<h2::Reason> {
        h2_error(self).and_then(h2::Error::reason)
    }

    /// Whether a connection of HTTP/1 ended early, which its client may do.
    pub fn is_end(&self) -> bool {
        let Self::Hyper(error) = self else { return false };
        error.is_incomplete_message() || error.is_closed() || error.is_canceled() || error.is_shutdown()
    }

    /// Whether the request provably did not reach the other end's application.
    pub fn never_arrived(&self) -> bool {
        match self {
            Self::Hyper(error) => never_arrived(error),
            Self::Http2(error) => was_left_out(error),
            Self::Closed => true,
            Self::Reset(_) | Self::Superseded | Self::Other(_) => false,
        }
    }
}

/// A request that failed before its response's head.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct SendError {
    /// Why.
    #[source]
    pub error: Error,
    /// Not one byte of the request was written, and it still is, untouched, where it was sent from.
    pub untaken: bool,
    /// The server had closed the connection before it could read anything of the request.
    pub unread: bool,
}

impl SendError {
    /// Whether the request provably did not reach the other end's application. It may still have to be made again from
    /// a replay buffer, unless it is [`SendError::untaken`].
    pub fn never_arrived(&self) -> bool {
        self.untaken || self.unread || self.error.never_arrived()
    }
}

/// Whether `error`, which came instead of a response's head, proves that no application saw the request: hyper never
/// began to write it, the peer refused the stream, or the peer's GOAWAY left the stream out.
pub fn never_arrived(error: &hyper::Error) -> bool {
    if error.is_canceled() {
        // hyper's own "canceled" on the way out: the connection ended before it took the request.
        return true;
    }
    h2_error(error).is_some_and(was_left_out)
}

/// The peer refused the stream, or its GOAWAY left the stream out: h2 gives a remote GOAWAY as a stream's error only to
/// streams above the last one that the peer will process.
fn was_left_out(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// The HTTP/2 error in the chain of `error`.
pub fn h2_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a h2::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return Some(error);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests;
