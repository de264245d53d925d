//! Hostile requests for certificates, and hostile PEM files.

use std::time::{Duration, SystemTime};

use identity_x509::{Anchor, Anchors, Csr, Issuer, LeafTimes, Validity, make_key_and_csr};
use tests_fuzz::{Target, within};

const NAME: &str = "web.emoji.serviceaccount.identity.linkerd.cluster.local";
const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn fuzz_csr() {
    let anchor = Anchor::generate("root.linkerd.cluster.local", DAY * 365).expect("an anchor");
    let issuer = Issuer::generate(&anchor, "identity.linkerd.cluster.local", DAY * 30).expect("an issuer");
    let anchors = Anchors::from_pem(&anchor.certificate_pem()).expect("an anchor");
    let csr = |name: &str| make_key_and_csr(name).expect("a request").csr_der;
    let target = Target {
        name: "fuzz_csr",
        seeds: vec![
            csr(NAME),
            csr("api.emoji.serviceaccount.identity.linkerd.cluster.local"),
            issuer.chain()[0].to_vec(),
        ],
        words: &[
            "api",
            "web",
            "*",
            "\0",
            ".",
            "\u{30}\u{7f}",
            "\u{6}\u{3}",
            "\u{c}\u{3}",
            "\u{4}",
        ],
    };
    target.run(|bytes| {
        let _ = within(64 * bytes.len() + 16_384, || Validity::from_der(bytes));
        let Ok(csr) = within(64 * bytes.len() + 16_384, || Csr::from_der(bytes)) else {
            return;
        };
        // The signature covers the names: an author of another name cannot sign.
        let names = [NAME, "api.emoji.serviceaccount.identity.linkerd.cluster.local"];
        let own: Vec<&str> = names.into_iter().filter(|name| csr.check(name).is_ok()).collect();
        let [name] = own[..] else {
            panic!("accepted for {own:?}")
        };
        let now = SystemTime::now();
        let leaf = issuer.sign(&csr, name, LeafTimes::DEFAULT, now).expect("signed");
        anchors.verify(&leaf.der, issuer.chain(), now).expect("a leaf of ours");
        let is_in = |name: &str| leaf.der.windows(name.len()).any(|part| part == name.as_bytes());
        assert!(is_in(name) && names.iter().filter(|other| is_in(other)).count() == 1);
    });
}

#[test]
fn fuzz_pem() {
    let anchor = Anchor::generate("root.linkerd.cluster.local", DAY * 365).expect("an anchor");
    let issuer = Issuer::generate(&anchor, "identity.linkerd.cluster.local", DAY * 30).expect("an issuer");
    let (certificate, key) = (issuer.certificate_pem(), issuer.key_pem());
    let other = Issuer::generate(&anchor, "identity.linkerd.cluster.local", DAY * 30).expect("an issuer");
    let target = Target {
        name: "fuzz_pem",
        seeds: [&certificate, &key, &anchor.certificate_pem()]
            .map(|text| text.as_bytes().to_vec())
            .into(),
        words: &[
            "-----BEGIN CERTIFICATE-----\n",
            "-----END CERTIFICATE-----\n",
            "PRIVATE KEY",
            "=",
            "\r\n",
            "MII",
        ],
    };
    target.run(|bytes| {
        let text = &String::from_utf8_lossy(bytes);
        let limit = 64 * text.len() + 64 * 1024;
        let _ = within(limit, || Anchors::from_pem(text));
        let _ = within(limit, || {
            (Issuer::from_pem(text, &key), Issuer::from_pem(&certificate, text))
        });
        assert!(
            Issuer::from_pem(text, &other.key_pem()).is_err(),
            "a key of another certificate"
        );
    });
}
