//! Tests of the tap registry.

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::BodyExt as _;
use proxy_model::{Labels, tap::Direction};

use super::*;
use crate::Body;

fn request(path: &str) -> TapRequest {
    let addr = "10.0.0.1:80".parse().expect("valid");
    TapRequest {
        direction: Direction::Inbound,
        source: addr,
        source_labels: Labels::default(),
        destination: addr,
        destination_labels: Labels::default(),
        route_labels: Labels::default(),
        method: Method::GET,
        scheme: "http".into(),
        authority: "web".into(),
        path: path.into(),
    }
}

fn prefix(path: &str) -> TapMatch {
    TapMatch::Path(TextMatch::Prefix(path.into()))
}

#[tokio::test]
async fn reports_a_matching_request_from_head_to_end() {
    let registry = Registry::default();
    assert!(!registry.is_active());
    let mut events = registry.observe(prefix("/a"), 1, false).expect("there is room");
    assert!(registry.is_active());
    assert!(registry.request(request("/b"), &HeaderMap::new()).is_none());
    let tapped = registry
        .request(request("/a/1"), &HeaderMap::new())
        .expect("it matches");
    assert!(!registry.is_active(), "the limit is reached");
    let response = TappedBody::wrap(Response::new(Body::Full(Bytes::from_static(b"abc"))), tapped);
    response.into_body().collect().await.expect("no error");
    let mut kinds = Vec::new();
    while let Some(event) = events.recv().await {
        assert_eq!((event.stream, event.request.path.as_str()), (0, "/a/1"));
        kinds.push(event.kind);
    }
    assert!(matches!(kinds[0], TapEventKind::RequestInit { headers: None }));
    assert!(matches!(kinds[1], TapEventKind::ResponseInit { status: 200, .. }));
    assert!(matches!(
        kinds[2],
        TapEventKind::ResponseEnd {
            response_bytes: 3,
            end: StreamEnd::Complete,
            ..
        }
    ));
    assert_eq!(kinds.len(), 3);
}

#[tokio::test]
async fn reports_a_dropped_request_as_cancelled() {
    let registry = Registry::default();
    let mut events = registry.observe(prefix("/"), 1, true).expect("there is room");
    drop(registry.request(request("/"), &HeaderMap::new()));
    assert!(matches!(
        events.recv().await.expect("an event").kind,
        TapEventKind::RequestInit { headers: Some(_) }
    ));
    let end = events.recv().await.expect("an event").kind;
    assert!(matches!(
        end,
        TapEventKind::ResponseEnd {
            end: StreamEnd::Reset(8),
            ..
        }
    ));
}

#[test]
fn counts_events_lost_by_a_slow_observer() {
    let registry = Registry::default();
    let _events = registry.observe(prefix("/"), 1_000_000, false).expect("there is room");
    for _ in 0..limits::TAP_EVENTS.value {
        drop(registry.request(request("/"), &HeaderMap::new()));
    }
    assert_eq!(registry.dropped(), limits::TAP_EVENTS.value as u64);
}

#[test]
fn limits_the_number_of_observers() {
    let registry = Registry::default();
    let open: Vec<_> = (0..limits::TAP_OBSERVERS.value)
        .map(|_| registry.observe(prefix("/"), 1, false))
        .collect();
    assert!(open.iter().all(Result::is_ok));
    assert_eq!(
        registry.observe(prefix("/"), 1, false).err(),
        Some(ObserveError::TooMany)
    );
    drop(open);
    assert!(registry.observe(prefix("/"), 1, false).is_ok());
    assert_eq!(
        registry.observe(prefix("/"), 0, false).err(),
        Some(ObserveError::NoLimit)
    );
}
