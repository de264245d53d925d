//! Program `mesh-viz`: statistics and live requests of a mesh.
//!
//! ```text
//! manifests, cluster --[objects]--> pods, owners ─┐
//! /metrics of proxies --[scrape]--> viz-query's window ──[api]──> rows as JSON
//! tap of proxies ------------------[tap]──────────────[api]──> events, one JSON object per line
//!                                    └──[extension]──> the same through the API server of a cluster
//! ```

mod api;
mod args;
mod client;
mod event;
mod extension;
mod metrics;
mod objects;
mod rejection;
mod run;
mod scrape;
mod source;
mod tap;
mod token;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::main()
}
