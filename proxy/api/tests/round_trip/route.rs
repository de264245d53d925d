//! Matches, filters and rules.

use http::{HeaderName, HeaderValue};
use proptest::{collection::vec, option, prelude::*};
use proxy_model::{
    outbound::{Backend, Queue},
    route::*,
};

use crate::values::*;

pub(crate) fn host() -> impl Strategy<Value = HostMatch> {
    prop_oneof![
        name().prop_map(HostMatch::Exact),
        vec(text(), 1..4).prop_map(HostMatch::Suffix)
    ]
}

pub(crate) fn header() -> impl Strategy<Value = HeaderMatch> {
    let value = prop_oneof![
        header_value().prop_map(HeaderValueMatch::Exact),
        pattern().prop_map(HeaderValueMatch::Regex),
    ];
    (header_name(), value).prop_map(|(name, value)| HeaderMatch { name, value })
}

pub(crate) fn header_name() -> impl Strategy<Value = HeaderName> {
    "x-[a-z]{1,4}".prop_map(|name| name.parse().expect("name"))
}

pub(crate) fn header_value() -> impl Strategy<Value = HeaderValue> {
    vec(0x80_u8.., 0..4).prop_map(|bytes| HeaderValue::from_bytes(&bytes).expect("value"))
}

pub(crate) fn http_match() -> impl Strategy<Value = HttpMatch> {
    let path = prop_oneof![
        text().prop_map(PathMatch::Exact),
        text().prop_map(PathMatch::Prefix),
        pattern().prop_map(PathMatch::Regex),
    ];
    let value = prop_oneof![
        text().prop_map(QueryValueMatch::Exact),
        pattern().prop_map(QueryValueMatch::Regex)
    ];
    let query = (text(), value).prop_map(|(name, value)| QueryMatch { name, value });
    (
        option::of(path),
        vec(header(), 0..2),
        vec(query, 0..2),
        option::of(method()),
    )
        .prop_map(|(path, headers, query, method)| HttpMatch {
            path,
            headers,
            query,
            method,
        })
}

pub(crate) fn grpc_match() -> impl Strategy<Value = GrpcMatch> {
    (
        option::of(text()),
        option::of(text()),
        vec(header(), 0..2),
        any::<bool>(),
    )
        .prop_map(|(service, method, headers, has_rpc)| {
            let has_rpc = has_rpc || service.is_some() || method.is_some();
            GrpcMatch {
                service,
                method,
                headers,
                has_rpc,
            }
        })
}

pub(crate) fn ratio() -> impl Strategy<Value = Ratio> {
    prop_oneof![
        Just(Ratio::ALL),
        (0_u32..9, 2_u32..9).prop_map(|(numerator, denominator)| Ratio { numerator, denominator })
    ]
}

pub(crate) fn modifier() -> impl Strategy<Value = HeaderModifier> {
    let headers = || vec((header_name(), header_value()), 0..2);
    (headers(), headers(), vec(header_name(), 0..2)).prop_map(|(add, set, remove)| HeaderModifier { add, set, remove })
}

pub(crate) fn fail_http() -> impl Strategy<Value = Filter> {
    (100_u16..=999, text(), ratio()).prop_map(|(status, message, ratio)| Filter::FailHttp { status, message, ratio })
}

pub(crate) fn fail_grpc() -> impl Strategy<Value = Filter> {
    (0_u16..17, text(), ratio()).prop_map(|(code, message, ratio)| Filter::FailGrpc { code, message, ratio })
}

pub(crate) fn redirect() -> impl Strategy<Value = Filter> {
    let path = prop_oneof![
        text().prop_map(PathModifier::Full),
        text().prop_map(PathModifier::Prefix)
    ];
    let scheme = prop_oneof![
        Just("http".to_owned()),
        Just("https".to_owned()),
        Just("ftp".to_owned())
    ];
    let numbers = (option::of(1_u16..), option::of(300_u16..400));
    (option::of(scheme), option::of(name()), option::of(path), numbers).prop_map(
        |(scheme, host, path, (port, status))| {
            Filter::Redirect(Redirect {
                scheme,
                host,
                path,
                port,
                status,
            })
        },
    )
}

pub(crate) fn rewrite() -> impl Strategy<Value = Filter> {
    let path = prop_oneof![
        text().prop_map(PathModifier::Full),
        text().prop_map(PathModifier::Prefix)
    ];
    (option::of(name()), option::of(path)).prop_map(|(host, path)| Filter::Rewrite(Rewrite { host, path }))
}

/// A mirror; its backend varies little, for the sake of the stack.
pub(crate) fn mirror() -> impl Strategy<Value = Filter> {
    (meta(), ratio()).prop_map(|(meta, ratio)| {
        let queue = Queue {
            capacity: 1,
            failfast_timeout: None,
        };
        let backend = Backend {
            meta,
            dispatch: None,
            queue: Some(queue),
        };
        Filter::Mirror(Mirror {
            backend: backend.into(),
            ratio,
        })
    })
}

/// Filters that travel in extension fields where a kind of route lacks them.
pub(crate) fn extra_filter() -> impl Strategy<Value = Filter> {
    prop_oneof![modifier().prop_map(Filter::ResponseHeaders), rewrite(), mirror()]
}

/// Filters that both directions have.
pub(crate) fn http_filter() -> impl Strategy<Value = Filter> {
    prop_oneof![fail_http(), modifier().prop_map(Filter::RequestHeaders), redirect()]
}

pub(crate) fn grpc_filter() -> impl Strategy<Value = Filter> {
    prop_oneof![fail_grpc(), modifier().prop_map(Filter::RequestHeaders)]
}

pub(crate) fn tcp_filter() -> impl Strategy<Value = Filter> {
    prop_oneof![Just(Filter::Forbidden), text().prop_map(Filter::Invalid)]
}

pub(crate) fn rule<M: std::fmt::Debug, T: std::fmt::Debug>(
    matches: impl Strategy<Value = M>,
    filters: impl Strategy<Value = Filter>,
    action: impl Strategy<Value = T>,
) -> impl Strategy<Value = Rule<M, T>> {
    (vec(matches, 0..2), vec(filters, 0..3), action).prop_map(|(matches, filters, action)| Rule {
        matches,
        filters,
        action,
    })
}
