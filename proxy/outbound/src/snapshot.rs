//! An answer of discovery about a target, compiled: backends are balancers and endpoints, metric slots are resolved.

use std::{rc::Rc, sync::Arc, time::Duration};

use http::{HeaderValue, uri::Authority};
use proxy_core::balance;
use proxy_discovery::Outbound;
use proxy_metrics::{
    RouteSlot,
    outbound::{BackendSlot, ExchangeSlot, RetrySlot, RouteKind},
};
use proxy_model::{
    ClientProtocol, Meta, OrigDstAddr,
    outbound::{self, FailureAccrual, Load, TcpRoute},
    profile,
    route::{Filter, GrpcMatch, HttpMatch, Retry, Route, Timeouts},
};

use crate::{
    SharedBudget,
    balance::Balancer,
    endpoint::Endpoint,
    worker::{BalancerKind, BalancerSpec, Shared},
};

/// Compiled answer of discovery about a target.
#[derive(Debug)]
pub(crate) struct Snapshot {
    source: Arc<Outbound>,
    /// Authority of requests that name none.
    pub(crate) default_authority: Option<Authority>,
    pub(crate) protocol: Protocol,
    /// Routes and targets of the profile for HTTP; they replace the policy's routes.
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
    Tls(Vec<(TcpRoute, Option<Rc<TcpRule>>)>),
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
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Option<Retry>,
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
    pub(crate) routes: Vec<profile::ProfileRoute>,
    compiled: Vec<Rc<ProfileRoute>>,
    default: Rc<ProfileRoute>,
    pub(crate) distribution: Distribution,
    /// `name:port`, for `l5d-dst-canonical`.
    pub(crate) canonical: Option<HeaderValue>,
}

/// Compiled route of a profile.
#[derive(Debug)]
pub(crate) struct ProfileRoute {
    pub(crate) classes: Vec<profile::ResponseClass>,
    pub(crate) is_retryable: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) budget: Option<SharedBudget>,
    pub(crate) slot: RouteSlot,
    pub(crate) labels: proxy_model::Labels,
}

/// Backends of a route with their weights.
#[derive(Debug, Default)]
pub(crate) struct Distribution {
    pub(crate) backends: Vec<Backend>,
    /// `None` picks the first backend that is ready.
    pub(crate) weights: Option<Vec<u32>>,
    /// Nothing was ready for the failfast time: what comes now is shed until something is.
    pub(crate) failfast: std::cell::Cell<bool>,
    pub(crate) waiting: std::cell::Cell<usize>,
    pub(crate) name: Rc<str>,
}

/// Compiled backend of a route.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) dispatch: Dispatch,
    pub(crate) filters: Vec<Filter>,
    pub(crate) slot: Option<Rc<BackendSlot>>,
}

/// Dispatch of a backend: one endpoint or a balancer.
#[derive(Debug)]
pub(crate) enum Dispatch {
    Forward(Rc<Endpoint>),
    Balance(Rc<Balancer>),
    /// The backend does not exist.
    Invalid(Rc<str>),
}

impl Snapshot {
    pub(crate) fn compile(shared: &Rc<Shared>, addr: OrigDstAddr, source: &Arc<Outbound>) -> Self {
        let compiler = Compiler {
            shared,
            parent: &source.policy.meta,
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
                .filter(|p| !p.targets.is_empty())
                .map(|p| compiler.opaque_profile(p)),
            opaque_by_profile: profile.is_some_and(|p| p.opaque_protocol),
            name: compiler.name,
        }
    }

    /// Returns true if this snapshot was compiled from an equal answer.
    pub(crate) fn is_of(&self, source: &Arc<Outbound>) -> bool {
        self.source.policy == source.policy && self.source.profile == source.profile
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
        let found = proxy_core::select::profile(&self.routes, method, path);
        let index = found.and_then(|found| self.routes.iter().position(|route| std::ptr::eq(route, found)));
        index.map_or(&self.default, |index| &self.compiled[index])
    }
}

fn name(source: &Outbound, addr: OrigDstAddr) -> Rc<str> {
    match &source.policy.meta {
        Meta::Resource { name, namespace, .. } => format!("service {name}.{namespace}:{}", addr.0.port()).into(),
        Meta::Default(_) => format!("endpoint {addr}").into(),
    }
}

/// Returns true if a profile routes requests: it has targets, or routes and a destination.
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
    shared: &'a Rc<Shared>,
    parent: &'a Meta,
    name: Rc<str>,
    addr: OrigDstAddr,
}

/// Parameters that the backends of one route share.
#[derive(Copy, Clone)]
struct BackendParams<'a> {
    kind: BalancerKind,
    accrual: Option<FailureAccrual>,
    /// Route for backend metrics of policy routes.
    route: Option<(RouteKind, &'a Meta)>,
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
            ClientProtocol::Tls(tls) => Protocol::Tls(
                tls.routes
                    .iter()
                    .map(|route| (route.clone(), self.tcp(route)))
                    .collect(),
            ),
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
            action: Rc::new(self.rule(&rule.action, (kind, &route.meta), accrual)),
        });
        Route {
            meta: route.meta.clone(),
            hosts: route.hosts.clone(),
            rules: rules.collect(),
            authorizations: Vec::new(),
        }
    }

    fn rule(&self, action: &outbound::Action, route: (RouteKind, &Meta), accrual: Option<FailureAccrual>) -> Rule {
        let context = BackendParams {
            kind: BalancerKind::Http,
            accrual,
            route: Some(route),
        };
        let metrics = &self.shared.metrics;
        Rule {
            distribution: self.distribution(&action.distribution, context),
            timeouts: action.timeouts,
            retry: action.retry.clone(),
            allow_headers: action.allow_l5d_request_headers,
            kind: route.0,
            slot: metrics.outbound_route(route.0, self.parent, route.1),
            retries: metrics.outbound_retry(self.parent, route.1),
            labels: route_labels(route.1),
        }
    }

    fn tcp(&self, route: &TcpRoute) -> Option<Rc<TcpRule>> {
        let rule = route.rules.first()?;
        let context = BackendParams {
            kind: BalancerKind::Tcp,
            accrual: None,
            route: None,
        };
        Some(Rc::new(TcpRule {
            parent: self.parent.clone(),
            route: route.meta.clone(),
            filters: rule.filters.clone(),
            distribution: self.distribution(&rule.action, context),
        }))
    }

    fn distribution(&self, distribution: &outbound::Distribution, context: BackendParams<'_>) -> Distribution {
        let (backends, weights) = match distribution {
            outbound::Distribution::Empty => (Vec::new(), None),
            outbound::Distribution::FirstAvailable(backends) => {
                (backends.iter().map(|b| self.backend(b, context)).collect(), None)
            }
            outbound::Distribution::RandomAvailable(backends) => {
                let compiled = backends.iter().map(|(b, _)| self.backend(b, context)).collect();
                (compiled, Some(backends.iter().map(|(_, weight)| *weight).collect()))
            }
        };
        Distribution {
            backends,
            weights,
            name: self.name.clone(),
            ..Distribution::default()
        }
    }

    fn backend(&self, backend: &outbound::RouteBackend, context: BackendParams<'_>) -> Backend {
        let meta = &backend.backend.meta;
        let dispatch = match &backend.backend.dispatch {
            None => Dispatch::Invalid(meta.to_string().into()),
            Some(outbound::Dispatch::Forward(endpoint)) => {
                Dispatch::Forward(self.shared.forward(endpoint, context.accrual.as_ref()))
            }
            Some(outbound::Dispatch::Balance { path, load }) => self.balance(path, *load, meta, context),
        };
        let slot = context
            .route
            .map(|(kind, route)| self.shared.metrics.outbound_backend(kind, self.parent, route, meta));
        Backend {
            dispatch,
            filters: backend.filters.clone(),
            slot,
        }
    }

    fn balance(&self, path: &Arc<str>, load: Load, backend: &Meta, context: BackendParams<'_>) -> Dispatch {
        let BackendParams { kind, accrual, .. } = context;
        Dispatch::Balance(self.shared.balancer(&BalancerSpec {
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
            distribution: self.targets(profile, BalancerKind::Tcp),
        })
    }

    fn profile(&self, profile: &profile::Profile) -> Rc<Profile> {
        let port = self.addr.0.port();
        let dst = if profile.fully_qualified_name.is_empty() {
            self.addr.to_string()
        } else {
            format!("{}:{port}", profile.fully_qualified_name)
        };
        let route = |index: usize, route: &profile::ProfileRoute| {
            Rc::new(ProfileRoute {
                classes: route.response_classes.clone(),
                is_retryable: route.is_retryable,
                timeout: route.timeout,
                budget: self.budget(&dst, profile, (index, route)),
                slot: self.route_slot(&dst, &route.labels),
                labels: route.labels.clone(),
            })
        };
        Rc::new(Profile {
            routes: profile.routes.clone(),
            compiled: profile.routes.iter().enumerate().map(|(i, r)| route(i, r)).collect(),
            default: Rc::new(ProfileRoute {
                classes: Vec::new(),
                is_retryable: false,
                timeout: None,
                budget: None,
                slot: self.route_slot(&dst, &Default::default()),
                labels: Default::default(),
            }),
            distribution: self.targets(profile, BalancerKind::Http),
            canonical: HeaderValue::try_from(dst.as_str()).ok(),
        })
    }

    fn route_slot(&self, dst: &str, labels: &proxy_model::Labels) -> RouteSlot {
        self.shared
            .metrics
            .profile_route(proxy_model::tap::Direction::Outbound, dst, labels)
    }

    /// Budget of a retryable route: its own, or the profile's.
    fn budget(
        &self,
        dst: &str,
        profile: &profile::Profile,
        (index, route): (usize, &profile::ProfileRoute),
    ) -> Option<SharedBudget> {
        if !route.is_retryable {
            return None;
        }
        match (&route.retry_budget, &profile.retry_budget) {
            (Some(own), _) => self.shared.budgets.get_or_create(&format!("{dst}/{index}"), own),
            (None, Some(params)) => self.shared.budgets.get_or_create(dst, params),
            (None, None) => None,
        }
    }

    /// Destination of a profile: its targets by weight, else its single endpoint, else the service itself.
    fn targets(&self, profile: &profile::Profile, kind: BalancerKind) -> Distribution {
        let context = BackendParams {
            kind,
            accrual: None,
            route: None,
        };
        let balance = |path: Arc<str>, meta: &Meta| Backend {
            dispatch: self.balance(&path, Load::PeakEwma(balance::DEFAULT), meta, context),
            filters: Vec::new(),
            slot: None,
        };
        let targets: Vec<_> = profile.targets.iter().filter(|target| target.weight > 0).collect();
        let (backends, weights) = if !profile.targets.is_empty() {
            let of = |target: &&profile::Target| {
                let meta = target.backend.as_ref().unwrap_or(self.parent);
                balance(target.authority.to_string().into(), meta)
            };
            (
                targets.iter().map(of).collect(),
                Some(targets.iter().map(|target| target.weight).collect()),
            )
        } else if let Some(endpoint) = &profile.endpoint {
            let dispatch = Dispatch::Forward(self.shared.forward(endpoint, context.accrual.as_ref()));
            (
                vec![Backend {
                    dispatch,
                    filters: Vec::new(),
                    slot: None,
                }],
                None,
            )
        } else {
            let path = format!("{}:{}", profile.fully_qualified_name, self.addr.0.port());
            (vec![balance(path.into(), self.parent)], None)
        };
        Distribution {
            backends,
            weights,
            name: self.name.clone(),
            ..Distribution::default()
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
