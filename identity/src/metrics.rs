//! What mesh-identity counts.

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

/// Handles to the metrics; clones count into the same ones.
#[derive(Clone)]
pub(crate) struct Metrics {
    issued: Counter<u64, AtomicU64>,
    refused: Family<Reason, Counter<u64, AtomicU64>>,
    reload_refused: Counter<u64, AtomicU64>,
    issuer_ttl: Gauge<i64, AtomicI64>,
    registry: Arc<Registry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let (issued, refused, reload_refused, issuer_ttl) = (
            Counter::default(),
            Family::default(),
            Counter::default(),
            Gauge::default(),
        );
        registry.register(
            names::CERTIFICATES_ISSUED,
            "Certificates that were signed",
            issued.clone(),
        );
        registry.register(
            names::CERTIFICATES_REFUSED,
            "Requests that were refused, by reason",
            refused.clone(),
        );
        registry.register(
            names::RELOADS_REFUSED,
            "New issuer files that were refused",
            reload_refused.clone(),
        );
        registry.register(
            names::ISSUER_CERT_TTL_SECONDS,
            "Time until the issuer expires",
            issuer_ttl.clone(),
        );
        Self {
            issued,
            refused,
            reload_refused,
            issuer_ttl,
            registry: Arc::new(registry),
        }
    }

    /// A certificate was signed.
    pub(crate) fn issued(&self) {
        self.issued.inc();
    }

    /// A request was refused.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// New issuer files were refused.
    pub(crate) fn reload_refused(&self) {
        self.reload_refused.inc();
    }

    /// The issuer is valid for so long.
    pub(crate) fn issuer_ttl(&self, ttl: Duration) {
        self.issuer_ttl.set(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
    }

    /// All of them in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
