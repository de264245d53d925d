//! From a pod, its namespace and the configuration to rules. Pure.
//!
//! What holds, first match first: the pod's annotation, its namespace's, what the sidecar itself was given (its user, its ports:
//! rules that name others would cut it off), the configuration.

use destination_k8s::keys::{PROXY_CONTAINER, SKIP_INBOUND_PORTS, SKIP_OUTBOUND_PORTS};
use injector_patch::annotations::{PROXY_GID, PROXY_UID, SKIP_SUBNETS};
use injector_redirect::Rules;
use ipnet::IpNet;
use proxy_model::ports::PortSet;
use serde_json::Value;

use super::{call::Failure, cluster::Known, config::NetConf};

/// The init container that redirects by itself.
const INIT: &str = "linkerd-init";

/// What to do with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing, and why.
    Pass(&'static str),
    /// Redirect its traffic.
    Redirect(Rules),
}

/// Decides.
pub(super) fn decide(known: &Known, conf: &NetConf) -> Result<Decision, Failure> {
    let Some(proxy) = proxy(&known.pod) else {
        return Ok(Decision::Pass("it has no sidecar"));
    };
    if has_init(&known.pod) {
        return Ok(Decision::Pass("its init container redirects"));
    }
    let say = Said { known, proxy };
    let linkerd = &conf.linkerd;
    let (inbound, outbound) = (say.port("INBOUND"), say.port("OUTBOUND"));
    let mut outbound_skip = say.ports(SKIP_OUTBOUND_PORTS, &linkerd.outbound_ports_to_ignore)?;
    if let Some(ports) = &known.api_ports {
        let more: PortSet = ports.parse().map_err(|error| Failure::config(format!("{error}")))?;
        outbound_skip = join(&outbound_skip, &more);
    }
    let mut inbound_skip = say.ports(SKIP_INBOUND_PORTS, &linkerd.inbound_ports_to_ignore)?;
    let own: PortSet = [say.port("ADMIN"), say.port("CONTROL")].into_iter().flatten().collect();
    inbound_skip = join(&own, &inbound_skip);
    let only = linkerd.ports_to_redirect.parse();
    Ok(Decision::Redirect(Rules {
        inbound_port: inbound.unwrap_or(linkerd.incoming_proxy_port),
        outbound_port: outbound.unwrap_or(linkerd.outgoing_proxy_port),
        inbound_skip,
        outbound_skip,
        inbound_skip_from: say.networks(&linkerd.subnets_to_ignore)?,
        inbound_only: only.map_err(|error| Failure::config(format!("ports-to-redirect: {error}")))?,
        proxy_uid: say.id(PROXY_UID, "runAsUser", linkerd.proxy_uid)?,
        proxy_gid: say.id(PROXY_GID, "runAsGroup", linkerd.proxy_gid)?,
        ipv6: linkerd.ipv6,
        mark: None,
    }))
}

/// Whether its traffic is ours to redirect.
pub(super) fn is_ours(pod: &Value) -> bool {
    proxy(pod).is_some() && !has_init(pod)
}

fn containers<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    pod["spec"][list].as_array().into_iter().flatten()
}

/// The sidecar: a container, or an init container that stays.
fn proxy(pod: &Value) -> Option<&Value> {
    let stays = containers(pod, "initContainers").filter(|container| container["restartPolicy"] == "Always");
    let mut all = containers(pod, "containers").chain(stays);
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

/// What a pod, its namespace and its sidecar say.
struct Said<'a> {
    known: &'a Known,
    proxy: &'a Value,
}

impl<'a> Said<'a> {
    fn annotation(&self, key: &str) -> Option<&'a str> {
        let own = self.known.pod["metadata"]["annotations"][key].as_str();
        own.or_else(|| self.known.namespace.get(key).map(String::as_str))
    }

    fn ports(&self, key: &str, otherwise: &str) -> Result<PortSet, Failure> {
        let read = |text: &str| text.parse::<PortSet>();
        match self.annotation(key) {
            Some(text) => read(text).map_err(|error| wrong(key, &error)),
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
        let not = |item: &str| format!("{item:?} is no network such as 10.0.0.0/8");
        items
            .map(|item| read(item).map_err(|_| wrong(SKIP_SUBNETS, &not(item))))
            .collect()
    }

    fn id(&self, key: &str, field: &str, otherwise: i64) -> Result<Option<u32>, Failure> {
        let own = self.proxy["securityContext"][field].as_i64().filter(|id| *id > 0);
        let id = match self.annotation(key) {
            Some(text) => text
                .trim()
                .parse()
                .map_err(|_| wrong(key, &format!("{text:?} is no number")))?,
            None => own.unwrap_or(otherwise),
        };
        if id <= 0 {
            return Ok(None);
        }
        u32::try_from(id)
            .map(Some)
            .map_err(|_| wrong(key, &format!("{id} is larger than any user or group")))
    }

    /// The port of a listener of the sidecar, as its environment says.
    fn port(&self, listener: &str) -> Option<u16> {
        let names = [
            format!("LINKERD2_PROXY_{listener}_LISTEN_ADDR"),
            format!("LINKERD2_PROXY_{listener}_LISTEN_ADDRS"),
        ];
        let mut env = self.proxy["env"].as_array().into_iter().flatten();
        let value = env.find_map(|variable| {
            let is_it = variable["name"]
                .as_str()
                .is_some_and(|name| names.iter().any(|known| known == name));
            variable["value"].as_str().filter(|_| is_it)
        })?;
        let (_, port) = value.split(',').next()?.rsplit_once(':')?;
        port.parse().ok().filter(|port| *port != 0)
    }
}

fn wrong(key: &str, why: &impl std::fmt::Display) -> Failure {
    Failure::pod(format!("the annotation {key}: {why}"))
}
