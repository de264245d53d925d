//! Conditions of taps.

use proptest::{collection::vec, prelude::*};
use proxy_model::tap::{TapMatch, TcpMatch, TextMatch};

use crate::values::*;

pub(crate) fn tap_match() -> impl Strategy<Value = TapMatch> {
    let tcp = || {
        prop_oneof![
            (any::<std::net::IpAddr>(), 1_u8..=32)
                .prop_map(|(ip, length)| TcpMatch::Net(ipnet::IpNet::new(ip, length).expect("net"))),
            (1_u16.., 1_u16..).prop_map(|(a, b)| TcpMatch::Ports(a.min(b), a.max(b))),
        ]
    };
    let words = || prop_oneof![text().prop_map(TextMatch::Exact), text().prop_map(TextMatch::Prefix)];
    let leaf = prop_oneof![
        tcp().prop_map(TapMatch::Source),
        tcp().prop_map(TapMatch::Destination),
        (text(), text()).prop_map(|(key, value)| TapMatch::DestinationLabel(key, value)),
        (text(), text()).prop_map(|(key, value)| TapMatch::RouteLabel(key, value)),
        text().prop_map(TapMatch::Scheme),
        method().prop_map(TapMatch::Method),
        words().prop_map(TapMatch::Authority),
        words().prop_map(TapMatch::Path),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(TapMatch::All),
            vec(inner.clone(), 0..3).prop_map(TapMatch::Any),
            inner.prop_map(|not| TapMatch::Not(Box::new(not))),
        ]
    })
}
