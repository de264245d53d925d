//! Hidden commands with which the program starts itself in other roles. Their arguments are internal JSON.

use std::process::ExitCode;

use anyhow::Result;

use super::{connect, container, enter, pod, supervisor};

/// A role in which the program starts itself.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Internal {
    /// Create the namespaces.
    Enter {
        /// Specification for the supervisor.
        spec: String,
    },
    /// Run the mesh as process 1.
    Supervisor {
        /// Specification of the mesh.
        spec: String,
    },
    /// Hold a pod's namespaces.
    Pod {
        /// Specification of the pod.
        spec: String,
    },
    /// Execute a container's command in a pod's namespaces.
    Container(container::Args),
    /// Carry standard input and output to a port of a pod.
    Connect(connect::Args),
}

/// Runs the role.
pub(super) fn run(role: Internal) -> Result<ExitCode> {
    match role {
        Internal::Enter { spec } => enter::run(&spec),
        Internal::Supervisor { spec } => supervisor::run(&spec),
        Internal::Pod { spec } => pod::run(&spec),
        Internal::Container(args) => container::run(args),
        Internal::Connect(args) => connect::run(&args),
    }
}
