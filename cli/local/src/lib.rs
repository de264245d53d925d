//! `mesh local`: a mesh on one machine, without a cluster.
//!
//! ```text
//!   mesh local up          outer process: host namespaces, terminal, lock of the state directory
//!     └ internal enter     creates the private user, network, mount and process namespaces .......... enter.rs
//!         └ internal supervisor   process 1 in them: plans, compares, acts .......................... supervisor.rs
//!             ├ internal pod      holds a pod's namespaces, sets up network and redirection ......... pod.rs
//!             └ internal container → exec of the container's command in a pod's namespaces .......... container.rs
//! ```
//!
//! The supervisor is a small orchestrator in three parts: `plan` (pure) turns objects into what should exist, `cluster`
//! (pure) compares that with the observed state and returns actions, `node` executes them and observes.
//!
//! Everything lives below process 1 of a private process namespace; interfaces, rules and mounts are in namespaces
//! without a name. So when that process exits, for whatever reason, the kernel removes all of it. The supervisor exits
//! when its standard input, held by the outer process, is closed.

mod cluster;
mod command;
mod connect;
mod container;
mod control;
mod enter;
mod internal;
mod manifests;
mod namespaces;
mod node;
mod plan;
mod pod;
mod start;
pub mod state;
mod supervisor;
mod up;

pub use command::{Args, run};
pub use connect::{Forwarded, forward};
pub use control::PodStatus;
pub use manifests::Manifests;
pub use start::{ExecOutput, Progress, Running, StartOptions, exec};
pub use up::{Ended, begin, end, interrupts, notify};
