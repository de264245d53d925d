//! The program `mesh-injector`: admission webhooks that add sidecars to pods and validate the mesh's resources. It
//! decides nothing about sidecars itself (see `injector-sidecar`) and never asks the cluster during a review.
//!
//! ```text
//! values, anchors ─[reload]─▶ Injector ─┐
//! namespaces, owners ──[cluster]────────┼─[review]─▶ patch or rejection
//! API server ══TLS══[server]────────────┤   └─▶ [events]: Events on the pod's owner
//!                                       └─[validate]─▶ nothing, warnings, or a field and the reason
//! ```

mod args;
mod body;
mod cluster;
mod events;
mod limits;
mod metrics;
mod reload;
mod review;
mod run;
mod server;
mod source;
mod validate;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    run::run(args::Args::parse())
}
