//! `mesh viz install` and `mesh viz uninstall`: the mesh-viz chart, rendered to stdout.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use destination_source::cluster;
use mesh_charts::{Chart, Release};
use serde_json::{Value, json};

use crate::{kube::ClusterFlags, output};

/// Secret that mesh-viz creates at run time; listed so that uninstalling removes it.
const OWN_SECRET: &str = "tap-k8s-tls";

/// Arguments of `mesh viz install`.
#[derive(Debug, clap::Args)]
pub(crate) struct VizInstallArgs {
    /// Skip the check for an installed control plane.
    #[arg(long)]
    ignore_cluster: bool,

    /// YAML file with chart values; may be repeated, later files take precedence.
    #[arg(long, short = 'f', value_name = "FILE")]
    values: Vec<PathBuf>,

    /// Chart value (for example scrapeInterval=5s); may be repeated, takes precedence over files.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,

    /// Registry of the image (for example registry.example.org/mesh).
    #[arg(long, value_name = "REGISTRY", env = "LINKERD_DOCKER_REGISTRY")]
    registry: Option<String>,

    #[command(flatten)]
    place: VizNamespaceFlag,

    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Arguments of `mesh viz uninstall`.
#[derive(Debug, clap::Args)]
pub(crate) struct VizUninstallArgs {
    #[command(flatten)]
    place: VizNamespaceFlag,
}

#[derive(Debug, clap::Args)]
struct VizNamespaceFlag {
    /// Namespace of mesh-viz.
    #[arg(long, value_name = "NAME", default_value = "linkerd-viz")]
    viz_namespace: String,
}

/// `mesh viz install`
pub(super) async fn install(args: &VizInstallArgs) -> Result<()> {
    let values = given(args)?;
    let files = rendered(&args.place.viz_namespace, &values)?;
    if !args.ignore_cluster {
        check(args).await.map_err(|error| {
            anyhow::anyhow!("{error:#}\nuse --ignore-cluster to render the manifests without contacting a cluster")
        })?;
    }
    let documents = files.iter().map(|(file, text)| {
        let text = text.trim();
        format!("---\n# Source: {}/templates/{file}\n{text}\n", Chart::Viz.name())
    });
    output::print_manifests(&documents.collect::<String>())
}

/// `mesh viz uninstall`
pub(super) fn uninstall(args: &VizUninstallArgs) -> Result<()> {
    output::print_manifests(&removals(&args.place.viz_namespace)?)
}

fn rendered(namespace: &str, values: &Value) -> Result<Vec<(&'static str, String)>> {
    let release = Release {
        name: "mesh-viz".to_owned(),
        namespace: namespace.to_owned(),
        service: "CLI".to_owned(),
    };
    Ok(mesh_charts::render(Chart::Viz, &release, values)?)
}

/// Merges the control plane's namespace, the values files and `--set`, in this order.
fn given(args: &VizInstallArgs) -> Result<Value> {
    let mut values = json!({ "linkerdNamespace": args.cluster.linkerd_namespace });
    if let Some(registry) = &args.registry {
        mesh_charts::set_text(&mut values, "imageRegistry", registry.clone())?;
    }
    for file in &args.values {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read --values {}", file.display()))?;
        let over = mesh_charts::parse(&text).with_context(|| format!("invalid --values {}", file.display()))?;
        mesh_charts::merge(&mut values, &over);
    }
    for text in &args.set {
        mesh_charts::set(&mut values, text)?;
    }
    Ok(values)
}

/// Fails if the cluster has no control plane that would inject mesh-viz.
async fn check(args: &VizInstallArgs) -> Result<()> {
    let presence = cluster::presence(&args.cluster.connect().await?).await?;
    let expected = &args.cluster.linkerd_namespace;
    if presence.control_planes.contains(expected) {
        return Ok(());
    }
    match presence.control_planes.first() {
        Some(other) => {
            bail!("no control plane in the namespace {expected}, but one in {other}: use --linkerd-namespace {other}")
        }
        None => bail!("no control plane is installed: run `mesh install | kubectl apply -f -` first"),
    }
}

/// Lists the installed objects by name, the aggregated API first: without its server, namespaces cannot be deleted.
fn removals(namespace: &str) -> Result<String> {
    let mut objects = Vec::new();
    for (_, text) in rendered(namespace, &json!({}))? {
        objects.extend(destination_yaml::all(&text).context("cannot parse what the chart renders")?);
    }
    objects.push(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": OWN_SECRET, "namespace": namespace},
    }));
    objects.retain(Value::is_object);
    objects.sort_by_key(|object| match object["kind"].as_str() {
        Some("APIService") => 0,
        Some("Namespace") => 2,
        _ => 1,
    });
    let name = |object: &Value| {
        let mut metadata = json!({ "name": object["metadata"]["name"] });
        if let Some(namespace) = object["metadata"].get("namespace") {
            metadata["namespace"] = namespace.clone();
        }
        let name = json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": metadata});
        format!("---\n{}", destination_yaml::write(&name))
    };
    Ok(objects.iter().map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uninstall_lists_every_object_and_the_aggregated_api_first() {
        let text = removals("monitoring").expect("it renders");
        let documents: Vec<&str> = text.split("---\n").filter(|text| !text.is_empty()).collect();
        assert!(documents[0].contains("kind: APIService"), "{}", documents[0]);
        assert!(documents.last().is_some_and(|last| last.contains("kind: Namespace")));
        assert!(text.contains("name: tap-k8s-tls") && !text.contains("spec:"), "{text}");
        assert!(text.contains("namespace: kube-system"), "the role binding is elsewhere");
        let installed = rendered("monitoring", &json!({})).expect("it renders");
        let kinds: usize = installed
            .iter()
            .map(|(_, text)| text.matches("\nkind: ").count() + usize::from(text.starts_with("kind: ")))
            .sum();
        assert_eq!(documents.len(), kinds + 1, "the Secret is mesh-viz's own");
    }

    #[test]
    fn set_overrides_values() {
        let args = VizInstallArgs {
            ignore_cluster: true,
            values: vec![],
            set: vec!["scrapeInterval=5s".into()],
            registry: Some("r.example/m".into()),
            place: VizNamespaceFlag {
                viz_namespace: "linkerd-viz".into(),
            },
            cluster: ClusterFlags {
                kubeconfig: None,
                context: None,
                impersonate: None,
                impersonate_group: vec![],
                linkerd_namespace: "mesh".into(),
            },
        };
        let values = given(&args).expect("values");
        let text: String = rendered("linkerd-viz", &values)
            .expect("it renders")
            .into_iter()
            .map(|f| f.1)
            .collect();
        for flag in [
            "--scrape-interval=5s",
            "--control-plane-namespace=mesh",
            "linkerd.io/inject: enabled",
            "image: r.example/m/mesh-viz:",
        ] {
            assert!(text.contains(flag), "{flag} in {text}");
        }
    }
}
