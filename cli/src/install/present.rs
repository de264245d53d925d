//! Existing installations on a cluster, and those that conflict.

use anyhow::bail;
use destination_source::cluster::{Client, Filter, Resource};
use mesh_charts::Chart;
use serde_json::Value;

use super::manifests;

/// ConfigMap of every Linkerd-compatible control plane.
pub(crate) const CONFIG: &str = "linkerd-config";
/// Annotation with the program that created an object.
const CREATED_BY: &str = "linkerd.io/created-by";
/// Helm's annotation with the release.
const HELM_RELEASE: &str = "meta.helm.sh/release-name";

/// Installed control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlPlane {
    /// Namespace it runs in.
    pub(crate) namespace: String,
    /// Program that created it.
    pub(crate) created_by: String,
    /// Helm release, if installed by Helm.
    pub(crate) release: Option<String>,
}

impl ControlPlane {
    /// Returns true if it was installed by this program or its charts.
    pub(crate) fn is_ours(&self) -> bool {
        self.created_by.starts_with("mesh/")
    }

    /// Reads the annotations of its ConfigMap.
    pub(crate) fn from_config(config: &Value) -> Self {
        let metadata = &config["metadata"];
        let note = |key: &str| metadata["annotations"][key].as_str().map(str::to_owned);
        Self {
            namespace: metadata["namespace"].as_str().unwrap_or_default().to_owned(),
            created_by: note(CREATED_BY).unwrap_or_default(),
            release: note(HELM_RELEASE),
        }
    }
}

/// Lists the control planes of a cluster.
pub(crate) async fn control_planes(client: &Client) -> anyhow::Result<Vec<ControlPlane>> {
    let filter = Filter {
        fields: &format!("metadata.name={CONFIG}"),
        ..Filter::default()
    };
    let found = Resource::new("v1", "configmaps").list(client, filter).await?;
    Ok(found.iter().map(ControlPlane::from_config).collect())
}

/// Fails if a control plane is already installed.
pub(crate) fn reject_existing(found: &[ControlPlane], namespace: &str) -> anyhow::Result<()> {
    let Some(there) = found
        .iter()
        .find(|there| there.namespace != namespace)
        .or(found.first())
    else {
        return Ok(());
    };
    let place = &there.namespace;
    if !there.is_ours() {
        let who = if there.created_by.is_empty() {
            "an unknown program"
        } else {
            &there.created_by
        };
        bail!(
            "another Linkerd control plane (installed by {who}) runs in the namespace {place}, and two cannot share a cluster: \
            uninstall it first (`linkerd uninstall | kubectl delete -f -`), or use --ignore-cluster to render the manifests anyway"
        );
    }
    if let Some(release) = &there.release {
        bail!(
            "the mesh is already installed by Helm in the namespace {place} (release {release}): upgrade it with `helm upgrade`, \
            or uninstall it with `helm uninstall {release} -n {place}`"
        );
    }
    bail!(
        "the mesh is already installed in the namespace {place}: change it with `mesh upgrade{flag} | kubectl apply -f -`, \
        or remove it with `mesh uninstall{flag} | kubectl delete -f -`",
        flag = if place == "linkerd" {
            String::new()
        } else {
            format!(" -L {place}")
        }
    );
}

/// Fails if custom resources are missing, or older than this program's.
pub(crate) async fn check_resources(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let of_cluster = Resource::new("apiextensions.k8s.io/v1", "customresourcedefinitions");
    for expected in manifests::render(Chart::Crds, namespace, &mesh_charts::parse("")?)? {
        let name = expected.object["metadata"]["name"].as_str().unwrap_or_default();
        let remedy = "run `mesh install --crds | kubectl apply -f -` first";
        match of_cluster.find(client, name).await? {
            None => bail!("the custom resource {name} is not installed: {remedy}"),
            Some(found) => {
                if let Some(lack) = lacks(&expected.object, &found) {
                    bail!("the custom resource {name} on the cluster is outdated (it lacks {lack}): {remedy}");
                }
            }
        }
    }
    Ok(())
}

/// Returns the first version or field that `found` lacks in comparison with `expected`.
pub(crate) fn lacks(expected: &Value, found: &Value) -> Option<String> {
    let versions = |of: &Value| of["spec"]["versions"].as_array().cloned().unwrap_or_default();
    let served = versions(found);
    versions(expected).iter().find_map(|version| {
        let name = version["name"].as_str().unwrap_or_default();
        let Some(same) = served
            .iter()
            .find(|other| other["name"] == name && other["served"] == true)
        else {
            return Some(format!("version {name}"));
        };
        let schema = |of: &Value| of["schema"]["openAPIV3Schema"].clone();
        field(&schema(version), &schema(same), "").map(|field| format!("field {field} in {name}"))
    })
}

/// Returns the first field of a schema that another schema lacks.
fn field(expected: &Value, found: &Value, path: &str) -> Option<String> {
    if found["x-kubernetes-preserve-unknown-fields"] == true {
        return None;
    }
    let own = expected["properties"].as_object().into_iter().flatten();
    let own = own.filter(|(name, _)| !(path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str())));
    let deeper = |path: &str, expected: &Value, found: &Value| match found {
        Value::Null => Some(path.to_owned()),
        found => field(expected, found, path),
    };
    for (name, expected) in own {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let lack = deeper(&path, expected, &found["properties"][name]);
        if lack.is_some() {
            return lack;
        }
    }
    match &expected["items"] {
        Value::Null => None,
        items => deeper(&format!("{path}[]"), items, &found["items"]),
    }
}

/// Reads the ports of the API server, which the control plane's pods reach without their sidecar.
pub(crate) async fn api_server_ports(client: &Client) -> Option<String> {
    let services = Resource::new("v1", "services").within("default");
    let service = services.find(client, "kubernetes").await.ok().flatten()?;
    let mut ports: Vec<u64> = vec![];
    for port in service["spec"]["ports"].as_array()? {
        ports.extend(
            [&port["port"], &port["targetPort"]]
                .into_iter()
                .filter_map(Value::as_u64),
        );
    }
    ports.sort_unstable();
    ports.dedup();
    let texts: Vec<String> = ports.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}
