//! Lookup of a pod in the cluster.

use std::{collections::BTreeMap, time::Duration};

use destination_k8s::{keys, pod::PodView};
use destination_source::{
    Error,
    cluster::{Client, ClientOptions, Resource, client},
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{
    call::{Failure, PodName},
    config::NetConf,
};

/// Time to retry. The kubelet would retry as well, but only ten seconds later; its own timeout of a call is minutes.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between attempts: the next pod of the DaemonSet brings new credentials in a second or two.
const PAUSE: Duration = Duration::from_millis(200);
/// Timeout of one attempt.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Ports of the API server if its Service cannot be read.
const API_PORTS: &str = "443,6443";

/// A pod and its context.
#[derive(Clone, Debug, Default)]
pub(super) struct PodContext {
    pub(super) pod: Pod,
    /// Annotations of the namespace.
    pub(super) namespace: BTreeMap<String, String>,
    /// Ports of the API server; for control plane components only.
    pub(super) api_ports: Option<String>,
}

/// Looks a pod up, retrying failures that may resolve within `patience`.
pub(super) fn lookup(conf: &NetConf, name: &PodName, patience: Duration) -> Result<PodContext, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(retry(patience, || read(conf, name)))
}

/// Retries until success, a definitive failure, or the end of `patience`.
async fn retry<T, F: Future<Output = Result<T, LookupError>>>(
    patience: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        let error = match timeout(TIMEOUT, attempt()).await {
            Ok(Ok(known)) => return Ok(known),
            Ok(Err(error)) => error,
            Err(_) => LookupError::Pending(format!("the cluster did not answer in {} s", TIMEOUT.as_secs())),
        };
        match error {
            LookupError::Pending(_) if begun.elapsed() + PAUSE < patience => sleep(PAUSE).await,
            LookupError::Pending(reason) | LookupError::Definitive(reason) => return Err(Failure::again(reason)),
        }
    }
}

/// Error of a lookup.
#[derive(Debug)]
enum LookupError {
    /// May resolve in a moment.
    Pending(String),
    /// The cluster answered; the kubelet may call again.
    Definitive(String),
}

async fn read(conf: &NetConf, name: &PodName) -> Result<PodContext, LookupError> {
    let options = ClientOptions {
        kubeconfig: Some(conf.kubernetes.kubeconfig.clone()),
        ..ClientOptions::default()
    };
    let client = client(&options).await.map_err(classify)?;
    let pods = Resource::new("v1", "pods").within(&name.namespace);
    let pod = pods.get(&client, &name.name).await.map_err(classify)?;
    let pod: Pod = serde_json::from_value(pod).map_err(|error| LookupError::Definitive(error.to_string()))?;
    let uid = pod.metadata.uid.as_deref();
    if name.uid.as_deref().is_some_and(|wanted| Some(wanted) != uid) {
        let PodName { namespace, name, .. } = name;
        return Err(LookupError::Definitive(format!(
            "the pod {namespace}/{name} has been replaced by another"
        )));
    }
    if !super::pod::is_ours(PodView::new(&pod)) {
        return Ok(PodContext {
            pod,
            ..PodContext::default()
        });
    }
    let namespace = Resource::new("v1", "namespaces").get(&client, &name.namespace).await;
    let namespace = namespace.map_err(classify)?;
    let is_component = PodView::new(&pod).label(keys::CONTROL_PLANE_COMPONENT).is_some();
    let api_ports = if is_component {
        Some(api_ports(&client).await)
    } else {
        None
    };
    Ok(PodContext {
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

/// Returns the ports of the Service and the ports behind it.
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

/// Classifies an error: missing credentials and an unreachable API server may resolve, since the installer renews
/// credentials.
fn classify(error: Error) -> LookupError {
    match error {
        Error::Config(_) | Error::Unauthorized(_) => LookupError::Pending(format!(
            "{error}; the pod of the DaemonSet linkerd-cni on this node provides the credentials: is it ready?"
        )),
        Error::Unreachable { .. } | Error::Forbidden { .. } => LookupError::Pending(error.to_string()),
        Error::Refused { code: 429 | 500.., .. } => LookupError::Pending(error.to_string()),
        _ => LookupError::Definitive(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn retries_pending_but_not_definitive_results() {
        let mut tries = 0;
        let known = retry(PATIENCE, || {
            tries += 1;
            let now = tries;
            async move {
                if now < 9 {
                    Err(classify(Error::Unauthorized("https://a".into())))
                } else {
                    Ok(now)
                }
            }
        });
        assert_eq!(known.await, Ok(9));
        let refused = retry(PATIENCE, || async {
            Err::<(), _>(classify(Error::Absent { what: "get".to_owned() }))
        });
        let begun = Instant::now();
        assert_eq!(refused.await.expect_err("definitive").code, 11);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let away = retry(PATIENCE, std::future::pending::<Result<(), LookupError>>)
            .await
            .expect_err("unreachable");
        assert!(
            away.details.contains("did not answer") && begun.elapsed() <= PATIENCE + TIMEOUT,
            "{away}"
        );
    }
}
