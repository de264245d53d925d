//! Meshes on this machine, as commands for a cluster see them.
//!
//! The runtime that makes them is the feature `local`, for Linux. A build without it has every other command and finds
//! no such mesh.

#[cfg(feature = "local")]
pub(crate) use cli_local::{PodStatus, state::State};

#[cfg(not(feature = "local"))]
pub(crate) use absent::{PodStatus, State, forward};

use tokio::io::{AsyncRead, AsyncWrite};

/// Connection to a port of a pod.
pub(crate) type Stream = Box<dyn Duplex>;

/// Both directions of a connection.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Connects to a port on the loopback of a pod: NAMESPACE/NAME or NAMESPACE/deploy/NAME.
#[cfg(feature = "local")]
pub(crate) fn forward(mesh: &State, pod: &str, port: u16) -> anyhow::Result<Stream> {
    Ok(Box::new(cli_local::forward(mesh, pod, port)?))
}

#[cfg(not(feature = "local"))]
mod absent {
    use std::{convert::Infallible, path::PathBuf};

    use anyhow::{Result, bail};

    use super::Stream;

    /// Mesh on this machine; there is none in this build.
    #[derive(Debug)]
    pub(crate) struct State {
        pub(crate) name: String,
        pub(crate) version: String,
        pub(crate) manifests: PathBuf,
        never: Infallible,
    }

    /// Pod of a mesh on this machine.
    #[derive(Debug)]
    pub(crate) struct PodStatus {
        pub(crate) namespace: String,
        pub(crate) name: String,
        pub(crate) deployment: String,
        pub(crate) status: String,
        pub(crate) ready: bool,
        pub(crate) meshed: bool,
    }

    impl State {
        /// Finds a mesh by name.
        pub(crate) fn find(_name: Option<&str>) -> Result<Self> {
            bail!("this build of mesh runs no local meshes: select a cluster with --kubeconfig or --context")
        }

        /// Lists the running meshes.
        pub(crate) fn running() -> Vec<Self> {
            Vec::new()
        }

        /// Returns the address of the mesh's viz API.
        pub(crate) fn viz_url(&self) -> String {
            match self.never {}
        }

        /// Returns the token of the viz API.
        pub(crate) fn viz_token(&self) -> Result<String> {
            match self.never {}
        }

        /// Lists its pods.
        pub(crate) fn pods(&self) -> Result<Vec<PodStatus>> {
            match self.never {}
        }

        /// Returns the value of a variable of a pod's sidecar.
        pub(crate) fn sidecar_variable(&self, _pod: &str, _name: &str) -> Result<Option<String>> {
            match self.never {}
        }

        /// Folders that the control plane reads.
        pub(crate) fn folders(&self) -> [PathBuf; 2] {
            match self.never {}
        }
    }

    /// Connects to a port of a pod.
    pub(crate) fn forward(mesh: &State, _pod: &str, _port: u16) -> Result<Stream> {
        match mesh.never {}
    }
}
