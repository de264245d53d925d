//! Streams over an index: what is sent at first, what after a change, and what a slow reader gets.

use destination_index::{Config, Context};
use destination_k8s::Object;
use futures_util::StreamExt;
use linkerd2_proxy_api::destination::{
    GetDestination, Update, destination_server::Destination, update::Update as Kind,
};
use tonic::Request;

use super::*;

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

async fn get(service: &Service, name: &str) -> Result<follow::Messages<Update>, Status> {
    let path = format!("{name}.a.svc.cluster.local:80");
    let request = GetDestination {
        scheme: String::new(),
        path,
        context_token: String::new(),
    };
    Ok(service.get(Request::new(request)).await?.into_inner())
}

async fn sizes(stream: &mut follow::Messages<Update>) -> (&'static str, usize) {
    let message = tokio::time::timeout(std::time::Duration::from_secs(2), stream.next())
        .await
        .expect("in time");
    match message.expect("open").expect("valid").update.expect("an update") {
        Kind::Add(add) => ("add", add.addrs.len()),
        Kind::Remove(remove) => ("remove", remove.addrs.len()),
        Kind::NoEndpoints(none) => ("none", usize::from(none.exists)),
    }
}

#[tokio::test]
async fn a_slow_reader_gets_the_difference_to_the_latest_state() {
    let service = services(vec![service("web"), slice("web", 1..=2)]);
    let mut stream = get(&service, "web").await.expect("a stream");
    assert_eq!(sizes(&mut stream).await, ("add", 2));
    for last in 3..=9 {
        service.index().apply([slice("web", 2..=last)]);
    }
    // Eight states became one difference: what is new comes before what is gone.
    assert_eq!(sizes(&mut stream).await, ("add", 7));
    assert_eq!(sizes(&mut stream).await, ("remove", 1));
    assert_eq!(service.metrics.rows()[0].messages, 3);
    drop(stream);
    assert!(service.metrics.rows().is_empty());
}

#[tokio::test]
async fn no_endpoints_and_no_service_are_said_at_once() {
    let service = services(vec![service("empty")]);
    let mut stream = get(&service, "empty").await.expect("a stream");
    assert_eq!(sizes(&mut stream).await, ("add", 0));
    service.index().delete([self::service("empty").object_ref()]);
    assert_eq!(sizes(&mut stream).await, ("none", 0));
    service.index().apply([self::service("empty"), slice("empty", 1..=1)]);
    assert_eq!(sizes(&mut stream).await, ("add", 1));

    let refused = get(&service, "other").await.err().expect("refused");
    assert_eq!(refused.code(), tonic::Code::NotFound);
    let text = service.metrics.render(service.index().counts());
    assert!(
        text.contains("mesh_destination_refused_total{rpc=\"Destination.Get\",code=\"NotFound\"} 1"),
        "{text}"
    );
}

#[tokio::test]
async fn many_endpoints_are_several_messages_and_a_stop_ends_the_stream() {
    let many: Vec<_> = (0..5).map(|n| {
        let endpoints: Vec<_> = (0..250).map(|i| serde_json::json!({"addresses": [format!("10.{n}.0.{i}")]})).collect();
        let value = serde_json::json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": format!("web-{n}"), "namespace": "a", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": endpoints, "ports": [{"port": 8080}]});
        Object::from_value(value).expect("a slice")
    }).collect();
    let service = services([vec![service("web")], many].concat());
    let mut stream = get(&service, "web").await.expect("a stream");
    assert_eq!(sizes(&mut stream).await, ("add", 1_000));
    assert_eq!(sizes(&mut stream).await, ("add", 250));
    service.stop.cancel();
    assert!(stream.next().await.is_none());
    assert!(
        service
            .index()
            .endpoints("web.a.svc.cluster.local:80", &Context::default())
            .is_ok()
    );
}
