//! Events against an API server: none about what does not exist, whatever a review says.

use std::sync::Mutex;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use destination_source::cluster::{self as source, ClientOptions};

use super::*;
use crate::{
    cluster::Controller,
    events::{self, Events, INJECTED, InjectionEvent, SKIPPED},
};

/// Names of the objects that Events were written about.
type Written = Arc<Mutex<Vec<String>>>;

async fn write(State(written): State<Written>, Json(event): Json<Value>) -> (StatusCode, Json<Value>) {
    let name = event["involvedObject"]["name"].as_str().expect("a name").to_owned();
    written.lock().expect("unpoisoned").push(name);
    (StatusCode::CREATED, Json(event))
}

async fn stateful_set(Path(name): Path<String>) -> (StatusCode, Json<Value>) {
    if name == "db" {
        let object = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "uid": "u1"}});
        return (StatusCode::OK, Json(object));
    }
    let absent = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404});
    (StatusCode::NOT_FOUND, Json(absent))
}

async fn api_server(dir: &std::path::Path) -> (source::Client, Written) {
    let written = Written::default();
    let router = Router::new()
        .route("/apis/apps/v1/namespaces/shop/statefulsets/{name}", get(stateful_set))
        .route("/api/v1/namespaces/{namespace}/events", post(write))
        .with_state(written.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(axum::serve(listener, router).into_future());
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": format!("http://{addr}")}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    let path = dir.join("kubeconfig");
    fs::write(&path, kubeconfig.to_string()).expect("written");
    let options = ClientOptions {
        kubeconfig: Some(path),
        ..ClientOptions::default()
    };
    (source::client(&options).await.expect("a client"), written)
}

fn event(namespace: &str, kind: &str, name: &str, uid: &str) -> InjectionEvent {
    let object = Controller {
        api_version: "apps/v1".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    };
    InjectionEvent::new(namespace, object, INJECTED, "text".to_owned())
}

#[tokio::test]
async fn forged_reviews_cause_no_events_about_what_does_not_exist() {
    let dir = tempfile::tempdir().expect("a folder");
    let (client, written) = api_server(dir.path()).await;
    let cluster = Cluster::default();
    let (sender, updates) = mpsc::channel(1);
    let shop = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    let objects = vec![Object::from_value(shop).expect("a Namespace")];
    sender.send(Update::Reset(objects)).await.expect("room");
    drop(sender);
    cluster.clone().follow(updates, Readiness::default()).await;

    let metrics = Metrics::new();
    let (events, queue) = Events::queue();
    for forged in [
        event("elsewhere", "StatefulSet", "db", "u1"),
        event("shop", "StatefulSet", "absent", "u1"),
        event("shop", "StatefulSet", "db", "another"),
        event("shop", "StatefulSet", "", "u1"),
        event("shop", "StatefulSet", "../../../secrets/x", "u1"),
        event("shop", "Secret", "db", "u1"),
    ] {
        events.push(forged, &metrics);
    }
    events.push(event("shop", "StatefulSet", "db", "u1"), &metrics);
    let flood = (0..100).map(|at| {
        let object = event("shop", "StatefulSet", "db", "u1").object;
        InjectionEvent::new("shop", object, SKIPPED, at.to_string())
    });
    flood.for_each(|event| events.push(event, &metrics));
    drop(events);
    events::run(queue, client, cluster, metrics.clone()).await;
    let written = written.lock().expect("unpoisoned");
    assert!(written.iter().all(|name| name == "db"), "{written:?}");
    let most = crate::limits::EVENTS_IN_A_ROW.value as usize;
    assert!(!written.is_empty() && written.len() <= most, "{}", written.len());
    let text = metrics.render();
    for result in ["unknown", "limited", "recorded"] {
        assert!(
            text.contains(&format!("mesh_injector_events_total{{result=\"{result}\"}}")),
            "{text}"
        );
    }
}
