//! Rules from a pod, its namespace and the configuration. Pure.
//!
//! Precedence: the pod's annotation, its namespace's, the sidecar's own settings (user, ports: rules with others would
//! cut it off), the configuration.

use destination_k8s::keys::{PROXY_CONTAINER, SKIP_INBOUND_PORTS, SKIP_OUTBOUND_PORTS};
use injector_redirect::Rules;
use injector_sidecar::annotations::{PROXY_GID, PROXY_UID, SKIP_SUBNETS};
use ipnet::IpNet;
use proxy_model::ports::PortSet;
use serde_json::Value;

use super::{call::Failure, cluster::PodContext, config::NetConf};

/// Init container that redirects by itself.
const INIT: &str = "linkerd-init";

/// Decision about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Leave its traffic alone, for a reason.
    Pass(&'static str),
    /// Redirect its traffic.
    Redirect(Rules),
}

/// Decides about a pod.
pub(super) fn decide(known: &PodContext, conf: &NetConf) -> Result<Decision, Failure> {
    let Some(proxy) = proxy(&known.pod) else {
        return Ok(Decision::Pass("no sidecar"));
    };
    if has_init(&known.pod) {
        return Ok(Decision::Pass("redirected by its init container"));
    }
    let settings = Settings { known, proxy };
    let linkerd = &conf.linkerd;
    let (inbound, outbound) = (settings.port("INBOUND"), settings.port("OUTBOUND"));
    let mut outbound_skip = settings.ports(SKIP_OUTBOUND_PORTS, &linkerd.outbound_ports_to_ignore)?;
    if let Some(ports) = &known.api_ports {
        let more: PortSet = ports.parse().map_err(|error| Failure::config(format!("{error}")))?;
        outbound_skip = join(&outbound_skip, &more);
    }
    let mut inbound_skip = settings.ports(SKIP_INBOUND_PORTS, &linkerd.inbound_ports_to_ignore)?;
    let own: PortSet = [settings.port("ADMIN"), settings.port("CONTROL")]
        .into_iter()
        .flatten()
        .collect();
    inbound_skip = join(&own, &inbound_skip);
    let only = linkerd.ports_to_redirect.parse();
    Ok(Decision::Redirect(Rules {
        inbound_port: inbound.unwrap_or(linkerd.incoming_proxy_port),
        outbound_port: outbound.unwrap_or(linkerd.outgoing_proxy_port),
        inbound_skip,
        outbound_skip,
        inbound_skip_from: settings.networks(&linkerd.subnets_to_ignore)?,
        inbound_only: only.map_err(|error| Failure::config(format!("ports-to-redirect: {error}")))?,
        proxy_uid: settings.id(PROXY_UID, "runAsUser", linkerd.proxy_uid)?,
        proxy_gid: settings.id(PROXY_GID, "runAsGroup", linkerd.proxy_gid)?,
        ipv6: linkerd.ipv6,
        mark: None,
    }))
}

/// Returns true if the plugin redirects the pod.
pub(super) fn is_ours(pod: &Value) -> bool {
    proxy(pod).is_some() && !has_init(pod)
}

fn containers<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    pod["spec"][list].as_array().into_iter().flatten()
}

/// Returns the sidecar: a container, or an init container that keeps running.
fn proxy(pod: &Value) -> Option<&Value> {
    let native = containers(pod, "initContainers").filter(|container| container["restartPolicy"] == "Always");
    let mut all = containers(pod, "containers").chain(native);
    all.find(|container| container["name"] == PROXY_CONTAINER)
}

fn has_init(pod: &Value) -> bool {
    containers(pod, "initContainers").any(|container| container["name"] == INIT)
}

fn join(one: &PortSet, other: &PortSet) -> PortSet {
    let ranges = one.ranges().iter().chain(other.ranges());
    let text: Vec<String> = ranges.map(|(low, high)| format!("{low}-{high}")).collect();
    text.join(",").parse().expect("ranges of sets are ranges")
}

/// Settings of a pod, its namespace and its sidecar.
struct Settings<'a> {
    known: &'a PodContext,
    proxy: &'a Value,
}

impl<'a> Settings<'a> {
    fn annotation(&self, key: &str) -> Option<&'a str> {
        let own = self.known.pod["metadata"]["annotations"][key].as_str();
        own.or_else(|| self.known.namespace.get(key).map(String::as_str))
    }

    fn ports(&self, key: &str, otherwise: &str) -> Result<PortSet, Failure> {
        let read = |text: &str| text.parse::<PortSet>();
        match self.annotation(key) {
            Some(text) => read(text).map_err(|error| invalid(key, &error)),
            None => read(otherwise).map_err(|error| Failure::config(error.to_string())),
        }
    }

    fn networks(&self, otherwise: &str) -> Result<Vec<IpNet>, Failure> {
        let text = self.annotation(SKIP_SUBNETS).unwrap_or(otherwise);
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let read = |item: &str| {
            let alone = || item.parse().map(|address: std::net::IpAddr| address.into());
            item.parse::<IpNet>().or_else(|_| alone())
        };
        let not = |item: &str| format!("{item:?} is not a network such as 10.0.0.0/8");
        items
            .map(|item| read(item).map_err(|_| invalid(SKIP_SUBNETS, &not(item))))
            .collect()
    }

    fn id(&self, key: &str, field: &str, otherwise: i64) -> Result<Option<u32>, Failure> {
        let own = self.proxy["securityContext"][field].as_i64().filter(|id| *id > 0);
        let id = match self.annotation(key) {
            Some(text) => text
                .trim()
                .parse()
                .map_err(|_| invalid(key, &format!("{text:?} is not a number")))?,
            None => own.unwrap_or(otherwise),
        };
        if id <= 0 {
            return Ok(None);
        }
        u32::try_from(id)
            .map(Some)
            .map_err(|_| invalid(key, &format!("{id} exceeds the largest user or group ID")))
    }

    /// Returns the port of a listener, from the sidecar's environment.
    fn port(&self, listener: &str) -> Option<u16> {
        let names = [
            format!("LINKERD2_PROXY_{listener}_LISTEN_ADDR"),
            format!("LINKERD2_PROXY_{listener}_LISTEN_ADDRS"),
        ];
        let mut env = self.proxy["env"].as_array().into_iter().flatten();
        let value = env.find_map(|variable| {
            let matches = variable["name"]
                .as_str()
                .is_some_and(|name| names.iter().any(|known| known == name));
            variable["value"].as_str().filter(|_| matches)
        })?;
        let (_, port) = value.split(',').next()?.rsplit_once(':')?;
        port.parse().ok().filter(|port| *port != 0)
    }
}

fn invalid(key: &str, reason: &impl std::fmt::Display) -> Failure {
    Failure::pod(format!("invalid annotation {key}: {reason}"))
}
