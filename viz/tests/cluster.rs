//! The program on a scripted cluster: objects from an API server, and tap as an aggregated API of it.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::{Value, json};

const TAP: &str = "/apis/tap.linkerd.io/v1alpha1/watch/namespaces/vote/deployments/web/tap";

/// Kills the program when the test ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// API server: objects by path, written ones included.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<BTreeMap<String, Value>>>);

impl Server {
    fn put(&self, path: &str, object: Value) {
        self.0
            .lock()
            .expect("no test panics with it")
            .insert(path.to_owned(), object);
    }

    fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().expect("no test panics with it").get(path).cloned()
    }
}

async fn answer(
    State(server): State<Server>,
    method: Method,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let sent = || serde_json::from_slice::<Value>(&body).unwrap_or_default();
    if path == "/apis" {
        return Json(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})).into_response();
    }
    if path.ends_with("/subjectaccessreviews") {
        let mut review = sent();
        let spec = &review["spec"];
        let allowed = spec["user"] == "ann" && spec["groups"][0] == "dev" && spec["extra"]["x"][0] == "1";
        review["status"] = json!({"allowed": allowed, "reason": "the script says so"});
        return (StatusCode::CREATED, Json(review)).into_response();
    }
    match method {
        Method::POST => {
            let object = sent();
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            server.put(&format!("{path}/{name}"), object.clone());
            (StatusCode::CREATED, Json(object)).into_response()
        }
        Method::PATCH => {
            let mut object = server.get(&path).unwrap_or_default();
            for (key, value) in sent()["spec"].as_object().into_iter().flatten() {
                object["spec"][key] = value.clone();
            }
            server.put(&path, object.clone());
            Json(object).into_response()
        }
        _ if query.contains_key("watch") => Response::new(Body::from_stream(futures_util::stream::pending::<
            Result<Bytes, std::io::Error>,
        >())),
        _ => match server.get(&path) {
            Some(object) => Json(object).into_response(),
            None if path.contains("/secrets/") => {
                let status =
                    json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "", "code": 404});
                (StatusCode::NOT_FOUND, Json(status)).into_response()
            }
            None => Json(json!({"metadata": {"resourceVersion": "1"}, "items": []})).into_response(),
        },
    }
}

fn serve(server: &Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("non-blocking");
    let router = Router::new().fallback(answer).with_state(server.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            axum::serve(listener, router).await.expect("it serves");
        });
    });
    addr
}

/// CA of the front proxy, and a client certificate of it.
struct FrontProxy {
    ca_pem: String,
    chain: Vec<CertificateDer<'static>>,
    key_pem: String,
}

fn front_proxy(name: &str) -> FrontProxy {
    let mut ca = CertificateParams::new(vec![]).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().expect("a key");
    let ca_pem = ca.self_signed(&ca_key).expect("signed").pem();
    let mut leaf = CertificateParams::new(vec![]).expect("parameters");
    leaf.distinguished_name.push(DnType::CommonName, name);
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).expect("signed");
    FrontProxy {
        ca_pem,
        chain: vec![leaf.der().clone()],
        key_pem: key.serialize_pem(),
    }
}

/// Sends a request over TLS, with the certificate of `client` if there is one; returns status and body.
fn send(addr: SocketAddr, ca_pem: &str, client: Option<&FrontProxy>, head: &str) -> (u16, String) {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("a CA");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let key = PrivateKeyDer::from_pem_slice(client.key_pem.as_bytes()).expect("a key");
            builder
                .with_client_auth_cert(client.chain.clone(), key)
                .expect("they match")
        }
    };
    let name = "tap.linkerd-viz.svc".try_into().expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let socket = TcpStream::connect(addr).expect("it listens");
    let mut stream = StreamOwned::new(connection, socket);
    let request = format!("{head}\r\nhost: tap\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("written");
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (
        status,
        text.split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned())
            .unwrap_or_default(),
    )
}

fn get(addr: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(addr).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: viz\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}

fn free_addr() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn objects(server: &Server, front: &FrontProxy) {
    let list = |items: Value| json!({"metadata": {"resourceVersion": "1"}, "items": items});
    let pod = json!({
        "metadata": {"name": "web-1-a", "namespace": "vote", "labels": {"linkerd.io/control-plane-ns": "linkerd"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "a"}]},
        "spec": {"serviceAccountName": "web", "containers": [{"name": "web"}, {"name": "linkerd-proxy"}]},
        "status": {"phase": "Running", "podIP": "127.0.0.9"},
    });
    server.put("/api/v1/pods", list(json!([pod])));
    let owners = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "b"}]);
    let set = json!({"metadata": {"name": "web-1", "namespace": "vote", "ownerReferences": owners}});
    server.put("/apis/apps/v1/replicasets", list(json!([set])));
    let data = json!({
        "requestheader-client-ca-file": front.ca_pem,
        "requestheader-allowed-names": "[\"front-proxy-client\"]",
        "requestheader-username-headers": "[\"X-Remote-User\"]",
        "requestheader-group-headers": "[\"X-Remote-Group\"]",
        "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
    });
    let map =
        json!({"metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}, "data": data});
    server.put("/api/v1/namespaces/kube-system/configmaps", list(json!([map])));
    let api = json!({"metadata": {"name": "v1alpha1.tap.linkerd.io", "resourceVersion": "1"}, "spec": {}});
    server.put(
        "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.tap.linkerd.io",
        api,
    );
}

/// Starts the program on the cluster at `url`.
fn start(url: SocketAddr, dir: &tempfile::TempDir, [api, tap, admin]: [SocketAddr; 3]) -> Program {
    let kubeconfig = dir.path().join("config");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{url}")}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).expect("written");
    let program = Command::new(env!("CARGO_BIN_EXE_mesh-viz"))
        .args(["--kubernetes", "--viz-namespace", "linkerd-viz", "--kubeconfig"])
        .arg(&kubeconfig)
        .args([
            "--addr",
            &api.to_string(),
            "--tap-addr",
            &tap.to_string(),
            "--admin-addr",
            &admin.to_string(),
        ])
        .spawn();
    Program(program.expect("the program starts"))
}

#[test]
fn watches_a_cluster_and_authorizes_taps() {
    let (server, front) = (Server::default(), front_proxy("front-proxy-client"));
    objects(&server, &front);
    let dir = tempfile::tempdir().expect("a directory");
    let (api, tap, admin) = (free_addr(), free_addr(), free_addr());
    let _program = start(serve(&server), &dir, [api, tap, admin]);

    wait("not ready", || {
        get(admin, "/ready").filter(|(status, _)| *status == 200)
    });
    let pods = wait("no pod", || {
        get(api, "/api/pods").filter(|(_, text)| text.contains("web-1-a"))
    })
    .1;
    assert!(
        pods.contains("\"owner\":\"deployment/web\"") && pods.contains("\"meshed\":true"),
        "{pods}"
    );
    let (status, text) = get(api, "/api/tap?resource=deploy/web&namespace=vote").expect("an answer");
    assert!(status == 403 && text.contains(TAP), "{status} {text}");

    // The certificate is published to the API server, then the API is served.
    let bundle = wait("no caBundle", || {
        let api = server.get("/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.tap.linkerd.io")?;
        BASE64_STANDARD.decode(api["spec"]["caBundle"].as_str()?).ok()
    });
    let ca = String::from_utf8(bundle).expect("PEM");
    let post = |user: &str| {
        format!(
            "POST {TAP} HTTP/1.1\r\nx-remote-user: {user}\r\nx-remote-group: dev\r\nx-remote-extra-x: 1\r\ncontent-type: application/json"
        )
    };
    let discovery = "GET /apis/tap.linkerd.io/v1alpha1 HTTP/1.1";
    let resources = wait("no discovery", || {
        TcpStream::connect(tap).ok()?;
        Some(send(tap, &ca, None, discovery).1).filter(|text| text.contains("deployments/tap"))
    });
    assert!(resources.contains("APIResourceList"), "{resources}");
    let (status, text) = send(tap, &ca, None, &post("ann"));
    assert!(status == 401 && text.contains("client certificate"), "{status} {text}");
    let (status, text) = send(tap, &ca, Some(&front), &post("eve"));
    let sentence = "permission denied: user \\\"eve\\\" cannot watch deployments/tap of the group tap.linkerd.io named web in \
                    namespace vote (the script says so)";
    assert!(
        status == 403 && text.contains(sentence) && text.contains("\"reason\":\"Forbidden\""),
        "{status} {text}"
    );
    // A user with permission gets as far as the missing body.
    let (status, text) = send(tap, &ca, Some(&front), &post("ann"));
    assert!(status == 400 && text.contains("invalid body:"), "{status} {text}");
    // A certificate of another CA is rejected.
    let (status, _) = send(tap, &ca, Some(&front_proxy("front-proxy-client")), &post("ann"));
    assert_eq!(status, 0, "no handshake");
}
