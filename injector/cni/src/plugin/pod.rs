//! Rules from a pod, its namespace and the configuration. Pure.
//!
//! Precedence: the pod's annotation, its namespace's, the sidecar's own settings (user, ports: rules with others would
//! cut it off), the configuration.

use destination_k8s::{
    keys::{SKIP_INBOUND_PORTS, SKIP_OUTBOUND_PORTS},
    pod::PodView,
};
use injector_redirect::Rules;
use injector_sidecar::{
    annotations::{PROXY_GID, PROXY_UID, SKIP_SUBNETS},
    names::INIT_CONTAINER,
};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::SecurityContext;
use proxy_model::{
    env,
    ports::{InvalidPorts, PortSet},
};

use super::{call::Failure, cluster::PodContext, config::NetConf};

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
    let pod = PodView::new(&known.pod);
    let Some(proxy) = pod.sidecar() else {
        return Ok(Decision::Pass("no sidecar"));
    };
    if has_init(pod) {
        return Ok(Decision::Pass("redirected by its init container"));
    }
    let settings = Settings {
        known,
        pod,
        security: proxy.security_context.as_ref(),
    };
    let linkerd = &conf.linkerd;
    let inbound = pod.listen_port(env::INBOUND_LISTEN_ADDR);
    let outbound = pod.listen_port(env::OUTBOUND_LISTEN_ADDR);
    let mut outbound_skip = settings.ports(SKIP_OUTBOUND_PORTS, &linkerd.outbound_ports_to_ignore)?;
    if let Some(ports) = &known.api_ports {
        let more: PortSet = ports.parse().map_err(|error| Failure::config(format!("{error}")))?;
        outbound_skip = join(&outbound_skip, &more);
    }
    let mut inbound_skip = settings.ports(SKIP_INBOUND_PORTS, &linkerd.inbound_ports_to_ignore)?;
    let own = [env::ADMIN_LISTEN_ADDR, env::CONTROL_LISTEN_ADDR];
    let own: PortSet = own.into_iter().filter_map(|name| pod.listen_port(name)).collect();
    inbound_skip = join(&own, &inbound_skip);
    let only = linkerd.ports_to_redirect.parse();
    Ok(Decision::Redirect(Rules {
        inbound_port: inbound.unwrap_or(linkerd.incoming_proxy_port),
        outbound_port: outbound.unwrap_or(linkerd.outgoing_proxy_port),
        inbound_skip,
        outbound_skip,
        inbound_skip_from: settings.networks(&linkerd.subnets_to_ignore)?,
        inbound_only: only.map_err(|error| Failure::config(format!("ports-to-redirect: {error}")))?,
        proxy_uid: settings.id(PROXY_UID, |security| security.run_as_user, linkerd.proxy_uid)?,
        proxy_gid: settings.id(PROXY_GID, |security| security.run_as_group, linkerd.proxy_gid)?,
        ipv6: linkerd.ipv6,
        mark: None,
    }))
}

/// Returns true if the plugin redirects the pod.
pub(super) fn is_ours(pod: PodView<'_>) -> bool {
    pod.sidecar().is_some() && !has_init(pod)
}

fn has_init(pod: PodView<'_>) -> bool {
    let spec = pod.object().spec.iter();
    let mut init = spec.flat_map(|spec| spec.init_containers.iter().flatten());
    init.any(|container| container.name == INIT_CONTAINER)
}

fn join(one: &PortSet, other: &PortSet) -> PortSet {
    one.ranges().iter().chain(other.ranges()).copied().collect()
}

/// Settings of a pod, its namespace and its sidecar.
struct Settings<'a> {
    known: &'a PodContext,
    pod: PodView<'a>,
    security: Option<&'a SecurityContext>,
}

impl<'a> Settings<'a> {
    fn annotation(&self, key: &str) -> Option<&'a str> {
        self.pod
            .annotation(key)
            .or_else(|| self.known.namespace.get(key).map(String::as_str))
    }

    fn ports(&self, key: &str, otherwise: &str) -> Result<PortSet, Failure> {
        let read = |text: &str| text.parse::<PortSet>();
        match self.annotation(key) {
            Some(text) => read(text)
                .map_err(|InvalidPorts(item)| invalid(key, &format!("{item:?} is not a port or a range of ports"))),
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

    fn id(
        &self,
        key: &str,
        field: fn(&SecurityContext) -> Option<i64>,
        otherwise: i64,
    ) -> Result<Option<u32>, Failure> {
        let own = self.security.and_then(field).filter(|id| *id > 0);
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
}

fn invalid(key: &str, reason: &impl std::fmt::Display) -> Failure {
    Failure::pod(format!("invalid annotation {key}: {reason}"))
}
