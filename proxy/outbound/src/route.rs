//! Selects the route of a request and applies it.

use std::{rc::Rc, time::Instant};

use http::Version;
use proxy_core::select;
use proxy_http::{Body, filter, headers::L5D_DST_CANONICAL};
use proxy_metrics::{RequestGuard, outbound::RetrySlot};
use proxy_model::{
    Labels,
    route::{PathMatch, Retry, Timeouts},
};

use crate::{
    Error,
    request::RequestOverrides,
    snapshot::{Distribution, ProfileRoute, Routes, Rule, Snapshot},
    timeout::TimeLimits,
};

/// Route of one request, with its overrides applied.
pub(crate) struct Plan {
    pub(crate) source: RouteSource,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Option<Retry>,
    /// Prefix that the rule matched, if a filter of its backends asks for it.
    pub(crate) prefix: Option<Box<str>>,
    pub(crate) started: Instant,
}

/// Source of a route: policy, profile, or both.
#[derive(Clone)]
pub(crate) enum RouteSource {
    Policy(Rc<Rule>),
    /// Route of a profile, and the profile's targets.
    Profile(Rc<Distribution>, Rc<ProfileRoute>),
    /// Rule of a policy, and the route of the profile that applies over it.
    Overlaid(Rc<Rule>, Rc<ProfileRoute>),
}

impl RouteSource {
    /// Rule of the policy.
    pub(crate) fn rule(&self) -> Option<&Rule> {
        match self {
            Self::Policy(rule) | Self::Overlaid(rule, _) => Some(rule),
            Self::Profile(..) => None,
        }
    }

    /// Route of the profile.
    pub(crate) fn profile(&self) -> Option<&ProfileRoute> {
        match self {
            Self::Policy(_) => None,
            Self::Profile(_, route) | Self::Overlaid(_, route) => Some(route),
        }
    }

    /// Route of the profile, if it retries failures.
    pub(crate) fn retryable(&self) -> Option<&ProfileRoute> {
        self.profile().filter(|route| route.is_retryable)
    }
}

impl Plan {
    /// Plan of a copy of a mirrored request, by the rule of its mirror.
    pub(crate) fn from_mirror(rule: Rc<Rule>, started: Instant) -> Self {
        Self {
            timeouts: rule.timeouts,
            retry: None,
            prefix: None,
            source: RouteSource::Policy(rule),
            started,
        }
    }

    /// Returns true if requests are copied.
    pub(crate) fn is_mirrored(&self) -> bool {
        self.source.rule().is_some_and(|rule| !rule.mirrors.is_empty())
    }

    pub(crate) fn distribution(&self) -> &Distribution {
        match &self.source {
            RouteSource::Policy(rule) | RouteSource::Overlaid(rule, _) => &rule.distribution,
            RouteSource::Profile(distribution, _) => distribution,
        }
    }

    /// Time limits of the exchange.
    pub(crate) fn time_limits(&self) -> TimeLimits {
        TimeLimits {
            timeouts: self.timeouts,
            attempt: self.retry.as_ref().and_then(|retry| retry.timeout),
            profile: self.source.profile().and_then(|route| route.timeout),
        }
    }

    /// Labels of the route for tap: of the profile's route that matched, else of the policy's.
    pub(crate) fn labels(&self) -> &Labels {
        match &self.source {
            RouteSource::Policy(rule) => &rule.labels,
            RouteSource::Overlaid(rule, route) if route.labels.is_empty() => &rule.labels,
            RouteSource::Profile(_, route) | RouteSource::Overlaid(_, route) => &route.labels,
        }
    }

    /// Starts to count the request as the application sees it.
    pub(crate) fn guard(&self) -> Option<RequestGuard> {
        let route = self.source.profile()?;
        Some(route.slot.route.request_since(self.started))
    }

    /// Starts to count one attempt.
    pub(crate) fn actual(&self, started: Instant) -> Option<RequestGuard> {
        let route = self.source.profile()?;
        Some(route.slot.actual.attempt_since(started))
    }

    /// Metrics of retries, if the policy retries.
    pub(crate) fn retries(&self) -> Option<&RetrySlot> {
        let rule = self.source.rule().filter(|_| self.retry.is_some())?;
        Some(&rule.retries)
    }

    /// Applies a route of the profile over the rule: what the route states takes precedence, all else stays.
    fn overlay(mut self, route: Rc<ProfileRoute>) -> Self {
        if route.timeout.is_some() {
            self.timeouts.request = None;
        }
        if let RouteSource::Policy(rule) = self.source {
            self.source = RouteSource::Overlaid(rule, route);
        }
        self
    }

    /// Applies the filters to a response of `backend`.
    pub(crate) fn response_filters(&self, backend: usize, response: &mut http::Response<Body>) {
        if let Some(rule) = self.source.rule() {
            filter::response(&rule.response_filters, response);
        }
        filter::response(&self.distribution().backends[backend].filters, response);
    }
}

/// Selects the route of a request and applies its filters.
pub(crate) fn select(snapshot: &Snapshot, request: &mut http::Request<Body>) -> Result<Plan, Error> {
    let started = Instant::now();
    let Some(profile) = &snapshot.profile else {
        return select_rule(snapshot, request, started);
    };
    let route = profile.route(request.method(), request.uri().path()).clone();
    if let Some(canonical) = &profile.canonical {
        request.headers_mut().insert(L5D_DST_CANONICAL, canonical.clone());
    }
    match &profile.distribution {
        Some(distribution) => Ok(Plan {
            timeouts: Timeouts::default(),
            retry: None,
            prefix: None,
            source: RouteSource::Profile(distribution.clone(), route),
            started,
        }),
        None => select_rule(snapshot, request, started).map(|plan| plan.overlay(route)),
    }
}

/// Selects the rule of the policy for a request and applies its filters.
fn select_rule(snapshot: &Snapshot, request: &mut http::Request<Body>, started: Instant) -> Result<Plan, Error> {
    let is_http2 = request.version() == Version::HTTP_2;
    let not_http = || Error::InvalidPolicy(format!("{} has no HTTP routes", snapshot.name).into());
    let routes = snapshot.routes(is_http2).ok_or_else(not_http)?;
    let head = select::Head::new(request.method(), request.uri(), request.headers());
    let (rule, filters, matched) = match &**routes {
        Routes::Http(routes) => {
            let selected = select::http(routes, &head).ok_or(Error::NoRoute)?;
            (selected.rule.action.clone(), &selected.rule.filters, selected.matched)
        }
        Routes::Grpc(routes) => {
            let selected = select::grpc(routes, &head).ok_or(Error::NoRoute)?;
            (selected.rule.action.clone(), &selected.rule.filters, None)
        }
    };
    let prefix = matched.and_then(|matched| match &matched.path {
        Some(PathMatch::Prefix(prefix)) => Some(prefix.as_str()),
        _ => None,
    });
    filter::request(filters, request, prefix).map_err(|rejection| Error::Filter(Rc::new(rejection)))?;
    let prefix = if rule.needs_prefix { prefix.map(Box::from) } else { None };
    let (timeouts, retry) = apply_overrides(&rule, request);
    Ok(Plan {
        source: RouteSource::Policy(rule),
        timeouts,
        retry,
        prefix,
        started,
    })
}

/// Timeouts and retries of a rule, with the overrides of the request.
fn apply_overrides(rule: &Rule, request: &mut http::Request<Body>) -> (Timeouts, Option<Retry>) {
    if !rule.allow_headers {
        return (rule.timeouts, rule.retry.clone());
    }
    let overrides = RequestOverrides::take(request.headers_mut());
    let timeouts = Timeouts {
        request: overrides.timeouts.request.or(rule.timeouts.request),
        response: overrides.timeouts.response.or(rule.timeouts.response),
        idle: rule.timeouts.idle,
    };
    let has_retry = overrides.retry_http.is_some() || overrides.retry_grpc.is_some() || overrides.retry_limit.is_some();
    let retry = rule.retry.clone().or_else(|| has_retry.then(default_retry));
    let retry = retry.map(|retry| Retry {
        max_retries: overrides.retry_limit.unwrap_or(retry.max_retries),
        timeout: overrides.retry_timeout.or(retry.timeout),
        statuses: overrides.retry_http.unwrap_or(retry.statuses),
        grpc: overrides.retry_grpc.unwrap_or(retry.grpc),
        ..retry
    });
    (timeouts, retry)
}

fn default_retry() -> Retry {
    Retry {
        max_retries: proxy_model::defaults::RETRIES,
        max_request_bytes: proxy_model::limits::REPLAY_BYTES.value as u32,
        statuses: Vec::new(),
        grpc: Default::default(),
        timeout: None,
        backoff: None,
    }
}
