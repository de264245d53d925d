//! An answer of discovery about a target, compiled: backends are balancers and endpoints, metric slots are resolved.
//! Immutable; all state lives in the worker's endpoints and survives an update.

mod mirrors;
mod profile_targets;

use std::{rc::Rc, sync::Arc, time::Duration};

use http::{HeaderValue, uri::Authority};
use proxy_discovery::Outbound;
use proxy_metrics::{
    RouteSlot,
    outbound::{BackendSlot, ExchangeSlot, RetrySlot, RouteKind},
};
use proxy_model::{
    ClientProtocol, Meta, OrigDstAddr, defaults, limits,
    outbound::{self, FailureAccrual, Load, Targets, TcpRoute},
    profile,
    route::{Filter, GrpcMatch, HttpMatch, PathModifier, Retry, Route, Timeouts},
};

use self::mirrors::Mirror;
use crate::{
    SharedBudget,
    balance::Balancer,
    endpoint::Endpoint,
    endpoints::{BalancerKind, BalancerSpec, Endpoints, Queue, QueueKey},
    targets,
};

/// Compiled answer of discovery about a target.
#[derive(Debug)]
pub(crate) struct Snapshot {
    source: Arc<Outbound>,
    /// Authority of requests that name none.
    pub(crate) default_authority: Option<Authority>,
    pub(crate) protocol: Protocol,
    /// Routes and targets of the profile for HTTP.
    pub(crate) profile: Option<Rc<Profile>>,
    /// Targets of the profile for opaque connections.
    pub(crate) opaque_profile: Option<Rc<TcpRule>>,
    /// The profile marks the port as opaque.
    pub(crate) opaque_by_profile: bool,
    /// Name of the target in errors.
    pub(crate) name: Rc<str>,
}

/// Protocol of a target, with its routes.
#[derive(Debug)]
pub(crate) enum Protocol {
    Detect {
        http1: Rc<Routes>,
        http2: Rc<Routes>,
        opaque: Option<Rc<TcpRule>>,
    },
    Http1(Rc<Routes>),
    Http2(Rc<Routes>),
    Opaque(Option<Rc<TcpRule>>),
    Tls(Vec<Route<(), Rc<TcpRule>>>),
}

/// Routes of a policy.
#[derive(Debug)]
pub(crate) enum Routes {
    Http(Vec<Route<HttpMatch, Rc<Rule>>>),
    Grpc(Vec<Route<GrpcMatch, Rc<Rule>>>),
}

/// Compiled rule of a policy.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) distribution: Distribution,
    /// Filters of the rule that change responses.
    pub(crate) response_filters: Vec<Filter>,
    /// A filter of a backend replaces the prefix that the rule matched.
    pub(crate) needs_prefix: bool,
    /// Backends that get copies of the requests.
    pub(crate) mirrors: Vec<Mirror>,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Option<Retry>,
    /// Budget of the route's retries, if it may have any.
    pub(crate) budget: Option<SharedBudget>,
    pub(crate) allow_headers: bool,
    pub(crate) kind: RouteKind,
    pub(crate) slot: Rc<ExchangeSlot>,
    pub(crate) retries: Rc<RetrySlot>,
    /// Labels for tap.
    pub(crate) labels: proxy_model::Labels,
}

/// Compiled rule of an opaque route.
#[derive(Debug)]
pub(crate) struct TcpRule {
    pub(crate) parent: Meta,
    pub(crate) route: Meta,
    pub(crate) filters: Vec<Filter>,
    pub(crate) distribution: Distribution,
}

/// Compiled profile that routes requests.
#[derive(Debug)]
pub(crate) struct Profile {
    routes: Vec<Rc<ProfileRoute>>,
    default: Rc<ProfileRoute>,
    /// Targets of a profile that replaces the policy's routes. None if its routes apply over them.
    pub(crate) distribution: Option<Rc<Distribution>>,
    /// `name:port`, for `l5d-dst-canonical`.
    pub(crate) canonical: Option<HeaderValue>,
}

/// Compiled route of a profile.
#[derive(Debug)]
pub(crate) struct ProfileRoute {
    condition: Option<profile::RequestMatch>,
    pub(crate) classes: Vec<profile::ResponseClass>,
    pub(crate) is_retryable: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) budget: Option<SharedBudget>,
    pub(crate) slot: RouteSlot,
    pub(crate) labels: proxy_model::Labels,
}

/// Backends of a route with their weights.
#[derive(Debug)]
pub(crate) struct Distribution {
    pub(crate) backends: Vec<Backend>,
    /// `None` picks the first backend that is ready.
    pub(crate) weights: Option<Vec<u32>>,
    /// State of waiting requests; it belongs to the worker.
    pub(crate) queue: Rc<Queue>,
    pub(crate) name: Rc<str>,
}

/// Compiled backend of a route.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) dispatch: Dispatch,
    pub(crate) filters: Vec<Filter>,
    pub(crate) slot: Option<Rc<BackendSlot>>,
}

impl Backend {
    /// Returns true if a filter replaces the prefix that the rule matched.
    fn needs_prefix(&self) -> bool {
        let mut replaced = self.filters.iter().filter_map(|filter| match filter {
            Filter::Redirect(redirect) => redirect.path.as_ref(),
            Filter::Rewrite(rewrite) => rewrite.path.as_ref(),
            _ => None,
        });
        replaced.any(|path| matches!(path, PathModifier::Prefix(_)))
    }
}

/// Dispatch of a backend: one endpoint or a balancer.
#[derive(Debug)]
pub(crate) enum Dispatch {
    Forward(Rc<Endpoint>),
    Balance(Rc<Balancer>),
    /// The backend does not exist.
    Invalid(Rc<str>),
}

impl Dispatch {
    /// Name that distinguishes the backend among those of a target.
    fn name(&self) -> Arc<str> {
        match self {
            Self::Forward(endpoint) => endpoint.model.addr.to_string().into(),
            Self::Balance(balancer) => balancer.path().clone(),
            Self::Invalid(name) => Arc::from(&**name),
        }
    }
}

impl Snapshot {
    pub(crate) fn compile(endpoints: &Endpoints, addr: OrigDstAddr, source: &Arc<Outbound>) -> Self {
        let compiler = Compiler {
            endpoints,
            parent: &source.policy.meta,
            targets: source.policy.targets.as_ref(),
            name: name(source, addr),
            addr,
        };
        let profile = source.profile.as_deref();
        let protocol = compiler.protocol(&source.policy.protocol);
        let default_authority = profile
            .filter(|p| !p.fully_qualified_name.is_empty())
            .map(|p| format!("{}:{}", p.fully_qualified_name, addr.0.port()))
            .or_else(|| parent_authority(&source.policy.meta))
            .unwrap_or_else(|| addr.to_string());
        Self {
            source: source.clone(),
            default_authority: Authority::try_from(default_authority).ok(),
            protocol,
            profile: profile.filter(|p| decides(p)).map(|p| compiler.profile(p)),
            opaque_profile: profile
                .filter(|p| !p.targets.is_empty() && source.policy.targets.is_none())
                .map(|p| compiler.opaque_profile(p)),
            opaque_by_profile: profile.is_some_and(|p| p.opaque_protocol),
            name: compiler.name,
        }
    }

    /// Returns true if this snapshot was compiled from an equal answer.
    pub(crate) fn is_of(&self, source: &Arc<Outbound>) -> bool {
        self.source.policy == source.policy && self.source.profile == source.profile
    }

    /// Returns true if requests have a route.
    pub(crate) fn serves_http(&self, is_http2: bool) -> bool {
        self.profile
            .as_ref()
            .is_some_and(|profile| profile.distribution.is_some())
            || self.routes(is_http2).is_some()
    }

    /// Routes for HTTP/2 or HTTP/1; `None` if the policy has none.
    pub(crate) fn routes(&self, is_http2: bool) -> Option<&Rc<Routes>> {
        match &self.protocol {
            Protocol::Detect { http1, http2, .. } => Some(if is_http2 { http2 } else { http1 }),
            Protocol::Http1(routes) | Protocol::Http2(routes) => Some(routes),
            Protocol::Opaque(_) | Protocol::Tls(_) => None,
        }
    }
}

impl Profile {
    /// The first route that matches, else the default route.
    pub(crate) fn route(&self, method: &http::Method, path: &str) -> &Rc<ProfileRoute> {
        let matches = |route: &&Rc<ProfileRoute>| proxy_core::select::profile(route.condition.as_ref(), method, path);
        self.routes.iter().find(matches).unwrap_or(&self.default)
    }
}

fn name(source: &Outbound, addr: OrigDstAddr) -> Rc<str> {
    match &source.policy.meta {
        Meta::Resource { name, namespace, .. } => format!("service {name}.{namespace}:{}", addr.0.port()).into(),
        Meta::Default(_) => format!("endpoint {addr}").into(),
    }
}

/// Returns true if a profile has a say in requests: it has targets, or routes and a destination.
fn decides(profile: &profile::Profile) -> bool {
    let has_destination = profile.endpoint.is_some() || !profile.fully_qualified_name.is_empty();
    !profile.targets.is_empty() || (!profile.routes.is_empty() && has_destination)
}

fn parent_authority(meta: &Meta) -> Option<String> {
    match meta {
        Meta::Resource {
            name,
            namespace,
            port: Some(port),
            ..
        } => Some(format!("{name}.{namespace}:{port}")),
        _ => None,
    }
}

struct Compiler<'a> {
    endpoints: &'a Endpoints,
    parent: &'a Meta,
    /// Targets that the policy has of the profile.
    targets: Option<&'a Targets>,
    name: Rc<str>,
    addr: OrigDstAddr,
}

/// Parameters that the backends of one route share.
#[derive(Copy, Clone)]
struct BackendParams<'a> {
    kind: BalancerKind,
    accrual: Option<FailureAccrual>,
    /// Route for backend metrics of policy routes.
    route: Option<RouteRef<'a>>,
}

/// Route of a policy, for its metrics.
#[derive(Copy, Clone)]
struct RouteRef<'a> {
    kind: RouteKind,
    meta: &'a Meta,
}

impl Compiler<'_> {
    fn protocol(&self, protocol: &ClientProtocol) -> Protocol {
        match protocol {
            ClientProtocol::Detect {
                http1, http2, opaque, ..
            } => Protocol::Detect {
                http1: self.http(http1),
                http2: self.http(http2),
                opaque: opaque.routes.first().and_then(|r| self.tcp(r)),
            },
            ClientProtocol::Http1(http) => Protocol::Http1(self.http(http)),
            ClientProtocol::Http2(http) => Protocol::Http2(self.http(http)),
            ClientProtocol::Grpc(grpc) => Protocol::Http2(self.grpc(grpc)),
            ClientProtocol::Opaque(opaque) => Protocol::Opaque(opaque.routes.first().and_then(|r| self.tcp(r))),
            ClientProtocol::Tls(tls) => Protocol::Tls(tls.routes.iter().map(|r| self.tls(r)).collect()),
        }
    }

    fn http(&self, http: &outbound::Http) -> Rc<Routes> {
        let accrual = http.failure_accrual;
        Rc::new(Routes::Http(
            http.routes
                .iter()
                .map(|r| self.route(r, RouteKind::Http, accrual))
                .collect(),
        ))
    }

    fn grpc(&self, grpc: &outbound::Grpc) -> Rc<Routes> {
        let accrual = grpc.failure_accrual;
        Rc::new(Routes::Grpc(
            grpc.routes
                .iter()
                .map(|r| self.route(r, RouteKind::Grpc, accrual))
                .collect(),
        ))
    }

    fn route<M: Clone>(
        &self,
        route: &Route<M, outbound::Action>,
        kind: RouteKind,
        accrual: Option<FailureAccrual>,
    ) -> Route<M, Rc<Rule>> {
        let rules = route.rules.iter().map(|rule| proxy_model::route::Rule {
            matches: rule.matches.clone(),
            filters: rule.filters.clone(),
            action: Rc::new(self.rule(
                rule,
                RouteRef {
                    kind,
                    meta: &route.meta,
                },
                accrual,
            )),
        });
        Route {
            meta: route.meta.clone(),
            hosts: route.hosts.clone(),
            rules: rules.collect(),
            authorizations: Vec::new(),
        }
    }

    fn rule<M>(
        &self,
        rule: &proxy_model::route::Rule<M, outbound::Action>,
        route: RouteRef<'_>,
        accrual: Option<FailureAccrual>,
    ) -> Rule {
        let action = &rule.action;
        let params = BackendParams {
            kind: BalancerKind::Http,
            accrual,
            route: Some(route),
        };
        let metrics = &self.endpoints.context.metrics;
        let distribution = self.distribution(&action.distribution, params);
        let is_response = |filter: &&Filter| matches!(filter, Filter::ResponseHeaders(_));
        let mut compiled = Rule {
            response_filters: rule.filters.iter().filter(is_response).cloned().collect(),
            needs_prefix: distribution.backends.iter().any(Backend::needs_prefix),
            mirrors: Vec::new(),
            distribution,
            timeouts: action.timeouts,
            retry: action.retry.clone(),
            budget: self.policy_budget(action, route.meta),
            allow_headers: action.allow_l5d_request_headers,
            kind: route.kind,
            slot: metrics.outbound_route(route.kind, self.parent, route.meta),
            retries: metrics.outbound_retry(self.parent, route.meta),
            labels: route_labels(route.meta),
        };
        compiled.mirrors = self.mirrors(&rule.filters, &compiled, params);
        compiled
    }

    /// Budget of a route that may retry: without one, retries would multiply the load of a service that fails.
    fn policy_budget(&self, action: &outbound::Action, route: &Meta) -> Option<SharedBudget> {
        if action.retry.is_none() && !action.allow_l5d_request_headers {
            return None;
        }
        let context = &self.endpoints.context;
        let name = format!("{} {route}", self.parent);
        context
            .budgets
            .get_or_create(&name, &defaults::RETRY_BUDGET, &context.metrics)
    }

    fn tls(&self, route: &TcpRoute) -> Route<(), Rc<TcpRule>> {
        let rules = route.rules.iter().map(|rule| proxy_model::route::Rule {
            matches: Vec::new(),
            filters: Vec::new(),
            action: self.tcp_rule(route, rule),
        });
        Route {
            meta: route.meta.clone(),
            hosts: route.snis.clone(),
            rules: rules.collect(),
            authorizations: Vec::new(),
        }
    }

    fn tcp(&self, route: &TcpRoute) -> Option<Rc<TcpRule>> {
        route.rules.first().map(|rule| self.tcp_rule(route, rule))
    }

    fn tcp_rule(&self, route: &TcpRoute, rule: &proxy_model::route::Rule<(), outbound::Distribution>) -> Rc<TcpRule> {
        let params = BackendParams {
            kind: BalancerKind::Tcp,
            accrual: None,
            route: None,
        };
        Rc::new(TcpRule {
            parent: self.parent.clone(),
            route: route.meta.clone(),
            filters: rule.filters.clone(),
            distribution: self.distribution(&rule.action, params),
        })
    }

    fn distribution(&self, distribution: &outbound::Distribution, params: BackendParams<'_>) -> Distribution {
        let refused = || self.endpoints.context.metrics.limit_refused(limits::RULE_TARGETS);
        let replaced = self
            .targets
            .and_then(|all| targets::replace(distribution, all, &refused));
        let (backends, weights) = match replaced.as_ref().unwrap_or(distribution) {
            outbound::Distribution::Empty => (Vec::new(), None),
            outbound::Distribution::FirstAvailable(backends) => {
                (backends.iter().map(|b| self.backend(b, params)).collect(), None)
            }
            outbound::Distribution::RandomAvailable(backends) => {
                let compiled = backends.iter().map(|(b, _)| self.backend(b, params)).collect();
                (compiled, Some(backends.iter().map(|(_, weight)| *weight).collect()))
            }
        };
        self.compiled(backends, weights, params.kind)
    }

    fn compiled(&self, backends: Vec<Backend>, weights: Option<Vec<u32>>, kind: BalancerKind) -> Distribution {
        let can_be_drawn = |i: usize| backends.len() == 1 || weights.as_ref().is_none_or(|weights| weights[i] > 0);
        let drawn = backends.iter().enumerate().filter(|(i, _)| can_be_drawn(*i));
        let key = QueueKey {
            target: self.addr,
            kind,
            backends: drawn.map(|(_, backend)| backend.dispatch.name()).collect(),
        };
        Distribution {
            queue: self.endpoints.queue(key),
            backends,
            weights,
            name: self.name.clone(),
        }
    }

    fn backend(&self, backend: &outbound::RouteBackend, params: BackendParams<'_>) -> Backend {
        let meta = &backend.backend.meta;
        let dispatch = match &backend.backend.dispatch {
            None => Dispatch::Invalid(meta.to_string().into()),
            Some(outbound::Dispatch::Forward(endpoint)) => {
                Dispatch::Forward(self.endpoints.forward(endpoint, meta, params.accrual))
            }
            Some(outbound::Dispatch::Balance { path, load }) => self.balance(path, *load, meta, params),
        };
        let metrics = &self.endpoints.context.metrics;
        let slot = params
            .route
            .map(|route| metrics.outbound_backend(route.kind, self.parent, route.meta, meta));
        Backend {
            dispatch,
            filters: backend.filters.clone(),
            slot,
        }
    }

    fn balance(&self, path: &Arc<str>, load: Load, backend: &Meta, params: BackendParams<'_>) -> Dispatch {
        let BackendParams { kind, accrual, .. } = params;
        Dispatch::Balance(self.endpoints.balancer(&BalancerSpec {
            path,
            parent: self.parent,
            backend,
            kind,
            load,
            accrual,
        }))
    }

    fn opaque_profile(&self, profile: &profile::Profile) -> Rc<TcpRule> {
        Rc::new(TcpRule {
            parent: self.parent.clone(),
            route: Meta::default_named("opaq"),
            filters: Vec::new(),
            distribution: self.profile_targets(profile, BalancerKind::Tcp),
        })
    }

    /// Compiles a profile, with its targets unless the policy has them.
    fn profile(&self, profile: &profile::Profile) -> Rc<Profile> {
        let port = self.addr.0.port();
        let dst = if profile.fully_qualified_name.is_empty() {
            self.addr.to_string()
        } else {
            format!("{}:{port}", profile.fully_qualified_name)
        };
        let route = |index: usize, route: &profile::ProfileRoute| {
            Rc::new(ProfileRoute {
                condition: route.condition.clone(),
                classes: route.response_classes.clone(),
                is_retryable: route.is_retryable,
                timeout: route.timeout,
                budget: self.budget(&dst, profile, index, route),
                slot: self.route_slot(&dst, &route.labels),
                labels: route.labels.clone(),
            })
        };
        Rc::new(Profile {
            routes: profile.routes.iter().enumerate().map(|(i, r)| route(i, r)).collect(),
            default: Rc::new(ProfileRoute {
                condition: None,
                classes: Vec::new(),
                is_retryable: false,
                timeout: None,
                budget: None,
                slot: self.route_slot(&dst, &Default::default()),
                labels: Default::default(),
            }),
            distribution: match self.targets {
                None => Some(Rc::new(self.profile_targets(profile, BalancerKind::Http))),
                Some(_) => None,
            },
            canonical: HeaderValue::try_from(dst.as_str()).ok(),
        })
    }

    fn route_slot(&self, dst: &str, labels: &proxy_model::Labels) -> RouteSlot {
        self.endpoints
            .context
            .metrics
            .profile_route(proxy_model::tap::Direction::Outbound, dst, labels)
    }

    /// Budget of a retryable route: its own, or the profile's.
    fn budget(
        &self,
        dst: &str,
        profile: &profile::Profile,
        index: usize,
        route: &profile::ProfileRoute,
    ) -> Option<SharedBudget> {
        if !route.is_retryable {
            return None;
        }
        let context = &self.endpoints.context;
        let get = |name: &str, params| context.budgets.get_or_create(name, params, &context.metrics);
        match (&route.retry_budget, &profile.retry_budget) {
            (Some(own), _) => get(&format!("{dst}/{index}"), own),
            (None, Some(params)) => get(dst, params),
            (None, None) => None,
        }
    }
}

fn route_labels(meta: &Meta) -> proxy_model::Labels {
    use std::collections::BTreeMap;
    Arc::new(BTreeMap::from([
        ("group".to_owned(), meta.group().to_owned()),
        ("kind".to_owned(), meta.kind().to_owned()),
        ("name".to_owned(), meta.name().to_owned()),
        ("namespace".to_owned(), meta.namespace().to_owned()),
    ]))
}
