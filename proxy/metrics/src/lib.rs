//! Metric and label names, per-worker recorders, text format.
//!
//! A value lives in a slot that one worker alone writes (a relaxed load and store, no read-modify-write); the registry
//! knows all slots of a series and adds them up for a scrape. Slots are resolved once per connection, route or
//! endpoint, so that a request only bumps counters.
//!
//! ```text
//! [Metrics] --recorder()--> [Recorder] --labels--> [HttpSlot], [TransportSlot], ... --write--> slots
//!     \--render()--> Linkerd's text                                                            /
//!           ^------------------------------ sums over workers --------------------------------
//! ```
//!
//! The only crate in which a metric's name is a string; see [`names`].

pub mod control;
pub mod http;
pub mod inbound;
pub mod labels;
pub mod names;
pub mod outbound;
mod process;
pub mod programs;
mod registry;
mod shortage;
mod slot;
pub mod tcp;
mod text;

pub use control::{AnswerAge, CertMetrics, ControlSlot};
pub use http::{Class, HttpSlot, RequestGuard, RouteSlot};
pub use labels::{InboundHttpLabels, NoTls, OutboundLabels, ResourceLabels, ServerLabels, Target, Tls};
pub use registry::{BuildInfo, Limits, Metrics, Recorder};
pub use slot::{Counter, Gauge, Histogram, SharedCounter};
pub use tcp::{Peer, TransportGuard, TransportSlot};
