//! Metrics of sidecars and of the control plane, as served.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::digest::{SHA256, digest};
use cli_check::view_pod;
use destination_k8s::keys::{self, PROXY_CONTAINER};
use destination_source::cluster::{self, Client, Filter, PodPort, Resource};
use proxy_model::ports;
use serde_json::Value;
use viz_api::{Answer, PodRow, ProxyMetricsRequest};

use super::TargetFlags;
use crate::{
    check::admin_port,
    kube::{
        self, ClusterFlags,
        pods::{self, NamedResource},
    },
    local::PodStatus,
    output,
    target::{MeshFlag, Target},
    viz::Api,
};

/// Labels whose values identify communication partners.
const PRIVATE: [&str; 6] = [
    "authority",
    "client_id",
    "server_id",
    "target_addr",
    "dst_service",
    "dst_namespace",
];

/// Arguments of `mesh diagnostics proxy-metrics`.
#[derive(Debug, clap::Args)]
pub(crate) struct ProxyMetricsArgs {
    /// POD, KIND/NAME or KIND NAME.
    #[arg(required = true, value_name = "RESOURCE")]
    resource: Vec<String>,

    #[command(flatten)]
    mesh: MeshFlag,

    /// Replace names of workloads and services with hashes.
    #[arg(long)]
    obfuscate: bool,

    #[command(flatten)]
    at: TargetFlags,
}

/// Arguments of `mesh diagnostics controller-metrics`.
#[derive(Debug, clap::Args)]
pub(crate) struct ControllerMetricsArgs {
    /// Time limit for each response.
    #[arg(long, short, value_name = "TIME", default_value = "30s", value_parser = crate::check::duration)]
    wait: Duration,

    #[command(flatten)]
    mesh: MeshFlag,

    #[command(flatten)]
    cluster: ClusterFlags,
}

pub(super) async fn proxy(args: &ProxyMetricsArgs) -> Result<ExitCode> {
    let named = pods::parse(&args.resource)?;
    let mut failed = false;
    if let Some(mesh) = args.at.cluster.local(args.mesh.name.as_deref())? {
        kube::note_local(&mesh);
        let api = Api::local(&mesh)?;
        let namespace = args.at.namespace.namespace.as_deref().unwrap_or("default");
        let pods = local_pods(&api, &named, namespace).await?;
        for (i, pod) in pods.iter().enumerate() {
            let request = ProxyMetricsRequest {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
            };
            let text = api.text(viz_api::PROXY_METRICS, &request).await;
            let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
            let heading = format!("#\n# POD {} ({} of {})\n#\n", pod.name, i + 1, pods.len());
            failed |= !args.show(&heading, text)?;
        }
        return Ok(exit(failed));
    }
    let client = args.at.cluster.connect().await?;
    let pods = named.pods(&client, &args.at.namespace.on(&client)).await?;
    for (i, pod) in pods.iter().enumerate() {
        let heading = format!("#\n# POD {} ({} of {})\n#\n", pods::object_name(pod), i + 1, pods.len());
        failed |= !args.show(&heading, proxy_metrics(&client, pod).await)?;
    }
    Ok(exit(failed))
}

impl ProxyMetricsArgs {
    /// Prints the metrics of one pod. Returns false if they could not be fetched.
    fn show(&self, heading: &str, text: Result<String>) -> Result<bool> {
        output::print(heading)?;
        match &text {
            Ok(text) if self.obfuscate => output::print(&obfuscate(text))?,
            Ok(text) => output::print(text)?,
            Err(error) => output::print(&format!("# ERROR {error:#}\n"))?,
        }
        Ok(text.is_ok())
    }
}

/// Lists the meshed pods of a resource in a mesh on this machine.
async fn local_pods(api: &Api, named: &NamedResource, namespace: &str) -> Result<Vec<PodRow>> {
    let answer: Answer<PodRow> = api.get(viz_api::PODS, &()).await?;
    let mut pods = answer.rows;
    pods.retain(|pod| pod.meshed && is_named(pod, named, namespace));
    if pods.is_empty() {
        bail!("no meshed pods found for {} {namespace}/{}", named.plural, named.name);
    }
    Ok(pods)
}

fn is_named(pod: &PodRow, named: &NamedResource, namespace: &str) -> bool {
    match named.plural {
        "namespaces" => pod.namespace == named.name,
        "pods" => pod.namespace == namespace && pod.name == named.name,
        plural => {
            let owner = format!("{}/{}", plural.trim_end_matches('s'), named.name);
            pod.namespace == namespace && pod.owner.as_ref() == Some(&owner)
        }
    }
}

async fn proxy_metrics(client: &Client, pod: &Value) -> Result<String> {
    let Some(port) = admin_port(pod) else {
        bail!("{} has no running sidecar", pods::object_name(pod))
    };
    output::patiently(&format!("querying {}", port.pod), kube::metrics(client, &port)).await
}

pub(super) async fn controller(args: &ControllerMetricsArgs) -> Result<ExitCode> {
    let target = Target::open(&args.cluster, &args.mesh).await?;
    let namespace = &args.cluster.linkerd_namespace;
    let endpoints = admin_endpoints(&target, namespace, None).await?;
    if endpoints.is_empty() {
        bail!("no control plane is running in the namespace {namespace}: select its namespace with -L");
    }
    let mut failed = false;
    for (i, (container, port)) in endpoints.iter().enumerate() {
        let of = format!("{} ({} of {})", port.pod, i + 1, endpoints.len());
        output::print(&format!("#\n# POD {of}\n# CONTAINER {container}\n#\n"))?;
        let metrics = tokio::time::timeout(args.wait, target.get(port, "/metrics")).await;
        match metrics.context("timed out").and_then(|metrics| metrics) {
            Ok(text) => output::print(&text)?,
            Err(error) => {
                output::print(&format!("# ERROR {error:#}\n"))?;
                failed = true;
            }
        }
    }
    Ok(exit(failed))
}

/// Lists the admin ports of the control plane's programs, or of one component's, with the names of their containers.
pub(super) async fn admin_endpoints(
    target: &Target,
    namespace: &str,
    component: Option<&str>,
) -> Result<Vec<(String, PodPort)>> {
    match target {
        Target::Cluster(client) => {
            let label = keys::CONTROL_PLANE_COMPONENT;
            let labels = component.map_or_else(|| label.to_owned(), |name| format!("{label}={name}"));
            let filter = Filter {
                labels: &labels,
                fields: "",
            };
            let pods = Resource::new("v1", "pods")
                .within(namespace)
                .list(client, filter)
                .await?;
            let pods = pods.iter().filter(|pod| component.is_none() || cluster::is_ready(pod));
            Ok(pods.flat_map(admin_ports).collect())
        }
        Target::Local(mesh) => {
            let programs = [
                ("linkerd-identity", "identity", ports::IDENTITY_ADMIN),
                ("linkerd-destination", "destination", ports::DESTINATION_ADMIN),
            ];
            let admin = |pod: PodStatus| {
                let program = programs.iter().find(|(deployment, ..)| *deployment == pod.deployment);
                let (_, name, port) = program.filter(|(_, name, _)| component.is_none_or(|only| only == *name))?;
                let port = PodPort {
                    namespace: pod.namespace,
                    pod: pod.name,
                    port: *port,
                };
                Some(((*name).to_owned(), port))
            };
            let pods = mesh.pods()?.into_iter().filter(|pod| pod.namespace == namespace);
            Ok(pods.filter_map(admin).collect())
        }
    }
}

fn exit(failed: bool) -> ExitCode {
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Returns the admin ports of a pod's containers, except the sidecar's.
fn admin_ports(pod: &Value) -> Vec<(String, PodPort)> {
    view_pod(pod, |pod| {
        let containers = pod.containers().filter(|container| container.name != PROXY_CONTAINER);
        let ports = containers.flat_map(|container| {
            let ports = container.ports.iter().flatten();
            ports.map(move |port| (container.name.clone(), port))
        });
        let is_admin = |name: &Option<String>| name.as_deref().is_some_and(|name| name.ends_with("admin"));
        let admin = ports.filter(|(_, port)| is_admin(&port.name));
        let address = |port: i32| {
            Some(PodPort {
                namespace: pod.namespace().to_owned(),
                pod: pod.name().to_owned(),
                port: u16::try_from(port).ok()?,
            })
        };
        admin
            .filter_map(|(container, port)| Some((container, address(port.container_port)?)))
            .collect()
    })
}

/// Replaces the values of private labels with hashes, so that metrics can be shared.
fn obfuscate(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("=\"") {
        let (head, tail) = rest.split_at(at + 2);
        out.push_str(head);
        let key = head[..at]
            .rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .next();
        let end = end_of_value(tail);
        if key.is_some_and(|key| PRIVATE.contains(&key)) {
            out.push_str(&short_hash(&tail[..end]));
        } else {
            out.push_str(&tail[..end]);
        }
        rest = &tail[end..];
    }
    out + rest
}

/// Returns the end of a quoted value.
fn end_of_value(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return at,
            b'\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Returns the first four bytes of the SHA-256, in hex.
fn short_hash(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    let bytes = hash.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
    format!("{:08x}", u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hashes_only_private_labels() {
        let text = "a{authority=\"web.vote:80\",direction=\"in\",dst_service=\"w\\\"x\"} 1\n";
        let hidden = obfuscate(text);
        assert!(!hidden.contains("web.vote") && !hidden.contains("w\\\"x"), "{hidden}");
        assert!(
            hidden.contains("direction=\"in\"") && hidden.ends_with("\"} 1\n"),
            "{hidden}"
        );
        // sha256("abc") begins with ba7816bf.
        assert_eq!(obfuscate("a{server_id=\"abc\"} 1"), "a{server_id=\"ba7816bf\"} 1");
    }

    #[test]
    fn finds_admin_ports_except_the_sidecars() {
        let pod = json!({"metadata": {"name": "p", "namespace": "linkerd"}, "spec": {"containers": [
            {"name": "destination", "ports": [{"name": "dest-grpc", "containerPort": 8086},
                {"name": "dest-admin", "containerPort": 9996}]},
            {"name": "linkerd-proxy", "ports": [{"name": "linkerd-admin", "containerPort": 4191}]}]}});
        let found = admin_ports(&pod);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.as_str(), found[0].1.port), ("destination", 9996));
    }
}
