//! Errors of the outbound side, with their status, metric labels and message.

use std::{borrow::Cow, rc::Rc};

use http::StatusCode;
use proxy_http::errors::{GrpcCode, Rejection};
use proxy_metrics::names::error as label;

/// Error on the way from the application to an endpoint.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A connection to a loopback address was redirected to the proxy.
    #[error("refusing to proxy loopback destination {0}")]
    Loopback(std::net::IpAddr),
    /// The client sent nothing, or its connection failed before the protocol was detected.
    #[error("cannot detect the client's protocol: {0}")]
    Detect(Rc<std::io::Error>),
    /// The connection to the client failed.
    #[error("client connection failed: {0}")]
    Client(Rc<proxy_http::Error>),
    /// The request is malformed.
    #[error("{0}")]
    Malformed(#[from] proxy_http::h1::Malformed),
    /// The request has no valid authority.
    #[error("invalid request authority")]
    Authority,
    /// No endpoint became ready in time.
    #[error("{0}: service in fail-fast")]
    FailFast(Rc<str>),
    /// No endpoint has been ready for a while, or too many requests wait.
    #[error("{0}: service unavailable")]
    LoadShed(Rc<str>),
    /// An endpoint could not be reached.
    #[error("endpoint {addr}: {reason}")]
    Connect {
        /// The endpoint.
        addr: std::net::SocketAddr,
        /// The cause.
        reason: Rc<str>,
        /// True if the connect timed out.
        timeout: bool,
    },
    /// An endpoint failed before the response head.
    #[error("endpoint {addr}: {error}")]
    Endpoint {
        /// The endpoint.
        addr: std::net::SocketAddr,
        /// The cause.
        error: Rc<proxy_http::Error>,
    },
    /// The endpoint does not have the identity that the client requires.
    #[error("identity required: {0}")]
    IdentityRequired(Rc<str>),
    /// The backend does not exist.
    #[error("invalid backend {0}")]
    InvalidBackend(Rc<str>),
    /// No route matches.
    #[error("no route found for request")]
    NoRoute,
    /// The policy has no HTTP routes, or is invalid.
    #[error("invalid client policy: {0}")]
    InvalidPolicy(Rc<str>),
    /// A filter answered.
    #[error("{}", .0.message)]
    Filter(Rc<Rejection>),
    /// A timeout of a policy's route.
    #[error("{0}")]
    Timeout(&'static str),
    /// The timeout of a profile's route.
    #[error("HTTP response timeout after {0:?}")]
    ProfileTimeout(std::time::Duration),
}

impl Error {
    /// Label `error` of `outbound_http_errors_total` and `outbound_tcp_errors_total`.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::FailFast(_) => label::FAIL_FAST,
            Self::LoadShed(_) => label::LOAD_SHED,
            Self::IdentityRequired(_) => label::IDENTITY_REQUIRED,
            Self::Timeout(_) | Self::ProfileTimeout(_) => label::RESPONSE_TIMEOUT,
            Self::Connect { .. } | Self::Endpoint { .. } | Self::Detect(_) | Self::Client(_) => label::IO,
            _ => label::UNEXPECTED,
        }
    }

    /// Label `error` of the registry's families.
    pub(crate) fn registry_label(&self) -> &'static str {
        match self {
            Self::FailFast(_) => "FAIL_FAST",
            Self::LoadShed(_) => "LOAD_SHED",
            Self::Timeout(_) | Self::ProfileTimeout(_) => "REQUEST_TIMEOUT",
            Self::Connect { .. } => "IO",
            Self::Endpoint { error, .. } => match error.h2_reason() {
                Some(h2::Reason::REFUSED_STREAM) => "REFUSED",
                Some(h2::Reason::CANCEL) => "CANCEL",
                Some(h2::Reason::ENHANCE_YOUR_CALM) => "ENHANCE_YOUR_CALM",
                Some(_) => "RESET",
                None => "IO",
            },
            _ => "UNKNOWN",
        }
    }

    /// Response to the application.
    pub(crate) fn rejection(&self) -> Rejection {
        let text: Cow<'static, str> = self.to_string().into();
        let reject = |status, grpc| Rejection::new(status, grpc, text.clone());
        match self {
            Self::FailFast(_) | Self::ProfileTimeout(_) | Self::Connect { timeout: true, .. } => {
                reject(StatusCode::GATEWAY_TIMEOUT, GrpcCode::DEADLINE_EXCEEDED).closing()
            }
            Self::Timeout(_) => reject(StatusCode::GATEWAY_TIMEOUT, GrpcCode::DEADLINE_EXCEEDED),
            Self::LoadShed(_) => reject(StatusCode::SERVICE_UNAVAILABLE, GrpcCode::UNAVAILABLE).closing(),
            Self::Connect { .. } | Self::Endpoint { .. } | Self::IdentityRequired(_) | Self::InvalidBackend(_) => {
                reject(StatusCode::BAD_GATEWAY, GrpcCode::UNAVAILABLE).closing()
            }
            Self::NoRoute => reject(StatusCode::NOT_FOUND, GrpcCode::NOT_FOUND),
            Self::Malformed(_) | Self::Authority => reject(StatusCode::BAD_REQUEST, GrpcCode::INTERNAL).closing(),
            Self::Filter(rejection) => Rejection::clone(rejection),
            Self::Loopback(_) | Self::Detect(_) | Self::Client(_) | Self::InvalidPolicy(_) => {
                reject(StatusCode::INTERNAL_SERVER_ERROR, GrpcCode::INTERNAL).closing()
            }
        }
    }
}
