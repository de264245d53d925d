//! `mesh uninstall` and `mesh prune`: the objects to delete with `kubectl delete -f -`, read from the cluster.
//!
//! Everything that belongs to a mesh carries the label of its control plane. Objects created by its programs, or by
//! Kubernetes from its objects, are deleted with the namespace or with their owner.

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
        ClusterFacts, manifests,
        present::{self, ControlPlane},
        upgrade::Installed,
    },
    kube,
    output::{self, DocumentFormat},
};

/// Label of extensions, which have their own uninstall command.
const EXTENSION: &str = "linkerd.io/extension";
/// Maximum number of pods named in a message, before "and others".
const NAMED_MAX: usize = 5;
/// Objects created at run time: the webhook's certificate, by the injector.
const MADE_BY_PROGRAMS: [&str; 1] = ["linkerd-proxy-injector-k8s-tls"];

/// Kinds of objects outside the control plane's namespace, in order of deletion: webhooks first, so that nothing waits
/// for a deleted program.
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
/// Kinds of objects within the control plane's namespace.
const WITHIN: [(&str, &str, &str); 9] = [
    ("apps/v1", "deployments", "Deployment"),
    ("apps/v1", "daemonsets", "DaemonSet"),
    ("batch/v1", "cronjobs", "CronJob"),
    ("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy"),
    ("v1", "services", "Service"),
    ("v1", "configmaps", "ConfigMap"),
    ("v1", "secrets", "Secret"),
    ("v1", "serviceaccounts", "ServiceAccount"),
];

/// Arguments of `mesh uninstall`.
#[derive(Debug, clap::Args)]
pub(crate) struct UninstallArgs {
    /// Print the objects even if meshed pods or extensions remain.
    #[arg(long, short)]
    force: bool,

    /// Output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: DocumentFormat,

    #[command(flatten)]
    cluster: kube::ClusterFlags,
}

/// Arguments of `mesh prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    /// Output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: DocumentFormat,

    #[command(flatten)]
    cluster: kube::ClusterFlags,
}

/// `mesh uninstall`
pub(crate) fn uninstall(args: &UninstallArgs) -> anyhow::Result<ExitCode> {
    let namespace = &args.cluster.linkerd_namespace;
    let found = kube::block_on(output::patiently("reading the cluster", async {
        let client = args.cluster.connect().await?;
        let there = present::control_planes(&client).await?;
        check_ownership(there.iter().find(|there| there.namespace == *namespace))?;
        if !args.force {
            let extensions = extensions(&client).await?;
            if !extensions.is_empty() {
                bail!(
                    "extensions are installed ({}): uninstall them first (`mesh viz uninstall | kubectl delete -f -`), or use --force",
                    extensions.join(", ")
                );
            }
            in_use(&injected(&client, namespace).await?)?;
        }
        labelled(&client, namespace).await
    }))?;
    if found.is_empty() {
        bail!("no mesh found with its control plane in the namespace {namespace}: select another with -L");
    }
    if let Some(warning) = deletes_user_objects(&found) {
        eprintln!("mesh: {warning}");
    }
    output::print_manifests(&manifests::objects_text(&found, args.output)?)?;
    Ok(ExitCode::SUCCESS)
}

/// `mesh prune`
pub(crate) fn prune(args: &PruneArgs) -> anyhow::Result<ExitCode> {
    let namespace = &args.cluster.linkerd_namespace;
    let stale = kube::block_on(output::patiently("reading the cluster", async {
        let client = args.cluster.connect().await?;
        let installed = Installed::read(&client, namespace).await?;
        let mut current = manifests::render(Chart::Crds, namespace, &mesh_charts::parse("")?)?;
        current.extend(installed.render(namespace, installed.given.clone(), &ClusterFacts::default())?);
        let current: Vec<Value> = current.into_iter().map(|manifest| manifest.object).collect();
        let mut found = labelled(&client, namespace).await?;
        found.retain(|object| !current.iter().any(|other| is_same(object, other)));
        Ok(found)
    }))?;
    output::print_manifests(&manifests::objects_text(&stale, args.output)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Warns that deleting a custom resource deletes the users' objects of that kind.
fn deletes_user_objects(objects: &[Value]) -> Option<&'static str> {
    let mut kinds = objects.iter().map(|object| &object["kind"]);
    kinds.any(|kind| kind == "CustomResourceDefinition").then_some(
        "warning: deleting the CustomResourceDefinitions also deletes your TrafficSplits, ServiceProfiles, policies and routes",
    )
}

/// Compares group, kind, namespace and name; versions are only different views of an object.
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

/// Rejects control planes installed by Helm or by another program.
fn check_ownership(there: Option<&ControlPlane>) -> anyhow::Result<()> {
    let Some(there) = there else { return Ok(()) };
    let namespace = &there.namespace;
    if let Some(release) = &there.release {
        bail!(
            "the mesh in the namespace {namespace} was installed by Helm: run `helm uninstall {release} -n {namespace}`"
        );
    }
    if !there.is_ours() {
        bail!(
            "the control plane in the namespace {namespace} was installed by {:?}: use that program to uninstall it",
            there.created_by
        );
    }
    Ok(())
}

/// Lists the installed extensions.
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

/// Lists the pods injected by this control plane, except its own.
async fn injected(client: &Client, namespace: &str) -> anyhow::Result<Vec<String>> {
    let labels = format!("{}={namespace}", keys::CONTROL_PLANE_NS);
    let filter = Filter {
        labels: &labels,
        // Finished pods need no control plane.
        fields: "status.phase!=Succeeded,status.phase!=Failed",
    };
    let pods = Resource::new("v1", "pods").list(client, filter).await?;
    let staying = pods.iter().filter(|pod| needs_control_plane(pod, namespace));
    Ok(staying.map(named).collect())
}

/// Returns true for a user's pod that stays; a terminating one needs no control plane.
fn needs_control_plane(pod: &Value, namespace: &str) -> bool {
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
        "{} still {} a sidecar ({named}{more}): remove the annotation linkerd.io/inject and restart them first, or use --force",
        if pods.len() == 1 {
            "1 pod".to_owned()
        } else {
            format!("{} pods", pods.len())
        },
        if pods.len() == 1 { "has" } else { "have" },
    );
}

/// Lists everything that carries the control plane's label.
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
                    .filter(|object| is_installed_by_us(object))
                    .map(|object| reference(version, kind, object)),
            ),
            // The cluster does not have this kind.
            Err(Error::Absent { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(without_namespaced_dependents(found))
}

/// Returns true unless the object belongs to an extension, to Kubernetes, or is recreated by a program.
fn is_installed_by_us(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    metadata["labels"][EXTENSION].is_null()
        && metadata["ownerReferences"].is_null()
        && !MADE_BY_PROGRAMS.contains(&name)
}

/// Reduces an object to the fields needed to delete it.
fn reference(version: &str, kind: &str, object: &Value) -> Value {
    let mut metadata = json!({"name": object["metadata"]["name"]});
    if object["metadata"]["namespace"].is_string() {
        metadata["namespace"] = object["metadata"]["namespace"].clone();
    }
    json!({"apiVersion": version, "kind": kind, "metadata": metadata})
}

/// Removes objects that are deleted with their namespace.
fn without_namespaced_dependents(mut found: Vec<Value>) -> Vec<Value> {
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
    fn omits_objects_deleted_with_their_namespace() {
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
        let kept = without_namespaced_dependents(found);
        let names: Vec<_> = kept.iter().map(|object| object["metadata"]["name"].clone()).collect();
        assert_eq!(names, ["a", "b", "linkerd"]);
        assert_eq!(
            kept[1],
            json!({"apiVersion": "v1", "kind": "RoleBinding", "metadata": {"name": "b", "namespace": "kube-system"}})
        );
    }

    #[test]
    fn warns_of_deleting_users_objects_with_their_kind() {
        let object = |kind: &str| json!({ "kind": kind });
        assert!(deletes_user_objects(&[object("Role"), object("CustomResourceDefinition")]).is_some());
        assert!(deletes_user_objects(&[object("Role")]).is_none());
    }

    #[test]
    fn terminating_pods_do_not_block_uninstallation() {
        let pod = |namespace: &str, more: Value| {
            let mut pod = json!({"metadata": {"name": "web", "namespace": namespace}});
            for (key, value) in more.as_object().expect("an object") {
                pod["metadata"][key] = value.clone();
            }
            pod
        };
        assert!(needs_control_plane(&pod("shop", json!({})), "linkerd"));
        assert!(!needs_control_plane(&pod("linkerd", json!({})), "linkerd"));
        let labels = json!({"labels": {"linkerd.io/extension": "viz"}});
        assert!(!needs_control_plane(&pod("linkerd-viz", labels), "linkerd"));
        let ending = json!({"deletionTimestamp": "2026-11-21T09:00:00Z"});
        assert!(!needs_control_plane(&pod("shop", ending), "linkerd"));
        assert_eq!(named(&pod("shop", json!({}))), "shop/web");
    }

    #[test]
    fn keeps_objects_of_others_and_names_meshed_pods() {
        let made = |labels: Value, owners: Value| {
            is_installed_by_us(&json!({"metadata": {"name": "x", "labels": labels, "ownerReferences": owners}}))
        };
        assert!(made(json!({}), Value::Null));
        assert!(!made(json!({"linkerd.io/extension": "viz"}), Value::Null));
        assert!(!made(json!({}), json!([{"kind": "ReplicaSet"}])));
        in_use(&[]).expect("no pods");
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
    fn ignores_the_version_when_comparing_objects() {
        let object =
            |version: &str, name: &str| json!({"apiVersion": version, "kind": "Role", "metadata": {"name": name}});
        assert!(is_same(&object("rbac/v1", "a"), &object("rbac/v2", "a")));
        assert!(!is_same(&object("rbac/v1", "a"), &object("other/v1", "a")));
        assert!(!is_same(&object("v1", "a"), &object("v1", "b")));
    }

    #[test]
    fn rejects_control_planes_of_helm_and_others() {
        let there = |created_by: &str, release: Option<&str>| ControlPlane {
            namespace: "linkerd".into(),
            created_by: created_by.into(),
            release: release.map(str::to_owned),
        };
        check_ownership(None).expect("leftovers may be deleted");
        check_ownership(Some(&there("mesh/0.1.0", None))).expect("ours");
        let helm = check_ownership(Some(&there("mesh/0.1.0", Some("m"))))
            .expect_err("Helm's")
            .to_string();
        assert!(helm.contains("helm uninstall m -n linkerd"), "{helm}");
        assert!(check_ownership(Some(&there("linkerd/cli", None))).is_err());
    }
}
