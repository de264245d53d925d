//! A request that can be sent more than once: its head, its replay buffer, and its form on a connection.

use std::{rc::Rc, time::Duration};

use http::{HeaderMap, HeaderName, Method, Request, Version, header::HOST, uri::Authority};
use http_body::Body as _;
use proxy_core::classify::is_grpc;
use proxy_http::{
    Body, Replay,
    h1::{self, Form},
    headers::{HeaderFlags, L5D_DST_CANONICAL, L5D_REQUIRE_ID},
    orig_proto::{self, OrigProto},
};
use proxy_model::{Id, duration, identity::InvalidId, limits, retry, route::Timeouts};

use crate::{Error, connect::Variant, endpoint::Endpoint, timeout::Clock};

/// Request that goes to one endpoint, or to several in turn.
pub(crate) struct Outgoing<'a> {
    /// Template of every attempt. It is large and stays where the server put it. The first attempt takes its body.
    pub(crate) request: &'a mut Request<Body>,
    pub(crate) form: Form,
    /// Authority; HTTP/2 needs it.
    pub(crate) authority: Authority,
    /// Identity that the client requires.
    require_id: Option<Id>,
    is_begun: bool,
    replay: Option<Replay>,
    clock: Option<Rc<Clock>>,
}

impl<'a> Outgoing<'a> {
    /// Fails if the request requires an identity that is not one: no endpoint can have it.
    pub(crate) fn new(request: &'a mut Request<Body>, form: Form, authority: Authority) -> Result<Self, Error> {
        let requires = HeaderFlags::from_headers(request.headers()).has(HeaderFlags::L5D_REQUIRE_ID);
        let require_id = if requires {
            take_required_id(request.headers_mut())?
        } else {
            None
        };
        let replay = if request.body().is_end_stream() || form.upgrade {
            None
        } else {
            let (body, replay) = Replay::new(std::mem::take(request.body_mut()), limits::REPLAY_BYTES.value);
            *request.body_mut() = body;
            Some(replay)
        };
        Ok(Self {
            request,
            form,
            authority,
            require_id,
            is_begun: false,
            replay,
            clock: None,
        })
    }

    /// Reports the frames of the body to `clock`.
    pub(crate) fn time(&mut self, clock: &Rc<Clock>) {
        self.clock = Some(clock.clone());
    }

    /// Clock of the exchange; none without time limits.
    pub(crate) fn clock(&self) -> Option<&Rc<Clock>> {
        self.clock.as_ref()
    }

    /// Returns true if the client speaks HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.request.version() == Version::HTTP_2
    }

    /// Returns true for a gRPC request, whose failure the proxy reports in gRPC's form.
    pub(crate) fn is_grpc(&self) -> bool {
        self.is_http2() && is_grpc(self.request.headers())
    }

    /// Returns true if the request can be sent again.
    pub(crate) fn is_repeatable(&self) -> bool {
        !self.form.upgrade && !self.is_overflowed()
    }

    /// Returns true if the body has outgrown the replay buffer.
    pub(crate) fn is_overflowed(&self) -> bool {
        self.replay.as_ref().is_some_and(Replay::is_overflowed)
    }

    /// Returns true if the whole body is buffered, which upstream requires for retries.
    pub(crate) fn is_complete(&self) -> bool {
        !self.form.upgrade && self.replay.as_ref().is_none_or(Replay::is_complete)
    }

    /// Returns the body for a copy of the request, and its bytes; none unless all of it is known.
    pub(crate) fn copied_body(&self) -> Option<(Body, usize)> {
        match &self.replay {
            _ if self.form.upgrade => None,
            None => Some((Body::Empty, 0)),
            Some(replay) => replay.copied(),
        }
    }

    /// Checks that `endpoint` has the identity that the client requires.
    pub(crate) fn allows(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let Some(id) = &self.require_id else { return Ok(()) };
        match endpoint.identity() {
            Some(identity) if identity.server_id == *id => Ok(()),
            Some(identity) => Err(Error::IdentityRequired(
                format!("required {id}, found {}", identity.server_id).into(),
            )),
            None => Err(Error::IdentityRequired(format!("required {id}, found none").into())),
        }
    }

    /// Protocol for `endpoint`.
    pub(crate) fn variant(&self, endpoint: &Endpoint) -> Variant {
        if self.is_http2() {
            return Variant::Http2;
        }
        if !self.form.upgrade && endpoint.supports_orig_proto() {
            return Variant::OrigProto;
        }
        let has_host = self.request.headers().get(HOST).is_some_and(|host| !host.is_empty());
        if self.request.version() == Version::HTTP_10 || !has_host || self.form.upgrade {
            return Variant::Http1Once;
        }
        Variant::Http1
    }

    /// Returns the request for one attempt; `None` if its body is gone.
    pub(crate) fn next(&mut self) -> Option<Request<Body>> {
        let body = match &self.replay {
            _ if !std::mem::replace(&mut self.is_begun, true) => std::mem::take(self.request.body_mut()),
            Some(replay) => replay.again()?,
            None if self.form.upgrade => return None,
            None => Body::Empty,
        };
        let body = match &self.clock {
            Some(clock) => clock.attempt(body),
            None => body,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.request.method().clone();
        *request.uri_mut() = self.request.uri().clone();
        *request.version_mut() = self.request.version();
        // The copy stays here: the original map has room for headers added on the way.
        let copy = self.request.headers().clone();
        *request.headers_mut() = std::mem::replace(self.request.headers_mut(), copy);
        Some(request)
    }

    /// Adapts a request of `authority` to `variant` and `endpoint`. Returns its original form if it is carried in
    /// HTTP/2.
    pub(crate) fn prepare(
        &self,
        request: &mut Request<Body>,
        endpoint: &Endpoint,
        variant: Variant,
        mut authority: Authority,
    ) -> Option<OrigProto> {
        let overridden = endpoint
            .model
            .authority_override
            .as_ref()
            .filter(|_| !endpoint.connector.is_local);
        if let Some(name) = overridden.and_then(|a| Authority::try_from(a.to_string()).ok()) {
            authority = name;
            request.headers_mut().remove(HOST);
            request.headers_mut().remove(L5D_DST_CANONICAL);
            if variant != Variant::Http2 && request.uri().authority().is_none() {
                let host = http::HeaderValue::try_from(authority.as_str());
                request
                    .headers_mut()
                    .insert(HOST, host.expect("an authority is visible ASCII"));
            }
            h1::set_absolute_form(request.uri_mut(), authority.clone());
        }
        match variant {
            Variant::OrigProto => Some(orig_proto::upgrade_request(request, self.form, authority)),
            Variant::Http2 => {
                if request.uri().authority().is_none() {
                    h1::set_absolute_form(request.uri_mut(), authority);
                }
                None
            }
            Variant::Http1 | Variant::Http1Once => {
                if !self.form.absolute && request.method() != Method::CONNECT {
                    h1::set_origin_form(request.uri_mut());
                }
                None
            }
        }
    }
}

/// Removes the header that requires an identity, and parses it.
fn take_required_id(headers: &mut HeaderMap) -> Result<Option<Id>, Error> {
    let mut all = headers.get_all(L5D_REQUIRE_ID).iter();
    let parsed: Result<Option<Id>, Rc<str>> = match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(id), None) => {
            let id = String::from_utf8_lossy(id.as_bytes());
            id.parse()
                .map(Some)
                .map_err(|error: InvalidId| error.to_string().into())
        }
        (Some(_), Some(_)) => Err("more than one identity is required".into()),
    };
    headers.remove(L5D_REQUIRE_ID);
    parsed.map_err(Error::IdentityRequired)
}

/// Longest time that a request may set; a longer one is as good as none.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Timeouts and retries that a request sets by headers, where its route allows it.
#[derive(Debug, Default)]
pub(crate) struct RequestOverrides {
    pub(crate) timeouts: Timeouts,
    pub(crate) retry_limit: Option<u16>,
    pub(crate) retry_timeout: Option<Duration>,
    pub(crate) retry_http: Option<Vec<(u16, u16)>>,
    pub(crate) retry_grpc: Option<proxy_model::route::GrpcRetry>,
}

impl RequestOverrides {
    /// Removes the headers from a request and parses them.
    pub(crate) fn take(headers: &mut HeaderMap) -> Self {
        let mut text = |name: &'static str| {
            let value = headers.remove(HeaderName::from_static(name))?;
            value.to_str().ok().map(str::to_owned)
        };
        let time = |text: Option<String>| duration::linkerd(&text?).map(|time| time.min(LONGEST));
        let request = text("l5d-request-timeout").or_else(|| text("l5d-timeout"));
        Self {
            timeouts: Timeouts {
                request: time(request),
                response: time(text("l5d-response-timeout")),
                idle: None,
            },
            retry_limit: text("l5d-retry-limit").and_then(|limit| limit.parse().ok()),
            retry_timeout: time(text("l5d-retry-timeout")),
            retry_http: text("l5d-retry-http").as_deref().and_then(retry::statuses),
            retry_grpc: text("l5d-retry-grpc").as_deref().and_then(retry::grpc_codes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_no_clock_holds_is_cut() {
        let mut headers = HeaderMap::new();
        for name in ["l5d-timeout", "l5d-response-timeout", "l5d-retry-timeout"] {
            headers.insert(name, http::HeaderValue::from_static("18446744073709551615s"));
        }
        let overrides = RequestOverrides::take(&mut headers);
        let Timeouts { request, response, .. } = overrides.timeouts;
        assert_eq!([request, response, overrides.retry_timeout], [Some(LONGEST); 3]);
    }

    #[test]
    fn parses_and_removes_override_headers() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("l5d-timeout", "1m"),
            ("l5d-response-timeout", "250ms"),
            ("l5d-retry-http", "5xx,429"),
            ("l5d-retry-limit", "3"),
            ("l5d-retry-grpc", "unavailable"),
            ("x-other", "stays"),
        ] {
            headers.insert(name, http::HeaderValue::from_static(value));
        }
        let overrides = RequestOverrides::take(&mut headers);
        assert_eq!(overrides.timeouts.request, Some(Duration::from_secs(60)));
        assert_eq!(overrides.timeouts.response, Some(Duration::from_millis(250)));
        assert_eq!(overrides.retry_http, Some(vec![(500, 599), (429, 429)]));
        assert_eq!((overrides.retry_limit, headers.len()), (Some(3), 1));
        assert!(overrides.retry_grpc.is_some_and(|g| g.unavailable && !g.internal));
    }
}
