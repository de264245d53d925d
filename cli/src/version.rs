//! `mesh version`: versions of this program, the control plane and the sidecars.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Result;
use cli_check::view_pod;
use destination_k8s::keys::CONTROL_PLANE_NS;
use destination_source::cluster::{Client, Filter, Resource};
use serde_json::Value;

use crate::{
    kube::{self, ClusterFlags, NamespaceFlag},
    local::{PodStatus, State},
    output,
    target::{MeshFlag, Target},
};

/// Arguments of `mesh version`.
#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    /// Show only the version of this program; do not contact a cluster.
    #[arg(long)]
    client: bool,

    /// Print only the version numbers.
    #[arg(long)]
    short: bool,

    /// Show the versions of sidecars too.
    #[arg(long, conflicts_with = "client")]
    proxy: bool,

    #[command(flatten)]
    namespace: NamespaceFlag,

    #[command(flatten)]
    mesh: MeshFlag,

    #[command(flatten)]
    cluster: ClusterFlags,
}

/// `mesh version`
pub(crate) fn version(args: &VersionArgs) -> Result<ExitCode> {
    let own = env!("CARGO_PKG_VERSION");
    let line = |what: &str, version: &str| {
        if args.short {
            format!("{version}\n")
        } else {
            format!("{what} version: {version}\n")
        }
    };
    output::print(&line("Client", own))?;
    if args.client {
        return Ok(ExitCode::SUCCESS);
    }
    kube::block_on(async {
        let target = Target::open(&args.cluster, &args.mesh).await;
        let server = match &target {
            Ok(Target::Cluster(client)) => {
                output::patiently(
                    "reading linkerd-config",
                    server(client, &args.cluster.linkerd_namespace),
                )
                .await
            }
            Ok(Target::Local(mesh)) => Ok(mesh.version.clone()),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        let server = server.unwrap_or_else(|error| {
            eprintln!("mesh: {error:#}");
            "unavailable".to_owned()
        });
        output::print(&line("Server", &server))?;
        if args.proxy {
            let namespace = args.namespace.namespace.as_deref();
            let versions = match &target? {
                Target::Cluster(client) => proxies(client, namespace).await?,
                Target::Local(mesh) => local_proxies(mesh, namespace)?,
            };
            output::print(&render(&versions, args.short))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn server(client: &Client, namespace: &str) -> Result<String> {
    let configs = Resource::new("v1", "configmaps").within(namespace);
    let config = configs.get(client, "linkerd-config").await.map_err(|error| match error {
        destination_source::Error::Absent { .. } => anyhow::anyhow!(
            "no control plane is installed in the namespace {namespace}: run `mesh install | kubectl apply -f -`, or select \
            its namespace with -L"
        ),
        error => error.into(),
    })?;
    Ok(cli_check::version_of(&config).unwrap_or_else(|| "unknown".to_owned()))
}

/// Counts pods by the version of their sidecar.
async fn proxies(client: &Client, namespace: Option<&str>) -> Result<BTreeMap<String, usize>> {
    let mut all = Resource::new("v1", "pods");
    all.namespace = namespace.map(str::to_owned);
    let filter = Filter {
        labels: CONTROL_PLANE_NS,
        fields: "",
    };
    let mut versions = BTreeMap::new();
    for pod in all.list(client, filter).await? {
        if let Some(version) = proxy_version(&pod) {
            *versions.entry(version).or_insert(0) += 1;
        }
    }
    Ok(versions)
}

/// Counts the meshed pods of a mesh on this machine, whose sidecars are all of one version.
fn local_proxies(mesh: &State, namespace: Option<&str>) -> Result<BTreeMap<String, usize>> {
    let within = |pod: &PodStatus| namespace.is_none_or(|namespace| pod.namespace == namespace);
    let meshed = mesh.pods()?.into_iter().filter(|pod| pod.meshed && within(pod)).count();
    Ok(BTreeMap::from([(mesh.version.clone(), meshed)]))
}

/// Returns the version of a pod's sidecar: from the injector's annotation, else from the image tag.
fn proxy_version(pod: &Value) -> Option<String> {
    view_pod(pod, |pod| {
        let image = pod.sidecar()?.image.as_deref();
        let tag = || image?.rsplit_once(':').map(|(_, tag)| tag);
        pod.annotation("linkerd.io/proxy-version")
            .or_else(tag)
            .map(str::to_owned)
    })
}

fn render(versions: &BTreeMap<String, usize>, short: bool) -> String {
    let pods = |n: usize| {
        if n == 1 {
            "1 pod".to_owned()
        } else {
            format!("{n} pods")
        }
    };
    let lines = versions.iter().map(|(version, n)| {
        if short {
            format!("{version}\n")
        } else {
            format!("\t{version} ({})\n", pods(*n))
        }
    });
    let lines: String = lines.collect();
    match (short, lines.is_empty()) {
        (true, _) => lines,
        (false, true) => "Proxy versions: unavailable\n".to_owned(),
        (false, false) => format!("Proxy versions:\n{lines}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counts_sidecars_by_version() {
        let pod = |annotations: Value| {
            json!({"metadata": {"annotations": annotations},
                "spec": {"initContainers": [{"name": "linkerd-proxy", "restartPolicy": "Always", "image": "localhost/mesh-proxy:0.1.0"}]}})
        };
        assert_eq!(proxy_version(&pod(json!({}))).as_deref(), Some("0.1.0"));
        assert_eq!(
            proxy_version(&pod(json!({"linkerd.io/proxy-version": "2"}))).as_deref(),
            Some("2")
        );
        assert_eq!(proxy_version(&json!({"spec": {"containers": [{"name": "app"}]}})), None);
        let versions = BTreeMap::from([("0.1.0".to_owned(), 3), ("2".to_owned(), 1)]);
        assert_eq!(
            render(&versions, false),
            "Proxy versions:\n\t0.1.0 (3 pods)\n\t2 (1 pod)\n"
        );
    }
}
