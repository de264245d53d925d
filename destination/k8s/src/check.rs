//! Validation beyond the types: ports in range, well-formed names. An API server would check the same.

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::{CronJob, Job},
        core::v1::{
            ConfigMap, Container, Namespace, Node, Pod, PodSpec, PodTemplateSpec, Probe, Secret, Service,
            ServiceAccount,
        },
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use proxy_model::{Id, duration, policy::DefaultPolicy};

use crate::{
    AuthorizationPolicy, EgressNetwork, GrpcRoute, HttpLocalRateLimitPolicy, HttpRoute, MeshTlsAuthentication,
    NetworkAuthentication, PolicyHttpRoute, Server, ServerAuthorization, ServiceProfile, TcpRoute, TlsRoute,
    TrafficSplit,
    path::{Fault, Path},
    policy::{Network, PortRef},
    profile::{RequestMatchSpec, ResponseMatchSpec, RetryBudgetSpec},
    route::{BackendRef, ParentRef},
};

pub(crate) type Validation = Result<(), Fault>;

/// Validation that a kind's types cannot express.
pub(crate) trait Check {
    fn check(&self) -> Validation {
        Ok(())
    }
}

impl Check for Namespace {}
impl Check for Node {}
impl Check for ServiceAccount {}
impl Check for ConfigMap {}
impl Check for Secret {}

/// Longest name that is a DNS label.
pub(crate) const LABEL_MAX: usize = 63;
/// Longest name that is a DNS subdomain.
pub(crate) const SUBDOMAIN_MAX: usize = 253;

/// Validates name and namespace of any object, whose name may have up to `longest` bytes.
pub(crate) fn metadata(kind: &str, longest: usize, meta: &ObjectMeta) -> Validation {
    let at = || Path::keys(&["metadata", "name"]);
    match meta.name.as_deref() {
        None | Some("") => return Err(Fault::new(at(), format!("the {kind} has no name"))),
        Some(text) => name(at(), text, longest)?,
    }
    if let Some(namespace) = meta.namespace.as_deref() {
        name(Path::keys(&["metadata", "namespace"]), namespace, 63)?;
    }
    Ok(())
}

pub(crate) fn name(at: Path, text: &str, longest: usize) -> Validation {
    if text.len() > longest {
        let shown: String = text.chars().take(20).collect();
        let reason = format!(
            "the name {shown}… has {} characters, the limit is {longest}",
            text.len()
        );
        return Err(Fault::new(at, reason));
    }
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (c == '.' && longest > 63);
    if !edge(text.chars().next()) || !edge(text.chars().last()) || !text.chars().all(inner) {
        let reason = format!("{text:?} is not a name of lower-case letters, digits and dashes");
        return Err(Fault::new(at, reason));
    }
    Ok(())
}

pub(crate) fn port(at: Path, number: i32) -> Validation {
    if (1..=65_535).contains(&number) {
        return Ok(());
    }
    Err(Fault::new(at, format!("{number} is not a port from 1 to 65535")))
}

fn port_or_name(at: Path, value: &IntOrString) -> Validation {
    match value {
        IntOrString::Int(number) => port(at, *number),
        IntOrString::String(text) if text.is_empty() => Err(Fault::new(at, "the port's name is empty")),
        IntOrString::String(_) => Ok(()),
    }
}

pub(crate) fn regex(at: Path, text: &str) -> Validation {
    // Compiled where it is used; an empty one would read as "not set".
    if text.is_empty() {
        Err(Fault::new(at, "the regular expression is empty"))
    } else {
        Ok(())
    }
}

impl Check for Service {
    fn check(&self) -> Validation {
        let Some(spec) = &self.spec else { return Ok(()) };
        for (i, p) in spec.ports.iter().flatten().enumerate() {
            let at = || Path::keys(&["spec", "ports"]).index(i);
            port(at().key("port"), p.port)?;
            if let Some(target) = &p.target_port {
                port_or_name(at().key("targetPort"), target)?;
            }
        }
        if let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None")
            && ip.parse::<std::net::IpAddr>().is_err()
        {
            return Err(Fault::new(
                Path::keys(&["spec", "clusterIP"]),
                format!("{ip:?} is not an address"),
            ));
        }
        Ok(())
    }
}

impl Check for EndpointSlice {
    fn check(&self) -> Validation {
        for (i, p) in self.ports.iter().flatten().enumerate() {
            if let Some(number) = p.port {
                port(Path::keys(&["ports"]).index(i).key("port"), number)?;
            }
        }
        if self.address_type == "FQDN" {
            return Ok(());
        }
        for (i, endpoint) in self.endpoints.iter().flatten().enumerate() {
            for (j, address) in endpoint.addresses.iter().enumerate() {
                if address.parse::<std::net::IpAddr>().is_err() {
                    let at = Path::keys(&["endpoints"]).index(i).key("addresses").index(j);
                    return Err(Fault::new(at, format!("{address:?} is not an address")));
                }
            }
        }
        Ok(())
    }
}

impl Check for Pod {
    fn check(&self) -> Validation {
        self.spec
            .as_ref()
            .map_or(Ok(()), |spec| pod_spec(&Path::keys(&["spec"]), spec))
    }
}

fn template(prefix: &[&str], template: &PodTemplateSpec) -> Validation {
    let mut keys = prefix.to_vec();
    keys.push("spec");
    template
        .spec
        .as_ref()
        .map_or(Ok(()), |spec| pod_spec(&Path::keys(&keys), spec))
}

macro_rules! check_template {
    ($($ty:ty),*) => {
        $(impl Check for $ty {
            fn check(&self) -> Validation {
                self.spec.as_ref().map_or(Ok(()), |spec| template(&["spec", "template"], &spec.template))
            }
        })*
    };
}

check_template!(StatefulSet, DaemonSet, Job);

impl Check for Deployment {
    fn check(&self) -> Validation {
        let Some(spec) = &self.spec else { return Ok(()) };
        if let Some(count) = spec.replicas.filter(|count| *count < 0) {
            let at = Path::keys(&["spec", "replicas"]);
            return Err(Fault::new(at, format!("{count} is negative")));
        }
        template(&["spec", "template"], &spec.template)
    }
}

impl Check for ReplicaSet {
    fn check(&self) -> Validation {
        let found = self.spec.as_ref().and_then(|spec| spec.template.as_ref());
        found.map_or(Ok(()), |pod| template(&["spec", "template"], pod))
    }
}

impl Check for CronJob {
    fn check(&self) -> Validation {
        let spec = self.spec.job_template.spec.as_ref();
        spec.map_or(Ok(()), |spec| {
            template(&["spec", "jobTemplate", "spec", "template"], &spec.template)
        })
    }
}

fn pod_spec(at: &Path, spec: &PodSpec) -> Validation {
    for (i, c) in spec.containers.iter().enumerate() {
        container(&at.clone().key("containers").index(i), c)?;
    }
    for (i, c) in spec.init_containers.iter().flatten().enumerate() {
        container(&at.clone().key("initContainers").index(i), c)?;
    }
    Ok(())
}

fn container(at: &Path, container: &Container) -> Validation {
    name(at.clone().key("name"), &container.name, 63)?;
    for (i, p) in container.ports.iter().flatten().enumerate() {
        let at = at.clone().key("ports").index(i);
        port(at.clone().key("containerPort"), p.container_port)?;
        if let Some(number) = p.host_port.filter(|number| *number != 0) {
            port(at.clone().key("hostPort"), number)?;
        }
        if let Some(text) = &p.name {
            name(at.key("name"), text, 15)?;
        }
    }
    for (key, found) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        if let Some(found) = found {
            probe(&at.clone().key(key), found)?;
        }
    }
    Ok(())
}

fn probe(at: &Path, probe: &Probe) -> Validation {
    if let Some(get) = &probe.http_get {
        port_or_name(at.clone().key("httpGet").key("port"), &get.port)?;
    }
    if let Some(socket) = &probe.tcp_socket {
        port_or_name(at.clone().key("tcpSocket").key("port"), &socket.port)?;
    }
    if let Some(grpc) = &probe.grpc {
        port(at.clone().key("grpc").key("port"), grpc.port)?;
    }
    Ok(())
}

impl Check for TrafficSplit {
    fn check(&self) -> Validation {
        let at = || Path::keys(&["spec"]);
        if self.spec.service.is_empty() {
            return Err(Fault::new(at().key("service"), "the split does not name a Service"));
        }
        for (i, backend) in self.spec.backends.iter().enumerate() {
            name(at().key("backends").index(i).key("service"), &backend.service, 63)?;
        }
        Ok(())
    }
}

impl Check for ServiceProfile {
    fn check(&self) -> Validation {
        for (i, route) in self.spec.routes.iter().enumerate() {
            let at = || Path::keys(&["spec", "routes"]).index(i);
            request_match(at().key("condition"), &route.condition, true)?;
            for (j, class) in route.response_classes.iter().enumerate() {
                response_match(at().key("responseClasses").index(j).key("condition"), &class.condition)?;
            }
            if let Some(text) = route.timeout.as_deref().filter(|text| duration::go(text).is_none()) {
                return Err(Fault::new(
                    at().key("timeout"),
                    format!("{text:?} is not a duration such as 300ms"),
                ));
            }
            if let Some(found) = &route.retry_budget {
                budget(&at().key("retryBudget"), found)?;
            }
        }
        match &self.spec.retry_budget {
            Some(found) => budget(&Path::keys(&["spec", "retryBudget"]), found),
            None => Ok(()),
        }
    }
}

fn budget(at: &Path, budget: &RetryBudgetSpec) -> Validation {
    if !budget.retry_ratio.is_finite() || budget.retry_ratio < 0.0 {
        return Err(Fault::new(
            at.clone().key("retryRatio"),
            format!("{} is not a ratio from 0 up", budget.retry_ratio),
        ));
    }
    if duration::go(&budget.ttl).is_none() {
        return Err(Fault::new(
            at.clone().key("ttl"),
            format!("{:?} is not a duration such as 10s", budget.ttl),
        ));
    }
    Ok(())
}

fn request_match(at: Path, condition: &RequestMatchSpec, required: bool) -> Validation {
    let RequestMatchSpec {
        all,
        not,
        any,
        path_regex,
        method,
    } = condition;
    let empty = all.is_none() && not.is_none() && any.is_none() && path_regex.is_none() && method.is_none();
    if required && empty {
        return Err(Fault::new(
            at,
            "the condition sets none of all, any, not, pathRegex, method",
        ));
    }
    if let Some(text) = path_regex {
        regex(at.clone().key("pathRegex"), text)?;
    }
    for (key, list) in [("all", all), ("any", any)] {
        for (i, inner) in list.iter().flatten().enumerate() {
            request_match(at.clone().key(key).index(i), inner, true)?;
        }
    }
    not.as_ref()
        .map_or(Ok(()), |inner| request_match(at.key("not"), inner, true))
}

fn response_match(at: Path, condition: &ResponseMatchSpec) -> Validation {
    if let Some(range) = condition.status {
        let known = |status: u16| status == 0 || (100..=599).contains(&status);
        if !known(range.min) || !known(range.max) || (range.max != 0 && range.min > range.max) {
            let reason = format!("{}-{} is not a range of statuses from 100 to 599", range.min, range.max);
            return Err(Fault::new(at.key("status"), reason));
        }
    }
    for (key, list) in [("all", &condition.all), ("any", &condition.any)] {
        for (i, inner) in list.iter().flatten().enumerate() {
            response_match(at.clone().key(key).index(i), inner)?;
        }
    }
    condition
        .not
        .as_ref()
        .map_or(Ok(()), |inner| response_match(at.key("not"), inner))
}

impl Check for Server {
    fn check(&self) -> Validation {
        let spec = &self.spec;
        let at = || Path::keys(&["spec"]);
        match &spec.port {
            PortRef::Number(0) => return Err(Fault::new(at().key("port"), "0 is not a port from 1 to 65535")),
            PortRef::Name(text) if text.is_empty() => {
                return Err(Fault::new(at().key("port"), "the port's name is empty"));
            }
            _ => {}
        }
        if spec.pod_selector.is_some() == spec.external_workload_selector.is_some() {
            return Err(Fault::new(
                at(),
                "exactly one of podSelector and externalWorkloadSelector must be set",
            ));
        }
        if let Some(text) = spec.access_policy.as_deref()
            && let Err(error) = text.parse::<DefaultPolicy>()
        {
            return Err(Fault::new(at().key("accessPolicy"), error.to_string()));
        }
        Ok(())
    }
}

impl Check for ServerAuthorization {
    fn check(&self) -> Validation {
        let (server, client) = (&self.spec.server, &self.spec.client);
        if server.name.is_some() == server.selector.is_some() {
            return Err(Fault::new(
                Path::keys(&["spec", "server"]),
                "exactly one of name and selector must be set",
            ));
        }
        let at = || Path::keys(&["spec", "client"]);
        if client.unauthenticated && client.mesh_tls.is_some() {
            return Err(Fault::new(
                at().key("unauthenticated"),
                "must be false when meshTLS is set",
            ));
        }
        if let Some(tls) = &client.mesh_tls
            && tls.unauthenticated_tls
            && (tls.identities.is_some() || tls.service_accounts.is_some())
        {
            let reason = "must be false when identities or serviceAccounts are set";
            return Err(Fault::new(at().key("meshTLS").key("unauthenticatedTLS"), reason));
        }
        let named = client.mesh_tls.as_ref().and_then(|tls| tls.identities.as_deref());
        identities(&at().key("meshTLS").key("identities"), named)?;
        networks(&at().key("networks"), client.networks.as_deref().unwrap_or_default())
    }
}

fn networks(at: &Path, networks: &[Network]) -> Validation {
    for (i, network) in networks.iter().enumerate() {
        for (j, except) in network.except.iter().enumerate() {
            if !network.cidr.0.contains(&except.0) || except.0 == network.cidr.0 {
                let reason = format!("{except} is not a proper subset of {}", network.cidr);
                return Err(Fault::new(at.clone().index(i).key("except").index(j), reason));
            }
        }
    }
    Ok(())
}

impl Check for AuthorizationPolicy {
    fn check(&self) -> Validation {
        let refs = &self.spec.required_authentication_refs;
        let count = |kinds: &[&str]| {
            refs.iter()
                .filter(|r| kinds.iter().any(|k| r.kind.eq_ignore_ascii_case(k)))
                .count()
        };
        let at = || Path::keys(&["spec", "requiredAuthenticationRefs"]);
        if count(&["MeshTLSAuthentication", "ServiceAccount"]) > 1 {
            return Err(Fault::new(at(), "at most one reference may be to an identity"));
        }
        if count(&["NetworkAuthentication"]) > 1 {
            return Err(Fault::new(
                at(),
                "at most one reference may be to a NetworkAuthentication",
            ));
        }
        let known = ["MeshTLSAuthentication", "ServiceAccount", "NetworkAuthentication"];
        for (i, r) in refs.iter().enumerate() {
            if !known.iter().any(|kind| r.kind.eq_ignore_ascii_case(kind)) {
                let reason = format!("{} is not one of {}", r.kind, known.join(", "));
                return Err(Fault::new(at().index(i).key("kind"), reason));
            }
        }
        Ok(())
    }
}

impl Check for MeshTlsAuthentication {
    fn check(&self) -> Validation {
        let some = |n: Option<usize>| n.is_some_and(|n| n > 0);
        let spec = &self.spec;
        let lists = (
            spec.identities.as_ref().map(Vec::len),
            spec.identity_refs.as_ref().map(Vec::len),
        );
        if some(lists.0) == some(lists.1) {
            return Err(Fault::new(
                Path::keys(&["spec"]),
                "exactly one of identities and identityRefs must be set",
            ));
        }
        identities(&Path::keys(&["spec", "identities"]), spec.identities.as_deref())
    }
}

/// Checks patterns of identities. A suffix with an empty label, as of `*.`, could pass for that of all identities.
fn identities(at: &Path, patterns: Option<&[String]>) -> Validation {
    let is_name = |text: &str| {
        text.parse::<Id>()
            .is_ok_and(|id| matches!(id, Id::Dns(_)) && !text.ends_with('.'))
    };
    let is_pattern = |text: &str| match text.strip_prefix('*') {
        Some(rest) => rest.is_empty() || rest.strip_prefix('.').is_some_and(is_name),
        None => text.parse::<Id>().is_ok(),
    };
    let mut patterns = patterns.unwrap_or_default().iter();
    match patterns.position(|text| !is_pattern(text)) {
        Some(i) => Err(Fault::new(at.clone().index(i), "must be an identity, *.SUFFIX or *")),
        None => Ok(()),
    }
}

impl Check for NetworkAuthentication {
    fn check(&self) -> Validation {
        let at = Path::keys(&["spec", "networks"]);
        if self.spec.networks.is_empty() {
            return Err(Fault::new(at, "the list of networks is empty"));
        }
        networks(&at, &self.spec.networks)
    }
}

impl Check for HttpLocalRateLimitPolicy {
    fn check(&self) -> Validation {
        let spec = &self.spec;
        let at = || Path::keys(&["spec"]);
        let most = spec.total.map_or(u32::MAX, |limit| limit.requests_per_second);
        let valid = |at: Path, number: u32| match number {
            0 => Err(Fault::new(
                at,
                "0 is not a valid number of requests per second; the minimum is 1",
            )),
            _ if number > most => Err(Fault::new(at, format!("{number} is greater than the total of {most}"))),
            _ => Ok(()),
        };
        for (key, limit) in [("total", spec.total), ("identity", spec.identity)] {
            if let Some(limit) = limit {
                valid(at().key(key).key("requestsPerSecond"), limit.requests_per_second)?;
            }
        }
        for (i, limit) in spec.overrides.iter().flatten().enumerate() {
            valid(
                at().key("overrides").index(i).key("requestsPerSecond"),
                limit.requests_per_second,
            )?;
        }
        Ok(())
    }
}

impl Check for EgressNetwork {
    fn check(&self) -> Validation {
        networks(
            &Path::keys(&["spec", "networks"]),
            self.spec.networks.as_deref().unwrap_or_default(),
        )
    }
}

fn route<'a>(parents: &[ParentRef], backends: impl Iterator<Item = (usize, &'a [BackendRef])>) -> Validation {
    for (i, parent) in parents.iter().enumerate() {
        if parent.port == Some(0) {
            let at = Path::keys(&["spec", "parentRefs"]).index(i).key("port");
            return Err(Fault::new(at, "0 is not a port from 1 to 65535"));
        }
    }
    for (i, list) in backends {
        for (j, backend) in list.iter().enumerate() {
            let at = || Path::keys(&["spec", "rules"]).index(i).key("backendRefs").index(j);
            if backend.port == Some(0) {
                return Err(Fault::new(at().key("port"), "0 is not a port from 1 to 65535"));
            }
            if backend.weight > 1_000_000 {
                let reason = format!("{} is greater than the largest weight, 1000000", backend.weight);
                return Err(Fault::new(at().key("weight"), reason));
            }
        }
    }
    Ok(())
}

impl Check for HttpRoute {
    fn check(&self) -> Validation {
        let rules = self.spec.rules.iter().enumerate();
        route(
            &self.spec.parent_refs,
            rules.map(|(i, rule)| (i, rule.backend_refs.as_slice())),
        )
    }
}

impl Check for PolicyHttpRoute {
    fn check(&self) -> Validation {
        self.0.check()
    }
}

impl Check for TlsRoute {
    fn check(&self) -> Validation {
        opaque_route(self)
    }
}

impl Check for TcpRoute {
    fn check(&self) -> Validation {
        opaque_route(self)
    }
}

fn opaque_route(object: &TlsRoute) -> Validation {
    let rules = object.spec.rules.iter().enumerate();
    route(
        &object.spec.parent_refs,
        rules.map(|(i, rule)| (i, rule.backend_refs.as_slice())),
    )
}

impl Check for GrpcRoute {
    fn check(&self) -> Validation {
        let rules = self.spec.rules.iter().enumerate();
        route(
            &self.spec.parent_refs,
            rules.map(|(i, rule)| (i, rule.backend_refs.as_slice())),
        )
    }
}
