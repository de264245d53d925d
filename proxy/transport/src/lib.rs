//! Sockets: listen, original destination, connect, transport header, copy. No TLS and no HTTP here.
//!
//! ```text
//! listen -> accept -> [original_dst] -> (phases of inbound and outbound) -> [Connect] -> [copy::bidirectional]
//! ```

mod connect;
pub mod copy;
pub mod cork;
pub mod header;
mod listen;
mod prefixed;
pub mod timers;
mod witness;

use std::{io, net::SocketAddr, time::Duration};

pub use connect::Connect;
pub use cork::Corked;
pub use listen::{SocketOptions, listen, original_dst};
pub use prefixed::PrefixedIo;
pub use witness::{Witness, Witnessed};

/// What goes wrong with sockets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The connection was not redirected, or the system does not say from where.
    #[error("the connection has no original destination: {0}")]
    OriginalDst(io::Error),
    /// A socket option was refused.
    #[error("cannot set the socket option {option}: {source}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The server cannot be reached.
    #[error("cannot connect to {addr}: {source}")]
    Connect {
        /// The server.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The server did not answer in time.
    #[error("connecting to {addr} took longer than {timeout:?}")]
    ConnectTimeout {
        /// The server.
        addr: SocketAddr,
        /// The time it had.
        timeout: Duration,
    },
    /// The stream begins with something else than a transport header.
    #[error("the transport header is invalid: {0}")]
    Header(&'static str),
    /// The stream broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}
