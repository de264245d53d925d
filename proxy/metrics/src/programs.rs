//! Names of the metrics that the control plane's programs count; `prometheus-client` adds `_total` to counters.

/// mesh-identity.
pub mod identity {
    /// Counter: certificates that were signed.
    pub const CERTIFICATES_ISSUED: &str = "mesh_identity_certificates_issued";
    /// Counter by `reason`: requests that were rejected.
    pub const CERTIFICATES_REFUSED: &str = "mesh_identity_certificates_refused";
    /// Counter: new issuer files that were rejected.
    pub const RELOADS_REFUSED: &str = "mesh_identity_issuer_reloads_refused";
    /// Gauge, Linkerd's own: seconds until the issuer expires.
    pub const ISSUER_CERT_TTL_SECONDS: &str = "issuer_cert_ttl_seconds";
}

/// mesh-destination.
pub mod destination {
    /// Gauge by `rpc`: streams that are open.
    pub const STREAMS: &str = "mesh_destination_streams";
    /// Counter by `rpc`: streams that were opened.
    pub const STREAMS_OPENED: &str = "mesh_destination_streams_opened";
    /// Gauge by `rpc`: age of the oldest open stream.
    pub const STREAM_OLDEST_AGE_SECONDS: &str = "mesh_destination_stream_oldest_age_seconds";
    /// Counter by `rpc`: messages that were sent.
    pub const MESSAGES: &str = "mesh_destination_messages";
    /// Gauge by `rpc`: when the last message was sent.
    pub const LAST_MESSAGE_TIMESTAMP_SECONDS: &str = "mesh_destination_last_message_timestamp_seconds";
    /// Counter by `rpc` and `code`: calls that were rejected.
    pub const REFUSED: &str = "mesh_destination_refused";
    /// Counter: messages that were encoded; the others were shared between streams.
    pub const ENCODED: &str = "mesh_destination_encoded";
    /// Counter: times that all shared messages were dropped because there were too many.
    pub const SHARED_FORGOTTEN: &str = "mesh_destination_shared_forgotten";
    /// Gauge by `kind`: distinct answers that are kept.
    pub const VIEWS: &str = "mesh_destination_views";
    /// Gauge: objects that are known.
    pub const OBJECTS: &str = "mesh_destination_objects";
    /// Gauge: objects with something wrong, as the log says.
    pub const PROBLEMS: &str = "mesh_destination_problems";
    /// Counter: updates of objects.
    pub const UPDATES: &str = "mesh_destination_updates";
    /// Counter: manifests, or parts of them, that were refused.
    pub const MANIFESTS_REFUSED: &str = "mesh_destination_manifests_refused";
    /// Counter by `outcome`: statuses of objects that were written, were up to date, or failed.
    pub const STATUSES: &str = "mesh_destination_statuses";
    /// Gauge: statuses waiting to be written.
    pub const STATUSES_WAITING: &str = "mesh_destination_statuses_waiting";
}

/// mesh-injector.
pub mod injector {
    /// Counter by owner, namespace and where the annotation stands, Linkerd's own: reviews received.
    pub const REQUESTS: &str = "proxy_inject_admission_requests";
    /// The same, and whether and why it was skipped: reviews that were answered.
    pub const RESPONSES: &str = "proxy_inject_admission_responses";
    /// Counter by `reason`: reviews without an answer, or with a rejection.
    pub const REFUSED: &str = "mesh_injector_reviews_refused";
    /// Histogram: time for one review.
    pub const REVIEW_SECONDS: &str = "mesh_injector_review_seconds";
    /// Counter by `what`: new files that were rejected.
    pub const RELOADS_REFUSED: &str = "mesh_injector_reloads_refused";
    /// Counter by `result`: Events that were published, were repeats, failed, or were dropped.
    pub const EVENTS: &str = "mesh_injector_events";
    /// Counter by `kind` and `result`: objects that were validated.
    pub const VALIDATIONS: &str = "mesh_injector_validations";
    /// Counter: namespaces that are counted under one name, because there are too many.
    pub const NAMESPACES_UNNAMED: &str = "mesh_injector_namespaces_unnamed";
}

/// mesh-viz.
pub mod viz {
    /// Gauge: pods with samples.
    pub const PODS: &str = "mesh_viz_scraped_pods";
    /// Gauge: pods whose last scrape failed.
    pub const PODS_FAILING: &str = "mesh_viz_failing_pods";
    /// Gauge: longest time that samples cover, in milliseconds.
    pub const COVERED_MS: &str = "mesh_viz_covered_ms";
    /// Counter: pods and series dropped by a limit.
    pub const REFUSED: &str = "mesh_viz_refused";
    /// Counter: lines of taps dropped because the reader was too slow.
    pub const TAP_DROPPED: &str = "mesh_viz_tap_dropped";
}

/// mesh-cni.
pub mod cni {
    /// Counter by `result`: checks of the node's files that found all in place, changed something, or failed.
    pub const LOOKS: &str = "mesh_cni_looks";
    /// Gauge: network configurations that have our plugin.
    pub const CONFIGURATIONS: &str = "mesh_cni_configurations";
    /// Gauge: network configurations that are left alone because they cannot be read.
    pub const CONFIGURATIONS_REFUSED: &str = "mesh_cni_configurations_refused";
    /// Counter, Linkerd's own: pods dropped from a full queue of repairs.
    pub const QUEUE_OVERFLOW: &str = "linkerd_cni_repair_controller_queue_overflow";
    /// Counter, Linkerd's own: pods that were deleted.
    pub const PODS_DELETED: &str = "linkerd_cni_repair_controller_pods_deleted";
    /// Histogram, Linkerd's own: time to delete one.
    pub const PODS_DELETE_LATENCY_SECONDS: &str = "linkerd_cni_repair_controller_pods_delete_latency_seconds";
    /// Counter, Linkerd's own: deletions that failed.
    pub const PODS_DELETE_ERRORS: &str = "linkerd_cni_repair_controller_pods_delete_errors";
    /// Counter, Linkerd's own: deletions that took too long.
    pub const PODS_DELETE_TIMEOUT: &str = "linkerd_cni_repair_controller_pods_delete_timeout";
    /// Counter: pods left alone because no controller would recreate them.
    pub const PODS_LEFT: &str = "linkerd_cni_repair_controller_pods_left";
    /// Histogram, Linkerd's own: time to publish an Event.
    pub const EVENTS_PUBLISH_LATENCY_SECONDS: &str = "linkerd_cni_repair_controller_events_publish_latency_seconds";
    /// Counter, Linkerd's own: Events that could not be published.
    pub const EVENTS_PUBLISH_ERRORS: &str = "linkerd_cni_repair_controller_events_publish_errors";
    /// Counter, Linkerd's own: Events that took too long.
    pub const EVENTS_PUBLISH_TIMEOUTS: &str = "linkerd_cni_repair_controller_events_publish_timeouts";
}

/// Watches of a cluster, in any program; each by `kind`.
pub mod source {
    /// Gauge: objects that are known.
    pub const OBJECTS: &str = "mesh_source_objects";
    /// Gauge: 1 after the initial sync.
    pub const SYNCED: &str = "mesh_source_synced";
    /// Gauge: 1 while the watch is open.
    pub const CONNECTED: &str = "mesh_source_connected";
    /// Gauge: time since the API server's last message.
    pub const AGE_SECONDS: &str = "mesh_source_age_seconds";
    /// Counter: lists.
    pub const LISTS: &str = "mesh_source_lists";
    /// Counter: events of watches.
    pub const EVENTS: &str = "mesh_source_events";
    /// Counter: failures.
    pub const FAILURES: &str = "mesh_source_failures";
    /// Counter: objects that were rejected.
    pub const REFUSED: &str = "mesh_source_refused";
}
