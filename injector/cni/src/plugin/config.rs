//! The network configuration: Linkerd's keys, the form in which the runtime writes them, and the result of the plugins before.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::call::Failure;

/// Our part of the network configuration. What we do not know is the runtime's or another version's.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct NetConf {
    #[serde(default, rename = "prevResult")]
    previous: Option<Value>,
    #[serde(default)]
    pub(super) kubernetes: Kubernetes,
    #[serde(default)]
    pub(super) linkerd: Linkerd,
}

/// Where the cluster is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Kubernetes {
    /// The kubeconfig that the installer writes.
    pub(super) kubeconfig: PathBuf,
    /// Namespaces none of whose pods is redirected, so that they start even while the cluster cannot be asked.
    #[serde(rename = "exclude-namespaces")]
    exclude_namespaces: Vec<String>,
}

/// What is redirected, unless a pod or its namespace says otherwise.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Linkerd {
    pub(super) incoming_proxy_port: u16,
    pub(super) outgoing_proxy_port: u16,
    /// Not above 0 means none.
    pub(super) proxy_uid: i64,
    /// Not above 0 means none.
    pub(super) proxy_gid: i64,
    #[serde(deserialize_with = "ports")]
    pub(super) ports_to_redirect: String,
    #[serde(deserialize_with = "ports")]
    pub(super) inbound_ports_to_ignore: String,
    #[serde(deserialize_with = "ports")]
    pub(super) outbound_ports_to_ignore: String,
    #[serde(deserialize_with = "ports")]
    pub(super) subnets_to_ignore: String,
    /// Decide, and change nothing.
    pub(super) simulate: bool,
    pub(super) ipv6: bool,
}

impl Default for Linkerd {
    fn default() -> Self {
        Self {
            incoming_proxy_port: proxy_model::ports::INBOUND,
            outgoing_proxy_port: proxy_model::ports::OUTBOUND,
            proxy_uid: -1,
            proxy_gid: -1,
            ports_to_redirect: String::new(),
            inbound_ports_to_ignore: String::new(),
            outbound_ports_to_ignore: String::new(),
            subnets_to_ignore: String::new(),
            simulate: false,
            ipv6: false,
        }
    }
}

/// A list of numbers or texts, or one text with commas.
fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let items = match Value::deserialize(deserializer)? {
        Value::Array(items) => items,
        Value::Null => return Ok(String::new()),
        one => vec![one],
    };
    let text = |item: Value| match item {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(serde::de::Error::custom(format!(
            "{other} is neither a port nor a range"
        ))),
    };
    let items: Vec<String> = items.into_iter().map(text).collect::<Result<_, _>>()?;
    Ok(items.join(","))
}

impl NetConf {
    /// Reads it.
    pub(super) fn read(text: &str) -> Result<Self, Failure> {
        let value: Value = serde_json::from_str(text).map_err(|error| Failure::decode(error.to_string()))?;
        serde_json::from_value(value).map_err(|error| Failure::config(error.to_string()))
    }

    /// What the plugins before made, which is our result too.
    pub(super) fn result(&self) -> Result<String, Failure> {
        match &self.previous {
            Some(result) => Ok(format!("{result}\n")),
            None => Err(Failure::config(
                "there is no prevResult: linkerd-cni makes no network of its own, it stands behind a plugin that does",
            )),
        }
    }

    /// Whether the pods of a namespace are none of our business.
    pub(super) fn is_excluded(&self, namespace: &str) -> bool {
        self.kubernetes
            .exclude_namespaces
            .iter()
            .any(|excluded| excluded == namespace)
    }
}
