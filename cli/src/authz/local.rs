//! Pods and policies of a mesh on this machine, read from its manifests.

use anyhow::{Result, bail};
use destination_k8s::{Kind, Object};
use destination_source::directory;
use serde_json::Value;

use super::Policies;
use crate::{
    kube::pods::{NamedResource, object_name},
    local::State,
};

/// Reads the pod templates of the named resource, and the policies of its namespace.
pub(super) fn read(state: &State, named: &NamedResource, namespace: &str) -> Result<(Vec<Value>, Policies)> {
    let loaded = directory::load(std::slice::from_ref(&state.manifests));
    select(&loaded.objects, named, namespace)
}

fn select(objects: &[Object], named: &NamedResource, namespace: &str) -> Result<(Vec<Value>, Policies)> {
    let mut pods = Vec::new();
    let mut policies = Policies::default();
    let within = |object: &&Object| object.metadata().namespace.as_deref() == Some(namespace);
    for object in objects.iter().filter(within) {
        let mut value = serde_json::to_value(object)?;
        match object.kind() {
            Kind::Server => policies.servers.push(value),
            Kind::ServerAuthorization => policies.server_authorizations.push(value),
            Kind::AuthorizationPolicy => policies.authorization_policies.push(value),
            Kind::PolicyHttpRoute | Kind::HttpRoute => policies.routes.push(value),
            Kind::Deployment if is_named(&value, named) => pods.push(value["spec"]["template"].take()),
            _ => {}
        }
    }
    if pods.is_empty() {
        bail!("no Deployment found for {} {namespace}/{}", named.plural, named.name);
    }
    Ok((pods, policies))
}

/// Returns true if a Deployment, its pod or its namespace is named. A local mesh runs no other workloads.
fn is_named(deployment: &Value, named: &NamedResource) -> bool {
    let name = object_name(deployment);
    match named.plural {
        "deployments" => name == named.name,
        "pods" => named
            .name
            .rsplit_once('-')
            .is_some_and(|(owner, _)| owner == name || owner.rsplit_once('-').is_some_and(|(owner, _)| owner == name)),
        "namespaces" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::pods;

    #[test]
    fn selects_the_template_and_policies_of_a_namespace() {
        let labels = json!({"app": "web"});
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web"}]}});
        let spec = json!({"selector": {"matchLabels": labels}, "template": template});
        let server = json!({"podSelector": {"matchLabels": labels}, "port": 80});
        let object = |version: &str, kind: &str, namespace: &str, spec: &Value| {
            let object = json!({"apiVersion": version, "kind": kind, "spec": spec,
                "metadata": {"name": "web", "namespace": namespace}});
            Object::from_value(object).expect("valid")
        };
        let objects = [
            object("apps/v1", "Deployment", "vote", &spec),
            object("policy.linkerd.io/v1beta3", "Server", "vote", &server),
            object("policy.linkerd.io/v1beta3", "Server", "other", &server),
        ];
        for name in ["deploy/web", "po/web-7f9c-x2", "web-0", "ns/vote"] {
            let named = pods::parse(&[name.to_owned()]).expect("a resource");
            let (pods, policies) = select(&objects, &named, "vote").expect(name);
            assert_eq!((pods.len(), policies.servers.len()), (1, 1), "{name}");
            assert_eq!(pods[0]["metadata"]["labels"], labels);
        }
        let other = pods::parse(&["deploy/api".to_owned()]).expect("a resource");
        assert!(select(&objects, &other, "vote").is_err());
    }
}
