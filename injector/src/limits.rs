//! Limits of the webhooks; those of connections are the server kit's.

use std::time::Duration;

use proxy_model::limits::Limit;

/// Connections of one client address: all, because behind the injector's own sidecar every client has the same.
pub(crate) const CONNECTIONS_PER_CLIENT: Limit = Limit {
    name: "WEBHOOK_CONNECTIONS_PER_CLIENT",
    value: 256,
    reason: "Connections of one client address: all, because behind the injector's own sidecar every client has the same.",
};
/// Bytes of one review: the object, of at most 3 MiB, and its envelope.
pub(crate) const BODY_BYTES: Limit = Limit {
    name: "WEBHOOK_BODY_BYTES",
    value: 4 << 20,
    reason: "Bytes of one review: the object, of at most 3 MiB, and its envelope.",
};
/// Bytes of all reviews in flight; the oldest is dropped.
pub(crate) const BODIES_BYTES: Limit = Limit {
    name: "WEBHOOK_BODIES_BYTES",
    value: 32 << 20,
    reason: "Bytes of all reviews in flight; the oldest is dropped.",
};
/// Time for a body; the API server waits ten seconds for the whole review.
pub(crate) const BODY_TIME: Limit<Duration> = Limit {
    name: "WEBHOOK_BODY_TIME",
    value: Duration::from_secs(10),
    reason: "Time for a body; the API server waits ten seconds for the whole review.",
};
/// Time that a connection may be without a request; the API server closes its own after 90 s.
pub(crate) const IDLE_TIME: Limit<Duration> = Limit {
    name: "WEBHOOK_IDLE_TIME",
    value: Duration::from_secs(120),
    reason: "Time that a connection may be without a request; the API server closes its own after 90 s.",
};
