//! Reasons for which a TrafficTarget allows nothing. They stand by themselves because routes, too, can have them.

use destination_k8s::{Kind, access::SERVICE_ACCOUNT, keys};
use proxy_model::{budget::Exceeded, limits::Limit};

/// Reason for which a target allows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("it has no sources")]
    Sources,
    #[error("it has no rules")]
    Rules,
    #[error("the source {name} is of kind {kind}, and only {SERVICE_ACCOUNT} is supported")]
    Source { kind: String, name: String },
    #[error("the source {0} is not a name of a service account")]
    Identity(String),
    #[error("the rule {0} is a UDPRoute, and the mesh carries no UDP")]
    Udp(String),
    #[error("the rule {name} is of kind {kind}, and only HTTPRouteGroup and TCPRoute are supported")]
    Rule { kind: String, name: String },
    #[error("the rule {0} is a TCPRoute, which has no matches by name")]
    Matches(String),
    #[error("the {0} of {group} {1} does not exist", group = keys::SPECS_GROUP)]
    Missing(Kind, String),
    #[error("the HTTPRouteGroup {group} has no match {name}")]
    Match { group: String, name: String },
    #[error("the HTTPRouteGroup {0} has no matches")]
    NoMatches(String),
    #[error("the HTTPRouteGroup {0} is refused")]
    Refused(String),
    #[error("the targets of its service account are over the limit {} ({})", .0.name, .0.value)]
    TooMany(Limit),
    #[error("it has {0}")]
    Budget(#[from] Exceeded),
}
