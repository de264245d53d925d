//! Sockets: listen, original destination, connect, transport header, copy. Must not know TLS or HTTP.
//!
//! ```text
//! listen -> accept -> [original_dst] -> (phases of inbound and outbound) -> [Connect] -> [copy::bidirectional]
//! ```

mod close_observer;
mod connect;
pub mod copy;
pub mod cork;
mod delegate;
pub mod header;
mod listen;
pub mod peek;
mod prefixed;
pub mod timers;

use std::{io, net::SocketAddr, time::Duration};

pub use close_observer::{CloseObserver, ObservedTcp};
pub use connect::Connect;
pub use cork::Corked;
pub use listen::{SocketOptions, listen, original_dst};
pub use prefixed::PrefixedIo;

/// Socket errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Listening failed.
    #[error("cannot listen on {addr}")]
    Listen {
        /// Address to listen on.
        addr: SocketAddr,
        /// The underlying I/O error.
        source: io::Error,
    },
    /// The connection was not redirected, or the system does not report its original destination.
    #[error("cannot read the original destination: {0}")]
    OriginalDst(io::Error),
    /// Setting a socket option failed.
    #[error("cannot set socket option {option}: {source}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// The underlying I/O error.
        source: io::Error,
    },
    /// Connecting failed.
    #[error("cannot connect to {addr}: {source}")]
    Connect {
        /// Address of the server.
        addr: SocketAddr,
        /// The underlying I/O error.
        source: io::Error,
    },
    /// The connection attempt timed out.
    #[error("connecting to {addr} timed out after {timeout:?}")]
    ConnectTimeout {
        /// Address of the server.
        addr: SocketAddr,
        /// Time limit of the attempt.
        timeout: Duration,
    },
    /// The stream does not begin with a valid transport header.
    #[error("invalid transport header: {0}")]
    Header(&'static str),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
