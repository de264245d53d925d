//! `mesh local`: a mesh on one machine, without a cluster.
//!
//! ```text
//!   mesh local up          the outer process: host namespaces, the terminal, the lock of the state directory
//!     └ internal enter     makes the private user, network, mount and process namespaces ............ enter.rs
//!         └ internal supervisor   process 1 in there: controller manager, kube-proxy, kubelet ....... supervisor/
//!             ├ internal pod      holds a pod's namespaces, wires its network, applies redirection .. pod.rs
//!             └ internal container → exec of the container's command, inside a pod's namespaces ..... container.rs
//! ```
//!
//! Everything lives below process 1 of a private process namespace, and interfaces, rules and mounts in namespaces without
//! a name. So when that process ends, however it ends, the kernel takes all of it away. The supervisor ends when its
//! standard input does, which the outer process holds.

mod command;
mod container;
mod control;
mod enter;
mod internal;
mod pod;
mod start;
pub mod state;
mod supervisor;
mod up;

pub use command::{Args, run};
pub use start::{ExecOutput, Progress, Running, StartOptions, exec};
pub use up::{Ended, begin, end, interrupts, tell};
