//! The program `mesh-injector`: the admission webhook through which pods join the mesh.
//!
//! ```text
//! values, anchors ─[reload]─▶ Injector ─┐
//! namespaces, owners ──[cluster]────────┼─[review]─▶ patch, or a refusal in a sentence
//! API server ══TLS══[server]────────────┤   └─▶ [events]: what became of a pod, told of its owner
//!                                       └─[validate]─▶ nothing, a warning, or the field to blame and why
//! ```

mod args;
mod cluster;
mod events;
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
