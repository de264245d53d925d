//! Limits of the webhooks; those of connections are the server kit's.

use std::time::Duration;

proxy_model::limits! {
    /// Connections of one client address: all, because behind the injector's own sidecar every client has the same.
    WEBHOOK_CONNECTIONS_PER_CLIENT: usize = 256;
    /// Bytes of one review: the object, of at most 3 MiB, and its envelope.
    WEBHOOK_BODY_BYTES: usize = 4 << 20;
    /// Bytes of all reviews in flight; the oldest is dropped.
    WEBHOOK_BODIES_BYTES: usize = 32 << 20;
    /// Time for a body; the API server waits ten seconds for the whole review.
    WEBHOOK_BODY_TIME: Duration = Duration::from_secs(10);
    /// Time from the end of a handshake to the first review: the API server connects because it has one. Short, so that
    /// silent connections in all places delay its next attempt and do not outlast it.
    WEBHOOK_FIRST_CALL: Duration = Duration::from_secs(3);
    /// Time that a connection may be without a request; the API server closes its own after 90 s.
    WEBHOOK_IDLE_TIME: Duration = Duration::from_secs(120);
    /// JSON values in an object. A parsed value takes up to 80 bytes, so that 4 MiB of `[[0],[0],…` would take 100 MB;
    /// a Pod of Kubernetes' largest size has some 50,000.
    REVIEW_VALUES: usize = 200_000;
    /// Queued Events: the pods of a large rollout; further ones are dropped.
    EVENTS_QUEUED: usize = 512;
    /// Remembered Events; when there are more, all are forgotten and a few are recorded twice.
    EVENTS_REMEMBERED: usize = 4_096;
    /// Events of one namespace in a row: anybody may send reviews about it, and each Event costs two calls.
    EVENTS_IN_A_ROW: u32 = 30;
    /// Time between two further Events of a namespace.
    EVENT_EVERY: Duration = Duration::from_secs(2);
    /// Namespaces whose Events are counted; quiet ones are forgotten first, and further ones have no Events.
    EVENT_NAMESPACES: usize = 4_096;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_sentences() {
        for limit in ALL {
            assert!(limit.reason.len() > 10 && limit.reason.ends_with('.'), "{limit:?}");
        }
    }
}
