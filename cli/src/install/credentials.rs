//! The certificates of an installation: those that are given are looked at, those that are not are made.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use identity_x509::{Anchor, Anchors, Csr, Issuer, LeafTimes, make_key_and_csr};
use serde_json::{Map, Value};

/// Where the values have the trust anchors.
pub(super) const ANCHORS: &[&str] = &["identityTrustAnchorsPEM"];
/// Where they have the issuer's certificate.
pub(super) const ISSUER_CERTIFICATE: &[&str] = &["identity", "issuer", "tls", "crtPEM"];
/// Where they have its key.
pub(super) const ISSUER_KEY: &[&str] = &["identity", "issuer", "tls", "keyPEM"];
/// Where they say what the issuer's Secret is.
const SCHEME: &[&str] = &["identity", "issuer", "scheme"];
const CLUSTER_DOMAIN: &[&str] = &["clusterDomain"];
const TRUST_DOMAIN: &[&str] = &["identityTrustDomain"];
const INJECTOR_CERTIFICATE: &[&str] = &["proxyInjector", "crtPEM"];
const INJECTOR_KEY: &[&str] = &["proxyInjector", "keyPEM"];
const INJECTOR_ANCHORS: &[&str] = &["proxyInjector", "caBundle"];

/// How long what we make is valid.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Looks at the credentials in the values, and makes those that are missing.
pub(super) fn fill(values: &mut Value, namespace: &str, now: SystemTime) -> anyhow::Result<()> {
    identity(values, now)?;
    injector(values, namespace, now)
}

fn identity(values: &mut Value, now: SystemTime) -> anyhow::Result<()> {
    let of = |path| text(values, path);
    let (anchors, certificate, key) = (of(ANCHORS), of(ISSUER_CERTIFICATE), of(ISSUER_KEY));
    let external = of(SCHEME) == "kubernetes.io/tls";
    match (anchors.is_empty(), certificate.is_empty(), key.is_empty()) {
        (true, true, true) if external => bail!(
            "the issuer is in a Secret of yours (identity.issuer.scheme=kubernetes.io/tls), so the trust anchors must be \
             given too, as identityTrustAnchorsPEM"
        ),
        (false, true, true) if external => {
            Anchors::from_pem(anchors).context("identityTrustAnchorsPEM")?;
        }
        (true, true, true) => {
            let domain = match (of(TRUST_DOMAIN), of(CLUSTER_DOMAIN)) {
                ("", "") => "cluster.local",
                ("", domain) | (domain, _) => domain,
            };
            let anchor = Anchor::generate(&format!("root.linkerd.{domain}"), YEAR)?;
            let issuer = Issuer::generate(&anchor, &format!("identity.linkerd.{domain}"), YEAR)?;
            put(values, ANCHORS, anchor.certificate_pem());
            put(values, ISSUER_CERTIFICATE, issuer.certificate_pem());
            put(values, ISSUER_KEY, issuer.key_pem());
        }
        (false, false, false) => {
            let anchors = Anchors::from_pem(anchors)?;
            Issuer::from_pem(certificate, key)?.check(&anchors, now)?;
        }
        _ => bail!(
            "the trust anchors, the issuer's certificate and its key belong together: give all three (--identity-trust-anchors-file, \
             --identity-issuer-certificate-file, --identity-issuer-key-file) or none"
        ),
    }
    Ok(())
}

/// The webhook's certificate is signed by an anchor of its own, whose key is forgotten: nobody else is believed for it.
fn injector(values: &mut Value, namespace: &str, now: SystemTime) -> anyhow::Result<()> {
    let external = values.pointer("/proxyInjector/externalSecret") == Some(&Value::Bool(true));
    let is_given = |path| !text(values, path).is_empty();
    if external || is_given(INJECTOR_CERTIFICATE) || is_given(INJECTOR_KEY) {
        return Ok(());
    }
    let name = format!("linkerd-proxy-injector.{namespace}.svc");
    let anchor = Anchor::generate(&name, YEAR)?;
    let issuer = Issuer::generate(&anchor, &format!("issuer.{name}"), YEAR)?;
    let made = make_key_and_csr(&name)?;
    let times = LeafTimes {
        lifetime: YEAR,
        ..LeafTimes::DEFAULT
    };
    let leaf = issuer.sign(&Csr::from_der(&made.csr_der)?, &name, times, now)?;
    let certificate = format!("{}{}", pem_of("CERTIFICATE", leaf.der), issuer.certificate_pem());
    put(values, INJECTOR_CERTIFICATE, certificate);
    put(values, INJECTOR_KEY, pem_of("PRIVATE KEY", made.key_pkcs8_der));
    put(values, INJECTOR_ANCHORS, anchor.certificate_pem());
    Ok(())
}

fn pem_of(what: &str, der: Vec<u8>) -> String {
    pem::encode(&pem::Pem::new(what, der))
}

/// The text at a path; empty if there is none.
fn text<'a>(values: &'a Value, path: &[&str]) -> &'a str {
    let found = path.iter().try_fold(values, |at, name| at.get(name));
    found.and_then(Value::as_str).map_or("", str::trim)
}

/// Puts a text at a path.
pub(super) fn put(values: &mut Value, path: &[&str], text: String) {
    let mut at = values;
    for name in path {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = at
            .as_object_mut()
            .expect("it was made a map")
            .entry(*name)
            .or_insert(Value::Null);
    }
    *at = Value::String(text);
}
