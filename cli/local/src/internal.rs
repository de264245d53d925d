//! The hidden commands by which the program starts itself in other roles. Their arguments are JSON of our own making.

use std::process::ExitCode;

use anyhow::Result;

use super::{container, enter, pod, supervisor};

/// A role that the program starts itself in.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Internal {
    /// Makes the namespaces.
    Enter {
        /// For the supervisor.
        spec: String,
    },
    /// Runs everything, as process 1.
    Supervisor {
        /// What to run.
        spec: String,
    },
    /// Holds a pod's namespaces.
    Pod {
        /// Which pod.
        spec: String,
    },
    /// Becomes a container's command inside a pod's namespaces.
    Container(container::Args),
}

/// Plays the role.
pub(super) fn run(role: Internal) -> Result<ExitCode> {
    match role {
        Internal::Enter { spec } => enter::run(&spec),
        Internal::Supervisor { spec } => supervisor::run(&spec),
        Internal::Pod { spec } => pod::run(&spec),
        Internal::Container(args) => container::run(args),
    }
}
