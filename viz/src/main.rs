//! The program `mesh-viz`: from metrics to people.
//!
//! ```text
//! manifests, cluster --[objects]--> who is who ─┐
//! proxies' /metrics --[scrape]--> viz-query's window ──[api]──> rows as JSON
//! proxies' tap --------------------[tap]──────────────[api]──> events, one JSON object a line
//!                                     └──[extension]──> the same through the API server of a cluster
//! ```

mod api;
mod args;
mod client;
mod event;
mod extension;
mod objects;
mod run;
mod scrape;
mod source;
mod tap;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::main()
}
