//! What the cluster says of a pod.

use std::{collections::BTreeMap, time::Duration};

use destination_k8s::keys;
use destination_source::{
    Error,
    cluster::{Client, ClientOptions, Resource, client},
};
use serde_json::Value;

use super::{
    call::{Failure, PodName},
    config::NetConf,
};

/// Time for all questions. The kubelet tries again by itself, and its own limit for a call is minutes.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Ports of an API server whose Service cannot be read.
const API_PORTS: &str = "443,6443";

/// A pod and what belongs to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) pod: Value,
    /// Annotations of its namespace.
    pub(super) namespace: BTreeMap<String, String>,
    /// Ports of the API server; only for parts of the control plane.
    pub(super) api_ports: Option<String>,
}

/// Asks for a pod.
pub(super) fn ask(conf: &NetConf, name: &PodName) -> Result<Known, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io(format!("the runtime cannot be started: {error}")))?;
    runtime.block_on(async {
        match tokio::time::timeout(TIMEOUT, read(conf, name)).await {
            Ok(known) => known,
            Err(_) => Err(Failure::again(format!(
                "the cluster did not answer in {} s",
                TIMEOUT.as_secs()
            ))),
        }
    })
}

async fn read(conf: &NetConf, name: &PodName) -> Result<Known, Failure> {
    let options = ClientOptions {
        kubeconfig: Some(conf.kubernetes.kubeconfig.clone()),
        ..ClientOptions::default()
    };
    let client = client(&options).await.map_err(blame)?;
    let pods = Resource::new("v1", "pods").within(&name.namespace);
    let pod = pods.get(&client, &name.name).await.map_err(blame)?;
    let uid = pod["metadata"]["uid"].as_str();
    if name.uid.as_deref().is_some_and(|wanted| Some(wanted) != uid) {
        let PodName { namespace, name, .. } = name;
        return Err(Failure::again(format!(
            "the pod {namespace}/{name} is another one by now"
        )));
    }
    if !super::pod::is_ours(&pod) {
        return Ok(Known {
            pod,
            ..Known::default()
        });
    }
    let namespace = Resource::new("v1", "namespaces").get(&client, &name.namespace).await;
    let namespace = namespace.map_err(blame)?;
    let is_component = !pod["metadata"]["labels"][keys::CONTROL_PLANE_COMPONENT].is_null();
    let api_ports = if is_component {
        Some(api_ports(&client).await)
    } else {
        None
    };
    Ok(Known {
        pod,
        namespace: annotations(&namespace),
        api_ports,
    })
}

fn annotations(object: &Value) -> BTreeMap<String, String> {
    let all = object["metadata"]["annotations"].as_object().into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Those of the Service, and those behind it.
async fn api_ports(client: &Client) -> String {
    let services = Resource::new("v1", "services").within("default");
    let Ok(service) = services.get(client, "kubernetes").await else {
        return API_PORTS.to_owned();
    };
    let mut ports = Vec::new();
    for port in service["spec"]["ports"].as_array().into_iter().flatten() {
        ports.extend(
            [&port["port"], &port["targetPort"]]
                .into_iter()
                .filter_map(Value::as_u64),
        );
    }
    if ports.is_empty() {
        return API_PORTS.to_owned();
    }
    ports.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

/// Whatever it is, the next try may do better: the installer renews what we need.
fn blame(error: Error) -> Failure {
    let hint = match error {
        Error::Config(_) | Error::Unauthorized(_) => {
            "; the pod of the DaemonSet linkerd-cni on this node writes the credentials: is it ready?"
        }
        _ => "",
    };
    Failure::again(format!("{error}{hint}"))
}
