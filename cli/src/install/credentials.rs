//! The certificates of an installation: those that are given are looked at, those that are not are made.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use identity_x509::{Anchor, Anchors, Issuer};
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

/// How long what we make is valid.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Looks at the credentials in the values, and makes those that are missing.
pub(super) fn fill(values: &mut Value, now: SystemTime) -> anyhow::Result<()> {
    let of = |path| text(values, path);
    let (anchors, certificate, key) = (of(ANCHORS), of(ISSUER_CERTIFICATE), of(ISSUER_KEY));
    let external = is_external(values);
    if values.pointer("/identity/externalCA") == Some(&Value::Bool(true)) {
        if !external {
            bail!(
                "the trust anchors are somebody else's (identity.externalCA), so the issuer must be too: set \
                 identity.issuer.scheme=kubernetes.io/tls"
            );
        }
        return Ok(());
    }
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

/// Whether the issuer's Secret is somebody else's.
pub(super) fn is_external(values: &Value) -> bool {
    text(values, SCHEME) == "kubernetes.io/tls"
}

/// Takes every credential out of values.
pub(super) fn take(values: &mut Value) {
    for path in [
        "/identityTrustAnchorsPEM",
        "/identity/issuer/tls",
        "/proxyInjector/crtPEM",
        "/proxyInjector/keyPEM",
        "/proxyInjector/caBundle",
    ] {
        let (parent, name) = path.rsplit_once('/').expect("a path");
        if let Some(map) = values.pointer_mut(parent).and_then(Value::as_object_mut) {
            map.remove(name);
        }
    }
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
