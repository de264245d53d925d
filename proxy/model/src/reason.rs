//! Reasons for which the mesh refuses, fails or breaks off something: one table for headers, logs, metrics and tap.
//!
//! The code is ours and stable; logs show it as `reason=`. Labels and words are upstream's, which dashboards match on.

/// Party whose action or setting must change for the outcome to change.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// Client of the connection or request.
    Client,
    /// Server: the application or endpoint.
    Server,
    /// Policy or route that a user wrote.
    Policy,
    /// Limit that was reached; see [`crate::limits`].
    Limit,
    /// Mesh itself, its configuration included.
    Mesh,
}

impl Blame {
    /// Name in texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Policy => "policy",
            Self::Limit => "limit",
            Self::Mesh => "mesh",
        }
    }
}

/// Row of the table: everything that is known of a reason.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Stable name, in kebab case.
    pub code: &'static str,
    /// Party at fault.
    pub blame: Blame,
    /// Description for people, without the particulars of one case.
    pub sentence: &'static str,
    /// A retry may succeed.
    pub may_retry: bool,
    /// Status for HTTP, where a response explains it.
    pub status: Option<u16>,
    /// Code for gRPC, where a response explains it.
    pub grpc: Option<u16>,
    /// The client should not use its connection again.
    pub closes: bool,
    /// Label `error` or `reason` of the counters of the component; none where it is not counted there.
    pub label: Option<&'static str>,
    /// Label `error` of the families of HTTP and gRPC routes.
    pub route_word: &'static str,
    /// Label `error` of the families of TCP and TLS routes.
    pub tcp_word: &'static str,
}

impl Row {
    const fn new(code: &'static str, blame: Blame, sentence: &'static str) -> Self {
        Self {
            code,
            blame,
            sentence,
            may_retry: false,
            status: None,
            grpc: None,
            closes: false,
            label: None,
            route_word: "UNKNOWN",
            tcp_word: "unexpected",
        }
    }

    const fn retry(mut self) -> Self {
        self.may_retry = true;
        self
    }

    const fn http(mut self, status: u16, grpc: u16) -> Self {
        self.status = Some(status);
        self.grpc(grpc)
    }

    const fn grpc(mut self, code: u16) -> Self {
        self.grpc = Some(code);
        self
    }

    const fn closes(mut self) -> Self {
        self.closes = true;
        self
    }

    const fn label(mut self, label: &'static str) -> Self {
        self.label = Some(label);
        self
    }

    const fn route(mut self, word: &'static str) -> Self {
        self.route_word = word;
        self
    }

    const fn tcp(mut self, word: &'static str) -> Self {
        self.tcp_word = word;
        self
    }
}

macro_rules! reasons {
    ($($name:ident($code:literal, $blame:ident, $sentence:literal)$(.$set:ident($($value:expr),*))*;)+) => {
        /// Reason of a refusal or failure.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $sentence] $name,)+
        }

        impl Reason {
            /// All reasons, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Row of the table.
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row::new($code, Blame::$blame, $sentence)$(.$set($($value),*))*,)+
                }
            }
        }
    };
}

const IO: &str = "i/o";
const UNEXPECTED: &str = "unexpected";
const TIMEOUT: &str = "response timeout";

reasons! {
    // Connections of clients, before a request is known.
    ClosedEarly("closed-early", Client, "the client closed the connection before it sent anything");
    DetectFailed("detect-failed", Client, "the connection failed before its protocol was known")
        .http(500, 13).closes().label(IO);
    ClientIo("client-io", Client, "the client's connection failed").http(500, 13).closes().label(IO);
    ConnectionBroken("connection-broken", Client, "a connection broke while bytes were copied").label(IO);
    UpgradeFailed("upgrade-failed", Client, "an upgraded connection broke").label(IO);
    TlsDetectTimeout("tls-detect-timeout", Client, "timed out waiting for a ClientHello")
        .label("tls detection timeout");
    TlsHandshakeFailed("tls-handshake-failed", Client, "the TLS handshake failed").label(IO);
    LimitReached("limit-reached", Limit, "a limit of the proxy was reached").retry();
    LoopbackDestination("loopback-destination", Client, "loopback destinations are not proxied")
        .http(500, 13).closes().label(UNEXPECTED);
    NotLocal("not-local", Client, "the destination is not an address of this workload").label(UNEXPECTED);
    PolicyUnknown("policy-unknown", Mesh, "the policy of the port is not known").retry().label("policy unknown");
    SilentClient("silent-client", Client, "timed out waiting for a request").label("silent client");
    HttpRequired("http-required", Policy, "the policy of the port requires HTTP").label("http required");
    ProxyLoop("proxy-loop", Client, "the connection would loop back to this proxy").label(UNEXPECTED);

    // Connections to the proxy's own port, with a transport header.
    MeshTlsRequired("mesh-tls-required", Client, "mesh TLS is required").label(UNEXPECTED);
    ClientCertificateRequired("client-certificate-required", Client, "a client certificate is required")
        .label(UNEXPECTED);
    TransportHeaderRequired("transport-header-required", Client, "the transport header is required").label(UNEXPECTED);
    TransportHeaderTimeout("transport-header-timeout", Client, "timed out waiting for the transport header")
        .label(UNEXPECTED);
    TransportHeaderInvalid("transport-header-invalid", Client, "the transport header is invalid").label(UNEXPECTED);
    GatewayUnsupported("gateway-unsupported", Mesh, "gateway requests are not supported").label("gateway domain invalid");

    // Requests, and connections whose policy is known.
    MalformedRequest("malformed-request", Client, "the request is malformed").http(400, 13).closes().label(UNEXPECTED);
    RequestHeadTooLarge("request-head-too-large", Client, "the request's head is too large").http(431, 8).closes();
    RequestHeadTimeout("request-head-timeout", Client, "the request's head did not arrive in time")
        .http(408, 4).closes();
    AmbiguousPath("ambiguous-path", Client, "the application may read the path differently from the policy")
        .http(400, 13).label("ambiguous path");
    InvalidAuthority("invalid-authority", Client, "the request's authority is invalid")
        .http(400, 13).closes().label(UNEXPECTED);
    NoRoute("no-route", Policy, "no route found for request").http(404, 5).label(UNEXPECTED);
    Unauthorized("unauthorized", Policy, "the client is not authorized").http(403, 7);
    AuthorizationRevoked("authorization-revoked", Policy, "the client is no longer authorized");
    RateLimited("rate-limited", Limit, "rate limit exceeded").retry().http(429, 8);
    Forbidden("forbidden", Policy, "forbidden").http(403, 7).label(UNEXPECTED).tcp("forbidden");
    Redirected("redirected", Policy, "redirected").http(301, 5).label(UNEXPECTED).tcp("forbidden");
    InjectedFailure("injected-failure", Policy, "a route injects a failure").label(UNEXPECTED).tcp("forbidden");
    InvalidPolicy("invalid-policy", Policy, "the policy is invalid")
        .http(500, 13).closes().label(UNEXPECTED).tcp("invalid_policy");
    InvalidBackend("invalid-backend", Policy, "the backend is invalid")
        .http(502, 14).closes().label(UNEXPECTED).tcp("invalid_backend");

    // Endpoints and the application.
    FailFast("fail-fast", Server, "service in fail-fast")
        .retry().http(504, 4).closes().label("failfast").route("FAIL_FAST");
    LoadShed("load-shed", Server, "service unavailable")
        .retry().http(503, 14).closes().label("loadshed").route("LOAD_SHED");
    ConnectFailed("connect-failed", Server, "the server cannot be reached")
        .retry().http(502, 14).closes().label(IO).route("IO");
    ConnectTimeout("connect-timeout", Server, "the server did not accept the connection in time")
        .retry().http(504, 4).closes().label(IO).route("IO");
    IdentityRequired("identity-required", Server, "the server is not the required identity")
        .http(502, 14).closes().label("identity required");
    EndpointFailed("endpoint-failed", Server, "the server failed before its response")
        .http(502, 14).closes().label(IO).route("IO");
    StreamRefused("stream-refused", Server, "the server refused the stream")
        .retry().http(502, 14).closes().label(IO).route("REFUSED");
    StreamCancelled("stream-cancelled", Server, "the server cancelled the stream")
        .http(502, 14).closes().label(IO).route("CANCEL");
    StreamCalmed("stream-calmed", Server, "the server asked for fewer requests")
        .http(502, 14).closes().label(IO).route("ENHANCE_YOUR_CALM");
    NoStream("no-stream", Server, "the server allows no further streams")
        .retry().http(503, 14).closes().label(IO).route("IO");
    ResponseHeadTooLarge("response-head-too-large", Server, "the response's head is too large")
        .http(502, 13).closes().label(IO).route("IO");
    StreamReset("stream-reset", Server, "the server reset the stream")
        .http(502, 14).closes().label(IO).route("RESET");

    // Time, and clients that do not wait for the end.
    RequestTimeout("request-timeout", Policy, "the route's timeout expired")
        .http(504, 4).label(TIMEOUT).route("REQUEST_TIMEOUT");
    ProfileTimeout("profile-timeout", Policy, "the profile's timeout expired")
        .http(504, 4).closes().label(TIMEOUT).route("REQUEST_TIMEOUT");
    StreamTimeout("stream-timeout", Policy, "the route's timeout expired during the response")
        .label(IO).route("RESPONSE_STREAM_TIMEOUT");
    ClientCancelled("client-cancelled", Client, "the client went away before the end").label("cancelled").route("CANCEL");
    Unexpected("unexpected", Mesh, "unexpected error").http(500, 13).closes().label(UNEXPECTED);

    // Tap.
    TapPlaintext("tap-plaintext", Client, "tap requires mesh TLS").grpc(16);
    TapUnauthorized("tap-unauthorized", Client, "the client may not tap").grpc(16);
    TapWithoutLimit("tap-without-limit", Client, "the limit of a tap must be greater than 0").grpc(3);
    TapTooMany("tap-too-many", Limit, "too many taps are open").retry().grpc(8);

    // Identity.
    MissingField("missing-field", Client, "the request lacks a field").grpc(3).label("missing_field");
    IdentityTooLong("identity-too-long", Client, "the identity is longer than a DNS name can be")
        .grpc(3).label("identity_too_long");
    MalformedCsr("malformed-csr", Client, "the certificate signing request is malformed").grpc(3).label("malformed_csr");
    RefusedCsr("refused-csr", Client, "the certificate signing request is not acceptable").grpc(9).label("refused_csr");
    InvalidToken("invalid-token", Client, "the token is invalid").grpc(3).label("invalid_token");
    NotServiceAccount("not-a-service-account", Client, "the token is not a service account's")
        .grpc(9).label("not_a_service_account");
    IdentityNotOfToken("identity-not-of-token", Client, "the requested identity is not the token's")
        .grpc(9).label("identity_not_of_token");
    TokenKeysNotReady("token-keys-not-ready", Mesh, "the keys that verify tokens are not loaded")
        .retry().grpc(14).label("token_keys_not_ready");
    TokenNotReviewed("token-not-reviewed", Mesh, "the API server cannot review the token")
        .retry().grpc(14).label("token_not_reviewed");
    TokensTooMany("tokens-too-many", Limit, "too many tokens to review").retry().grpc(8).label("tokens_too_many");
    IssuerNotReady("issuer-not-ready", Mesh, "the issuer is not ready").retry().grpc(14).label("issuer_not_ready");
    IssuerInvalid("issuer-invalid", Mesh, "the issuer is invalid").retry().grpc(14).label("issuer_invalid");
    IdentityInternal("identity-internal", Mesh, "the certificate cannot be made").grpc(13).label("internal");
}

impl Reason {
    /// Stable name, in kebab case.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// Description for people, without the particulars of one case.
    pub const fn sentence(self) -> &'static str {
        self.row().sentence
    }

    /// Reason with this code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.code())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_kebab_case_and_round_trip() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for &reason in Reason::ALL {
            let code = reason.code();
            let fits = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(
                code.chars().all(fits) && !code.starts_with('-') && !code.ends_with('-'),
                "{code}"
            );
            assert_eq!(Reason::from_code(code), Some(reason));
        }
        assert_eq!(Reason::from_code("no-such-reason"), None);
    }

    #[test]
    fn sentences_are_lower_case_and_without_a_full_stop() {
        for reason in Reason::ALL {
            let sentence = reason.sentence();
            let first = sentence.chars().next().expect("not empty");
            assert!(first.is_lowercase() && !sentence.ends_with('.'), "{sentence}");
        }
    }

    #[test]
    fn statuses_are_errors_or_redirects_and_grpc_codes_exist() {
        for row in Reason::ALL.iter().map(|reason| reason.row()) {
            assert!(row.status.is_none_or(|status| (300..600).contains(&status)), "{row:?}");
            assert!(row.grpc.is_none_or(|code| (1..=16).contains(&code)), "{row:?}");
            assert!(
                row.status.is_none() || row.grpc.is_some(),
                "a status needs a code: {row:?}"
            );
            assert!(
                !row.closes || row.status.is_some(),
                "only a response can close: {row:?}"
            );
        }
    }

    #[test]
    fn decisions_of_a_policy_are_not_retried() {
        for row in Reason::ALL.iter().map(|reason| reason.row()) {
            assert!(row.blame != Blame::Policy || !row.may_retry, "{row:?}");
        }
    }

    #[test]
    fn upstreams_labels_stay_as_they_are() {
        let label = |reason: Reason| reason.row().label;
        assert_eq!(label(Reason::FailFast), Some("failfast"));
        assert_eq!(label(Reason::LoadShed), Some("loadshed"));
        assert_eq!(label(Reason::TlsDetectTimeout), Some("tls detection timeout"));
        assert_eq!(label(Reason::IdentityRequired), Some("identity required"));
        assert_eq!(label(Reason::RequestTimeout), Some("response timeout"));
        assert_eq!(label(Reason::GatewayUnsupported), Some("gateway domain invalid"));
        assert_eq!(label(Reason::Unauthorized), None, "counted as a denial");
    }
}
