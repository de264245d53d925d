//! `Destination.GetProfile`: routes and targets of a Service, or the single endpoint behind an address.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use destination_k8s::{
    ServiceProfile, keys,
    profile::{RequestMatchSpec, ResponseMatchSpec, RetryBudgetSpec, RouteSpec},
};
use http::Method;
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::util::intstr::IntOrString};
use proxy_model::{
    Endpoint, Meta, Profile, defaults, duration,
    limits::MATCH_DEPTH,
    profile::{ProfileRoute, RequestMatch, ResponseClass, ResponseMatch, RetryBudget},
    route::{InvalidPattern, Pattern},
};

use crate::{
    Config, Context, Refused, endpoints,
    name::{PathHost, ServiceName},
    pod::IndexedPod,
    reader::Reader,
    target::Root,
};

/// Subject of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Service(ServiceName),
    Ip(IpAddr),
}

/// Lookup of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    subject: Subject,
    port: u16,
    client_ns: Arc<str>,
}

impl Key {
    pub(crate) fn parse(path: &str, context: &Context, config: &Config) -> Result<Self, Refused> {
        let (host, port) =
            crate::split_path(path).ok_or_else(|| Refused::Invalid(format!("Invalid authority: {path}")))?;
        let subject = match host {
            PathHost::Ip(ip) => Subject::Ip(ip),
            PathHost::Name(host) => Subject::Service(crate::service_name(host, config).ok_or_else(|| {
                let domain = &config.cluster_domain;
                Refused::Invalid(format!(
                    "invalid service {host:?}: \"name {host} does not match cluster domain {domain}\""
                ))
            })?),
        };
        Ok(Self {
            subject,
            port,
            client_ns: context.ns.clone(),
        })
    }

    /// Checks that the Service exists.
    pub(crate) fn check(&self, reader: &Reader<'_>, path: &str) -> Result<(), Refused> {
        let Subject::Service(ServiceName { ns, name, .. }) = &self.subject else {
            return Ok(());
        };
        match reader.service(ns, name) {
            None => Err(Refused::Unknown(format!("service {name:?} not found"))),
            Some(service) if endpoints::is_external_name(service) => {
                Err(Refused::Invalid(format!("Invalid authority: {path}")))
            }
            Some(_) => Ok(()),
        }
    }
}

/// Builds the current profile.
pub(crate) fn profile(reader: &Reader<'_>, key: &Key) -> Result<Profile, Refused> {
    match &key.subject {
        Subject::Ip(ip) => Ok(match reader.service_of_ip(*ip) {
            Some(service) => service_profile(reader, service, key),
            None => address_profile(reader, SocketAddr::new(*ip, key.port)),
        }),
        Subject::Service(name) => match (&name.instance, reader.service(&name.ns, &name.name)) {
            (_, None) => Err(Refused::Unknown(format!("service {:?} not found", name.name))),
            (None, Some(service)) => Ok(service_profile(reader, service, key)),
            (Some(instance), Some(_)) => instance_profile(reader, name, instance, key.port),
        },
    }
}

/// Builds the current profile, after `last`. An address that was a Service's and has no owner now keeps its profile:
/// as a bare address it would get plaintext while the Service is away.
pub(crate) fn profile_after(reader: &Reader<'_>, key: &Key, last: &Profile) -> Result<Profile, Refused> {
    let profile = profile(reader, key)?;
    let is_bare = profile
        .endpoint
        .as_ref()
        .is_some_and(|endpoint| endpoint.labels.is_empty());
    if is_bare && !last.fully_qualified_name.is_empty() {
        return Err(Refused::NotFound("the Service does not exist at present".to_owned()));
    }
    Ok(profile)
}

fn instance_profile(reader: &Reader<'_>, name: &ServiceName, instance: &str, port: u16) -> Result<Profile, Refused> {
    let all = reader
        .slices(&name.ns, &name.name)
        .flat_map(|slice| slice.endpoints.iter().flatten());
    let found = all.filter(|endpoint| endpoint.hostname.as_deref() == Some(instance));
    let ip = found
        .flat_map(|endpoint| &endpoint.addresses)
        .find_map(|ip| ip.parse::<IpAddr>().ok());
    let ip = ip.ok_or_else(|| Refused::Unknown(format!("{instance:?} of service {:?} not found", name.name)))?;
    Ok(address_profile(reader, SocketAddr::new(ip, port)))
}

/// Builds the profile of an address: of the pod that has it, or of the bare address.
fn address_profile(reader: &Reader<'_>, addr: SocketAddr) -> Profile {
    let pods = reader.pods_of_ip(addr.ip());
    let mut running = pods
        .iter()
        .map(|pod| IndexedPod::new(pod))
        .filter(|pod| !pod.is_finished());
    let found = running.find_map(|pod| {
        let port = if pod.has_ip(addr.ip()) {
            Some(addr.port())
        } else {
            pod.behind_host_port(addr.ip(), addr.port())
        };
        port.map(|port| (pod, port))
    });
    let mut profile = Profile {
        retry_budget: Some(defaults::RETRY_BUDGET),
        ..Profile::default()
    };
    let Some((pod, port)) = found else {
        profile.endpoint = Some(Arc::new(Endpoint::bare(addr)));
        return profile;
    };
    let mut endpoint = endpoints::pod_endpoint(reader, pod, addr, port);
    let mut labels = pod.metric_labels(reader);
    labels.insert("namespace".to_owned(), pod.namespace().to_owned());
    labels.insert("zone".to_owned(), String::new());
    endpoint.labels = Arc::new(labels);
    profile.opaque_protocol = pod.is_opaque(reader, port);
    profile.endpoint = Some(Arc::new(endpoint));
    profile
}

fn service_profile(reader: &Reader<'_>, service: &Service, key: &Key) -> Profile {
    let ns = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    if !ports.iter().any(|p| p.port == i32::from(key.port)) {
        return Profile::default();
    }
    let root = Root {
        client_ns: &key.client_ns,
        ns,
        name,
        port: key.port,
    };
    let mut profile = Profile {
        opaque_protocol: is_opaque(reader, service, key.port),
        retry_budget: Some(defaults::RETRY_BUDGET),
        parent: Some(Meta::resource(keys::CORE_GROUP, "Service", ns, name).with_port(key.port)),
        profile: Some(Meta::resource(keys::PROFILE_GROUP, "", "", "")),
        fully_qualified_name: format!("{name}.{ns}.svc.{}", reader.config.cluster_domain),
        targets: root.destinations(reader),
        ..Profile::default()
    };
    if let Some(found) = root.profile(reader) {
        add_service_profile(&mut profile, found, reader.invalid_routes(found), key.port);
    }
    profile
}

fn add_service_profile(profile: &mut Profile, found: &ServiceProfile, invalid: &[usize], port: u16) {
    let meta = &found.metadata;
    let (ns, name) = (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    );
    profile.profile = Some(Meta::resource(keys::PROFILE_GROUP, "", ns, name));
    profile.opaque_protocol |= found.spec.opaque_ports.contains(&port);
    profile.routes = found
        .spec
        .routes
        .iter()
        .enumerate()
        .filter(|(at, _)| !invalid.contains(at))
        .filter_map(|(_, spec)| route(spec))
        .collect();
    if let Some(found) = &found.spec.retry_budget {
        profile.retry_budget = Some(budget(found));
    }
}

fn budget(found: &RetryBudgetSpec) -> RetryBudget {
    RetryBudget {
        ratio: found.retry_ratio,
        min_per_second: found.min_retries_per_second,
        ttl: duration::go(&found.ttl),
    }
}

/// Returns true if a Service's port is opaque: by its own list, its namespace's, or as a default opaque port (which
/// upstream's injector would write into its list).
pub(crate) fn is_opaque(reader: &Reader<'_>, service: &Service, port: u16) -> bool {
    let meta = &service.metadata;
    let own = meta
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(keys::OPAQUE_PORTS));
    let ns = meta.namespace.as_deref().unwrap_or_default();
    let list = own
        .map(String::as_str)
        .or_else(|| reader.namespace_annotation(ns, keys::OPAQUE_PORTS));
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let found = ports.iter().find(|p| p.port == i32::from(port));
    if let Some(list) = list {
        return crate::ports::contains(list, port, found.and_then(|p| p.name.as_deref()));
    }
    let is_default = |number: i32| u16::try_from(number).is_ok_and(|n| reader.config.default_opaque_ports.contains(n));
    found.is_some_and(|p| {
        let target = match &p.target_port {
            Some(IntOrString::Int(number)) => is_default(*number),
            _ => false,
        };
        is_default(p.port) || target
    })
}

fn route(spec: &RouteSpec) -> Option<ProfileRoute> {
    let classes = spec.response_classes.iter().map(|class| ResponseClass {
        condition: response_match(&class.condition),
        is_failure: class.is_failure,
    });
    Some(ProfileRoute {
        // A condition that cannot be compiled would match everything, so the route is left out.
        condition: Some(request_match(&spec.condition).ok()?),
        response_classes: classes.collect(),
        labels: Arc::new(BTreeMap::from([("route".to_owned(), spec.name.clone())])),
        is_retryable: spec.is_retryable(),
        timeout: spec.timeout.as_deref().and_then(duration::go),
        retry_budget: spec.retry_budget.as_ref().map(budget),
    })
}

/// Reason for which a condition of a profile cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum InvalidCondition {
    /// Invalid regular expression.
    #[error("pathRegex {text:?}: {reason}")]
    Regex {
        /// Expression as written.
        text: String,
        /// Reason given by the parser.
        reason: String,
    },
    /// Invalid method.
    #[error("{0:?} is not an HTTP method")]
    Method(String),
    /// No field is set.
    #[error("it is empty")]
    Empty,
    /// Too deep for proxies.
    #[error("it is nested more than {} deep", MATCH_DEPTH.value)]
    Depth,
}

impl From<InvalidPattern> for InvalidCondition {
    fn from(error: InvalidPattern) -> Self {
        // The parser draws the expression, and names the fault on the last line.
        let last = error.reason.lines().last().unwrap_or_default().trim();
        Self::Regex {
            reason: last.strip_prefix("error: ").unwrap_or(last).to_owned(),
            text: error.text,
        }
    }
}

/// Returns the reason for which the conditions of a route cannot be used, expressions aside.
pub(crate) fn invalid_condition(spec: &RouteSpec) -> Option<InvalidCondition> {
    let depth = match request_match(&spec.condition) {
        Ok(condition) => request_depth(&condition),
        Err(error) => return Some(error),
    };
    let classes = spec.response_classes.iter();
    let of_classes = classes.filter_map(|class| Some(response_depth(&response_match(&class.condition)?)));
    let deepest = of_classes.chain([depth]).max();
    (deepest > Some(MATCH_DEPTH.value)).then_some(InvalidCondition::Depth)
}

fn request_depth(condition: &RequestMatch) -> usize {
    1 + match condition {
        RequestMatch::All(parts) | RequestMatch::Any(parts) => parts.iter().map(request_depth).max().unwrap_or(0),
        RequestMatch::Not(part) => request_depth(part),
        RequestMatch::Path(_) | RequestMatch::Method(_) => 0,
    }
}

fn response_depth(condition: &ResponseMatch) -> usize {
    1 + match condition {
        ResponseMatch::All(parts) | ResponseMatch::Any(parts) => parts.iter().map(response_depth).max().unwrap_or(0),
        ResponseMatch::Not(part) => response_depth(part),
        ResponseMatch::Status { .. } => 0,
    }
}

fn request_match(spec: &RequestMatchSpec) -> Result<RequestMatch, InvalidCondition> {
    let matches = |specs: &[RequestMatchSpec]| specs.iter().map(request_match).collect::<Result<Vec<_>, _>>();
    let mut parts = vec![];
    if let Some(all) = &spec.all {
        parts.push(RequestMatch::All(matches(all)?));
    }
    if let Some(any) = &spec.any {
        parts.push(RequestMatch::Any(matches(any)?));
    }
    if let Some(method) = &spec.method {
        let parsed = Method::from_bytes(method.as_bytes()).map_err(|_| InvalidCondition::Method(method.clone()))?;
        parts.push(RequestMatch::Method(parsed));
    }
    if let Some(not) = &spec.not {
        parts.push(RequestMatch::Not(Box::new(request_match(not)?)));
    }
    if let Some(path) = &spec.path_regex {
        parts.push(RequestMatch::Path(Pattern::uncompiled(path)));
    }
    one_or(parts, RequestMatch::All).ok_or(InvalidCondition::Empty)
}

fn response_match(spec: &ResponseMatchSpec) -> Option<ResponseMatch> {
    let mut parts = vec![];
    if let Some(all) = &spec.all {
        parts.push(ResponseMatch::All(
            all.iter().map(response_match).collect::<Option<_>>()?,
        ));
    }
    if let Some(any) = &spec.any {
        parts.push(ResponseMatch::Any(
            any.iter().map(response_match).collect::<Option<_>>()?,
        ));
    }
    if let Some(status) = spec.status {
        parts.push(ResponseMatch::Status {
            min: status.min,
            max: status.max,
        });
    }
    if let Some(not) = &spec.not {
        parts.push(ResponseMatch::Not(Box::new(response_match(not)?)));
    }
    one_or(parts, ResponseMatch::All)
}

fn one_or<T>(mut parts: Vec<T>, all: impl Fn(Vec<T>) -> T) -> Option<T> {
    match parts.len() {
        0 => None,
        1 => parts.pop(),
        _ => Some(all(parts)),
    }
}
