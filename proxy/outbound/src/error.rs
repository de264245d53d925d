//! Errors of the outbound side, with their status, metric labels and message.

use std::rc::Rc;

use http::StatusCode;
use proxy_http::errors::{GrpcCode, Rejection};
use proxy_metrics::{
    names::error,
    outbound::{RouteKind, Status},
};
use proxy_model::Reason;

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
    #[error("{sentence}", sentence = Reason::InvalidAuthority.sentence())]
    Authority,
    /// No endpoint became ready in time.
    #[error("{0}: {sentence}", sentence = Reason::FailFast.sentence())]
    FailFast(Rc<str>),
    /// No endpoint has been ready for a while, or too many requests wait.
    #[error("{0}: {sentence}", sentence = Reason::LoadShed.sentence())]
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
    #[error("{sentence}", sentence = Reason::NoRoute.sentence())]
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
    /// The timeout of one attempt; another may follow.
    #[error("retry timeout")]
    AttemptTimeout,
    /// The timeout of a profile's route.
    #[error("HTTP response timeout after {0:?}")]
    ProfileTimeout(std::time::Duration),
}

impl Error {
    /// Reason in the mesh's table of reasons.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Loopback(_) => Reason::LoopbackDestination,
            Self::Detect(_) => Reason::DetectFailed,
            Self::Client(_) => Reason::ClientIo,
            Self::Malformed(_) => Reason::MalformedRequest,
            Self::Authority => Reason::InvalidAuthority,
            Self::FailFast(_) => Reason::FailFast,
            Self::LoadShed(_) => Reason::LoadShed,
            Self::Connect { timeout: true, .. } => Reason::ConnectTimeout,
            Self::Connect { .. } => Reason::ConnectFailed,
            Self::Endpoint { error, .. } => endpoint_reason(error),
            Self::IdentityRequired(_) => Reason::IdentityRequired,
            Self::InvalidBackend(_) => Reason::InvalidBackend,
            Self::NoRoute => Reason::NoRoute,
            Self::InvalidPolicy(_) => Reason::InvalidPolicy,
            Self::Filter(rejection) => filter_reason(rejection),
            Self::Timeout(_) | Self::AttemptTimeout => Reason::RequestTimeout,
            Self::ProfileTimeout(_) => Reason::ProfileTimeout,
        }
    }

    /// Label `error` of `outbound_http_errors_total` and `outbound_tcp_errors_total`.
    pub(crate) fn label(&self) -> &'static str {
        label(self.reason())
    }

    /// Status of an exchange that ended so, for the registry's families.
    pub(crate) fn exchange_status(&self, kind: RouteKind) -> Status {
        let code = match kind {
            RouteKind::Http => None,
            RouteKind::Grpc => Some(u32::from(self.rejection().grpc.0)),
        };
        Status {
            code,
            error: self.reason().row().route_word.into(),
        }
    }

    /// Response to the application.
    pub(crate) fn rejection(&self) -> Rejection {
        if let Self::Filter(rejection) = self {
            return Rejection::clone(rejection);
        }
        Rejection::from_reason(self.reason(), self.to_string())
    }
}

fn endpoint_reason(error: &proxy_http::Error) -> Reason {
    if let Some((_, reason)) = error.limit() {
        return reason;
    }
    match error.h2_reason() {
        Some(h2::Reason::REFUSED_STREAM) => Reason::StreamRefused,
        Some(h2::Reason::CANCEL) => Reason::StreamCancelled,
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Reason::StreamCalmed,
        Some(_) => Reason::StreamReset,
        None => Reason::EndpointFailed,
    }
}

/// Label of a reason in the families of errors.
pub(crate) fn label(reason: Reason) -> &'static str {
    reason.row().label.unwrap_or(error::UNEXPECTED)
}

/// Reason of a filter's rejection. A rejection that closes comes from an invalid filter.
fn filter_reason(rejection: &Rejection) -> Reason {
    let is_forbidden = rejection.status == StatusCode::FORBIDDEN && rejection.grpc == GrpcCode::PERMISSION_DENIED;
    match rejection {
        Rejection { close: true, .. } => Reason::InvalidPolicy,
        Rejection { location: Some(_), .. } => Reason::Redirected,
        _ if is_forbidden => Reason::Forbidden,
        _ => Reason::InjectedFailure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_without_streams_is_unavailable_and_may_be_tried_again() {
        let error = Error::Endpoint {
            addr: ([192, 0, 2, 1], 80).into(),
            error: Rc::new(proxy_http::Error::NoStream),
        };
        assert_eq!(error.reason(), Reason::NoStream);
        assert_eq!(error.rejection().status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(error.reason().row().may_retry);
    }
}
