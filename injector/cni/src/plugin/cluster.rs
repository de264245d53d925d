//! What the cluster says of a pod.

use std::{collections::BTreeMap, time::Duration};

use destination_k8s::keys;
use destination_source::{
    Error,
    cluster::{Client, ClientOptions, Resource, client},
};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{
    call::{Failure, PodName},
    config::NetConf,
};

/// Time in which we try again. The kubelet would too, but only ten seconds later; its own limit for a call is minutes.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Time between two tries: the next pod of the DaemonSet brings new credentials in a second or two.
const PAUSE: Duration = Duration::from_millis(200);
/// Time for one try.
const TIMEOUT: Duration = Duration::from_secs(10);
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

/// Asks for a pod, again while it may help, for as long as `patience` is.
pub(super) fn ask(conf: &NetConf, name: &PodName, patience: Duration) -> Result<Known, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io(format!("the runtime cannot be started: {error}")))?;
    runtime.block_on(insist(patience, || read(conf, name)))
}

/// Tries until it succeeds, fails for good, or `patience` is over.
async fn insist<T, F: Future<Output = Result<T, Unknown>>>(
    patience: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        let unknown = match timeout(TIMEOUT, attempt()).await {
            Ok(Ok(known)) => return Ok(known),
            Ok(Err(unknown)) => unknown,
            Err(_) => Unknown::Yet(format!("the cluster did not answer in {} s", TIMEOUT.as_secs())),
        };
        match unknown {
            Unknown::Yet(_) if begun.elapsed() + PAUSE < patience => sleep(PAUSE).await,
            Unknown::Yet(why) | Unknown::ForNow(why) => return Err(Failure::again(why)),
        }
    }
}

/// Why nothing is known of a pod.
#[derive(Debug)]
enum Unknown {
    /// That may change in a moment.
    Yet(String),
    /// The cluster gave an answer; the kubelet may ask again.
    ForNow(String),
}

async fn read(conf: &NetConf, name: &PodName) -> Result<Known, Unknown> {
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
        return Err(Unknown::ForNow(format!(
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

/// Who has no credentials yet, or finds nobody, may have more luck; the installer renews what we need.
fn blame(error: Error) -> Unknown {
    match error {
        Error::Config(_) | Error::Unauthorized(_) => Unknown::Yet(format!(
            "{error}; the pod of the DaemonSet linkerd-cni on this node writes the credentials: is it ready?"
        )),
        Error::Unreachable { .. } | Error::Forbidden { .. } => Unknown::Yet(error.to_string()),
        Error::Refused { code: 429 | 500.., .. } => Unknown::Yet(error.to_string()),
        _ => Unknown::ForNow(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_may_come_is_waited_for_and_what_is_an_answer_is_not() {
        let mut tries = 0;
        let known = insist(PATIENCE, || {
            tries += 1;
            let now = tries;
            async move {
                if now < 9 {
                    Err(blame(Error::Unauthorized("https://a".into())))
                } else {
                    Ok(now)
                }
            }
        });
        assert_eq!(known.await, Ok(9));
        let refused = insist(PATIENCE, || async {
            Err::<(), _>(blame(Error::Absent { what: "get".to_owned() }))
        });
        let begun = Instant::now();
        assert_eq!(refused.await.expect_err("an answer").code, 11);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let away = insist(PATIENCE, std::future::pending::<Result<(), Unknown>>)
            .await
            .expect_err("away");
        assert!(
            away.details.contains("did not answer") && begun.elapsed() <= PATIENCE + TIMEOUT,
            "{away}"
        );
    }
}
