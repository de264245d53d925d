//! Endpoints and profiles.

use std::sync::Arc;

use proptest::{collection::vec, option, prelude::*};
use proxy_model::{
    Endpoint, EndpointUpdate, Hint, Http2Params, Profile, TlsIdentity,
    endpoint::{FlowControl, Http2Internals, KeepAlive},
    profile::{ProfileRoute, RequestMatch, ResponseClass, ResponseMatch, RetryBudget, Target},
};

use crate::values::*;

pub(crate) fn http2() -> impl Strategy<Value = Http2Params> {
    let flow = any::<(u32, u32, bool)>().prop_map(|(connection, stream, adaptive)| FlowControl {
        initial_connection_window_size: connection,
        initial_stream_window_size: stream,
        adaptive_flow_control: adaptive,
    });
    let keep = (option::of(duration()), option::of(duration()), any::<bool>());
    let keep = keep.prop_map(|(interval, timeout, while_idle)| KeepAlive {
        interval,
        timeout,
        while_idle,
    });
    let internals = any::<(u32, u32, u32)>().prop_map(|(reset, frame, send)| Http2Internals {
        max_concurrent_reset_streams: reset,
        max_frame_size: frame,
        max_send_buf_size: send,
    });
    (option::of(flow), option::of(keep), option::of(internals)).prop_map(|(flow_control, keep_alive, internals)| {
        Http2Params {
            flow_control,
            keep_alive,
            internals,
        }
    })
}

pub(crate) fn endpoint() -> impl Strategy<Value = Endpoint> {
    let hint = prop_oneof![Just(Hint::Unknown), Just(Hint::Http2), Just(Hint::Opaque)];
    let identity = (id(), name()).prop_map(|(server_id, name)| TlsIdentity {
        server_id,
        server_name: name.into(),
    });
    let more = (
        option::of(authority()),
        labels(),
        option::of(http2()),
        option::of(meta()),
    );
    (addr(), any::<u32>(), option::of(identity), hint, port(), more).prop_map(
        |(addr, weight, identity, hint, opaque_transport_port, (authority_override, labels, http2, resource))| {
            Endpoint {
                addr,
                weight,
                identity,
                hint,
                opaque_transport_port,
                authority_override,
                labels: Arc::new(labels),
                http2,
                resource,
            }
        },
    )
}

pub(crate) fn update() -> impl Strategy<Value = EndpointUpdate> {
    prop_oneof![
        (labels(), vec(endpoint(), 0..3)).prop_map(|(labels, endpoints)| EndpointUpdate::Add {
            labels: Arc::new(labels),
            endpoints
        }),
        vec(addr(), 0..3).prop_map(EndpointUpdate::Remove),
        any::<bool>().prop_map(|exists| EndpointUpdate::NoEndpoints { exists }),
    ]
}

pub(crate) fn request_match() -> impl Strategy<Value = RequestMatch> {
    let leaf = prop_oneof![
        pattern().prop_map(RequestMatch::Path),
        method().prop_map(RequestMatch::Method)
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(RequestMatch::All),
            vec(inner.clone(), 0..3).prop_map(RequestMatch::Any),
            inner.prop_map(|not| RequestMatch::Not(Box::new(not))),
        ]
    })
}

pub(crate) fn response_match() -> impl Strategy<Value = ResponseMatch> {
    let leaf = any::<(u16, u16)>().prop_map(|(min, max)| ResponseMatch::Status { min, max });
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(ResponseMatch::All),
            vec(inner.clone(), 0..3).prop_map(ResponseMatch::Any),
            inner.prop_map(|not| ResponseMatch::Not(Box::new(not))),
        ]
    })
}

pub(crate) fn profile() -> impl Strategy<Value = Profile> {
    let class = (option::of(response_match()), any::<bool>())
        .prop_map(|(condition, is_failure)| ResponseClass { condition, is_failure });
    let route = (
        option::of(request_match()),
        vec(class, 0..3),
        labels(),
        any::<bool>(),
        option::of(duration()),
    );
    let route = route.prop_map(
        |(condition, response_classes, labels, is_retryable, timeout)| ProfileRoute {
            condition,
            response_classes,
            labels: Arc::new(labels),
            is_retryable,
            timeout,
            retry_budget: None,
        },
    );
    let budget =
        (0.0_f32..2.0, any::<u32>(), option::of(duration())).prop_map(|(ratio, min_per_second, ttl)| RetryBudget {
            ratio,
            min_per_second,
            ttl,
        });
    let target = (authority(), any::<u32>(), option::of(meta())).prop_map(|(authority, weight, backend)| Target {
        authority,
        weight,
        backend,
    });
    let head = (
        prop_oneof![Just(String::new()), name()],
        any::<bool>(),
        option::of(endpoint()),
    );
    (
        head,
        vec(route, 0..3),
        option::of(budget),
        vec(target, 0..3),
        option::of(meta()),
        option::of(meta()),
    )
        .prop_map(
            |((fully_qualified_name, opaque_protocol, endpoint), routes, retry_budget, targets, parent, profile)| {
                Profile {
                    fully_qualified_name,
                    opaque_protocol,
                    routes,
                    retry_budget,
                    targets,
                    endpoint: endpoint.map(Arc::new),
                    parent,
                    profile,
                }
            },
        )
}
