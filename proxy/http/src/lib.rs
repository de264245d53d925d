//! HTTP for the proxy: HTTP/1 on hyper's connection-level API, HTTP/2 on the h2 crate, connection pools, the resend
//! buffer, HTTP/1 carried in HTTP/2, upgrades, tap, and the responses that explain an error.
//!
//! Policy and endpoint decisions belong to inbound and outbound; this crate must not know them. Everything that belongs
//! to one connection is `!Send` and is driven by `spawn_local` of the worker that owns it.
//!
//! ```text
//! server::http1 / server::http2 --Request<Body>--> inbound, outbound --Request<Body>--> client, pool
//! ```

pub mod body;
mod bounded_reads;
pub mod budget;
pub mod client;
mod date;
pub mod error;
pub mod errors;
pub mod filter;
pub mod h1;
pub mod headers;
mod http2;
pub mod metered;
pub mod orig_proto;
pub mod pool;
mod refusals;
pub mod replay;
pub mod server;
pub mod tap;
pub mod upgrade;

pub use body::Body;
pub use error::{Error, SendError};
pub use metered::Metered;
pub use replay::{Replay, ReplayBody};
