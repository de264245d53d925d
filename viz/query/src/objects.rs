//! Objects that rows are named after: pods with their owners, services, splits.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use viz_api::{Kind, Resource};

/// Namespace and name of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub key: PodKey,
    /// Address, once it has one.
    pub ip: Option<IpAddr>,
    /// Port of its proxy's metrics.
    pub admin_port: u16,
    /// Port of its proxy's tap; none if it must not be tapped.
    pub tap_port: Option<u16>,
    /// Owners, nearest first.
    pub owners: Vec<(Kind, String)>,
    pub labels: BTreeMap<String, String>,
    pub phase: String,
    pub ready: bool,
    pub meshed: bool,
    /// Identity of its service account; none without a proxy.
    pub identity: Option<String>,
}

impl Pod {
    /// Returns whether it counts as running: as in Linkerd, unless it has ended.
    pub fn is_running(&self) -> bool {
        !matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Address of its metrics; none without a proxy or before it has an address.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        let ip = self.ip.filter(|_| self.meshed)?;
        Some(SocketAddr::new(ip, self.admin_port))
    }

    /// Address of its tap; none without a proxy that may be tapped, or before it has an address.
    pub fn tap_addr(&self) -> Option<SocketAddr> {
        let ip = self.ip.filter(|_| self.meshed)?;
        Some(SocketAddr::new(ip, self.tap_port?))
    }

    /// Name of the object of `kind` that this pod is or belongs to.
    pub fn name_as(&self, kind: Kind) -> Option<&str> {
        match kind {
            Kind::Pod => Some(&self.key.name),
            Kind::Namespace => Some(&self.key.namespace),
            kind => self
                .owners
                .iter()
                .find(|(k, _)| *k == kind)
                .map(|(_, name)| name.as_str()),
        }
    }

    /// Returns whether it is, or belongs to, `resource` in `namespace` (none means any).
    pub fn belongs_to(&self, resource: &Resource, namespace: Option<&str>) -> bool {
        let in_namespace = namespace.is_none_or(|n| *n == *self.key.namespace);
        (in_namespace || resource.kind == Kind::Namespace)
            && self.name_as(resource.kind).is_some_and(|name| resource.matches(name))
    }
}

/// Workload that can own pods, even while it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// Labels of its pods; empty selects none.
    pub selector: BTreeMap<String, String>,
}

impl Service {
    /// Returns whether it selects the pod.
    pub fn selects(&self, pod: &Pod) -> bool {
        let has = |(key, value): (&String, &String)| pod.labels.get(key) == Some(value);
        !self.selector.is_empty() && *self.namespace == *pod.key.namespace && self.selector.iter().all(has)
    }
}

/// Routes of a ServiceProfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Namespace of the Service.
    pub namespace: String,
    pub service: String,
    /// Names of the routes.
    pub routes: Vec<String>,
}

/// A TrafficSplit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub namespace: String,
    /// Service that clients name.
    pub apex: String,
    /// Services that get the traffic, with their weights as written.
    pub leaves: Vec<(String, String)>,
}

/// Objects of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    pub pods: Vec<Arc<Pod>>,
    pub workloads: Vec<Workload>,
    pub services: Vec<Service>,
    pub profiles: Vec<Profile>,
    pub splits: Vec<Split>,
}

impl Objects {
    /// Running pods of a Service.
    pub(crate) fn pods_of<'a>(&'a self, namespace: &str, service: &str) -> impl Iterator<Item = &'a Pod> + use<'a> {
        let mut services = self.services.iter();
        let service = services.find(|s| s.namespace == namespace && s.name == service);
        let pods = self.pods.iter().map(|pod| &**pod);
        pods.filter(move |pod| pod.is_running() && service.is_some_and(|s| s.selects(pod)))
    }
}

/// Label selector: all of its terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

impl LabelSelector {
    /// Parses `a=b,c!=d,e,!f`; the error is the first invalid term.
    pub fn parse(text: &str) -> Result<Self, String> {
        let term = |text: &str| {
            let text = text.trim();
            let term = if let Some((key, value)) = text.split_once("!=") {
                Term::IsNot(key.trim().to_owned(), value.trim().to_owned())
            } else if let Some((key, value)) = text.split_once('=') {
                let value = value.strip_prefix('=').unwrap_or(value);
                Term::Is(key.trim().to_owned(), value.trim().to_owned())
            } else if let Some(key) = text.strip_prefix('!') {
                Term::HasNot(key.trim().to_owned())
            } else {
                Term::Has(text.to_owned())
            };
            let (Term::Is(key, _) | Term::IsNot(key, _) | Term::Has(key) | Term::HasNot(key)) = &term;
            let bad = key.is_empty() || key.contains(|c: char| c.is_whitespace() || "()!=".contains(c));
            if bad { Err(text.to_owned()) } else { Ok(term) }
        };
        text.split(',').map(term).collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether `labels` satisfy it.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|term| match term {
            Term::Is(key, value) => labels.get(key) == Some(value),
            Term::IsNot(key, value) => labels.get(key) != Some(value),
            Term::Has(key) => labels.contains_key(key),
            Term::HasNot(key) => !labels.contains_key(key),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_selectors_or_returns_the_invalid_term() {
        let labels: BTreeMap<_, _> = [("app".to_owned(), "web".to_owned())].into();
        let matches = |text: &str| LabelSelector::parse(text).expect("valid").matches(&labels);
        assert!(matches("app=web") && matches("app==web, !tier") && matches("app") && matches("tier!=db"));
        assert!(!matches("app=api") && !matches("app,tier"));
        assert_eq!(LabelSelector::parse("app=web,a in (b)"), Err("a in (b)".to_owned()));
        assert_eq!(LabelSelector::parse("=x"), Err("=x".to_owned()));
    }
}
