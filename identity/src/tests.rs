//! The service in-process, called over a real connection: every response that Linkerd's gives, and live reloads.

mod fuzz;
mod reviews;

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use base64::Engine as _;
use identity_x509::{Anchor, Anchors, Csr, Issuer, LeafTimes, Validity, make_key_and_csr};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse, identity_client::IdentityClient};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{args::Args, authority, certify::Certifier, grpc::Identity, metrics::Metrics, token, validator::Validator};

const NAME: &str = "web.emoji.serviceaccount.identity.linkerd.cluster.local";
const DAY: Duration = Duration::from_secs(86_400);

/// Key that signs tokens.
struct Signer {
    key: EncodingKey,
    jwk: serde_json::Value,
}

impl Signer {
    fn new(kid: &str) -> Self {
        let der = make_key_and_csr("signer.test").unwrap();
        let key = EncodingKey::from_ec_der(&der.key_pkcs8_der);
        let mut jwk =
            serde_json::to_value(jsonwebtoken::jwk::Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
        jwk["kid"] = json!(kid);
        Self { key, jwk }
    }

    fn token(&self, claims: serde_json::Value) -> Vec<u8> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = self.jwk["kid"].as_str().map(ToOwned::to_owned);
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap().into_bytes()
    }

    fn good_token(&self) -> Vec<u8> {
        self.token(claims(json!({})))
    }
}

/// Claims of a valid token, with some replaced (null removes).
fn claims(changes: serde_json::Value) -> serde_json::Value {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let mut claims = json!({
        "sub": "system:serviceaccount:emoji:web", "aud": [token::AUDIENCE], "iat": now, "exp": now + 3600, "iss": "mesh-local",
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

/// mesh-identity without its process.
struct Server {
    dir: tempfile::TempDir,
    anchor: Anchor,
    signer: Signer,
    metrics: Metrics,
    authority: authority::Reload,
    tokens: token::Reload,
    client: IdentityClient<tonic::transport::Channel>,
}

impl Server {
    async fn start() -> Self {
        let anchor = Anchor::generate("root.linkerd.cluster.local", DAY * 100).unwrap();
        let (dir, signer) = (tempfile::tempdir().unwrap(), Signer::new("one"));
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("anchors.pem", &anchor.certificate_pem());
        write("jwks.json", &json!({ "keys": [signer.jwk] }).to_string());
        let issuer = Issuer::generate(&anchor, "identity.linkerd.cluster.local", DAY * 10).unwrap();
        write("issuer.crt", &issuer.certificate_pem());
        write("issuer.key", &issuer.key_pem());
        Self::serve(dir, anchor, signer).await
    }

    async fn serve(dir: tempfile::TempDir, anchor: Anchor, signer: Signer) -> Self {
        let metrics = Metrics::new();
        let args = args(dir.path().to_owned());
        let (authority, receiver) = authority::Reload::new(&args, metrics.clone());
        let (tokens, jwks) = token::Reload::new(args.jwks.expect("given"), args.clock_skew_allowance);
        let certifier = Certifier {
            authority: receiver,
            validator: Validator::Jwks(jwks),
            control_plane_namespace: "linkerd".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            times: LeafTimes::DEFAULT,
        };
        let client = served(certifier, metrics.clone()).await;
        Self {
            dir,
            anchor,
            signer,
            metrics,
            authority,
            tokens,
            client,
        }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    async fn certify(&self, identity: &str, token: Vec<u8>, csr: Vec<u8>) -> Result<CertifyResponse, Status> {
        let request = CertifyRequest {
            identity: identity.to_owned(),
            token,
            certificate_signing_request: csr,
        };
        self.client
            .clone()
            .certify(request)
            .await
            .map(|response| response.into_inner())
    }

    async fn good(&self) -> Result<CertifyResponse, Status> {
        self.certify(NAME, self.signer.good_token(), csr(NAME)).await
    }

    async fn refused_token(&self, token: Vec<u8>) -> Status {
        self.certify(NAME, token, csr(NAME)).await.unwrap_err()
    }

    fn anchors(&self) -> Anchors {
        Anchors::from_pem(&self.anchor.certificate_pem()).unwrap()
    }
}

/// A client of a real server.
async fn served(certifier: Certifier, metrics: Metrics) -> IdentityClient<tonic::transport::Channel> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr: SocketAddr = listener.local_addr().unwrap();
    let server = proxy_process::serve::Server::new("identity", |_| {});
    tokio::spawn(Identity { certifier, metrics }.serve(server, listener, CancellationToken::new()));
    IdentityClient::connect(format!("http://{addr}")).await.unwrap()
}

fn args(dir: PathBuf) -> Args {
    use clap::Parser as _;
    let file = |name: &str| dir.join(name).into_os_string();
    let mut line = vec!["mesh-identity".into()];
    for (flag, name) in [
        ("--issuer-cert", "issuer.crt"),
        ("--issuer-key", "issuer.key"),
        ("--trust-anchors", "anchors.pem"),
        ("--jwks", "jwks.json"),
    ] {
        line.extend([flag.into(), file(name)]);
    }
    Args::try_parse_from(line).unwrap()
}

fn csr(name: &str) -> Vec<u8> {
    make_key_and_csr(name).unwrap().csr_der
}

fn verify(anchors: &Anchors, response: &CertifyResponse) {
    let intermediates: Vec<_> = response
        .intermediate_certificates
        .iter()
        .map(|der| der.clone().into())
        .collect();
    anchors
        .verify(&response.leaf_certificate, &intermediates, SystemTime::now())
        .unwrap();
}

#[tokio::test]
async fn workload_with_valid_token_gets_a_leaf() {
    let server = Server::start().await;
    let response = server.good().await.unwrap();
    verify(&server.anchors(), &response);
    assert_eq!(response.intermediate_certificates.len(), 1);
    let until = SystemTime::try_from(response.valid_until.unwrap()).unwrap();
    assert_eq!(until, Validity::from_der(&response.leaf_certificate).unwrap().not_after);
    assert!(
        server.metrics.render().contains("_issued_total 1"),
        "{}",
        server.metrics.render()
    );
}

#[tokio::test]
async fn malformed_requests_are_invalid_arguments() {
    let server = Server::start().await;
    let good = server.signer.good_token();
    for (identity, token, csr, message) in [
        ("", good.clone(), csr(NAME), "the request has no identity"),
        (NAME, vec![], csr(NAME), "the request has no token"),
        (
            NAME,
            good.clone(),
            vec![],
            "the request has no certificate signing request",
        ),
        (NAME, good.clone(), b"nonsense".to_vec(), "the CSR is not valid DER"),
        (&"a".repeat(300), good.clone(), csr(NAME), "the identity is 300 bytes"),
        (NAME, b"x.y.z".to_vec(), csr(NAME), "the token is not valid"),
        (NAME, vec![b'x'; 20_000], csr(NAME), "the token is 20000 bytes"),
    ] {
        let status = server.certify(identity, token, csr).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().starts_with(message), "{status}");
    }
    assert!(
        server
            .metrics
            .render()
            .contains(r#"_refused_total{reason="missing_field"} 3"#)
    );
}

#[tokio::test]
async fn requests_for_another_name_are_failed_preconditions() {
    let server = Server::start().await;
    let token = server.signer.good_token();
    let other = "other.emoji.serviceaccount.identity.linkerd.cluster.local";
    let foreign = "web.emoji.serviceaccount.identity.linkerd.example.org";
    for (identity, csr, message) in [
        (NAME, csr(other), "the CSR's DNS name is"),
        ("not a name", csr(NAME), "the CSR's DNS name is"),
        (other, csr(other), "the requested identity is"),
        (foreign, csr(foreign), "the requested identity is"),
    ] {
        let status = server.certify(identity, token.clone(), csr).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().starts_with(message), "{status}");
    }
    let node = server
        .refused_token(server.signer.token(claims(json!({ "sub": "system:node:a" }))))
        .await;
    assert_eq!(node.code(), Code::FailedPrecondition, "{node}");
}

#[tokio::test]
async fn rejects_invalid_tokens() {
    let server = Server::start().await;
    let signed = |changes| server.signer.token(claims(changes));
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let unsigned = format!(
        "{header}.{}.",
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims(json!({})).to_string())
    );
    for (what, token) in [
        ("another audience", signed(json!({ "aud": ["kubernetes"] }))),
        ("no audience", signed(json!({ "aud": null }))),
        ("expired", signed(json!({ "exp": 1_000_000_000 }))),
        ("no end", signed(json!({ "exp": null }))),
        ("not yet valid", signed(json!({ "nbf": 9_000_000_000u64 }))),
        ("no subject", signed(json!({ "sub": null }))),
        ("another key", Signer::new("one").good_token()),
        ("an unknown key", Signer::new("two").good_token()),
        ("not signed", unsigned.into_bytes()),
    ] {
        let status = server.refused_token(token).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
    }
}

#[tokio::test]
async fn adopts_valid_issuers_only() {
    let mut server = Server::start().await;
    let first = server.good().await.unwrap();
    // Its certificate is there, its key not yet: the old one keeps signing.
    let second = Issuer::generate(&server.anchor, "second", DAY).unwrap();
    server.write("issuer.crt", &second.certificate_pem());
    server.authority.poll(SystemTime::now());
    assert_eq!(
        server.good().await.unwrap().intermediate_certificates,
        first.intermediate_certificates
    );
    server.write("issuer.key", &second.key_pem());
    server.authority.poll(SystemTime::now());
    let response = server.good().await.unwrap();
    assert_eq!(response.intermediate_certificates[0], second.chain()[0].to_vec());
    verify(&server.anchors(), &response);
    // An expired one, one of another root, and none at all.
    let past = Validity::starting(SystemTime::now() - DAY * 2, DAY);
    let expired = Issuer::generate_for(&server.anchor, "expired", past).unwrap();
    let foreign = Issuer::generate(&Anchor::generate("other", DAY).unwrap(), "foreign", DAY).unwrap();
    for bad in [expired, foreign] {
        server.write("issuer.crt", &bad.certificate_pem());
        server.write("issuer.key", &bad.key_pem());
        server.authority.poll(SystemTime::now());
        verify(&server.anchors(), &server.good().await.unwrap());
    }
    std::fs::remove_file(server.dir.path().join("issuer.crt")).unwrap();
    server.authority.poll(SystemTime::now());
    verify(&server.anchors(), &server.good().await.unwrap());
}

#[tokio::test]
async fn unavailable_until_issuer_and_keys_are_loaded() {
    let anchor = Anchor::generate("root", DAY).unwrap();
    let mut server = Server::serve(tempfile::tempdir().unwrap(), anchor, Signer::new("one")).await;
    let status = server.good().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::Unavailable,
            "the issuer is not ready: see the log of mesh-identity"
        )
    );
    let issuer = Issuer::generate(&server.anchor, "issuer", DAY).unwrap();
    server.write("anchors.pem", &server.anchor.certificate_pem());
    server.write("issuer.crt", &issuer.certificate_pem());
    server.write("issuer.key", &issuer.key_pem());
    server.authority.poll(SystemTime::now());
    let status = server.good().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().starts_with("no keys to validate tokens: cannot read "),
        "{status}"
    );
    server.write("jwks.json", &json!({ "keys": [server.signer.jwk] }).to_string());
    server.tokens.poll();
    server.good().await.unwrap();
}

#[tokio::test]
async fn rotates_token_keys_and_ignores_invalid_ones() {
    let mut server = Server::start().await;
    let next = Signer::new("two");
    server.write("jwks.json", "{");
    server.tokens.poll();
    server.good().await.unwrap();
    server.write("jwks.json", &json!({ "keys": [next.jwk] }).to_string());
    server.tokens.poll();
    assert_eq!(server.good().await.unwrap_err().code(), Code::InvalidArgument);
    server.certify(NAME, next.good_token(), csr(NAME)).await.unwrap();
}

#[test]
fn leaf_does_not_outlive_its_issuer() {
    let anchor = Anchor::generate("root", DAY).unwrap();
    let issuer = Issuer::generate(&anchor, "issuer", Duration::from_secs(600)).unwrap();
    let request = Csr::from_der(&csr(NAME)).unwrap();
    let leaf = issuer
        .sign(&request, NAME, LeafTimes::DEFAULT, SystemTime::now())
        .unwrap();
    assert_eq!(leaf.validity.not_after, issuer.validity().not_after);
}
