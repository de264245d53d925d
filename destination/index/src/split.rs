//! TrafficSplits: the targets in the profile of an apex Service.

use std::sync::Arc;

use destination_k8s::{TrafficSplit, keys, quantity::Weight};
use k8s_openapi::api::core::v1::Service;
use proxy_model::{Authority, Meta, profile::Target};

use crate::reader::Reader;

/// Returns true if a backend exists and has the port.
pub(crate) fn has_port(service: Option<&Arc<Service>>, port: u16) -> bool {
    let spec = service.and_then(|service| service.spec.as_ref());
    let mut ports = spec.into_iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.any(|found| found.port == i32::from(port))
}

/// Builds the targets of a split for `port`. The share of missing backends goes to the others; without any target the
/// split has no effect.
pub(crate) fn targets(reader: &Reader<'_>, split: &TrafficSplit, port: u16) -> Vec<Target> {
    let ns = split.metadata.namespace.as_deref().unwrap_or_default();
    let mut found = vec![];
    for backend in &split.spec.backends {
        if !has_port(reader.service(ns, &backend.service), port) {
            continue;
        }
        let host = format!("{}.{ns}.svc.{}", backend.service, reader.config.cluster_domain);
        let meta = Meta::resource(keys::CORE_GROUP, "Service", ns, &backend.service).with_port(port);
        found.push((Authority::new(&host, port), backend.weight, Some(meta)));
    }
    if found.iter().all(|(_, weight, _)| weight.millis() == 0) {
        return vec![];
    }
    weighted(found)
}

/// Scales weights for the wire: ten-thousandths, all divided alike if one would not fit.
pub(crate) fn weighted(targets: Vec<(Authority, Weight, Option<Meta>)>) -> Vec<Target> {
    let most = targets.iter().map(|(_, weight, _)| weight.millis()).max().unwrap_or(0);
    let divisor = (most.saturating_mul(10) / u64::from(u32::MAX)) + 1;
    let scale = |weight: Weight| match weight.millis().saturating_mul(10) {
        0 => 0,
        scaled => u32::try_from(scaled / divisor).unwrap_or(u32::MAX).max(1),
    };
    let target = |(authority, weight, backend)| Target {
        authority,
        weight: scale(weight),
        backend,
    };
    targets.into_iter().map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_weights_keep_their_ratio() {
        let authority = Authority::new("a", 80);
        let weight = |text| Weight::parse(text).expect("a weight");
        let targets = weighted(vec![
            (authority.clone(), weight("3000000"), None),
            (authority.clone(), weight("1000000"), None),
            (authority.clone(), weight("1m"), None),
            (authority, weight("0"), None),
        ]);
        let weights: Vec<f64> = targets.iter().map(|t| f64::from(t.weight)).collect();
        assert!((weights[0] / weights[1] - 3.0).abs() < 1e-3, "{weights:?}");
        assert!(weights[2] >= 1.0 && weights[3] == 0.0);
    }
}
