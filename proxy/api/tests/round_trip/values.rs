//! Texts, addresses, identities: parts of all messages.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU16, time::Duration};

use http::Method;
use proptest::prelude::*;
use proxy_model::{Authority, Id, Meta, route::Pattern};

pub(crate) fn text() -> impl Strategy<Value = String> {
    "[a-z]{1,6}"
}

pub(crate) fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,4}(\\.[a-z][a-z0-9]{0,4}){0,3}"
}

pub(crate) fn duration() -> impl Strategy<Value = Duration> {
    (0_u64..1_000_000, 0_u32..1_000_000_000).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

pub(crate) fn addr() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

pub(crate) fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(text(), "[a-z]{0,3}", 0..3)
}

pub(crate) fn port() -> impl Strategy<Value = Option<NonZeroU16>> {
    any::<u16>().prop_map(NonZeroU16::new)
}

pub(crate) fn pattern() -> impl Strategy<Value = Pattern> {
    prop_oneof!["/[a-z]{1,3}", "\\[a-z\\]\\+"].prop_map(|text| Pattern::anchored(&text).expect("pattern"))
}

pub(crate) fn method() -> impl Strategy<Value = Method> {
    prop_oneof![
        Just(Method::GET),
        Just(Method::TRACE),
        "[A-Z]{3,5}".prop_map(|m| m.parse().expect("method"))
    ]
}

pub(crate) fn meta() -> impl Strategy<Value = Meta> {
    let resource = (text(), text(), text(), text(), "[a-z]{0,2}", port());
    prop_oneof![
        text().prop_map(|name| Meta::default_named(&name)),
        resource.prop_map(|(group, kind, name, namespace, section, port)| Meta::Resource {
            group: group.into(),
            kind: kind.into(),
            name: name.into(),
            namespace: namespace.into(),
            section: section.into(),
            port,
        })
    ]
}

pub(crate) fn id() -> impl Strategy<Value = Id> {
    prop_oneof![name(), text().prop_map(|t| format!("spiffe://TD/{t}"))].prop_map(|text| text.parse().expect("id"))
}

pub(crate) fn authority() -> impl Strategy<Value = Authority> {
    (name(), 1_u16..).prop_map(|(host, port)| Authority::new(&host, port))
}
