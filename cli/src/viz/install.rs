//! `mesh viz install` and `mesh viz uninstall`: the chart of mesh-viz, rendered to stdout.

use std::{fs, io::Write as _, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use destination_source::cluster;
use mesh_charts::{Chart, Release};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::kube::Flags;

/// What mesh-viz makes itself; named, so that nothing of it stays.
const OWN_SECRET: &str = "tap-k8s-tls";

/// What `mesh viz install` understands.
#[derive(Debug, clap::Args)]
pub(crate) struct InstallArgs {
    /// Ask no cluster whether there is a control plane.
    #[arg(long)]
    ignore_cluster: bool,

    /// A file of values, YAML; may be given several times, and a later one wins.
    #[arg(long, short = 'f', value_name = "FILE")]
    values: Vec<PathBuf>,

    /// A value, such as scrapeInterval=5s; may be given several times, and wins over files.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,

    #[command(flatten)]
    place: Place,

    #[command(flatten)]
    cluster: Flags,
}

/// What `mesh viz uninstall` understands.
#[derive(Debug, clap::Args)]
pub(crate) struct UninstallArgs {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The namespace of mesh-viz.
    #[arg(long, value_name = "NAME", default_value = "linkerd-viz")]
    viz_namespace: String,
}

/// `mesh viz install`
pub(super) async fn install(args: &InstallArgs) -> Result<()> {
    let values = given(args)?;
    let files = rendered(&args.place.viz_namespace, &values)?;
    if !args.ignore_cluster {
        check(args).await.map_err(|error| {
            anyhow::anyhow!("{error:#}; to render the manifests without asking a cluster, give --ignore-cluster")
        })?;
    }
    let documents = files.iter().map(|(file, text)| {
        let text = text.trim();
        format!("---\n# Source: {}/templates/{file}\n{text}\n", Chart::Viz.name())
    });
    print(&documents.collect::<String>())
}

/// `mesh viz uninstall`: what `kubectl delete -f -` should take away.
pub(super) fn uninstall(args: &UninstallArgs) -> Result<()> {
    print(&removals(&args.place.viz_namespace)?)
}

fn print(text: &str) -> Result<()> {
    // Everything is worked out before the first byte is written, so that kubectl never gets half of it.
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write the manifests")
}

fn rendered(namespace: &str, values: &Value) -> Result<Vec<(&'static str, String)>> {
    let release = Release {
        name: "mesh-viz".to_owned(),
        namespace: namespace.to_owned(),
        service: "CLI".to_owned(),
    };
    Ok(mesh_charts::render(Chart::Viz, &release, values)?)
}

/// What the user says: the namespace of the control plane, then files, then `--set`.
fn given(args: &InstallArgs) -> Result<Value> {
    let mut values = json!({ "linkerdNamespace": args.cluster.linkerd_namespace });
    for file in &args.values {
        let text = fs::read_to_string(file).with_context(|| format!("--values {}: cannot be read", file.display()))?;
        let over = mesh_charts::parse(&text).with_context(|| format!("--values {}", file.display()))?;
        mesh_charts::merge(&mut values, &over);
    }
    for text in &args.set {
        mesh_charts::set(&mut values, text)?;
    }
    Ok(values)
}

/// Refuses to install where no control plane gives mesh-viz its sidecar.
async fn check(args: &InstallArgs) -> Result<()> {
    let presence = cluster::presence(&args.cluster.connect().await?).await?;
    let wanted = &args.cluster.linkerd_namespace;
    if presence.control_planes.contains(wanted) {
        return Ok(());
    }
    match presence.control_planes.first() {
        Some(other) => bail!(
            "there is no control plane in the namespace {wanted}, but in {other}: give --linkerd-namespace {other}"
        ),
        None => bail!("there is no control plane on the cluster: run `mesh install | kubectl apply -f -` first"),
    }
}

/// The names of what was installed, the aggregated API first: while it has no server, namespaces cannot be deleted.
fn removals(namespace: &str) -> Result<String> {
    let mut objects = Vec::new();
    for (_, text) in rendered(namespace, &json!({}))? {
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            objects.push(Value::deserialize(document).context("the chart has a document that is no YAML")?);
        }
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
        let text = serde_yaml_ng::to_string(&name).context("names cannot be written")?;
        Ok(format!("---\n{text}"))
    };
    objects.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_installed_is_named_and_the_api_goes_first() {
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
    fn values_come_in_the_order_of_the_flags() {
        let args = InstallArgs {
            ignore_cluster: true,
            values: vec![],
            set: vec!["scrapeInterval=5s".into()],
            place: Place {
                viz_namespace: "linkerd-viz".into(),
            },
            cluster: Flags {
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
        ] {
            assert!(text.contains(flag), "{flag} in {text}");
        }
    }
}
