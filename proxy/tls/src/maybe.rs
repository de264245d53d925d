//! Connection with or without mesh TLS.

use proxy_transport::{delegate_read, delegate_write};

use crate::{TlsStream, engine::Io};

/// Plaintext connection of type `P`, or mesh TLS over an `I`.
#[derive(Debug)]
pub enum MaybeTls<P, I = P> {
    /// Plaintext, or TLS that is not terminated here.
    Plain(P),
    /// Mesh TLS.
    Tls(TlsStream<I>),
}

impl<P> MaybeTls<P> {
    /// Returns the underlying connection.
    pub fn get_ref(&self) -> &P {
        match self {
            Self::Plain(io) => io,
            Self::Tls(io) => io.get_ref(),
        }
    }
}

macro_rules! each {
    ($stream:expr, $io:ident => $call:expr) => {
        match $stream {
            MaybeTls::Plain($io) => $call,
            MaybeTls::Tls($io) => $call,
        }
    };
}

delegate_read!(impl<P, I> MaybeTls<P, I> where {P: Io, I: Io}, each);
delegate_write!(impl<P, I> MaybeTls<P, I> where {P: Io, I: Io}, each);
