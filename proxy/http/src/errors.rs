//! The responses that explain an error, in the shapes that Linkerd gives them.
//!
//! HTTP gets a status and an empty body; gRPC gets status 200 and its code in the headers. Who may know more also gets
//! `l5d-proxy-error` and `l5d-proxy-connection`.

use std::borrow::Cow;

use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
};

use crate::{
    Body,
    headers::{
        APPLICATION_GRPC, CLOSE, GRPC_MESSAGE, GRPC_STATUS, L5D_PROXY_CONNECTION, L5D_PROXY_ERROR, MESH_NEVER_ARRIVED,
        TRUE,
    },
};

/// gRPC codes, as far as the proxy answers with them.
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

/// What to answer instead of what the application would have said.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// Status for HTTP.
    pub status: StatusCode,
    /// Code for gRPC.
    pub grpc: GrpcCode,
    /// Text for who may know more.
    pub message: Cow<'static, str>,
    /// The client should not use the connection again.
    pub close: bool,
    /// Where to go instead.
    pub location: Option<HeaderValue>,
    /// The request provably did not reach the application.
    pub never_arrived: bool,
}

impl Rejection {
    /// A plain rejection; the connection stays.
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

    /// The same, and the client should not use the connection again.
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// The same, and the request provably did not reach the application.
    pub fn never_arrived(self) -> Self {
        Self {
            never_arrived: true,
            ..self
        }
    }
}

/// How a request wants to be told. Taken before the request is sent on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// As gRPC.
    pub grpc: bool,
    /// With the headers that say more.
    pub informational: bool,
    /// HTTP/1.1 on its own connection, to which `connection: close` can be said.
    pub http1: bool,
}

impl Shape {
    /// The shape for a request: `request` is as the application would see it (after orig-proto was undone), and
    /// `is_orig_proto` says that it came in HTTP/2 nevertheless.
    pub fn of<B>(request: &Request<B>, informational: bool, is_orig_proto: bool) -> Self {
        let grpc = request.version() == Version::HTTP_2
            && request
                .headers()
                .get(CONTENT_TYPE)
                .is_some_and(|t| t.as_bytes().starts_with(b"application/grpc"));
        Self {
            grpc,
            informational,
            http1: request.version() == Version::HTTP_11 && !is_orig_proto,
        }
    }
}

/// Makes the response.
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

/// What of `text` may stand in a header.
fn header_text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| {
        let text: String = text
            .chars()
            .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
            .collect();
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unexpected error"))
    })
}

/// gRPC's percent encoding: printable ASCII but for `%` stays.
fn percent_encoded(text: &str) -> HeaderValue {
    if text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'%') {
        return header_text(text);
    }
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    header_text(&out)
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
        Shape::of(&request, informational, false)
    }

    #[test]
    fn http_gets_a_status_and_strangers_get_nothing_more() {
        let forbidden = Rejection::new(StatusCode::FORBIDDEN, GrpcCode::PERMISSION_DENIED, "unauthorized");
        let response = respond(&forbidden, shape(Version::HTTP_11, "text/plain", false));
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.headers().len(), 1);
        assert_eq!(response.headers()[CONTENT_LENGTH], "0");
    }

    #[test]
    fn grpc_gets_its_code_in_the_headers() {
        let forbidden = Rejection::new(StatusCode::FORBIDDEN, GrpcCode::PERMISSION_DENIED, "100% no");
        let response = respond(&forbidden, shape(Version::HTTP_2, "application/grpc+proto", true));
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[GRPC_STATUS], "7");
        assert_eq!(response.headers()[GRPC_MESSAGE], "100%25 no");
        assert_eq!(response.headers()[L5D_PROXY_ERROR], "100% no");
        assert!(!response.headers().contains_key(L5D_PROXY_CONNECTION));
    }

    #[test]
    fn closing_is_said_to_http1_and_to_the_peer() {
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
