//! What viz must know of the cluster's objects to name the rows: pods with their owners, services, splits.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use viz_api::{Kind, Resource};

/// Namespace and name of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub key: PodKey,
    /// Address, once it has one.
    pub ip: Option<IpAddr>,
    /// Where its proxy has its metrics.
    pub admin_port: u16,
    /// Where its proxy is tapped; none if it must not be.
    pub tap_port: Option<u16>,
    /// Who owns it, nearest first.
    pub owners: Vec<(Kind, String)>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Phase, as Kubernetes names it.
    pub phase: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it has a proxy.
    pub meshed: bool,
    /// The identity that its proxy has by its service account.
    pub identity: Option<String>,
}

impl Pod {
    /// Whether it counts as running: Linkerd leaves out what has ended.
    pub fn is_running(&self) -> bool {
        !matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Where its metrics are; none if it has no proxy, or no address yet.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        let ip = self.ip.filter(|_| self.meshed)?;
        Some(SocketAddr::new(ip, self.admin_port))
    }

    /// Where it is tapped; none if it has no proxy, none that may be tapped, or no address yet.
    pub fn tap_addr(&self) -> Option<SocketAddr> {
        let ip = self.ip.filter(|_| self.meshed)?;
        Some(SocketAddr::new(ip, self.tap_port?))
    }

    /// The name of the object of `kind` that this pod is or belongs to.
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

    /// Whether it is, or belongs to, `resource` in `namespace` (none means any).
    pub fn belongs_to(&self, resource: &Resource, namespace: Option<&str>) -> bool {
        let in_namespace = namespace.is_none_or(|n| *n == *self.key.namespace);
        (in_namespace || resource.kind == Kind::Namespace)
            && self.name_as(resource.kind).is_some_and(|name| resource.matches(name))
    }
}

/// A workload that owns pods, also while it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Kind.
    pub kind: Kind,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Labels of its pods; empty for none.
    pub selector: BTreeMap<String, String>,
}

impl Service {
    /// Whether the pod is one of its.
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
    /// The Service.
    pub service: String,
    /// Names of the routes.
    pub routes: Vec<String>,
}

/// A TrafficSplit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Namespace.
    pub namespace: String,
    /// The service that clients name.
    pub apex: String,
    /// The services that get the traffic, with their weights as written.
    pub leaves: Vec<(String, String)>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Pods.
    pub pods: Vec<Arc<Pod>>,
    /// Workloads.
    pub workloads: Vec<Workload>,
    /// Services.
    pub services: Vec<Service>,
    /// Profiles.
    pub profiles: Vec<Profile>,
    /// Splits.
    pub splits: Vec<Split>,
}

/// A label selector: all of its terms hold.
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
    /// Reads `a=b,c!=d,e,!f`; the text of the first bad term is the error.
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

    /// Whether `labels` satisfy it.
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
    fn selectors_match_or_name_the_bad_term() {
        let labels: BTreeMap<_, _> = [("app".to_owned(), "web".to_owned())].into();
        let matches = |text: &str| LabelSelector::parse(text).expect("valid").matches(&labels);
        assert!(matches("app=web") && matches("app==web, !tier") && matches("app") && matches("tier!=db"));
        assert!(!matches("app=api") && !matches("app,tier"));
        assert_eq!(LabelSelector::parse("app=web,a in (b)"), Err("a in (b)".to_owned()));
        assert_eq!(LabelSelector::parse("=x"), Err("=x".to_owned()));
    }
}
