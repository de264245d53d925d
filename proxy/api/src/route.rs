//! Conditions on requests, timeouts and pauses: shared by inbound and outbound routes.

use http::{HeaderName, HeaderValue, Method};
use linkerd2_proxy_api::{
    grpc_route::{GrpcRouteMatch, GrpcRpcMatch},
    http_route::{
        self as wire, HttpRouteMatch, QueryParamMatch, header_match, host_match, path_match, query_param_match,
    },
    http_types::HttpMethod,
    outbound::ExponentialBackoff,
    tls_route::{SniMatch, sni_match},
};
use proxy_model::route::{
    Backoff, GrpcMatch, HeaderMatch, HeaderValueMatch, HostMatch, HttpMatch, PathMatch, Pattern, QueryMatch,
    QueryValueMatch, Timeouts,
};

use crate::{
    Error, Result,
    error::{each, optional, required},
    net::{decode_duration, encode_duration, non_empty},
};

pub(crate) fn decode_pattern(field: &str, text: &str) -> Result<Pattern> {
    Pattern::anchored(text).map_err(|error| Error::invalid(field, error))
}

pub(crate) fn decode_method(wire: HttpMethod) -> Result<Method> {
    wire.try_into().map_err(|error| Error::invalid("method", error))
}

pub(crate) fn decode_header_name(name: &str) -> Result<HeaderName> {
    name.parse()
        .map_err(|_| Error::invalid("name", format_args!("{name:?} is not a header name")))
}

pub(crate) fn decode_header_value(value: Vec<u8>) -> Result<HeaderValue> {
    HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).map_err(|error| Error::invalid("value", error))
}

pub(crate) fn decode_host(wire: wire::HostMatch) -> Result<HostMatch> {
    match wire.r#match.ok_or_else(|| Error::missing("match"))? {
        host_match::Match::Exact(name) => Ok(HostMatch::Exact(name)),
        host_match::Match::Suffix(suffix) => Ok(HostMatch::Suffix(suffix.reverse_labels)),
    }
}

pub(crate) fn encode_host(host: &HostMatch) -> wire::HostMatch {
    let host = match host {
        HostMatch::Exact(name) => host_match::Match::Exact(name.clone()),
        HostMatch::Suffix(labels) => host_match::Match::Suffix(host_match::Suffix {
            reverse_labels: labels.clone(),
        }),
    };
    wire::HostMatch { r#match: Some(host) }
}

pub(crate) fn decode_sni(wire: SniMatch) -> Result<HostMatch> {
    match wire.r#match.ok_or_else(|| Error::missing("match"))? {
        sni_match::Match::Exact(name) => Ok(HostMatch::Exact(name)),
        sni_match::Match::Suffix(suffix) => Ok(HostMatch::Suffix(suffix.reverse_labels)),
    }
}

pub(crate) fn encode_sni(sni: &HostMatch) -> SniMatch {
    let sni = match sni {
        HostMatch::Exact(name) => sni_match::Match::Exact(name.clone()),
        HostMatch::Suffix(labels) => sni_match::Match::Suffix(sni_match::Suffix {
            reverse_labels: labels.clone(),
        }),
    };
    SniMatch { r#match: Some(sni) }
}

pub(crate) fn decode_http_match(wire: HttpRouteMatch) -> Result<HttpMatch> {
    Ok(HttpMatch {
        path: optional("path", wire.path, decode_path)?,
        headers: each("headers", wire.headers, decode_header)?,
        query: each("query_params", wire.query_params, decode_query)?,
        method: wire.method.map(decode_method).transpose()?,
    })
}

pub(crate) fn encode_http_match(matches: &HttpMatch) -> HttpRouteMatch {
    HttpRouteMatch {
        path: matches.path.as_ref().map(encode_path),
        headers: matches.headers.iter().map(encode_header).collect(),
        query_params: matches.query.iter().map(encode_query).collect(),
        method: matches.method.clone().map(Into::into),
    }
}

pub(crate) fn decode_grpc_match(wire: GrpcRouteMatch) -> Result<GrpcMatch> {
    let has_rpc = wire.rpc.is_some();
    let rpc = wire.rpc.unwrap_or_default();
    Ok(GrpcMatch {
        service: non_empty(rpc.service),
        method: non_empty(rpc.method),
        headers: each("headers", wire.headers, decode_header)?,
        has_rpc,
    })
}

pub(crate) fn encode_grpc_match(matches: &GrpcMatch) -> GrpcRouteMatch {
    let has_rpc = matches.has_rpc || matches.service.is_some() || matches.method.is_some();
    let rpc = has_rpc.then(|| GrpcRpcMatch {
        service: matches.service.clone().unwrap_or_default(),
        method: matches.method.clone().unwrap_or_default(),
    });
    GrpcRouteMatch {
        rpc,
        headers: matches.headers.iter().map(encode_header).collect(),
    }
}

fn decode_path(wire: wire::PathMatch) -> Result<PathMatch> {
    match wire.kind.ok_or_else(|| Error::missing("kind"))? {
        path_match::Kind::Exact(path) => Ok(PathMatch::Exact(path)),
        path_match::Kind::Prefix(prefix) => Ok(PathMatch::Prefix(prefix)),
        path_match::Kind::Regex(regex) => decode_pattern("regex", &regex).map(PathMatch::Regex),
    }
}

fn encode_path(path: &PathMatch) -> wire::PathMatch {
    let kind = match path {
        PathMatch::Exact(path) => path_match::Kind::Exact(path.clone()),
        PathMatch::Prefix(prefix) => path_match::Kind::Prefix(prefix.clone()),
        PathMatch::Regex(pattern) => path_match::Kind::Regex(pattern.as_str().to_owned()),
    };
    wire::PathMatch { kind: Some(kind) }
}

fn decode_header(wire: wire::HeaderMatch) -> Result<HeaderMatch> {
    let value = match wire.value.ok_or_else(|| Error::missing("value"))? {
        header_match::Value::Exact(bytes) => HeaderValueMatch::Exact(decode_header_value(bytes)?),
        header_match::Value::Regex(regex) => HeaderValueMatch::Regex(decode_pattern("regex", &regex)?),
    };
    Ok(HeaderMatch {
        name: decode_header_name(&wire.name)?,
        value,
    })
}

fn encode_header(header: &HeaderMatch) -> wire::HeaderMatch {
    let value = match &header.value {
        HeaderValueMatch::Exact(value) => header_match::Value::Exact(value.as_bytes().to_owned()),
        HeaderValueMatch::Regex(pattern) => header_match::Value::Regex(pattern.as_str().to_owned()),
    };
    wire::HeaderMatch {
        name: header.name.to_string(),
        value: Some(value),
    }
}

fn decode_query(wire: QueryParamMatch) -> Result<QueryMatch> {
    let value = match wire.value.ok_or_else(|| Error::missing("value"))? {
        query_param_match::Value::Exact(value) => QueryValueMatch::Exact(value),
        query_param_match::Value::Regex(regex) => QueryValueMatch::Regex(decode_pattern("regex", &regex)?),
    };
    Ok(QueryMatch { name: wire.name, value })
}

fn encode_query(query: &QueryMatch) -> QueryParamMatch {
    let value = match &query.value {
        QueryValueMatch::Exact(value) => query_param_match::Value::Exact(value.clone()),
        QueryValueMatch::Regex(pattern) => query_param_match::Value::Regex(pattern.as_str().to_owned()),
    };
    QueryParamMatch {
        name: query.name.clone(),
        value: Some(value),
    }
}

pub(crate) fn decode_timeouts(wire: wire::Timeouts) -> Result<Timeouts> {
    Ok(Timeouts {
        response: optional("response", wire.response, decode_duration)?,
        request: optional("request", wire.request, decode_duration)?,
        idle: optional("idle", wire.idle, decode_duration)?,
    })
}

pub(crate) fn encode_timeouts(timeouts: &Timeouts) -> wire::Timeouts {
    wire::Timeouts {
        response: timeouts.response.map(encode_duration),
        request: timeouts.request.map(encode_duration),
        idle: timeouts.idle.map(encode_duration),
    }
}

/// Decodes exponential pauses: 0 < min <= max, jitter finite and not negative.
pub(crate) fn decode_backoff(wire: ExponentialBackoff) -> Result<Backoff> {
    let min = required("min_backoff", wire.min_backoff, decode_duration)?;
    let max = required("max_backoff", wire.max_backoff, decode_duration)?;
    if max.is_zero() || min > max {
        return Err(Error::invalid("max_backoff", "is 0 or less than min_backoff"));
    }
    let jitter = wire.jitter_ratio;
    if !jitter.is_finite() || jitter < 0.0 {
        return Err(Error::invalid("jitter_ratio", format_args!("{jitter} is not a ratio")));
    }
    Ok(Backoff {
        min,
        max,
        jitter,
        respect_retry_after_hint: wire.respect_retry_after_hint,
    })
}

pub(crate) fn encode_backoff(backoff: &Backoff) -> ExponentialBackoff {
    ExponentialBackoff {
        min_backoff: Some(encode_duration(backoff.min)),
        max_backoff: Some(encode_duration(backoff.max)),
        jitter_ratio: backoff.jitter,
        respect_retry_after_hint: backoff.respect_retry_after_hint,
    }
}
