//! Streams over an index: first messages, changes, slow readers.

mod hostile;

use std::collections::VecDeque;

use bytes::Buf as _;
use destination_index::Config;
use destination_k8s::Object;
use http_body_util::BodyExt as _;
use linkerd2_proxy_api::destination::{GetDestination, Update, update::Update as Kind};
use prost::Message as _;

use super::*;
use crate::{body::ResponseBody, clients::Caller};

fn service(name: &str) -> Object {
    let value = serde_json::json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "a"}, "spec": {"ports": [{"port": 80}]}});
    Object::from_value(value).expect("a Service")
}

fn slice(service: &str, ips: std::ops::RangeInclusive<u8>) -> Object {
    let endpoints: Vec<_> = ips
        .map(|n| serde_json::json!({"addresses": [format!("192.0.2.{n}")]}))
        .collect();
    let value = serde_json::json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": service, "namespace": "a", "labels": {"kubernetes.io/service-name": service}},
        "endpoints": endpoints, "ports": [{"port": 8080}]});
    Object::from_value(value).expect("a slice")
}

fn services(objects: Vec<Object>) -> Service {
    let mut index = Index::new(Config::default());
    index.apply(objects);
    Service::new(
        Arc::new(Mutex::new(index)),
        Metrics::default(),
        CancellationToken::new(),
    )
}

fn get(service: &Service, name: &str) -> Result<Stream, Status> {
    let path = format!("{name}.a.svc.cluster.local:80");
    let request = GetDestination {
        scheme: String::new(),
        path,
        context_token: String::new(),
    };
    let share = service.clients.admit(Caller::Unidentified).expect("room");
    let body = service.get(request, share)?;
    Ok(Stream {
        body,
        read: VecDeque::new(),
    })
}

/// Body of a response, read message by message.
struct Stream {
    body: ResponseBody,
    read: VecDeque<Update>,
}

impl Stream {
    /// Returns the next message; none at a successful end.
    async fn next(&mut self) -> Option<Update> {
        while self.read.is_empty() {
            let frame = self.body.frame().await?.expect("infallible");
            let mut bytes = match frame.into_data() {
                Ok(bytes) => bytes,
                Err(frame) => {
                    let trailers = frame.into_trailers().expect("trailers");
                    assert_eq!(trailers["grpc-status"], "0");
                    continue;
                }
            };
            while bytes.has_remaining() {
                assert_eq!(bytes.get_u8(), 0);
                let length = bytes.get_u32() as usize;
                self.read
                    .push_back(Update::decode(bytes.split_to(length)).expect("protobuf"));
            }
        }
        self.read.pop_front()
    }
}

async fn sizes(stream: &mut Stream) -> (&'static str, usize) {
    let message = tokio::time::timeout(std::time::Duration::from_secs(2), stream.next())
        .await
        .expect("in time");
    match message.expect("open").update.expect("an update") {
        Kind::Add(add) => ("add", add.addrs.len()),
        Kind::Remove(remove) => ("remove", remove.addrs.len()),
        Kind::NoEndpoints(none) => ("none", usize::from(none.exists)),
    }
}

#[tokio::test]
async fn slow_reader_gets_the_difference_to_the_latest_state() {
    let service = services(vec![service("web"), slice("web", 1..=2)]);
    let mut stream = get(&service, "web").expect("a stream");
    assert_eq!(sizes(&mut stream).await, ("add", 2));
    for last in 3..=9 {
        service.index().apply([slice("web", 2..=last)]);
    }
    // Eight states became one difference, additions before removals.
    assert_eq!(sizes(&mut stream).await, ("add", 7));
    assert_eq!(sizes(&mut stream).await, ("remove", 1));
    assert_eq!(service.metrics.rows()[0].messages, 3);
    drop(stream);
    assert!(service.metrics.rows().is_empty());
}

#[tokio::test]
async fn reports_missing_endpoints_and_services_at_once() {
    let service = services(vec![service("empty")]);
    let mut stream = get(&service, "empty").expect("a stream");
    assert_eq!(sizes(&mut stream).await, ("add", 0));
    service.index().delete([self::service("empty").object_ref()]);
    assert_eq!(sizes(&mut stream).await, ("none", 0));
    service.index().apply([self::service("empty"), slice("empty", 1..=1)]);
    assert_eq!(sizes(&mut stream).await, ("add", 1));

    let refused = get(&service, "other").err().expect("refused");
    assert_eq!(refused.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn splits_many_endpoints_into_messages_and_ends_with_the_index() {
    let many: Vec<_> = (0..5).map(|n| {
        let endpoints: Vec<_> = (0..250).map(|i| serde_json::json!({"addresses": [format!("10.{n}.0.{i}")]})).collect();
        let value = serde_json::json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": format!("web-{n}"), "namespace": "a", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": endpoints, "ports": [{"port": 8080}]});
        Object::from_value(value).expect("a slice")
    }).collect();
    let service = services([vec![service("web")], many].concat());
    let mut stream = get(&service, "web").expect("a stream");
    assert_eq!(sizes(&mut stream).await, ("add", 1_000));
    assert_eq!(sizes(&mut stream).await, ("add", 250));
    service.index().close();
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn encodes_a_message_once_for_all_streams() {
    let service = services(vec![service("web"), slice("web", 1..=2)]);
    let mut streams: Vec<_> = (0..5).map(|_| get(&service, "web").expect("a stream")).collect();
    let encoded = || {
        let text = service.metrics.render(service.index().counts());
        let line = text
            .lines()
            .find(|line| line.starts_with("mesh_destination_encoded_total"));
        line.expect("a counter")
            .rsplit(' ')
            .next()
            .expect("a number")
            .to_owned()
    };
    for stream in &mut streams {
        assert_eq!(sizes(stream).await, ("add", 2));
    }
    assert_eq!(encoded(), "1");
    service.index().apply([slice("web", 1..=3)]);
    for stream in &mut streams[1..] {
        assert_eq!(sizes(stream).await, ("add", 1));
    }
    assert_eq!(encoded(), "2");
    // One stream is behind and needs a difference of its own.
    service.index().apply([slice("web", 1..=5)]);
    assert_eq!(sizes(&mut streams[0]).await, ("add", 3));
    assert_eq!(sizes(&mut streams[1]).await, ("add", 2));
    assert_eq!(sizes(&mut streams[2]).await, ("add", 2));
    assert_eq!(encoded(), "4");
}
