//! In-memory handshakes over every engine, with every peer that must be rejected.

mod fuzz;
mod streams;
mod support;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use proxy_model::{Id, TlsIdentity};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::{Accepted, Alpn, Anchors, ClientStream, Credentials, Engine, Error, Tls};

pub(crate) const WEB: &str = "web.ns.serviceaccount.identity.linkerd.cluster.local";
pub(crate) const API: &str = "api.ns.serviceaccount.identity.linkerd.cluster.local";

/// Certificate authority whose workloads use one engine.
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    engine: Engine,
}

/// Runs a test with each engine.
async fn with_each_engine(test: impl AsyncFn(Ca)) {
    for engine in Engine::ALL {
        test(Ca::new(*engine)).await;
    }
}

impl Ca {
    pub(crate) fn new(engine: Engine) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an anchor");
        Self { issuer, engine }
    }

    /// Creates an authority of another mesh with the same engine.
    fn other(&self) -> Self {
        Self::new(self.engine)
    }

    fn without_leaf(&self, name: &str) -> Tls {
        Tls::with_engine(name.parse().expect("an id"), self.anchors(), self.engine).expect("anchors")
    }

    fn anchors(&self) -> Anchors {
        Anchors::from_pem(&self.issuer.pem()).expect("one certificate")
    }

    fn leaf(&self, name: &str, ends: SystemTime) -> Credentials {
        let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.leaf_for(name, ends, &both)
    }

    fn leaf_for(&self, name: &str, ends: SystemTime, usages: &[ExtendedKeyUsagePurpose]) -> Credentials {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        let san = match name.parse().expect("an id") {
            Id::Dns(name) => SanType::DnsName((*name).try_into().expect("ASCII")),
            Id::Uri(uri) => SanType::URI((*uri).try_into().expect("ASCII")),
        };
        params.subject_alt_names = vec![san];
        params.not_after = ends.into();
        params.extended_key_usages = usages.to_vec();
        let leaf = params.signed_by(&key, &self.issuer).expect("a leaf");
        Credentials::new(leaf.der().to_vec(), Vec::new(), key.serialize_der(), ends)
    }

    pub(crate) fn workload(&self, name: &str) -> Tls {
        let tls = self.without_leaf(name);
        tls.publish(&self.leaf(name, in_an_hour())).expect("valid credentials");
        tls
    }
}

fn in_an_hour() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

type Ends = (
    Result<ClientStream<DuplexStream>, Error>,
    Result<Accepted<DuplexStream>, Error>,
);

async fn handshake(client: &Tls, server: &Tls, want: &TlsIdentity, alpn: (Alpn, Alpn)) -> Ends {
    let (near, far) = duplex(16 * 1024);
    tokio::join!(client.connect(near, want, alpn.0), server.accept(far, alpn.1))
}

/// A plain rustls client with our configuration; it exposes more of the handshake.
pub(crate) async fn with_ordinary_client(
    client: &Tls,
    server: &Tls,
) -> (tokio_rustls::client::TlsStream<DuplexStream>, Accepted<DuplexStream>) {
    with_client(client.client_config(Alpn::None), server).await
}

pub(crate) async fn with_client(
    config: Arc<rustls::ClientConfig>,
    server: &Tls,
) -> (tokio_rustls::client::TlsStream<DuplexStream>, Accepted<DuplexStream>) {
    let (near, far) = duplex(16 * 1024);
    let connector = tokio_rustls::TlsConnector::from(config);
    let name = API.try_into().expect("a name");
    let (near, far) = tokio::join!(connector.connect(name, near), server.accept(far, Alpn::None));
    (near.expect("handshake"), far.expect("handshake"))
}

const PLAIN: (Alpn, Alpn) = (Alpn::None, Alpn::None);

pub(crate) fn dns(name: &str) -> TlsIdentity {
    TlsIdentity::dns(name).expect("an id")
}

#[tokio::test]
async fn handshake_authenticates_both_ends_and_data_flows() {
    with_each_engine(async |ca: Ca| {
        let (client, server) = (ca.workload(WEB), ca.workload(API));
        let (near, far) = handshake(&client, &server, &dns(API), PLAIN).await;
        let (mut near, mut far) = (near.expect("handshake"), far.expect("handshake"));
        assert_eq!(far.client_id, Some(WEB.parse().expect("an id")));
        assert!(!far.transport_header);
        let (ordinary, _) = with_ordinary_client(&client, &server).await;
        let session = ordinary.get_ref().1;
        assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        let group = session.negotiated_key_exchange_group().expect("done").name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
        near.write_all(b"hello").await.expect("open");
        near.flush().await.expect("open");
        let mut got = [0; 5];
        far.io.read_exact(&mut got).await.expect("open");
        assert_eq!(&got, b"hello");
    })
    .await;
}

#[tokio::test]
async fn transport_header_is_negotiated_ignored_or_absent() {
    with_each_engine(async |ca: Ca| {
        let (client, server) = (ca.workload(WEB), ca.workload(API));
        let both = (Alpn::TransportHeader, Alpn::TransportHeader);
        let (near, far) = handshake(&client, &server, &dns(API), both).await;
        assert!(near.is_ok() && far.expect("agreed").transport_header);
        let (_, far) = handshake(&client, &server, &dns(API), (Alpn::TransportHeader, Alpn::None)).await;
        assert!(!far.expect("ignored").transport_header);
        let (_, far) = handshake(&client, &server, &dns(API), (Alpn::None, Alpn::TransportHeader)).await;
        assert!(!far.expect("the caller closes").transport_header);
    })
    .await;
}

#[tokio::test]
async fn rejects_other_trust_anchors_and_other_names() {
    with_each_engine(async |ca: Ca| {
        let other = ca.other();
        let (client, server) = (ca.workload(WEB), ca.workload(API));
        let (near, _) = handshake(&client, &other.workload(API), &dns(API), PLAIN).await;
        assert!(matches!(near, Err(Error::Handshake(_))), "a server of another mesh");
        let (_, far) = handshake(&other_trusting(&ca, &other), &server, &dns(API), PLAIN).await;
        assert!(matches!(far, Err(Error::Handshake(_))), "a client of another mesh");
        let (near, _) = handshake(&client, &server, &dns("db.ns.local"), PLAIN).await;
        let error = near.expect_err("not the database").to_string();
        assert_eq!(
            error,
            format!("unexpected server identity: {API}, expected db.ns.local")
        );
    })
    .await;
}

#[tokio::test]
async fn rejects_a_client_whose_leaf_is_for_servers_alone() {
    with_each_engine(async |ca: Ca| {
        let leaf = ca.leaf_for(WEB, in_an_hour(), &[ExtendedKeyUsagePurpose::ServerAuth]);
        let client = ca.without_leaf(WEB);
        client.publish(&leaf).expect("a leaf that servers may use");
        let (_, far) = handshake(&client, &ca.workload(API), &dns(API), PLAIN).await;
        assert!(matches!(far, Err(Error::Handshake(_))), "{far:?}");
    })
    .await;
}

/// A client of `other` that trusts `ca`'s servers.
fn other_trusting(ca: &Ca, other: &Ca) -> Tls {
    let both = Anchors::from_pem(&format!("{}{}", ca.issuer.pem(), other.issuer.pem())).expect("two certificates");
    let tls = Tls::with_engine(WEB.parse().expect("an id"), both, ca.engine).expect("anchors");
    tls.publish(&other.leaf(WEB, in_an_hour())).expect("valid credentials");
    tls
}

#[tokio::test]
async fn sni_may_differ_from_the_identity() {
    with_each_engine(async |ca: Ca| {
        let (client, server) = (ca.workload(WEB), ca.workload("spiffe://root/api"));
        let want = TlsIdentity {
            server_id: "spiffe://root/api".parse().expect("an id"),
            server_name: "api.external".into(),
        };
        let (near, far) = handshake(&client, &server, &want, PLAIN).await;
        assert!(near.is_ok() && far.is_ok());
        let (near, _) = handshake(&client, &ca.workload(API), &want, PLAIN).await;
        assert!(matches!(near, Err(Error::WrongServer { .. })));
    })
    .await;
}

#[test]
fn names_that_are_not_identities_are_skipped() {
    let ca = Ca::new(Engine::ALL[0]);
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    let uri = |uri: &str| SanType::URI(uri.try_into().expect("ASCII"));
    params.subject_alt_names = vec![
        uri("https://root/api"),
        uri("spiffe://root/api\r\nl5d-client-id: admin"),
        uri("web.ns.serviceaccount.identity.linkerd.cluster.local"),
        uri("spiffe://root/api"),
        SanType::DnsName("spiffe.root".try_into().expect("ASCII")),
    ];
    let leaf = params.signed_by(&key, &ca.issuer).expect("a leaf");
    let ids = crate::verify::leaf_ids(leaf.der()).expect("a certificate");
    let expected: Vec<Id> = ["spiffe://root/api", "spiffe.root"]
        .map(|id| id.parse().expect("an id"))
        .into();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn client_leaf_is_optional_and_server_leaf_is_required() {
    with_each_engine(async |ca: Ca| {
        let server = ca.workload(API);
        let bare = ca.without_leaf(WEB);
        assert!(!bare.is_certified());
        let (near, far) = handshake(&bare, &server, &dns(API), PLAIN).await;
        assert!(near.is_ok());
        assert_eq!(far.expect("optional").client_id, None);
        let (_, far) = handshake(&server, &bare, &dns(WEB), PLAIN).await;
        assert!(matches!(far, Err(Error::NotCertified)));
    })
    .await;
}

#[tokio::test]
async fn publishes_only_valid_leaves_of_this_workload() {
    with_each_engine(async |ca: Ca| {
        let other = ca.other();
        let tls = ca.without_leaf(WEB);
        let refused = |leaf: Credentials| tls.publish(&leaf).expect_err("refused").to_string();
        assert!(refused(ca.leaf(API, in_an_hour())).contains("not web.ns"));
        assert!(refused(other.leaf(WEB, in_an_hour())).contains("verification failed"));
        assert!(refused(ca.leaf(WEB, SystemTime::now() - Duration::from_secs(60))).contains("verification failed"));
        assert!(!tls.is_certified());
        let certified = tokio::spawn({
            let tls = tls.clone();
            async move { tls.certified().await }
        });
        tls.publish(&ca.leaf(WEB, in_an_hour())).expect("valid credentials");
        certified.await.expect("notified");
        assert!(tls.valid_until().is_some());
        assert!(matches!(Anchors::from_pem("no PEM"), Err(Error::Anchors(_))));
    })
    .await;
}

#[tokio::test]
async fn rotation_does_not_affect_open_connections() {
    with_each_engine(async |ca: Ca| {
        let (client, server) = (ca.workload(WEB), ca.workload(API));
        let (near, far) = handshake(&client, &server, &dns(API), PLAIN).await;
        let (mut near, mut far) = (near.expect("handshake"), far.expect("handshake"));
        let (ordinary, _) = with_ordinary_client(&client, &server).await;
        let first = ordinary.get_ref().1.peer_certificates().expect("a leaf")[0].clone();
        server.publish(&ca.leaf(API, in_an_hour())).expect("valid credentials");
        near.write_all(b"still").await.expect("open");
        near.flush().await.expect("open");
        let mut got = [0; 5];
        far.io.read_exact(&mut got).await.expect("open");
        let (ordinary, _) = with_ordinary_client(&client, &server).await;
        let second = ordinary.get_ref().1.peer_certificates().expect("a leaf")[0].clone();
        assert_ne!(first, second, "a new connection sees the new leaf");
    })
    .await;
}

#[tokio::test]
async fn rejects_tls_1_2() {
    with_each_engine(async |ca: Ca| {
        // Our provider's suites are TLS 1.3 only, so an old peer is played by its first bytes: a ClientHello without
        // 1.3.
        let server = ca.workload(API);
        let (mut near, far) = duplex(4096);
        let mut hello = vec![3, 3];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
        let extensions = [0, 0x0a, 0, 4, 0, 2, 0, 0x17, 0, 0x0d, 0, 4, 0, 2, 4, 3];
        hello.extend([0, extensions.len() as u8]);
        hello.extend(extensions);
        let mut record = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
        record.extend(hello);
        near.write_all(&record).await.expect("open");
        let refused = server.accept(far, Alpn::None).await;
        assert!(matches!(refused, Err(Error::Handshake(_))));
        let mut alert = [0; 7];
        near.read_exact(&mut alert).await.expect("an alert");
        assert_eq!((alert[0], alert[6]), (21, 70), "alert protocol_version");
    })
    .await;
}
