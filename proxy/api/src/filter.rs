//! Filters. The model has one kind of filter; the wire has one for each kind of route, and not every kind has all.
//!
//! Filters that a kind of route lacks travel in extension fields (`extension/filters.rs`). For other proxies, which
//! skip those, a change of responses and a mirror are left out: a call that succeeds without a header or a copy does
//! less harm than one that fails, as they all would. Everything else becomes a failure that names the filter: a request
//! must not pass because a filter cannot be applied, and an application must not see a path or host that its route
//! would have rewritten.

use http::{HeaderName, HeaderValue};
use linkerd2_proxy_api::{
    grpc_route::GrpcFailureInjector,
    http_route::{
        HttpFailureInjector, PathModifier as WirePath, Ratio as WireRatio, RequestHeaderModifier, RequestRedirect,
        ResponseHeaderModifier, path_modifier,
    },
    http_types::{Headers, Scheme, headers::Header, scheme},
    inbound as inbound_wire,
    opaque_route::{Forbidden, Invalid},
    outbound as outbound_wire,
};
use proxy_model::route::{Filter, HeaderModifier, PathModifier, Ratio, Redirect};

use crate::{
    Error, Result,
    error::{Within, each, optional},
    net::{decode_u16, non_empty},
    route::{decode_header_name, decode_header_value},
};

/// HTTP status and gRPC code of the failure that stands in for a filter.
const REFUSED_HTTP: u32 = 500;
const REFUSED_GRPC: u32 = 13;
const FORBIDDEN_HTTP: u32 = 403;
const FORBIDDEN_GRPC: u32 = 7;

/// Codec of the filters of one kind of route: those that it has, and the failure that stands in for all others.
macro_rules! request_filters {
    (
        $(#[$doc:meta])*
        $name:ident = $wire:ident::$route:ident, $decode_fail:ident $encode_fail:ident,
        $($filter:ident = $kind:ident: $decode:ident $encode:ident),+ $(,)?
    ) => {
        $(#[$doc])*
        pub(crate) mod $name {
            use super::*;
            use $wire::$route::{Filter as Wire, filter::Kind};

            pub(crate) fn decode(wire: Wire) -> Result<Filter> {
                match wire.kind.ok_or_else(|| Error::missing("kind"))? {
                    Kind::FailureInjector(fail) => $decode_fail(fail),
                    $(Kind::$kind(wire) => $decode(wire),)+
                }
            }

            /// Encodes a filter; none if it is left out.
            pub(crate) fn encode(filter: &Filter) -> Option<Wire> {
                let kind = match filter {
                    $(Filter::$filter(model) => Kind::$kind($encode(model)),)+
                    other if is_left_out(other) => return None,
                    failure => Kind::FailureInjector($encode_fail(failure)),
                };
                Some(Wire { kind: Some(kind) })
            }

            /// Returns true if the kind of route has this filter.
            pub(crate) fn has(filter: &Filter) -> bool {
                matches!(filter, $(Filter::$filter(_))|+)
            }
        }
    };
}

/// Returns true if a route that lacks this filter goes without it.
pub(crate) fn is_left_out(filter: &Filter) -> bool {
    matches!(filter, Filter::ResponseHeaders(_) | Filter::Mirror(_))
}

request_filters! {
    /// Filters of outbound HTTP routes.
    outbound_http = outbound_wire::http_route, decode_fail_http encode_fail_http,
    RequestHeaders = RequestHeaderModifier: decode_request_headers encode_request_headers,
    Redirect = Redirect: decode_redirect encode_redirect,
    ResponseHeaders = ResponseHeaderModifier: decode_response_headers encode_response_headers,
}
request_filters! {
    /// Filters of outbound gRPC routes.
    outbound_grpc = outbound_wire::grpc_route, decode_fail_grpc encode_fail_grpc,
    RequestHeaders = RequestHeaderModifier: decode_request_headers encode_request_headers,
}
request_filters! {
    /// Filters of inbound HTTP routes.
    inbound_http = inbound_wire::http_route, decode_fail_http encode_fail_http,
    RequestHeaders = RequestHeaderModifier: decode_request_headers encode_request_headers,
    Redirect = Redirect: decode_redirect encode_redirect,
}
request_filters! {
    /// Filters of inbound gRPC routes.
    inbound_grpc = inbound_wire::grpc_route, decode_fail_grpc encode_fail_grpc,
    RequestHeaders = RequestHeaderModifier: decode_request_headers encode_request_headers,
}

macro_rules! tcp_filters {
    ($(#[$doc:meta])* $name:ident, $module:ident) => {
        $(#[$doc])*
        pub(crate) mod $name {
            use super::*;
            use outbound_wire::$module::{Filter as Wire, filter::Kind};

            pub(crate) fn decode(wire: Wire) -> Result<Filter> {
                match wire.kind.ok_or_else(|| Error::missing("kind"))? {
                    Kind::Forbidden(_) => Ok(Filter::Forbidden),
                    Kind::Invalid(invalid) => Ok(Filter::Invalid(invalid.message)),
                }
            }

            pub(crate) fn encode(filter: &Filter) -> Option<Wire> {
                let kind = match filter {
                    Filter::Forbidden => Kind::Forbidden(Forbidden {}),
                    refusal => Kind::Invalid(Invalid { message: refusal_text(refusal) }),
                };
                Some(Wire { kind: Some(kind) })
            }
        }
    };
}

tcp_filters! {
    /// Filters of opaque routes.
    opaque, opaque_route
}
tcp_filters! {
    /// Filters of TLS routes.
    tls, tls_route
}

/// Message of the failure that stands in for `filter`.
fn refusal_text(filter: &Filter) -> String {
    match filter {
        Filter::Invalid(message) | Filter::FailHttp { message, .. } | Filter::FailGrpc { message, .. } => {
            message.clone()
        }
        Filter::Forbidden => "forbidden".to_owned(),
        Filter::RequestHeaders(_) => "a request header modifier cannot be applied here".to_owned(),
        Filter::ResponseHeaders(_) => "a response header modifier cannot be applied here".to_owned(),
        Filter::Redirect(_) => "a redirect cannot be applied here".to_owned(),
        Filter::Rewrite(_) => "this proxy cannot rewrite a URL".to_owned(),
        Filter::Mirror(_) => "a mirror cannot be applied here".to_owned(),
    }
}

fn decode_fail_http(wire: HttpFailureInjector) -> Result<Filter> {
    let status = decode_u16("failure_injector.status", wire.status)?;
    if !(100..=999).contains(&status) {
        return Err(Error::invalid(
            "failure_injector.status",
            format_args!("{status} is not an HTTP status"),
        ));
    }
    let ratio = decode_ratio(wire.ratio).within("failure_injector")?;
    Ok(Filter::FailHttp {
        status,
        message: wire.message,
        ratio,
    })
}

fn encode_fail_http(filter: &Filter) -> HttpFailureInjector {
    match filter {
        Filter::FailHttp { status, message, ratio } => HttpFailureInjector {
            status: u32::from(*status),
            message: message.clone(),
            ratio: encode_ratio(*ratio),
        },
        Filter::Forbidden => HttpFailureInjector {
            status: FORBIDDEN_HTTP,
            message: refusal_text(filter),
            ratio: None,
        },
        other => HttpFailureInjector {
            status: REFUSED_HTTP,
            message: refusal_text(other),
            ratio: None,
        },
    }
}

fn decode_fail_grpc(wire: GrpcFailureInjector) -> Result<Filter> {
    let code = decode_u16("failure_injector.code", wire.code)?;
    let ratio = decode_ratio(wire.ratio).within("failure_injector")?;
    Ok(Filter::FailGrpc {
        code,
        message: wire.message,
        ratio,
    })
}

fn encode_fail_grpc(filter: &Filter) -> GrpcFailureInjector {
    match filter {
        Filter::FailGrpc { code, message, ratio } => GrpcFailureInjector {
            code: u32::from(*code),
            message: message.clone(),
            ratio: encode_ratio(*ratio),
        },
        Filter::Forbidden => GrpcFailureInjector {
            code: FORBIDDEN_GRPC,
            message: refusal_text(filter),
            ratio: None,
        },
        other => GrpcFailureInjector {
            code: REFUSED_GRPC,
            message: refusal_text(other),
            ratio: None,
        },
    }
}

pub(crate) fn decode_ratio(wire: Option<WireRatio>) -> Result<Ratio> {
    match wire {
        None => Ok(Ratio::ALL),
        Some(WireRatio { denominator: 0, .. }) => Err(Error::invalid("ratio.denominator", "is 0")),
        Some(WireRatio { numerator, denominator }) => Ok(Ratio { numerator, denominator }),
    }
}

pub(crate) fn encode_ratio(ratio: Ratio) -> Option<WireRatio> {
    let Ratio { numerator, denominator } = ratio;
    (ratio != Ratio::ALL).then_some(WireRatio { numerator, denominator })
}

fn decode_request_headers(wire: RequestHeaderModifier) -> Result<Filter> {
    decode_modifier(wire.add, wire.set, wire.remove).map(Filter::RequestHeaders)
}

fn encode_request_headers(modifier: &HeaderModifier) -> RequestHeaderModifier {
    let (add, set, remove) = encode_modifier(modifier);
    RequestHeaderModifier { add, set, remove }
}

pub(crate) fn decode_response_headers(wire: ResponseHeaderModifier) -> Result<Filter> {
    decode_modifier(wire.add, wire.set, wire.remove).map(Filter::ResponseHeaders)
}

pub(crate) fn encode_response_headers(modifier: &HeaderModifier) -> ResponseHeaderModifier {
    let (add, set, remove) = encode_modifier(modifier);
    ResponseHeaderModifier { add, set, remove }
}

fn decode_modifier(add: Option<Headers>, set: Option<Headers>, remove: Vec<String>) -> Result<HeaderModifier> {
    Ok(HeaderModifier {
        add: decode_headers(add).within("add")?,
        set: decode_headers(set).within("set")?,
        remove: each("remove", remove, |name| decode_header_name(&name))?,
    })
}

fn encode_modifier(modifier: &HeaderModifier) -> (Option<Headers>, Option<Headers>, Vec<String>) {
    let remove = modifier.remove.iter().map(ToString::to_string).collect();
    (
        Some(encode_headers(&modifier.add)),
        Some(encode_headers(&modifier.set)),
        remove,
    )
}

fn decode_headers(wire: Option<Headers>) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let one = |header: Header| Ok((decode_header_name(&header.name)?, decode_header_value(header.value)?));
    each("headers", wire.unwrap_or_default().headers, one)
}

fn encode_headers(headers: &[(HeaderName, HeaderValue)]) -> Headers {
    let one = |(name, value): &(HeaderName, HeaderValue)| Header {
        name: name.to_string(),
        value: value.as_bytes().to_owned(),
    };
    Headers {
        headers: headers.iter().map(one).collect(),
    }
}

fn decode_redirect(wire: RequestRedirect) -> Result<Filter> {
    let decode = |wire: RequestRedirect| {
        let status = decode_u16("status", wire.status)?;
        if status != 0 && !(100..=999).contains(&status) {
            return Err(Error::invalid("status", format_args!("{status} is not an HTTP status")));
        }
        Ok(Redirect {
            scheme: optional("scheme", wire.scheme, decode_scheme)?,
            host: non_empty(wire.host),
            path: optional("path", wire.path, decode_path_modifier)?,
            port: Some(decode_u16("port", wire.port)?).filter(|port| *port != 0),
            status: Some(status).filter(|status| *status != 0),
        })
    };
    decode(wire).within("redirect").map(Filter::Redirect)
}

fn encode_redirect(redirect: &Redirect) -> RequestRedirect {
    RequestRedirect {
        scheme: redirect.scheme.as_deref().map(Scheme::from),
        host: redirect.host.clone().unwrap_or_default(),
        path: redirect.path.as_ref().map(encode_path_modifier),
        port: redirect.port.map_or(0, u32::from),
        status: redirect.status.map_or(0, u32::from),
    }
}

pub(crate) fn decode_path_modifier(wire: WirePath) -> Result<PathModifier> {
    match wire.replace.ok_or_else(|| Error::missing("replace"))? {
        path_modifier::Replace::Full(path) => Ok(PathModifier::Full(path)),
        path_modifier::Replace::Prefix(prefix) => Ok(PathModifier::Prefix(prefix)),
    }
}

pub(crate) fn encode_path_modifier(path: &PathModifier) -> WirePath {
    let replace = match path {
        PathModifier::Full(path) => path_modifier::Replace::Full(path.clone()),
        PathModifier::Prefix(prefix) => path_modifier::Replace::Prefix(prefix.clone()),
    };
    WirePath { replace: Some(replace) }
}

/// Decodes a scheme to its lower-case text.
pub(crate) fn decode_scheme(wire: Scheme) -> Result<String> {
    match wire.r#type.ok_or_else(|| Error::missing("type"))? {
        scheme::Type::Registered(number) => match scheme::Registered::try_from(number) {
            Ok(scheme::Registered::Http) => Ok("http".to_owned()),
            Ok(scheme::Registered::Https) => Ok("https".to_owned()),
            Err(_) => Err(Error::invalid(
                "registered",
                format_args!("{number} is not a known scheme"),
            )),
        },
        scheme::Type::Unregistered(text) => Ok(text),
    }
}
