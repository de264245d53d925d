//! Client of a cluster's API server: watches, reads and writes.
//!
//! ```text
//! client ─▶ watch: one reflector per kind (list, then watch, again after errors)
//!                    │ dedup: what the reader has; only differences pass
//!                    ▼
//!                  merge: one reset when every kind is listed, then changes ──▶ Update
//! ```
//! An outage of any length changes nothing: the last state stays, and only the differences are sent afterwards.

mod backoff;
pub mod certificate;
mod client;
mod dedup;
mod discovery;
mod event;
mod kinds;
mod lease;
mod merge;
mod objects;
mod portforward;
mod presence;
mod prune;
mod reflector;
mod resource;
mod review;
mod secret;
mod state;
mod status;
mod watch;
mod webhook;

pub use client::{Client, ClientOptions, client};
pub use event::{Note, ObjectReference, Weight, event};
pub use kinds::{FOR_DESTINATION, FOR_INJECTOR, FOR_VIZ};
pub use lease::{Elector, LeaseOptions};
pub use objects::each;
pub use portforward::{Forwarded, PodPort, forward, is_ready, pods_of, ready_pod};
pub use presence::{Presence, presence};
pub use resource::{Filter, Post, Resource, post, read};
pub use review::{
    Access, Decision, Reviewed, Subject, self_subject_access_review, subject_access_review, token_review,
};
pub use secret::{NewSecret, SecretData, create_secret, read_secret, write_secret};
pub use state::{KindState, States};
pub use status::write_status;
pub use watch::{Selection, Watch, watch};
pub use webhook::{CaBundleOf, write_ca_bundle};

#[cfg(test)]
mod tests;
