//! Tokens reviewed by an API server: what many bad ones cost, and that good ones are served meanwhile.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use axum::{Json, Router, extract::State, routing::post};
use destination_source::cluster::{self, ClientOptions};
use proxy_process::rate::Bounds;
use serde_json::Value;

use super::*;
use crate::review::Reviewer;

/// Reviews that the API server was asked for, of each audience.
#[derive(Clone, Default)]
struct Asked {
    ours: Arc<AtomicUsize>,
    own: Arc<AtomicUsize>,
}

async fn review(State(asked): State<Asked>, Json(mut review): Json<Value>) -> Json<Value> {
    let token = review["spec"]["token"].as_str().unwrap().to_owned();
    let is_ours = review["spec"]["audiences"].is_array();
    if is_ours { &asked.ours } else { &asked.own }.fetch_add(1, Relaxed);
    let user = json!({"username": "system:serviceaccount:emoji:web"});
    review["status"] = match token.as_str() {
        "good" => json!({"authenticated": true, "user": user}),
        "old" if !is_ours => json!({"authenticated": true, "user": user}),
        "old" => json!({"error": "token audiences [\"a\"] is invalid for the target audiences [\"b\"]"}),
        _ => json!({"error": "invalid bearer token"}),
    };
    Json(review)
}

/// The service with an API server, and the limits that have refused something.
struct Reviewed {
    client: IdentityClient<tonic::transport::Channel>,
    asked: Asked,
    reviewer: Reviewer,
    refused: Arc<Mutex<Vec<&'static str>>>,
    _dir: tempfile::TempDir,
}

impl Reviewed {
    async fn start(any_audience: bool) -> Self {
        let asked = Asked::default();
        let router = Router::new().route("/apis/authentication.k8s.io/v1/tokenreviews", post(review));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, router.with_state(asked.clone())).into_future());
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{addr}")}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        let options = ClientOptions {
            kubeconfig: Some(path),
            ..ClientOptions::default()
        };
        let cluster = cluster::client(&options).await.unwrap();
        let refused = Arc::<Mutex<Vec<&'static str>>>::default();
        let seen = refused.clone();
        let reviewer = Reviewer::new(cluster, any_audience, move |limit| {
            seen.lock().unwrap().push(limit.name);
        });

        let Server { dir, authority, .. } = Server::start().await;
        let args = args(dir.path().to_owned());
        drop(authority);
        let (_, receiver) = authority::Reload::new(&args, Metrics::new());
        let certifier = Certifier {
            authority: receiver,
            validator: Validator::Kubernetes(reviewer.clone()),
            control_plane_namespace: "linkerd".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            times: LeafTimes::DEFAULT,
        };
        let client = served(certifier, Metrics::new()).await;
        Self {
            client,
            asked,
            reviewer,
            refused,
            _dir: dir,
        }
    }

    /// Asks for a certificate, as a client that the sidecar has identified if `id` is not empty.
    async fn certify(&self, token: &str, id: &str) -> Result<(), Status> {
        let mut request = tonic::Request::new(CertifyRequest {
            identity: NAME.to_owned(),
            token: token.as_bytes().to_vec(),
            certificate_signing_request: csr(NAME),
        });
        if !id.is_empty() {
            request.metadata_mut().insert("l5d-client-id", id.parse().unwrap());
        }
        self.client.clone().certify(request).await.map(drop)
    }
}

#[tokio::test]
async fn many_bad_tokens_cost_a_bounded_number_of_reviews_and_known_clients_are_served_meanwhile() {
    const ROW: u32 = 20;
    let server = Reviewed::start(false).await;
    server.reviewer.bound(Bounds { row: ROW, every: DAY });
    let mut codes = std::collections::BTreeMap::<i32, usize>::new();
    for at in 0..ROW + 30 {
        let refused = server.certify(&format!("forged-{at}"), "").await.unwrap_err();
        *codes.entry(refused.code() as i32).or_default() += 1;
    }
    let expected = [
        (Code::InvalidArgument as i32, ROW as usize),
        (Code::ResourceExhausted as i32, 30),
    ];
    assert_eq!(codes, expected.into());
    assert_eq!(server.asked.ours.load(Relaxed), ROW as usize);
    assert_eq!(*server.refused.lock().unwrap(), ["REVIEW_EVERY"; 30]);
    server.certify("good", NAME).await.unwrap();
}

#[tokio::test]
async fn a_token_found_invalid_is_not_reviewed_again() {
    let server = Reviewed::start(false).await;
    for _ in 0..50 {
        let refused = server.certify("forged", "").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("invalid bearer token"), "{refused:?}");
    }
    assert_eq!(server.asked.ours.load(Relaxed), 1);
    server.certify("good", "").await.unwrap();
}

#[tokio::test]
async fn tokens_for_the_api_server_are_accepted_only_by_flag() {
    let strict = Reviewed::start(false).await;
    assert_eq!(
        strict.certify("old", "").await.unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(
        (strict.asked.ours.load(Relaxed), strict.asked.own.load(Relaxed)),
        (1, 0)
    );
    let lenient = Reviewed::start(true).await;
    lenient.certify("old", "").await.unwrap();
    assert_eq!(
        (lenient.asked.ours.load(Relaxed), lenient.asked.own.load(Relaxed)),
        (1, 1)
    );
}
