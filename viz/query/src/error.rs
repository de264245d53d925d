//! Errors of requests.

use viz_api::Kind;

/// Invalid request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Both directions at once.
    #[error("--to and --from exclude each other")]
    ToAndFrom,
    /// Kind that sends no requests.
    #[error("invalid --from {0}: only workloads and namespaces send requests")]
    From(Kind),
    /// Kind without an outbound side.
    #[error("{0} has no figures with --to or --from: it is a destination itself")]
    Filtered(Kind),
    /// Unreadable term of a label selector.
    #[error("invalid selector term {0:?}: not KEY=VALUE, KEY!=VALUE, KEY or !KEY")]
    Selector(String),
    /// Kind without edges.
    #[error("{0} has no edges: edges are between workloads")]
    Edges(Kind),
    /// Kind without routes.
    #[error("{0} has no routes: Services have them, and workloads behind Services")]
    Routes(Kind),
    /// Kind without a proxy.
    #[error("{0} has no authorizations of its own: ask for the workload behind it, such as deploy/NAME")]
    Authz(Kind),
    /// Window longer than the samples kept.
    #[error("the window of {asked_s} s is longer than the {kept_s} s that are kept")]
    Window { asked_s: u64, kept_s: u64 },
}
