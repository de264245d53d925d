//! Metrics of mesh-identity.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use proxy_metrics::programs::identity as names;
use proxy_model::reason::Reason;

/// Handles to the metrics; clones count into the same ones.
#[derive(Clone)]
pub(crate) struct Metrics {
    issued: Counter<u64, AtomicU64>,
    refused: Family<ReasonLabel, Counter<u64, AtomicU64>>,
    reload_rejected: Counter<u64, AtomicU64>,
    issuer_ttl: Gauge<i64, AtomicI64>,
    registry: Arc<Registry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let (issued, refused, reload_rejected, issuer_ttl) = (
            Counter::default(),
            Family::default(),
            Counter::default(),
            Gauge::default(),
        );
        registry.register(names::CERTIFICATES_ISSUED, "Certificates signed", issued.clone());
        registry.register(
            names::CERTIFICATES_REFUSED,
            "Requests refused, by reason",
            refused.clone(),
        );
        registry.register(
            names::RELOADS_REFUSED,
            "New issuer files rejected",
            reload_rejected.clone(),
        );
        registry.register(
            names::ISSUER_CERT_TTL_SECONDS,
            "Time until the issuer expires",
            issuer_ttl.clone(),
        );
        Self {
            issued,
            refused,
            reload_rejected,
            issuer_ttl,
            registry: Arc::new(registry),
        }
    }

    /// Counts a signed certificate.
    pub(crate) fn issued(&self) {
        self.issued.inc();
    }

    /// Counts a refused request.
    pub(crate) fn refused(&self, reason: Reason) {
        let reason = reason.row().label.unwrap_or(reason.code());
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts rejected issuer files.
    pub(crate) fn reload_rejected(&self) {
        self.reload_rejected.inc();
    }

    /// Records the remaining validity of the issuer.
    pub(crate) fn issuer_ttl(&self, ttl: Duration) {
        self.issuer_ttl.set(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
    }

    /// Encodes all metrics in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
