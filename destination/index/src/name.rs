//! Names in requests of proxies: context and workload tokens, names of Services.

use std::{net::IpAddr, sync::Arc};

use serde::Deserialize;

use crate::Refused;

/// Client of `Destination`: `{"ns":…,"nodeName":…,"pod":…}`, or the older `ns:NAME`; anything else is anonymous.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Context {
    /// Namespace of the client.
    pub ns: Arc<str>,
    /// Node of the client.
    #[serde(rename = "nodeName")]
    pub node: Arc<str>,
    /// Pod of the client.
    pub pod: Arc<str>,
}

impl Context {
    /// Parses a token; an invalid one counts as none.
    pub fn parse(token: &str) -> Self {
        let token = token.trim();
        if let Some(ns) = token.strip_prefix("ns:") {
            return Self {
                ns: ns.into(),
                ..Self::default()
            };
        }
        serde_json::from_str(token).unwrap_or_default()
    }
}

/// Client of the policy services: `{"ns":…,"pod":…}`, or the older `ns:pod`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Namespace.
    pub ns: Arc<str>,
    /// Pod; none for a workload outside the cluster.
    pub pod: Option<Arc<str>>,
}

impl Workload {
    /// Parses a token.
    pub fn parse(token: &str) -> Result<Self, Refused> {
        #[derive(Deserialize)]
        struct Token {
            ns: Arc<str>,
            pod: Option<Arc<str>>,
            external_workload: Option<Arc<str>>,
        }
        let token = token.trim();
        if let Ok(Token {
            ns,
            pod,
            external_workload,
        }) = serde_json::from_str(token)
            && (pod.is_some() || external_workload.is_some())
        {
            return Ok(Self { ns, pod });
        }
        match token.split_once(':') {
            Some((ns, pod)) if !ns.is_empty() && !pod.is_empty() && !token.starts_with('{') => Ok(Self {
                ns: ns.into(),
                pod: Some(pod.into()),
            }),
            _ => Err(Refused::Invalid(format!("Invalid workload: {token}"))),
        }
    }
}

/// Host of a path.
#[derive(Copy, Clone, Debug)]
pub(crate) enum PathHost<'a> {
    Name(&'a str),
    Ip(IpAddr),
}

/// Name of a Service, or of one instance (pod) of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServiceName {
    pub ns: Arc<str>,
    pub name: Arc<str>,
    pub instance: Option<Arc<str>>,
}

impl ServiceName {
    /// Parses `[instance.]name.namespace.svc.domain`.
    pub(crate) fn parse(host: &str, domain: &str) -> Option<Self> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let head = host.strip_suffix(domain)?.strip_suffix('.')?.strip_suffix(".svc")?;
        let parts: Vec<&str> = head.split('.').collect();
        let (instance, name, ns) = match *parts.as_slice() {
            [name, ns] => (None, name, ns),
            [instance, name, ns] if !instance.is_empty() => (Some(instance.into()), name, ns),
            _ => return None,
        };
        (!name.is_empty() && !ns.is_empty()).then(|| Self {
            ns: ns.into(),
            name: name.into(),
            instance,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_both_forms_of_tokens() {
        let context = Context::parse("{\"ns\":\"plain\", \"nodeName\":\"n1\", \"pod\":\"p\"}\n");
        assert_eq!((&*context.ns, &*context.node, &*context.pod), ("plain", "n1", "p"));
        assert_eq!(&*Context::parse("ns:plain").ns, "plain");
        assert_eq!(Context::parse("garbage"), Context::default());
        assert_eq!(Workload::parse("a:b"), Workload::parse("{\"ns\":\"a\",\"pod\":\"b\"}"));
        assert!(Workload::parse("web").is_err() && Workload::parse("{\"ns\":\"a\"}").is_err());
    }

    #[test]
    fn parses_only_full_names() {
        let name = |host| ServiceName::parse(host, "cluster.local");
        assert_eq!(name("web.ns.svc.cluster.local").map(|n| n.instance), Some(None));
        assert_eq!(
            name("a.web.ns.svc.cluster.local.").and_then(|n| n.instance).as_deref(),
            Some("a")
        );
        for bad in [
            "web",
            "web.ns",
            "web.ns.svc",
            "web.ns.svc.example.org",
            ".ns.svc.cluster.local",
            "x.a.web.ns.svc.cluster.local",
        ] {
            assert_eq!(name(bad), None, "{bad}");
        }
    }
}
