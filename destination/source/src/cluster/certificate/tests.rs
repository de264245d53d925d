//! The keeper against a scripted API server: a Secret, a webhook configuration, jumping clocks.

use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::timeout};

use super::{
    make::{CA, CERTIFICATE, KEY},
    *,
};

const SECRETS: &str = "/api/v1/namespaces/mesh/secrets";
const SECRET: &str = "/api/v1/namespaces/mesh/secrets/tls";
const WEBHOOK: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/w";
const DAY: u64 = 24 * 3600;
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    down: bool,
    /// Writes of webhook configurations are rejected.
    forbidden: bool,
    /// Secret that is created concurrently, just before ours.
    first: Option<Value>,
    version: u64,
    secret: Option<Value>,
    webhook: Option<Value>,
    writes: u32,
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with it")
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body
                    .collect()
                    .await
                    .map(http_body_util::Collected::to_bytes)
                    .unwrap_or_default();
                server.state().answer(&parts.method, parts.uri.path(), &body)
            }
        });
        Client::from_kube(kube::Client::new(service, "default"))
    }

    fn with_webhook() -> Self {
        let server = Self::default();
        server.state().webhook = Some(json!({"metadata": {"name": "w", "resourceVersion": "1"},
            "webhooks": [{"name": "a", "clientConfig": {"service": {"name": "s"}}}]}));
        server
    }

    fn held(&self, key: &str) -> Option<String> {
        let state = self.state();
        let text = state.secret.as_ref()?["data"][key].as_str()?.to_owned();
        String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()
    }

    fn trusted(&self) -> Option<String> {
        let state = self.state();
        let text = state.webhook.as_ref()?["webhooks"][0]["clientConfig"]["caBundle"]
            .as_str()?
            .to_owned();
        String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()
    }
}

impl State {
    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> Result<Response<Body>, std::io::Error> {
        if self.down {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        let of_webhook = path == WEBHOOK;
        let writes = *method != Method::GET;
        if of_webhook && writes && self.forbidden {
            return Ok(status(403, "Forbidden"));
        }
        self.version += u64::from(writes);
        self.writes += u32::from(writes);
        if path == SECRETS {
            self.secret = self.first.take().or_else(|| self.secret.take());
            if self.secret.is_some() {
                return Ok(status(409, "AlreadyExists"));
            }
            self.secret = Some(sent.clone());
        }
        let version = self.version.to_string();
        let object = match path {
            SECRET | SECRETS => self.secret.as_mut(),
            WEBHOOK => self.webhook.as_mut(),
            _ => None,
        };
        let Some(object) = object else {
            return Ok(status(404, "NotFound"));
        };
        if *method == Method::PATCH {
            let has = object["metadata"]["resourceVersion"].clone();
            if sent["metadata"]["resourceVersion"] != has {
                return Ok(status(409, "Conflict"));
            }
            merge(object, &sent);
        }
        if writes {
            object["metadata"]["resourceVersion"] = version.into();
        }
        Ok(reply(200, object))
    }
}

fn merge(into: &mut Value, patch: &Value) {
    match patch {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| merge(&mut into[key], value)),
        other => *into = other.clone(),
    }
}

fn reply(code: u16, body: &Value) -> Response<Body> {
    let body = Body::from(body.to_string().into_bytes());
    Response::builder().status(code).body(body).expect("valid")
}

fn status(code: u16, reason: &str) -> Response<Body> {
    reply(
        code,
        &json!({"kind": "Status", "status": "Failure", "code": code, "message": reason, "reason": reason}),
    )
}

fn wanted() -> Keep {
    Keep {
        namespace: "mesh".to_owned(),
        secret: "tls".to_owned(),
        dns_names: vec!["w.mesh.svc".to_owned()],
        ca_bundle_of: vec![
            (CaBundleOf::Mutating, "w".to_owned()),
            (CaBundleOf::Validating, "absent".to_owned()),
        ],
        ..Keep::default()
    }
}

fn start(server: &Server, keep: Keep, clock: fn() -> SystemTime) -> (Current, JoinHandle<()>) {
    let (sender, receiver) = watch::channel(None);
    let keeper = Keeper::new(server.client(), keep, sender, clock);
    (receiver, tokio::spawn(keeper.run()))
}

async fn next(current: &mut Current) -> Arc<Credentials> {
    timeout(MINUTE, current.changed())
        .await
        .expect("in time")
        .expect("kept");
    current.borrow_and_update().clone().expect("there")
}

fn certificates(pem: &str) -> usize {
    pem.matches("BEGIN CERTIFICATE").count()
}

/// A Secret as `make` fills it, with or without our label.
fn secret(keep: &Keep, made_at: SystemTime, ours: bool) -> Value {
    let data = make(&keep.dns_names, None, made_at).expect("made");
    let data: BTreeMap<_, _> = data.into_iter().map(|(k, v)| (k, BASE64_STANDARD.encode(v))).collect();
    let labels = if ours { make::labels(keep) } else { BTreeMap::new() };
    json!({"metadata": {"name": "tls", "resourceVersion": "0", "labels": labels}, "data": data})
}

#[tokio::test(start_paused = true)]
async fn creates_publishes_and_serves_a_certificate() {
    let server = Server::with_webhook();
    let (mut current, _task) = start(&server, wanted(), SystemTime::now);
    let served = next(&mut current).await;
    assert_eq!(server.held(CERTIFICATE).as_deref(), Some(&*served.cert_pem));
    assert_eq!(server.held(KEY).as_deref(), Some(&*served.key_pem));
    assert!(server.held(CA).is_some() && server.held(CA) == server.trusted());
    verifies(
        &served.cert_pem,
        &server.trusted().expect("published"),
        SystemTime::now(),
    );
    // An upgrade may remove the caBundle.
    let writes = server.state().writes;
    server.state().webhook.as_mut().expect("there")["webhooks"][0]["clientConfig"]["caBundle"] = "".into();
    sleep(MINUTE).await;
    assert_eq!(server.trusted(), server.held(CA));
    assert_eq!(server.state().writes, writes + 1, "nothing is written needlessly");
}

/// Verifies as the API server does.
fn verifies(leaf: &str, bundle: &str, now: SystemTime) {
    let of = |pem: &str| {
        let pems = x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes());
        pems.map(|pem| pem.expect("PEM").contents.into())
            .collect::<Vec<CertificateDer<'static>>>()
    };
    let (leaf, bundle) = (of(leaf), of(bundle));
    let anchors: Vec<_> = bundle
        .iter()
        .map(|ca| webpki::anchor_from_trusted_cert(ca).expect("a CA"))
        .collect();
    let leaf = webpki::EndEntityCert::try_from(&leaf[0]).expect("a certificate");
    let usage = webpki::KeyUsage::server_auth();
    let since = now.duration_since(SystemTime::UNIX_EPOCH).expect("later");
    let (algorithms, now) = (webpki::ALL_VERIFICATION_ALGS, UnixTime::since_unix_epoch(since));
    leaf.verify_for_usage(algorithms, &anchors, &[], now, usage, None, None)
        .expect("trusted");
    leaf.verify_is_valid_for_subject_name(&"w.mesh.svc".try_into().expect("a name"))
        .expect("its name");
}

#[tokio::test(start_paused = true)]
async fn concurrent_creators_serve_one_certificate() {
    let server = Server::with_webhook();
    let other = secret(&wanted(), SystemTime::now(), true);
    server.state().first = Some(other.clone());
    let (mut current, _task) = start(&server, wanted(), SystemTime::now);
    let served = next(&mut current).await;
    assert_eq!(BASE64_STANDARD.encode(&served.cert_pem), other["data"][CERTIFICATE]);
    let (mut third, _task) = start(&server, wanted(), SystemTime::now);
    assert_eq!(next(&mut third).await, served);
}

#[tokio::test(start_paused = true)]
async fn renews_before_expiry_and_keeps_the_previous_ca_trusted() {
    static LATER: AtomicU64 = AtomicU64::new(0);
    let clock = || SystemTime::now() + Duration::from_secs(LATER.load(Ordering::Relaxed));
    let server = Server::with_webhook();
    let (mut current, _task) = start(&server, wanted(), clock);
    let first = next(&mut current).await;
    LATER.store(240 * DAY, Ordering::Relaxed);
    sleep(MINUTE).await;
    assert_eq!(server.held(CERTIFICATE).as_deref(), Some(&*first.cert_pem));
    LATER.store(250 * DAY, Ordering::Relaxed);
    let old = server.trusted().expect("published");
    // Not served before callers trust it.
    server.state().forbidden = true;
    sleep(MINUTE).await;
    assert_ne!(server.held(CERTIFICATE).as_deref(), Some(&*first.cert_pem));
    assert_eq!(current.borrow().as_deref(), Some(&*first));
    server.state().forbidden = false;
    let second = next(&mut current).await;
    let trusted = server.trusted().expect("published");
    assert!(trusted.ends_with(old.trim_end()) && certificates(&trusted) == 2);
    verifies(&second.cert_pem, &trusted, clock());
    LATER.store(500 * DAY, Ordering::Relaxed);
    next(&mut current).await;
    assert_eq!(
        certificates(&server.trusted().expect("published")),
        2,
        "the oldest is forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn survives_an_outage_and_recreates_a_lost_secret() {
    let server = Server::with_webhook();
    server.state().down = true;
    let (mut current, _task) = start(&server, wanted(), SystemTime::now);
    sleep(60 * MINUTE).await;
    assert_eq!(*current.borrow(), None);
    server.state().down = false;
    let first = next(&mut current).await;
    server.state().down = true;
    sleep(60 * MINUTE).await;
    assert_eq!(current.borrow().as_deref(), Some(&*first));
    server.state().down = false;
    server.state().secret = None;
    assert_ne!(next(&mut current).await, first);
}

#[tokio::test(start_paused = true)]
async fn only_reads_externally_managed_secrets() {
    let server = Server::with_webhook();
    let external = Keep {
        external: true,
        ..wanted()
    };
    let (mut current, _task) = start(&server, external, SystemTime::now);
    sleep(MINUTE).await;
    assert_eq!(*current.borrow(), None);
    assert_eq!(server.state().writes, 0);
    let long_ago = SystemTime::now() - Duration::from_secs(400 * DAY);
    server.state().secret = Some(secret(&wanted(), long_ago, true));
    let expired = next(&mut current).await;
    assert_eq!(server.state().writes, 1, "only the caBundle is written");
    // Renewed externally; without the flag, the missing label decides.
    server.state().secret = Some(secret(&wanted(), SystemTime::now(), false));
    assert_ne!(next(&mut current).await, expired);
    let (mut unlabelled, _task) = start(&server, wanted(), SystemTime::now);
    next(&mut unlabelled).await;
    assert_eq!(server.state().writes, 2);
}

#[test]
fn renews_invalid_certificates_of_our_own() {
    let keep = wanted();
    let now = SystemTime::now();
    let found = |names: &[String]| super::super::secret::FoundSecret {
        data: make(names, None, now).expect("made"),
        labels: make::labels(&keep),
        annotations: BTreeMap::new(),
        version: "7".to_owned(),
    };
    let renews = |found: &super::super::secret::FoundSecret| {
        let situation = Situation {
            keep: &keep,
            found: Some(found),
            now,
        };
        matches!(decide(situation), CertificateAction::Renew { version, .. } if version == "7")
    };
    assert!(!renews(&found(&keep.dns_names)));
    assert!(renews(&found(&["other.mesh.svc".to_owned()])));
    let mut broken = found(&keep.dns_names);
    broken.data.insert(CERTIFICATE.to_owned(), b"x".to_vec());
    assert!(renews(&broken));
    broken.data.remove(KEY);
    assert!(renews(&broken));
    broken
        .annotations
        .insert("cert-manager.io/certificate-name".to_owned(), "c".to_owned());
    assert!(!renews(&broken));
    broken.annotations.clear();
    assert!(renews(&broken));
    broken.labels.clear();
    assert!(!renews(&broken));
}
