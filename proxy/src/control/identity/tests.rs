//! Against an identity service that signs for real.

use std::os::unix::fs::PermissionsExt;

use proxy_metrics::{Metrics, NoTls};
use proxy_tls::Anchors;
use proxy_transport::Connect;
use tests_harness::ControlPlane;

use super::*;
use crate::env::Service;

const WEB: &str = "web.emoji.serviceaccount.identity.linkerd.cluster.local";

struct Bootstrap {
    dir: tempfile::TempDir,
    tls: Tls,
    metrics: Metrics,
}

impl Bootstrap {
    fn new(anchors_pem: &str) -> Self {
        let anchors = Anchors::from_pem(anchors_pem).expect("anchors");
        let tls = Tls::new(WEB.parse().expect("an id"), anchors).expect("anchors");
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("token"), "token-1").expect("written");
        Self {
            dir,
            tls,
            metrics: Metrics::default(),
        }
    }

    fn certifier(&self, control: &ControlPlane) -> Certifier {
        let anchors = Anchors::from_pem(&control.pki().anchors_pem()).expect("anchors");
        let config = env::Identity {
            local_id: WEB.parse().expect("an id"),
            anchors,
            dir: self.dir.path().join("end-entity"),
            token_file: self.dir.path().join("token"),
            min_refresh: Duration::from_secs(10),
            max_refresh: Duration::from_secs(86_400),
        };
        let service = Service {
            addr: control.addr().to_string().parse().expect("valid"),
            tls: None,
        };
        let calls = self
            .metrics
            .control("identity", &proxy_metrics::Tls::None(NoTls::Loopback));
        let connector = Connector {
            service,
            tls: self.tls.clone(),
            tcp: Connect::default(),
        };
        let parts = CertifierParts {
            tls: self.tls.clone(),
            connector,
            metrics: self.metrics.cert(),
            calls,
        };
        Certifier::new(config, parts).expect("key and request")
    }
}

#[tokio::test]
async fn an_empty_directory_becomes_a_certified_identity() {
    let control = ControlPlane::start().await;
    let boot = Bootstrap::new(&control.pki().anchors_pem());
    let certifier = boot.certifier(&control);
    let key_file = boot.dir.path().join("end-entity/key.p8");
    let mode = fs::metadata(&key_file).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = fs::read(&key_file).expect("made");

    let run = tokio::spawn(certifier.run());
    tokio::time::timeout(Duration::from_secs(5), boot.tls.certified())
        .await
        .expect("certified");
    run.abort();
    let text = boot.metrics.render();
    assert!(
        text.contains("control_identity_cert_refreshes_total{result=\"ok\"} 1"),
        "{text}"
    );

    let _again = boot.certifier(&control);
    assert_eq!(fs::read(&key_file).expect("made"), key, "a key that is there is used");
}

#[tokio::test]
async fn a_leaf_of_another_mesh_is_discarded() {
    let (control, other) = (ControlPlane::start().await, tests_harness::Pki::new());
    let boot = Bootstrap::new(&other.anchors_pem());
    let error = boot
        .certifier(&control)
        .certify()
        .await
        .expect_err("not ours")
        .to_string();
    assert!(error.starts_with("the issued certificate was discarded"), "{error}");
    assert!(!boot.tls.is_certified());
}

#[tokio::test]
async fn the_identity_service_may_come_later() {
    let mut control = ControlPlane::start().await;
    let boot = Bootstrap::new(&control.pki().anchors_pem());
    control.stop();
    let run = tokio::spawn(boot.certifier(&control).run());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!boot.tls.is_certified());
    control.restart().await;
    tokio::time::timeout(Duration::from_secs(2), boot.tls.certified())
        .await
        .expect("back within 2 s");
    run.abort();
}

#[tokio::test]
async fn the_next_leaf_is_asked_for_in_time() {
    let control = ControlPlane::start().await;
    let boot = Bootstrap::new(&control.pki().anchors_pem());
    let certifier = boot.certifier(&control);
    let (now, second) = (SystemTime::now(), Duration::from_secs(1));
    assert_eq!(certifier.refresh_in(now + 1000 * second, now), 700 * second);
    assert_eq!(
        certifier.refresh_in(now + 5 * second, now),
        10 * second,
        "not sooner than the minimum"
    );
    assert_eq!(certifier.refresh_in(now + 1_000_000 * second, now), 86_400 * second);
    assert_eq!(
        certifier.retry_in(BACKOFF_MIN, now),
        BACKOFF_MIN,
        "hurried without a leaf"
    );
    certifier.certify().await.expect("signed");
    assert_eq!(certifier.retry_in(BACKOFF_MIN, SystemTime::now()), 10 * second);
}
