//! Inbound decisions: authorizations, denials, rate limits, errors.

use std::time::Duration;

use crate::{
    Recorder, ResourceLabels, ServerLabels, Target, Tls,
    labels::LabelText,
    names::{self, label},
    slot::Counter,
};

/// Labels of an authorization's decision.
#[derive(Copy, Clone, Debug)]
pub struct AuthzLabels<'a> {
    /// Address and port of the application.
    pub target: Target,
    /// The Server.
    pub server: ServerLabels<'a>,
    /// The route; none for connections.
    pub route: Option<ResourceLabels<'a>>,
    /// TLS.
    pub tls: Tls<'a>,
}

impl AuthzLabels<'_> {
    fn text(&self, authz: Option<&ResourceLabels<'_>>) -> LabelText {
        let mut text = LabelText::default().target(self.target).server(&self.server);
        if let Some(route) = &self.route {
            text = text.resource("route", route);
        }
        if let Some(authz) = authz {
            text = text.resource("authz", authz);
        }
        text.tls(&self.tls)
    }
}

impl Recorder {
    /// Requests that `authz` allowed.
    pub fn http_authz_allow(&self, labels: &AuthzLabels<'_>, authz: &ResourceLabels<'_>) -> Counter {
        self.counter(
            &names::INBOUND_HTTP_AUTHZ_ALLOW_TOTAL,
            labels.text(Some(authz)).as_str(),
        )
    }

    /// Requests that were denied.
    pub fn http_authz_deny(&self, labels: &AuthzLabels<'_>) -> Counter {
        self.counter(&names::INBOUND_HTTP_AUTHZ_DENY_TOTAL, labels.text(None).as_str())
    }

    /// Requests without a route.
    pub fn http_route_not_found(&self, labels: &AuthzLabels<'_>) -> Counter {
        self.counter(&names::INBOUND_HTTP_ROUTE_NOT_FOUND_TOTAL, labels.text(None).as_str())
    }

    /// Requests over a rate limit; `scope` is `total` or `identity`.
    pub fn http_rate_limited(
        &self,
        labels: &AuthzLabels<'_>,
        limit: &ResourceLabels<'_>,
        scope: &'static str,
    ) -> Counter {
        let text = labels.text(None).resource("ratelimit", limit).with("scope", scope);
        self.counter(&names::INBOUND_HTTP_LOCAL_RATELIMIT_TOTAL, text.as_str())
    }

    /// Connections that `authz` allowed.
    pub fn tcp_authz_allow(&self, labels: &AuthzLabels<'_>, authz: &ResourceLabels<'_>) -> Counter {
        self.counter(&names::INBOUND_TCP_AUTHZ_ALLOW_TOTAL, labels.text(Some(authz)).as_str())
    }

    /// Connections that were denied.
    pub fn tcp_authz_deny(&self, labels: &AuthzLabels<'_>) -> Counter {
        self.counter(&names::INBOUND_TCP_AUTHZ_DENY_TOTAL, labels.text(None).as_str())
    }

    /// Connections that a changed policy ended.
    pub fn tcp_authz_terminate(&self, labels: &AuthzLabels<'_>) -> Counter {
        self.counter(&names::INBOUND_TCP_AUTHZ_TERMINATE_TOTAL, labels.text(None).as_str())
    }

    /// Inbound HTTP errors of the proxy's own ([`names::error`]).
    pub fn inbound_http_error(&self, target: Target, server: &ServerLabels<'_>, error: &'static str) -> Counter {
        let text = LabelText::default()
            .with(label::ERROR, error)
            .target(target)
            .server(server);
        self.counter(&names::INBOUND_HTTP_ERRORS_TOTAL, text.as_str())
    }

    /// Inbound connections that failed.
    pub fn inbound_tcp_error(&self, target: Target, error: &'static str) -> Counter {
        let text = LabelText::default().with(label::ERROR, error).target(target);
        self.counter(&names::INBOUND_TCP_ERRORS_TOTAL, text.as_str())
    }

    /// A result of protocol detection: `http/1`, `http/2`, `not_http`, `read_timeout` or `error`.
    pub fn inbound_detected(&self, server: &ServerLabels<'_>, result: &'static str, took: Duration) {
        let text = LabelText::default().server(server);
        self.histogram(&names::INBOUND_TCP_DETECT_HTTP_DURATION, text.as_str())
            .observe(took);
        let text = LabelText::default().with("result", result).server(server);
        self.counter(&names::INBOUND_TCP_DETECT_HTTP_RESULTS, text.as_str())
            .inc();
    }

    /// A connection with a transport header; `session` is `http/1`, `http/2` or empty. The name in the header is the
    /// client's choice, so its label is always empty.
    pub fn transport_header(&self, session: &'static str, target: Target, client: &str) -> Counter {
        let text = LabelText::default()
            .with("session_protocol", session)
            .or_other(label::TARGET_PORT, target.port())
            .with("target_name", "")
            .with(label::CLIENT_ID, client);
        self.counter(&names::INBOUND_TCP_TRANSPORT_HEADER_CONNECTIONS, text.as_str())
    }
}
