//! Network configuration: Linkerd's keys in the runtime's form, and the result of the previous plugins.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::call::Failure;

/// The plugin's part of the network configuration; unknown keys are the runtime's or another version's.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct NetConf {
    #[serde(default, rename = "prevResult")]
    previous: Option<Value>,
    #[serde(default)]
    pub(super) kubernetes: Kubernetes,
    #[serde(default)]
    pub(super) linkerd: Linkerd,
}

/// Location of the cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Kubernetes {
    /// Kubeconfig written by the installer.
    pub(super) kubeconfig: PathBuf,
    /// Namespaces whose pods are never redirected: they start even while the API server is unreachable.
    #[serde(rename = "exclude-namespaces")]
    exclude_namespaces: Vec<String>,
}

/// Redirection defaults, which annotations of a pod or namespace override.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Linkerd {
    pub(super) incoming_proxy_port: u16,
    pub(super) outgoing_proxy_port: u16,
    /// Zero or less means none.
    pub(super) proxy_uid: i64,
    /// Zero or less means none.
    pub(super) proxy_gid: i64,
    #[serde(deserialize_with = "ports")]
    pub(super) ports_to_redirect: String,
    #[serde(deserialize_with = "ports")]
    pub(super) inbound_ports_to_ignore: String,
    #[serde(deserialize_with = "ports")]
    pub(super) outbound_ports_to_ignore: String,
    #[serde(deserialize_with = "ports")]
    pub(super) subnets_to_ignore: String,
    /// Decide without changing anything.
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

/// Reads a list of numbers or strings, or one comma-separated string.
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
            "{other} is not a port or range of ports"
        ))),
    };
    let items: Vec<String> = items.into_iter().map(text).collect::<Result<_, _>>()?;
    Ok(items.join(","))
}

impl NetConf {
    /// Parses the configuration.
    pub(super) fn read(text: &str) -> Result<Self, Failure> {
        let value: Value = serde_json::from_str(text).map_err(|error| Failure::decode(error.to_string()))?;
        serde_json::from_value(value).map_err(|error| Failure::config(error.to_string()))
    }

    /// Returns the result of the previous plugins, which is this plugin's as well.
    pub(super) fn result(&self) -> Result<String, Failure> {
        match &self.previous {
            Some(result) => Ok(format!("{result}\n")),
            None => Err(Failure::config(
                "no prevResult: linkerd-cni creates no network and must be chained behind a plugin that does",
            )),
        }
    }

    /// Returns true for namespaces whose pods are never redirected.
    pub(super) fn is_excluded(&self, namespace: &str) -> bool {
        self.kubernetes
            .exclude_namespaces
            .iter()
            .any(|excluded| excluded == namespace)
    }
}
