//! Addresses of Services. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use k8s_openapi::api::core::v1::Service;

use super::names::{Key, SERVICE_NET, stable_hash};

/// Stable addresses of Services: a hash of namespace and name, or the next free one on a collision.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterIps(BTreeMap<Key, Ipv4Addr>);

impl ClusterIps {
    /// Returns the address of a Service: the one of its manifest, if any; `None` for a headless or external one.
    pub(crate) fn allocate(&mut self, namespace: &str, name: &str, service: &Service) -> Option<Ipv4Addr> {
        let spec = service.spec.as_ref();
        if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
            return None;
        }
        let key = (namespace.to_owned(), name.to_owned());
        match spec
            .and_then(|spec| spec.cluster_ip.as_deref())
            .filter(|ip| !ip.is_empty())
        {
            Some("None") => return None,
            Some(ip) => {
                if let Ok(own) = ip.parse() {
                    self.0.insert(key, own);
                    return Some(own);
                }
            }
            None => {}
        }
        if let Some(known) = self.0.get(&key) {
            return Some(*known);
        }
        let taken: BTreeSet<_> = self.0.values().copied().collect();
        let start = stable_hash(&key) % 65_000;
        let free = (0..65_000).map(|step| {
            // The first addresses stay free: a cluster's own Services are there.
            let [high, low] = (((start + step) % 65_000) as u16 + 256).to_be_bytes();
            Ipv4Addr::new(SERVICE_NET[0], SERVICE_NET[1], high, low)
        });
        let address = free.into_iter().find(|address| !taken.contains(address))?;
        self.0.insert(key, address);
        Some(address)
    }

    /// Forgets removed Services.
    pub(crate) fn keep(&mut self, keep: impl Fn(&str, &str) -> bool) {
        self.0.retain(|(namespace, name), _| keep(namespace, name));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(value: Value) -> Service {
        serde_json::from_value(json!({ "metadata": {}, "spec": value })).expect("a service")
    }

    #[test]
    fn addresses_are_stable_and_distinct() {
        let plain = service(json!({}));
        let mut first = ClusterIps::default();
        let a = first.allocate("ns", "a", &plain);
        let again = ClusterIps::default().allocate("ns", "a", &plain);
        assert!(a.is_some() && a == again, "the same in another run");
        assert_ne!(a, first.allocate("ns", "b", &plain));
    }

    #[test]
    fn the_manifest_decides_over_the_address() {
        let mut ips = ClusterIps::default();
        assert_eq!(ips.allocate("ns", "c", &service(json!({ "clusterIP": "None" }))), None);
        let own = Ipv4Addr::new(10, 43, 0, 7);
        let fixed = service(json!({ "clusterIP": "10.43.0.7" }));
        assert_eq!(ips.allocate("ns", "d", &fixed), Some(own));
    }
}
