//! Meshes on this machine, as commands for a cluster see them.
//!
//! The runtime that makes them is the feature `local`, for Linux. A build without it has every other command and finds
//! no such mesh.

#[cfg(feature = "local")]
pub(crate) use cli_local::state::State;

#[cfg(not(feature = "local"))]
pub(crate) use absent::State;

#[cfg(not(feature = "local"))]
mod absent {
    use std::{convert::Infallible, path::PathBuf};

    use anyhow::{Result, bail};

    /// Mesh on this machine; there is none in this build.
    #[derive(Debug)]
    pub(crate) struct State {
        pub(crate) name: String,
        pub(crate) manifests: PathBuf,
        never: Infallible,
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
    }
}
