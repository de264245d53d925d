//! Check of destinations that a pod reports. The source of a series is the pod that was scraped; its labels `dst_*` are
//! what that pod says, and it may say anything.
//!
//! A pod may still report any number of requests to a pod that exists. What it cannot do is name a workload, a Service
//! or an identity that the destination does not have.

use std::net::IpAddr;

use proxy_metrics::names::label;
use rustc_hash::FxHashMap;
use viz_api::Kind;

use crate::{
    objects::{Objects, Pod, PodKey},
    series::{Labels, dst_label},
    window::Window,
};

/// Pods and Services that exist, or did within the window.
#[derive(Debug)]
pub(crate) struct Destinations<'a> {
    pods: FxHashMap<(&'a str, &'a str), &'a Pod>,
    objects: &'a Objects,
    /// Labels of owners, with their kinds.
    owners: Vec<(Kind, String)>,
}

impl<'a> Destinations<'a> {
    pub(crate) fn new(objects: &'a Objects, window: &'a Window) -> Self {
        let all = window.recent_pods().chain(objects.pods.iter().map(|pod| &**pod));
        let key = |PodKey { namespace, name }: &'a PodKey| (&**namespace, &**name);
        let owners = Kind::ALL
            .into_iter()
            .filter(|kind| kind.is_workload() && *kind != Kind::Pod);
        Self {
            pods: all.map(|pod| (key(&pod.key), pod)).collect(),
            objects,
            owners: owners.map(|kind| (kind, dst_label(kind))).collect(),
        }
    }

    pub(crate) fn objects(&self) -> &'a Objects {
        self.objects
    }

    /// Returns true for a series that is not outbound, or whose destination has what its labels say.
    pub(crate) fn confirm(&self, labels: &Labels) -> bool {
        if labels.get(label::DIRECTION) != "outbound" {
            return true;
        }
        let (namespace, name) = (labels.get("dst_namespace"), labels.get("dst_pod"));
        let pod = self.pods.get(&(namespace, name)).copied();
        if name.is_empty() {
            // Not a pod: an address outside of the cluster, or an external workload.
            let service = labels.get("dst_service");
            return self.owners.iter().all(|(_, label)| labels.get(label).is_empty())
                && (!service.is_empty() || namespace.is_empty())
                && self.has_service(namespace, service, None);
        }
        pod.is_some_and(|pod| {
            let has_owner = |(kind, label): &(Kind, String)| {
                let claimed = labels.get(label);
                claimed.is_empty() || is_owner(pod, *kind, claimed)
            };
            self.owners.iter().all(has_owner)
                && has_address(pod, labels)
                && has_identity(pod, labels)
                && self.has_service(namespace, labels.get("dst_service"), Some(pod))
        })
    }

    fn has_service(&self, namespace: &str, name: &str, pod: Option<&Pod>) -> bool {
        let mut services = self.objects.services.iter();
        name.is_empty()
            || services
                .find(|service| service.namespace == namespace && service.name == name)
                .is_some_and(|service| pod.is_none_or(|pod| service.selector.is_empty() || service.selects(pod)))
    }
}

/// An owner may not be known yet, but its pods are named after it.
fn is_owner(pod: &Pod, kind: Kind, claimed: &str) -> bool {
    match pod.name_as(kind) {
        Some(name) => name == claimed,
        None => pod
            .key
            .name
            .strip_prefix(claimed)
            .is_some_and(|rest| rest.starts_with('-')),
    }
}

/// The pod's other address of a dual-stack cluster is not known.
fn has_address(pod: &Pod, labels: &Labels) -> bool {
    let claimed = labels.get(label::TARGET_IP).parse::<IpAddr>();
    match (claimed, pod.ip) {
        (Ok(claimed), Some(ip)) => claimed == ip || claimed.is_ipv4() != ip.is_ipv4(),
        _ => true,
    }
}

fn has_identity(pod: &Pod, labels: &Labels) -> bool {
    let claimed = labels.get(label::SERVER_ID);
    claimed.is_empty() || pod.identity.as_deref().is_none_or(|identity| identity == claimed)
}

#[cfg(test)]
mod tests;
