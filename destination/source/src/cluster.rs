//! The API server of a cluster: who answers, what is watched, what is asked and written.
//!
//! ```text
//! client ─▶ watch: one task a kind (list, then watch, again after errors)
//!                    │ book: what the reader has; only differences go on
//!                    ▼
//!                  merge: one reset when every kind was read, then changes ──▶ Update
//! ```
//! An outage of any length changes nothing: what was said last stays, and after it only the differences are told.

mod backoff;
mod book;
pub mod certificate;
mod client;
mod discovery;
mod event;
mod follow;
mod kinds;
mod lease;
mod merge;
mod objects;
mod portforward;
mod presence;
mod prune;
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
