//! HTTP as the proxy speaks it: HTTP/1 on hyper's connection-level API, HTTP/2 on the h2 crate, idle pools, the resend
//! buffer, HTTP/1 carried in HTTP/2, upgrades, tap, and the responses that explain an error.
//!
//! Nothing here decides anything about policy or endpoints; inbound and outbound do. Everything that belongs to one
//! connection is `!Send` and is driven by `spawn_local` of the worker that owns it.
//!
//! ```text
//! server::http1 / server::http2 --Request<Body>--> inbound, outbound --Request<Body>--> client, pool
//! ```

pub mod body;
pub mod client;
mod date;
pub mod error;
pub mod errors;
pub mod executor;
pub mod filter;
pub mod h1;
pub mod headers;
mod http2;
pub mod metered;
pub mod orig_proto;
pub mod pool;
mod reads;
pub mod replay;
pub mod server;
pub mod tap;
pub mod upgrade;

pub use body::Body;
pub use error::{Error, SendError};
pub use executor::LocalExec;
pub use metered::Metered;
pub use replay::{Replay, ReplayBody};
