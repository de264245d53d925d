//! TLS 1.3 records sealed and opened in place, with keys that rustls derives.
//!
//! rustls performs the handshake and verifies the peer; from then on this crate carries the bytes. It owns record
//! protection, key updates, alerts, and the end of a stream. It must not know identities, credentials or policies.
//! `docs/tls-records.md` explains why it exists, what to check at each rustls release, and how to switch it off.
//!
//! ```text
//! connect, accept -> session (rustls) -> secrets -> stream: incoming <- record -> outgoing
//! ```

mod buffers;
mod handshake;
mod record;
mod secrets;
mod session;
mod stream;

pub use handshake::{accept, connect, prepare_client, prepare_server};
pub use stream::TlsStream;
