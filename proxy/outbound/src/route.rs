//! Which route a request takes, and what the route makes of it.

use std::{rc::Rc, time::Instant};

use http::Version;
use proxy_core::select;
use proxy_http::{Body, filter, headers::L5D_DST_CANONICAL};
use proxy_metrics::RequestGuard;
use proxy_model::{
    Labels,
    route::{Filter, PathMatch, Retry, Timeouts},
};

use crate::{
    Error,
    request::Asked,
    snapshot::{Distribution, Profile, ProfileRoute, Routes, Rule, Snapshot},
};

/// What a request's route says.
pub(crate) struct Plan {
    pub(crate) leads_to: LeadsTo,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Option<Retry>,
    /// Filters of the route's responses.
    response_filters: Vec<Filter>,
    pub(crate) started: Instant,
}

/// Whose route it is.
#[derive(Clone)]
pub(crate) enum LeadsTo {
    Policy(Rc<Rule>),
    Profile(Rc<Profile>, Rc<ProfileRoute>),
}

impl Plan {
    pub(crate) fn distribution(&self) -> &Distribution {
        match &self.leads_to {
            LeadsTo::Policy(rule) => &rule.distribution,
            LeadsTo::Profile(profile, _) => &profile.distribution,
        }
    }

    /// Labels of the route, for tap.
    pub(crate) fn labels(&self) -> &Labels {
        match &self.leads_to {
            LeadsTo::Policy(rule) => &rule.labels,
            LeadsTo::Profile(_, route) => &route.labels,
        }
    }

    /// Counts the request as the application sees it.
    pub(crate) fn guard(&self) -> Option<RequestGuard> {
        match &self.leads_to {
            LeadsTo::Policy(_) => None,
            LeadsTo::Profile(_, route) => Some(route.slot.route.request_since(self.started)),
        }
    }

    /// Counts one attempt of it.
    pub(crate) fn actual(&self, started: Instant) -> Option<RequestGuard> {
        match &self.leads_to {
            LeadsTo::Policy(_) => None,
            LeadsTo::Profile(_, route) => Some(route.slot.actual.attempt_since(started)),
        }
    }

    /// Applies what holds for a response of backend `backend`.
    pub(crate) fn response_filters(&self, backend: usize, response: &mut http::Response<Body>) {
        filter::response(&self.response_filters, response);
        filter::response(&self.distribution().backends[backend].filters, response);
    }
}

/// Finds the route of a request and applies its filters.
pub(crate) fn select(snapshot: &Snapshot, request: &mut http::Request<Body>) -> Result<Plan, Error> {
    let started = Instant::now();
    if let Some(profile) = &snapshot.profile {
        let route = profile.route(request.method(), request.uri().path()).clone();
        if let Some(canonical) = &profile.canonical {
            request.headers_mut().insert(L5D_DST_CANONICAL, canonical.clone());
        }
        return Ok(Plan {
            timeouts: Timeouts::default(),
            retry: None,
            response_filters: Vec::new(),
            leads_to: LeadsTo::Profile(profile.clone(), route),
            started,
        });
    }
    let is_http2 = request.version() == Version::HTTP_2;
    let not_http = || Error::InvalidPolicy(format!("{} is not for HTTP", snapshot.name).into());
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
    let has_response_filters = filters.iter().any(|f| matches!(f, Filter::ResponseHeaders(_)));
    let response_filters = if has_response_filters {
        filters.clone()
    } else {
        Vec::new()
    };
    let (timeouts, retry) = ask(&rule, request);
    Ok(Plan {
        leads_to: LeadsTo::Policy(rule),
        timeouts,
        retry,
        response_filters,
        started,
    })
}

/// Timeouts and retries of a rule, as the request may change them.
fn ask(rule: &Rule, request: &mut http::Request<Body>) -> (Timeouts, Option<Retry>) {
    if !rule.allow_headers {
        return (rule.timeouts, rule.retry.clone());
    }
    let asked = Asked::take(request.headers_mut());
    let timeouts = Timeouts {
        request: asked.timeouts.request.or(rule.timeouts.request),
        response: asked.timeouts.response.or(rule.timeouts.response),
        idle: rule.timeouts.idle,
    };
    let wants = asked.retry_http.is_some() || asked.retry_grpc.is_some() || asked.retry_limit.is_some();
    let retry = rule.retry.clone().or_else(|| wants.then(default_retry));
    let retry = retry.map(|retry| Retry {
        max_retries: asked.retry_limit.unwrap_or(retry.max_retries),
        timeout: asked.retry_timeout.or(retry.timeout),
        statuses: asked.retry_http.unwrap_or(retry.statuses),
        grpc: asked.retry_grpc.unwrap_or(retry.grpc),
        ..retry
    });
    (timeouts, retry)
}

fn default_retry() -> Retry {
    Retry {
        max_retries: 1,
        max_request_bytes: proxy_model::limits::REPLAY_BYTES.value as u32,
        statuses: Vec::new(),
        grpc: Default::default(),
        timeout: None,
        backoff: None,
    }
}
