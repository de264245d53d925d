//! Shared parts of in-process tests and benchmarks: a scripted control plane, certificates, servers and clients.
//!
//! Everything is on loopback, in plaintext, on ports picked by the system, and ends when its handle is dropped. Real
//! programs are started by [`process`], with the environment of [`sidecar`] or the scripted API server of [`cluster`].

pub mod certificates;
pub mod client;
pub mod cluster;
pub mod control;
pub mod namespaces;
pub mod process;
pub mod server;
pub mod sidecar;
pub mod values;

pub use certificates::{Credentials, Pki};
pub use control::{Call, ControlPlane};

use tokio::task::AbortHandle;

/// A task that is aborted when its owner is dropped.
#[derive(Debug)]
pub(crate) struct Owned(AbortHandle);

impl Owned {
    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}
