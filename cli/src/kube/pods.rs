//! Pods selected on the command line: `web-1`, `po/web-1`, `deploy/web`, `deploy web`, `svc/web`, `ns/vote`.

use anyhow::{Result, anyhow, bail};
use destination_source::cluster::{Client, Filter, Resource, pods_of};
use serde_json::Value;

/// Resource named on the command line, whose pods are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedResource {
    /// API version of the kind.
    pub(crate) api_version: &'static str,
    /// Plural of the kind.
    pub(crate) plural: &'static str,
    /// Name of the resource.
    pub(crate) name: String,
}

/// API version, plural, singular and short name.
const KINDS: [(&str, &str, &str, &str); 9] = [
    ("v1", "pods", "pod", "po"),
    ("v1", "services", "service", "svc"),
    ("v1", "namespaces", "namespace", "ns"),
    ("apps/v1", "deployments", "deployment", "deploy"),
    ("apps/v1", "daemonsets", "daemonset", "ds"),
    ("apps/v1", "statefulsets", "statefulset", "sts"),
    ("apps/v1", "replicasets", "replicaset", "rs"),
    ("v1", "replicationcontrollers", "replicationcontroller", "rc"),
    ("batch/v1", "jobs", "job", "job"),
];

/// Parses `KIND/NAME` or `KIND NAME`; a single word without a kind names a pod.
pub(crate) fn parse(words: &[String]) -> Result<NamedResource> {
    let (kind, name) = match words {
        [word] => word.split_once('/').unwrap_or(("pod", word)),
        [kind, name] => (kind.as_str(), name.as_str()),
        _ => bail!("expected one resource: KIND/NAME or KIND NAME"),
    };
    let lower = kind.to_ascii_lowercase();
    let known = KINDS
        .iter()
        .find(|kind| [kind.1, kind.2, kind.3].contains(&lower.as_str()));
    let Some((api_version, plural, ..)) = known else {
        let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.3).collect();
        bail!("unknown kind {kind:?}: expected one of {}", kinds.join(", "));
    };
    if name.is_empty() || name.contains('/') {
        bail!("invalid name {name:?}");
    }
    Ok(NamedResource {
        api_version,
        plural,
        name: name.to_owned(),
    })
}

impl NamedResource {
    /// Lists its pods, sorted by name.
    pub(crate) async fn pods(&self, client: &Client, namespace: &str) -> Result<Vec<Value>> {
        let all = Resource::new("v1", "pods");
        let mut pods = match self.plural {
            "pods" => vec![all.within(namespace).get(client, &self.name).await?],
            "namespaces" => all.within(&self.name).list(client, Filter::default()).await?,
            plural => {
                let owner = Resource::new(self.api_version, plural).within(namespace);
                pods_of(client, &owner, &self.name).await?
            }
        };
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        pods.sort_by(|a, b| object_name(a).cmp(object_name(b)));
        if pods.is_empty() {
            return Err(anyhow!("no pods found for {} {namespace}/{}", self.plural, self.name));
        }
        Ok(pods)
    }
}

/// Returns an object's name.
pub(crate) fn object_name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_resource_forms_of_kubectl() {
        let parse = |text: &str| {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            parse(&words)
                .map(|named| format!("{}/{}", named.plural, named.name))
                .map_err(|e| e.to_string())
        };
        assert_eq!(parse("web-1"), Ok("pods/web-1".to_owned()));
        assert_eq!(parse("deploy/web"), Ok("deployments/web".to_owned()));
        assert_eq!(parse("svc web"), Ok("services/web".to_owned()));
        assert!(parse("banana/x").is_err_and(|error| error.contains("unknown kind \"banana\"")));
        assert!(parse("deploy/").is_err());
    }
}
