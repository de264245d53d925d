//! Responses that explain an error, in Linkerd's format.
//!
//! HTTP receives a status and an empty body; gRPC receives status 200 and its code in the headers. Trusted clients also
//! receive `l5d-proxy-error` and `l5d-proxy-connection`.

use std::borrow::Cow;

use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use proxy_core::classify::is_grpc;
use proxy_model::Reason;

use crate::{
    Body,
    headers::{
        APPLICATION_GRPC, CLOSE, GRPC_MESSAGE, GRPC_STATUS, L5D_PROXY_CONNECTION, L5D_PROXY_ERROR, MESH_NEVER_ARRIVED,
        TRUE,
    },
};

/// gRPC codes that the proxy answers with.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct GrpcCode(pub u16);

impl GrpcCode {
    /// DEADLINE_EXCEEDED.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// NOT_FOUND.
    pub const NOT_FOUND: Self = Self(5);
    /// PERMISSION_DENIED.
    pub const PERMISSION_DENIED: Self = Self(7);
    /// RESOURCE_EXHAUSTED.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// FAILED_PRECONDITION.
    pub const FAILED_PRECONDITION: Self = Self(9);
    /// ABORTED.
    pub const ABORTED: Self = Self(10);
    /// INTERNAL.
    pub const INTERNAL: Self = Self(13);
    /// UNAVAILABLE.
    pub const UNAVAILABLE: Self = Self(14);
}

/// Response that the proxy sends instead of the application.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// HTTP status.
    pub status: StatusCode,
    /// gRPC code.
    pub grpc: GrpcCode,
    /// Reason, for clients that may see it.
    pub message: Cow<'static, str>,
    /// The client should not reuse the connection.
    pub close: bool,
    /// Redirect target.
    pub location: Option<HeaderValue>,
    /// The request provably did not reach the application.
    pub never_arrived: bool,
}

impl Rejection {
    /// Creates the rejection that the table of reasons defines; reasons without a status are unexpected errors.
    pub fn from_reason(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        let row = reason.row();
        let status = row.status.and_then(|status| StatusCode::from_u16(status).ok());
        Self {
            close: row.closes,
            ..Self::new(
                status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                row.grpc.map_or(GrpcCode::INTERNAL, GrpcCode),
                message,
            )
        }
    }

    /// Creates a rejection that keeps the connection open.
    pub fn new(status: StatusCode, grpc: GrpcCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            grpc,
            message: message.into(),
            close: false,
            location: None,
            never_arrived: false,
        }
    }

    /// Asks the client not to reuse the connection.
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// Marks the request as provably not having reached the application.
    pub fn never_arrived(self) -> Self {
        Self {
            never_arrived: true,
            ..self
        }
    }
}

/// Format of a rejection, taken from the request before it is forwarded.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// In gRPC form.
    pub grpc: bool,
    /// With informational headers.
    pub informational: bool,
    /// HTTP/1.1 on a connection of its own, which `connection: close` applies to.
    pub http1: bool,
}

impl Shape {
    /// Returns the format for a request: `request` is as the application would see it (after orig-proto was undone),
    /// and `is_orig_proto` tells that it arrived in HTTP/2 nevertheless.
    pub fn from_request<B>(request: &Request<B>, informational: bool, is_orig_proto: bool) -> Self {
        let grpc = request.version() == Version::HTTP_2 && is_grpc(request.headers());
        Self {
            grpc,
            informational,
            http1: request.version() == Version::HTTP_11 && !is_orig_proto,
        }
    }
}

/// Builds the response.
pub fn respond(rejection: &Rejection, shape: Shape) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    if let Some(location) = &rejection.location {
        headers.insert(LOCATION, location.clone());
    }
    if shape.grpc {
        headers.insert(CONTENT_TYPE, APPLICATION_GRPC);
        headers.insert(GRPC_STATUS, HeaderValue::from(rejection.grpc.0));
    }
    if shape.informational {
        let text = header_text(&rejection.message);
        if shape.grpc {
            headers.insert(GRPC_MESSAGE, percent_encoded(&rejection.message));
        }
        headers.insert(L5D_PROXY_ERROR, text);
        if rejection.never_arrived {
            headers.insert(MESH_NEVER_ARRIVED, TRUE);
        }
        if rejection.close {
            headers.insert(L5D_PROXY_CONNECTION, CLOSE);
            if shape.http1 {
                headers.insert(CONNECTION, CLOSE);
            }
        }
    }
    *response.status_mut() = if shape.grpc { StatusCode::OK } else { rejection.status };
    response
}

/// Converts `text` to a header value, replacing invalid characters.
fn header_text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| {
        let text: String = text
            .chars()
            .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
            .collect();
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unexpected error"))
    })
}

/// Applies gRPC's percent encoding: printable ASCII except `%` is kept.
fn percent_encoded(text: &str) -> HeaderValue {
    const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');
    header_text(&Cow::from(utf8_percent_encode(text, ESCAPED)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(version: Version, content_type: &str, informational: bool) -> Shape {
        let request = Request::builder()
            .version(version)
            .header(CONTENT_TYPE, content_type)
            .body(())
            .expect("valid");
        Shape::from_request(&request, informational, false)
    }

    #[test]
    fn http_rejection_without_informational_headers_has_a_status_only() {
        let forbidden = Rejection::new(StatusCode::FORBIDDEN, GrpcCode::PERMISSION_DENIED, "unauthorized");
        let response = respond(&forbidden, shape(Version::HTTP_11, "text/plain", false));
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.headers().len(), 1);
        assert_eq!(response.headers()[CONTENT_LENGTH], "0");
    }

    #[test]
    fn grpc_rejection_has_its_code_in_the_headers() {
        let forbidden = Rejection::new(StatusCode::FORBIDDEN, GrpcCode::PERMISSION_DENIED, "100% no");
        let response = respond(&forbidden, shape(Version::HTTP_2, "application/grpc+proto", true));
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[GRPC_STATUS], "7");
        assert_eq!(response.headers()[GRPC_MESSAGE], "100%25 no");
        assert_eq!(response.headers()[L5D_PROXY_ERROR], "100% no");
        assert!(!response.headers().contains_key(L5D_PROXY_CONNECTION));
    }

    #[test]
    fn closing_is_signalled_to_http1_and_to_the_peer() {
        let refused = Rejection::new(StatusCode::BAD_GATEWAY, GrpcCode::UNAVAILABLE, "refused")
            .closing()
            .never_arrived();
        let response = respond(&refused, shape(Version::HTTP_11, "application/grpc", true));
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(response.headers()[CONNECTION], "close");
        assert_eq!(response.headers()[L5D_PROXY_CONNECTION], "close");
        assert_eq!(response.headers()[MESH_NEVER_ARRIVED], "true");
    }
}
