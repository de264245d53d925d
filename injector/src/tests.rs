//! The webhooks in process: reviews over TLS, answers as the API server reads them.

mod fuzz;

mod events;

use std::{convert::Infallible, fs, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use destination_k8s::Object;
use destination_source::Update;
use futures_util::{StreamExt as _, stream};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proxy_process::{
    admin::Readiness,
    serve::{Refusals, Server},
};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::{
    body::Budget,
    cluster::Cluster,
    events::Events,
    limits::WEBHOOK_BODY_BYTES,
    metrics::Metrics,
    reload::{self, Current, Pair, Place},
    server::{Webhook, Webhooks, with_limits},
};

/// Running webhook with its files.
struct Running {
    addr: std::net::SocketAddr,
    dir: tempfile::TempDir,
    roots: RootCertStore,
    updates: mpsc::Sender<Update>,
    metrics: Metrics,
    stop: CancellationToken,
}

fn certificate() -> (String, String, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["injector.test".to_owned()]).expect("a certificate");
    (
        made.cert.pem(),
        made.signing_key.serialize_pem(),
        made.cert.der().clone(),
    )
}

fn namespace(name: &str, inject: &str) -> Object {
    let value = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "annotations": {"linkerd.io/inject": inject}}});
    Object::from_value(value).expect("valid")
}

fn poll<T: Send + Sync + 'static>(pair: Pair<T>, metrics: &Metrics) -> Current<T> {
    let (sender, current) = watch::channel(None);
    tokio::spawn(pair.poller(metrics.clone(), sender).run());
    current
}

/// Cluster with two namespaces, and the sender of its updates.
async fn synced_cluster() -> (Cluster, mpsc::Sender<Update>) {
    let (updates, receiver) = mpsc::channel(4);
    let (cluster, ready) = (Cluster::default(), Readiness::default());
    tokio::spawn(cluster.clone().follow(receiver, ready.clone()));
    let namespaces = vec![namespace("shop", "enabled"), namespace("off", "disabled")];
    updates.send(Update::Reset(namespaces)).await.expect("open");
    while !ready.is_ready() {
        tokio::task::yield_now().await;
    }
    (cluster, updates)
}

impl Running {
    async fn start(values: Option<&str>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let (cert, key, der) = certificate();
        fs::write(path("tls.crt"), cert).expect("writable");
        fs::write(path("tls.key"), key).expect("writable");
        fs::write(path("anchors"), "PEM").expect("writable");
        if let Some(values) = values {
            fs::write(path("values"), values).expect("writable");
        }
        let mut roots = RootCertStore::empty();
        roots.add(der).expect("a root");
        let metrics = Metrics::new();
        let files = |a: &str, b: &str| -> [PathBuf; 2] { [path(a), path(b)] };
        let pair = Pair {
            what: "certificate",
            files: files("tls.crt", "tls.key"),
            make: Box::new(reload::tls),
        };
        let mut tls = poll(pair, &metrics);
        let place = Place {
            namespace: "linkerd".to_owned(),
            native_sidecars: true,
        };
        let make = Box::new(move |texts: [&str; 2]| reload::injector(texts, &place));
        let pair = Pair {
            what: "values",
            files: files("values", "anchors"),
            make,
        };
        let mut injector = poll(pair, &metrics);
        tls.wait_for(Option::is_some).await.expect("read");
        if values.is_some() {
            injector.wait_for(Option::is_some).await.expect("read");
        }
        let (cluster, updates) = synced_cluster().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let webhook = Arc::new(Webhook {
            tls,
            injector,
            cluster,
            events: Events::default(),
            metrics: metrics.clone(),
            bodies: Budget::default(),
            refusals: Refusals::default(),
        });
        let server = with_limits(Server::new("webhook", |_| ()));
        tokio::spawn(server.serve(listener, Webhooks(webhook), stop.clone()));
        Self {
            addr,
            dir,
            roots,
            updates,
            metrics,
            stop,
        }
    }

    /// Connects over HTTP/2, as the API server does.
    async fn connect<B>(&self) -> Option<http2::SendRequest<B>>
    where
        B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
    {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("versions").with_root_certificates(self.roots.clone());
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let socket = TcpStream::connect(self.addr).await.ok()?;
        let name = "injector.test".try_into().expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await.ok()?;
        let io = TokioIo::new(stream);
        let (send, connection) = http2::handshake(TokioExecutor::new(), io).await.ok()?;
        tokio::spawn(connection);
        Some(send)
    }

    /// Sends a request on a new connection.
    async fn ask(&self, path: &str, body: impl Into<Bytes>) -> Option<(StatusCode, Vec<u8>)> {
        let mut send = self.connect::<Full<Bytes>>().await?;
        let request = Request::post(format!("https://injector.test{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.into()))
            .expect("a request");
        let response = send.send_request(request).await.ok()?;
        let status = response.status();
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some((status, body.to_vec()))
    }

    async fn review(&self, namespace: &str, object: &Value) -> Value {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": object["kind"]}, "operation": "CREATE",
            "namespace": namespace, "object": object, "oldObject": null, "dryRun": false}});
        let (status, body) = self
            .ask("/", serde_json::to_vec(&review).expect("JSON"))
            .await
            .expect("an answer");
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(
            (&answer["apiVersion"], &answer["kind"]),
            (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
        );
        assert_eq!(answer["response"]["uid"], "u-1");
        answer["response"].clone()
    }
}

fn pod(annotations: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-5d4f-", "annotations": annotations,
        "labels": {"pod-template-hash": "5d4f"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "web-5d4f", "controller": true}]},
        "spec": {"containers": [{"name": "app", "image": "a"}]}})
}

fn patched(response: &Value, object: &Value) -> Value {
    assert_eq!(
        (&response["allowed"], &response["patchType"]),
        (&json!(true), &json!("JSONPatch")),
        "{response}"
    );
    let text = STANDARD
        .decode(response["patch"].as_str().expect("a patch"))
        .expect("base64");
    let patch: json_patch::Patch = serde_json::from_slice(&text).expect("a JSON patch");
    let mut after = object.clone();
    json_patch::patch(&mut after, &patch).expect("fits");
    after
}

#[tokio::test]
async fn injects_a_pod_over_tls() {
    let webhook = Running::start(Some("clusterDomain: example.org\n")).await;
    let object = pod(&json!({}));
    let after = patched(&webhook.review("shop", &object).await, &object);
    assert_eq!(after["spec"]["initContainers"][1]["name"], "linkerd-proxy");
    assert_eq!(after["metadata"]["labels"]["linkerd.io/proxy-deployment"], "web");
    assert_eq!(after["metadata"]["labels"]["linkerd.io/workload-ns"], "shop");

    let again = webhook.review("shop", &after).await;
    assert_eq!(again, json!({"uid": "u-1", "allowed": true}), "injected already");
    assert_eq!(
        webhook.review("off", &object).await,
        json!({"uid": "u-1", "allowed": true})
    );
    let text = webhook.metrics.render();
    let counted = "proxy_inject_admission_responses_total{owner_kind=\"deployment\",namespace=\"shop\",\
        annotation_at=\"namespace\",skip=\"true\",skip_reason=\"sidecar_already_exists\"} 1";
    assert!(text.contains(counted), "{text}");
    webhook.stop.cancel();
}

#[tokio::test]
async fn rejects_an_invalid_annotation_with_a_message() {
    let webhook = Running::start(Some("{}")).await;
    let response = webhook
        .review("shop", &pod(&json!({"config.linkerd.io/admin-port": "x"})))
        .await;
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().expect("a sentence");
    assert!(
        message.starts_with("invalid annotation config.linkerd.io/admin-port on the workload: \"x\""),
        "{message}"
    );
}

#[tokio::test]
async fn services_get_their_opaque_ports_and_other_kinds_pass() {
    let webhook = Running::start(Some("{}")).await;
    let service = json!({"kind": "Service", "metadata": {"name": "db"}, "spec": {"ports": [{"port": 3306}]}});
    let after = patched(&webhook.review("new", &service).await, &service);
    assert_eq!(
        after["metadata"]["annotations"]["config.linkerd.io/opaque-ports"],
        "3306"
    );
    assert_eq!(
        webhook.review("shop", &json!({"kind": "ConfigMap"})).await,
        json!({"uid": "u-1", "allowed": true})
    );
}

#[tokio::test]
async fn hostile_reviews_are_bounded() {
    let webhook = Running::start(Some("{}")).await;
    let (status, _) = webhook
        .ask("/", vec![b' '; WEBHOOK_BODY_BYTES.value + 1])
        .await
        .expect("an answer");
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);

    let review = |kind: &str, object: &str| {
        format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","request":{{"uid":"u","namespace":"forged","kind":{{"kind":"{kind}"}},"object":{object}}}}}"#
        )
    };
    // JSON that grows 25-fold when parsed: never parsed for a kind that is not reviewed, rejected for a Pod.
    let dense = format!("[{}[0]]", "[0],".repeat(110_000));
    for path in ["/", "/validate"] {
        let (status, _) = webhook.ask(path, review("Secret", &dense)).await.expect("an answer");
        assert_eq!(status, StatusCode::OK, "{path}");
        let (status, body) = webhook.ask(path, review("Pod", &dense)).await.expect("an answer");
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert!(String::from_utf8_lossy(&body).contains("more than 200000 values"));
    }

    let mut owned = pod(&json!({}));
    owned["metadata"]["ownerReferences"][0]["kind"] = "x".repeat(200).into();
    let (status, _) = webhook
        .ask("/", review("Pod", &owned.to_string()))
        .await
        .expect("an answer");
    assert_eq!(status, StatusCode::OK);
    let text = webhook.metrics.render();
    assert!(text.contains(r#"owner_kind="other",namespace="""#), "{text}");
    assert!(!text.contains("xxx") && !text.contains("forged"), "{text}");
}

#[tokio::test]
async fn unfinished_bodies_do_not_delay_reviews() {
    let webhook = Running::start(Some("{}")).await;
    // More streams than a connection may have, each with a body that never ends.
    let hostile = webhook.connect().await.expect("a connection");
    for _ in 0..64 {
        let mut send = hostile.clone();
        tokio::spawn(async move {
            let frames = stream::once(async { Ok(Frame::data(Bytes::from_static(b"{"))) }).chain(stream::pending());
            let request = Request::post("https://injector.test/").body(StreamBody::new(Box::pin(frames)));
            let _ = send.send_request(request.expect("a request")).await;
        });
    }
    let object = pod(&json!({}));
    let reviewed = tokio::time::timeout(Duration::from_secs(5), webhook.review("shop", &object)).await;
    assert!(reviewed.expect("in time").get("patch").is_some());
}

#[tokio::test]
async fn malformed_reviews_get_no_answer() {
    let webhook = Running::start(Some("{}")).await;
    let status = async |path: &str, body: &str| webhook.ask(path, body.to_owned()).await.expect("an answer").0;
    assert_eq!(status("/", "{").await, StatusCode::BAD_REQUEST);
    assert_eq!(
        status("/", r#"{"apiVersion":"admission.k8s.io/v1"}"#).await,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(status("/other", "{}").await, StatusCode::NOT_FOUND);
    assert!(
        webhook
            .metrics
            .render()
            .contains("mesh_injector_reviews_refused_total{reason=\"no_answer\"} 3")
    );
    // Without values there is no answer either: the failure policy decides.
    let unconfigured = Running::start(None).await;
    let (status, body) = unconfigured.ask("/", "{}").await.expect("an answer");
    assert_eq!(
        status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        String::from_utf8_lossy(&body)
    );
}

#[tokio::test]
async fn follows_changes_of_namespaces_and_files() {
    let mut webhook = Running::start(Some("{}")).await;
    let object = pod(&json!({}));
    assert_eq!(
        webhook.review("late", &object).await,
        json!({"uid": "u-1", "allowed": true})
    );
    let applied = vec![namespace("late", "enabled")];
    webhook
        .updates
        .send(Update::Changed {
            applied,
            deleted: vec![],
        })
        .await
        .expect("open");
    while webhook.review("late", &object).await.get("patch").is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (cert, key, der) = certificate();
    let path = |name: &str| webhook.dir.path().join(name);
    fs::write(path("tls.key"), "broken").expect("writable");
    fs::write(path("tls.crt"), cert).expect("writable");
    fs::write(path("values"), "proxy: {uid: 77}\n").expect("writable");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let after = patched(&webhook.review("shop", &object).await, &object);
    assert_eq!(
        after["spec"]["initContainers"][1]["securityContext"]["runAsUser"], 77,
        "new values, old certificate"
    );
    fs::write(path("tls.key"), key).expect("writable");
    webhook.roots = RootCertStore::empty();
    webhook.roots.add(der).expect("a root");
    while webhook.ask("/", "{}").await.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
