//! Connection to a port of a pod through the API server, for the CLI, which runs outside the cluster's network.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use destination_k8s::PodView;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::Portforwarder, client::UpgradeConnectionError};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Client, Filter, Resource};
use crate::Error;

/// Port of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Port.
    pub port: u16,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

type KubeletError = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// Forwarded connection. Dropping it closes the connection.
pub struct Forwarded {
    stream: Box<dyn Duplex>,
    /// Resolves to the kubelet's error, if there is one.
    refusal: Option<KubeletError>,
    to: PodPort,
    forwarder: Portforwarder,
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        self.forwarder.abort();
    }
}

impl std::fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarded")
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

/// Connects. The client must have been made with [`upgrades`](super::ClientOptions::upgrades).
///
/// If nothing listens on the port, the first read fails.
pub async fn forward(client: &Client, to: &PodPort) -> Result<Forwarded, Error> {
    let pods: Api<Pod> = Api::namespaced(client.raw().clone(), &to.namespace);
    let what = format!("connect to port {} of the pod {}/{}", to.port, to.namespace, to.pod);
    let ports = [to.port];
    let connected = client
        .call(&what, async { Ok(pods.portforward(&to.pod, &ports).await) })
        .await?;
    let mut forwarder = connected.map_err(|error| refused(client, what, &error))?;
    let stream = forwarder.take_stream(to.port).expect("the port was requested");
    let refusal = forwarder.take_error(to.port);
    Ok(Forwarded {
        stream: Box::new(stream),
        refusal: refusal.map(|refusal| Box::pin(refusal) as KubeletError),
        to: to.clone(),
        forwarder,
    })
}

/// Classifies a rejected upgrade, of which the API server sends only the status.
fn refused(client: &Client, what: String, error: &kube::Error) -> Error {
    match error {
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => match status.as_u16() {
            401 => Error::Unauthorized(client.url().into()),
            403 => Error::Forbidden {
                what,
                reason: "the cluster refuses `create` on pods/portforward".to_owned(),
            },
            404 => Error::Absent { what },
            code => Error::Refused {
                what,
                code,
                reason: status.to_string(),
            },
        },
        error => client.blame(&what, error),
    }
}

impl AsyncRead for Forwarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // The end of the stream: closed by the pod, or by the kubelet because nothing listens.
        let Some(refusal) = &mut self.refusal else {
            return Poll::Ready(Ok(()));
        };
        let error = match refusal.as_mut().poll(cx) {
            Poll::Ready(error) => error,
            Poll::Pending => return Poll::Ready(Ok(())),
        };
        self.refusal = None;
        match error {
            Some(_) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!(
                    "nothing listens on port {} of the pod {}/{}",
                    self.to.port, self.to.namespace, self.to.pod
                ),
            ))),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Lists the pods that an object selects: a Service, a Deployment, a ReplicaSet, a StatefulSet, a DaemonSet or a Job.
/// Without a selector there are none.
pub async fn pods_of(client: &Client, owner: &Resource, name: &str) -> Result<Vec<Value>, Error> {
    let object = owner.get(client, name).await?;
    let Some(labels) = selector(&object["spec"]["selector"]) else {
        return Ok(Vec::new());
    };
    let pods = Resource {
        api_version: "v1".to_owned(),
        plural: "pods".to_owned(),
        namespace: owner.namespace.clone(),
    };
    let filter = Filter {
        labels: &labels,
        fields: "",
    };
    pods.list(client, filter).await
}

/// Returns the name of a ready pod of an object that selects pods.
pub async fn ready_pod(client: &Client, owner: &Resource, name: &str) -> Result<String, Error> {
    let pods = pods_of(client, owner, name).await?;
    let ready = pods.iter().find(|pod| is_ready(pod));
    let name_of = |pod: &Value| pod["metadata"]["name"].as_str().map(str::to_owned);
    ready.and_then(name_of).ok_or_else(|| {
        let namespace = owner.namespace.as_deref().unwrap_or_default();
        Error::Refused {
            what: format!("find a pod of {} {namespace}/{name}", owner.plural),
            code: 0,
            reason: match pods.len() {
                0 => "there is none".to_owned(),
                n => format!("none of the {n} is ready"),
            },
        }
    })
}

/// Returns true if a pod is ready and not being deleted.
pub fn is_ready(pod: &Value) -> bool {
    Pod::deserialize(pod).is_ok_and(|pod| {
        let view = PodView::new(&pod);
        view.is_ready() && !view.is_terminating()
    })
}

/// Formats a selector for a query, of a Service (labels) or of a workload. None selects nothing.
fn selector(selector: &Value) -> Option<String> {
    let plain = |labels: &Value| -> Vec<String> {
        let labels = labels.as_object().into_iter().flatten();
        let pairs = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
        pairs.collect()
    };
    let is_workloads = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let mut terms = plain(if is_workloads {
        &selector["matchLabels"]
    } else {
        selector
    });
    for term in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = term["key"].as_str()?;
        let values = term["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        let values = values.collect::<Vec<_>>().join(",");
        terms.push(match term["operator"].as_str()? {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    (!terms.is_empty()).then(|| terms.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats_selectors_of_services_and_workloads() {
        assert_eq!(
            selector(&json!({"app": "web", "tier": "a"})).as_deref(),
            Some("app=web,tier=a")
        );
        let workload = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
            {"key": "v", "operator": "NotIn", "values": ["1", "2"]}, {"key": "x", "operator": "Exists"}]});
        assert_eq!(selector(&workload).as_deref(), Some("app=web,v notin (1,2),x"));
        assert_eq!(selector(&Value::Null), None);
        assert_eq!(
            selector(&json!({"matchExpressions": [{"key": "v", "operator": "?"}]})),
            None
        );
    }

    #[test]
    fn terminating_pod_is_not_ready() {
        let mut pod = json!({"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(is_ready(&pod));
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(!is_ready(&pod));
    }
}
