//! The program `mesh-viz`: from metrics to people.
//!
//! ```text
//! manifests --[objects]--> who is who ─┐
//! proxies' /metrics --[scrape]--> viz-query's window ──[api]──> rows as JSON
//! proxies' tap --------------------[tap]──────────────[api]──> events, one JSON object a line
//! ```

mod api;
mod args;
mod client;
mod event;
mod objects;
mod run;
mod scrape;
mod tap;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::main()
}
