//! `mesh uninstall` and `mesh prune`: what `kubectl delete -f -` is to delete, read from the cluster.
//!
//! Everything that a mesh made carries the label of its control plane. What its programs made themselves, and what Kubernetes
//! made of its objects, goes with the namespace, or with its owner.

use std::process::ExitCode;

use anyhow::bail;
use destination_k8s::keys;
use destination_source::{
    Error,
    cluster::{Client, Filter, Resource},
};
use mesh_charts::Chart;
use serde_json::{Value, json};

use crate::{
    install::{
        Found,
        manifests::{self, Output},
        present::{self, ControlPlane},
        upgrade::Installed,
    },
    kube, output,
};

/// Label of extensions, which uninstall themselves.
const EXTENSION: &str = "linkerd.io/extension";
/// Most pods that are named, before "and others".
const NAMED_MAX: usize = 5;
/// The webhook's certificate, which the injector makes.
const MADE_BY_PROGRAMS: [&str; 1] = ["linkerd-proxy-injector-k8s-tls"];

/// Kinds of which a mesh has objects outside its namespace, in the order in which they go: webhooks first, so that nothing waits
/// for a program that is gone.
const OUTSIDE: [(&str, &str, &str); 9] = [
    (
        "admissionregistration.k8s.io/v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
    ),
    (
        "admissionregistration.k8s.io/v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
    ),
    ("apiregistration.k8s.io/v1", "apiservices", "APIService"),
    (
        "rbac.authorization.k8s.io/v1",
        "clusterrolebindings",
        "ClusterRoleBinding",
    ),
    ("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "roles", "Role"),
    (
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
    ),
    ("v1", "namespaces", "Namespace"),
];
/// Kinds of which it has objects within.
const WITHIN: [(&str, &str, &str); 8] = [
    ("apps/v1", "deployments", "Deployment"),
    ("apps/v1", "daemonsets", "DaemonSet"),
    ("batch/v1", "cronjobs", "CronJob"),
    ("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    ("v1", "services", "Service"),
    ("v1", "configmaps", "ConfigMap"),
    ("v1", "secrets", "Secret"),
    ("v1", "serviceaccounts", "ServiceAccount"),
];

/// What `mesh uninstall` understands.
#[derive(Debug, clap::Args)]
pub(crate) struct UninstallArgs {
    /// Print it although pods with a sidecar, or extensions, remain.
    #[arg(long, short)]
    force: bool,

    /// How manifests are written.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,

    #[command(flatten)]
    cluster: kube::Flags,
}

/// What `mesh prune` understands.
#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    /// How manifests are written.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,

    #[command(flatten)]
    cluster: kube::Flags,
}

/// `mesh uninstall`
pub(crate) fn uninstall(args: &UninstallArgs) -> anyhow::Result<ExitCode> {
    let namespace = &args.cluster.linkerd_namespace;
    let found = kube::block_on(output::patiently("looking at the cluster", async {
        let client = args.cluster.connect().await?;
        let there = present::control_planes(&client).await?;
        not_of_others(there.iter().find(|there| there.namespace == *namespace))?;
        if !args.force {
            let extensions = extensions(&client).await?;
            if !extensions.is_empty() {
                bail!(
                    "extensions are installed ({}): uninstall them first (mesh viz uninstall | kubectl delete -f -), or give --force",
                    extensions.join(", ")
                );
            }
            in_use(&injected(&client, namespace).await?)?;
        }
        labelled(&client, namespace).await
    }))?;
    if found.is_empty() {
        bail!("there is nothing of a mesh whose control plane is in the namespace {namespace}; name another by -L");
    }
    manifests::write(&manifests::of_objects(&found, args.output)?)?;
    Ok(ExitCode::SUCCESS)
}

/// `mesh prune`
pub(crate) fn prune(args: &PruneArgs) -> anyhow::Result<ExitCode> {
    let namespace = &args.cluster.linkerd_namespace;
    let stale = kube::block_on(output::patiently("looking at the cluster", async {
        let client = args.cluster.connect().await?;
        let installed = Installed::read(&client, namespace).await?;
        let mut current = manifests::render(Chart::Crds, namespace, &mesh_charts::parse("")?)?;
        current.extend(installed.render(namespace, installed.given.clone(), &Found::default())?);
        let current: Vec<Value> = current.into_iter().map(|manifest| manifest.object).collect();
        let mut found = labelled(&client, namespace).await?;
        found.retain(|object| !current.iter().any(|other| is_same(object, other)));
        Ok(found)
    }))?;
    manifests::write(&manifests::of_objects(&stale, args.output)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Group, kind, namespace and name; a version is only another way to see an object.
fn is_same(one: &Value, other: &Value) -> bool {
    let group = |of: &Value| {
        let version = of["apiVersion"].as_str().unwrap_or_default();
        version.split_once('/').map_or("", |(group, _)| group).to_owned()
    };
    let names = ["name", "namespace"];
    group(one) == group(other)
        && one["kind"] == other["kind"]
        && names
            .iter()
            .all(|name| one["metadata"][name] == other["metadata"][name])
}

/// Helm's is Helm's to uninstall, and another Linkerd's is its own.
fn not_of_others(there: Option<&ControlPlane>) -> anyhow::Result<()> {
    let Some(there) = there else { return Ok(()) };
    let namespace = &there.namespace;
    if let Some(release) = &there.release {
        bail!(
            "the mesh in the namespace {namespace} was installed by Helm: uninstall it with helm uninstall {release} -n {namespace}"
        );
    }
    if !there.is_ours() {
        bail!(
            "the control plane in the namespace {namespace} was made by {:?}, not by this program: uninstall it with what made it",
            there.created_by
        );
    }
    Ok(())
}

/// The names of extensions.
async fn extensions(client: &Client) -> anyhow::Result<Vec<String>> {
    let labelled = Filter {
        labels: EXTENSION,
        ..Filter::default()
    };
    let namespaces = Resource::new("v1", "namespaces").list(client, labelled).await?;
    let names = namespaces
        .iter()
        .filter_map(|namespace| namespace["metadata"]["labels"][EXTENSION].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// The pods that have a sidecar of this control plane, its own ones not counted.
async fn injected(client: &Client, namespace: &str) -> anyhow::Result<Vec<String>> {
    let labels = format!("{}={namespace}", keys::CONTROL_PLANE_NS);
    let filter = Filter {
        labels: &labels,
        // What has ended needs no control plane.
        fields: "status.phase!=Succeeded,status.phase!=Failed",
    };
    let pods = Resource::new("v1", "pods").list(client, filter).await?;
    let staying = pods.iter().filter(|pod| needs_us(pod, namespace));
    Ok(staying.map(named).collect())
}

/// Whether somebody's pod stays with a sidecar: one that is ending already needs no control plane for that.
fn needs_us(pod: &Value, namespace: &str) -> bool {
    let metadata = &pod["metadata"];
    metadata["namespace"] != namespace
        && metadata["labels"][EXTENSION].is_null()
        && metadata["deletionTimestamp"].is_null()
}

fn named(pod: &Value) -> String {
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

fn in_use(pods: &[String]) -> anyhow::Result<()> {
    if pods.is_empty() {
        return Ok(());
    }
    let more = if pods.len() > NAMED_MAX { ", and others" } else { "" };
    let named = pods[..pods.len().min(NAMED_MAX)].join(", ");
    bail!(
        "{} still {} a sidecar ({named}{more}): take the annotation linkerd.io/inject away and restart them first, or give --force",
        if pods.len() == 1 {
            "1 pod".to_owned()
        } else {
            format!("{} pods", pods.len())
        },
        if pods.len() == 1 { "has" } else { "have" },
    );
}

/// Everything that carries the control plane's label, to be deleted.
async fn labelled(client: &Client, namespace: &str) -> anyhow::Result<Vec<Value>> {
    let labels = format!("{}={namespace}", keys::CONTROL_PLANE_NS);
    let filter = Filter {
        labels: &labels,
        ..Filter::default()
    };
    let mut found = vec![];
    let of_all = OUTSIDE.iter().map(|kind| (kind, None));
    let within = WITHIN.iter().map(|kind| (kind, Some(namespace)));
    for ((version, plural, kind), place) in of_all.chain(within) {
        let mut resource = Resource::new(version, plural);
        if let Some(place) = place {
            resource = resource.within(place);
        }
        match resource.list(client, filter).await {
            Ok(objects) => found.extend(
                objects
                    .iter()
                    .filter(|object| is_made_by_us(object))
                    .map(|object| reference(version, kind, object)),
            ),
            // A kind that the cluster does not have.
            Err(Error::Absent { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(without_what_goes_along(found))
}

/// Not an extension's, not Kubernetes' own, and not what a program makes again.
fn is_made_by_us(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    metadata["labels"][EXTENSION].is_null()
        && metadata["ownerReferences"].is_null()
        && !MADE_BY_PROGRAMS.contains(&name)
}

/// As much of an object as it takes to delete it.
fn reference(version: &str, kind: &str, object: &Value) -> Value {
    let mut metadata = json!({"name": object["metadata"]["name"]});
    if object["metadata"]["namespace"].is_string() {
        metadata["namespace"] = object["metadata"]["namespace"].clone();
    }
    json!({"apiVersion": version, "kind": kind, "metadata": metadata})
}

/// Where a namespace goes, what is in it goes along.
fn without_what_goes_along(mut found: Vec<Value>) -> Vec<Value> {
    let namespaces: Vec<Value> = found
        .iter()
        .filter(|object| object["kind"] == "Namespace")
        .cloned()
        .collect();
    found.retain(|object| {
        !namespaces
            .iter()
            .any(|namespace| namespace["metadata"]["name"] == object["metadata"]["namespace"])
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_namespace_goes_with_it() {
        let object = |kind: &str, name: &str, namespace: Option<&str>| {
            let object = json!({"metadata": {"name": name, "namespace": namespace, "uid": "u"}, "spec": {}});
            reference("v1", kind, &object)
        };
        let found = vec![
            object("ClusterRole", "a", None),
            object("RoleBinding", "b", Some("kube-system")),
            object("RoleBinding", "c", Some("linkerd")),
            object("Namespace", "linkerd", None),
        ];
        let kept = without_what_goes_along(found);
        let names: Vec<_> = kept.iter().map(|object| object["metadata"]["name"].clone()).collect();
        assert_eq!(names, ["a", "b", "linkerd"]);
        assert_eq!(
            kept[1],
            json!({"apiVersion": "v1", "kind": "RoleBinding", "metadata": {"name": "b", "namespace": "kube-system"}})
        );
    }

    #[test]
    fn pods_that_end_hold_nobody_up() {
        let pod = |namespace: &str, more: Value| {
            let mut pod = json!({"metadata": {"name": "web", "namespace": namespace}});
            for (key, value) in more.as_object().expect("an object") {
                pod["metadata"][key] = value.clone();
            }
            pod
        };
        assert!(needs_us(&pod("shop", json!({})), "linkerd"));
        assert!(!needs_us(&pod("linkerd", json!({})), "linkerd"));
        let labels = json!({"labels": {"linkerd.io/extension": "viz"}});
        assert!(!needs_us(&pod("linkerd-viz", labels), "linkerd"));
        let ending = json!({"deletionTimestamp": "2026-11-21T09:00:00Z"});
        assert!(!needs_us(&pod("shop", ending), "linkerd"));
        assert_eq!(named(&pod("shop", json!({}))), "shop/web");
    }

    #[test]
    fn what_others_made_is_theirs_and_pods_are_named() {
        let made = |labels: Value, owners: Value| {
            is_made_by_us(&json!({"metadata": {"name": "x", "labels": labels, "ownerReferences": owners}}))
        };
        assert!(made(json!({}), Value::Null));
        assert!(!made(json!({"linkerd.io/extension": "viz"}), Value::Null));
        assert!(!made(json!({}), json!([{"kind": "ReplicaSet"}])));
        in_use(&[]).expect("nobody");
        let pods: Vec<String> = (0..7).map(|n| format!("shop/web-{n}")).collect();
        let error = in_use(&pods).expect_err("in use").to_string();
        assert!(
            error.starts_with("7 pods still have a sidecar (shop/web-0, ") && error.contains("web-4, and others)"),
            "{error}"
        );
        assert!(
            in_use(&pods[..1])
                .expect_err("in use")
                .to_string()
                .starts_with("1 pod still has a sidecar (shop/web-0):")
        );
    }

    #[test]
    fn another_version_of_an_object_is_the_same_object() {
        let object =
            |version: &str, name: &str| json!({"apiVersion": version, "kind": "Role", "metadata": {"name": name}});
        assert!(is_same(&object("rbac/v1", "a"), &object("rbac/v2", "a")));
        assert!(!is_same(&object("rbac/v1", "a"), &object("other/v1", "a")));
        assert!(!is_same(&object("v1", "a"), &object("v1", "b")));
    }

    #[test]
    fn helms_and_others_are_left_to_them() {
        let there = |created_by: &str, release: Option<&str>| ControlPlane {
            namespace: "linkerd".into(),
            created_by: created_by.into(),
            release: release.map(str::to_owned),
        };
        not_of_others(None).expect("what is left of one may go");
        not_of_others(Some(&there("mesh/0.1.0", None))).expect("ours");
        let helm = not_of_others(Some(&there("mesh/0.1.0", Some("m"))))
            .expect_err("Helm's")
            .to_string();
        assert!(helm.contains("helm uninstall m -n linkerd"), "{helm}");
        assert!(not_of_others(Some(&there("linkerd/cli", None))).is_err());
    }
}
