//! Certificates of an installation: given ones are verified, missing ones are generated.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use identity_x509::{Anchor, Anchors, Issuer};
use serde_json::{Map, Value};

/// Path of the trust anchors in the values.
pub(super) const ANCHORS: &[&str] = &["identityTrustAnchorsPEM"];
/// Path of the issuer's certificate.
pub(super) const ISSUER_CERTIFICATE: &[&str] = &["identity", "issuer", "tls", "crtPEM"];
/// Path of the issuer's key.
pub(super) const ISSUER_KEY: &[&str] = &["identity", "issuer", "tls", "keyPEM"];
/// Path of the type of the issuer's Secret.
const SCHEME: &[&str] = &["identity", "issuer", "scheme"];
const CLUSTER_DOMAIN: &[&str] = &["clusterDomain"];
const TRUST_DOMAIN: &[&str] = &["identityTrustDomain"];

/// Validity of generated certificates.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Verifies the credentials in the values, and generates missing ones.
pub(super) fn fill(values: &mut Value, now: SystemTime) -> anyhow::Result<()> {
    let of = |path| text(values, path);
    let (anchors, certificate, key) = (of(ANCHORS), of(ISSUER_CERTIFICATE), of(ISSUER_KEY));
    let external = is_external(values);
    if values.pointer("/identity/externalCA") == Some(&Value::Bool(true)) {
        if !external {
            bail!(
                "external trust anchors (identity.externalCA) require an external issuer: set \
                identity.issuer.scheme=kubernetes.io/tls"
            );
        }
        return Ok(());
    }
    match (anchors.is_empty(), certificate.is_empty(), key.is_empty()) {
        (true, true, true) if external => bail!(
            "an external issuer (identity.issuer.scheme=kubernetes.io/tls) requires the trust anchors: set \
            identityTrustAnchorsPEM"
        ),
        (false, true, true) if external => {
            Anchors::from_pem(anchors).context("invalid identityTrustAnchorsPEM")?;
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
            "trust anchors, issuer certificate and issuer key belong together: give all three (--identity-trust-anchors-file, \
            --identity-issuer-certificate-file, --identity-issuer-key-file) or none"
        ),
    }
    Ok(())
}

/// Returns true if the issuer's Secret is managed externally.
pub(super) fn is_external(values: &Value) -> bool {
    text(values, SCHEME) == "kubernetes.io/tls"
}

/// Removes all credentials from the values.
pub(super) fn take(values: &mut Value) {
    for path in [
        "/identityTrustAnchorsPEM",
        "/identity/issuer/tls",
        "/proxyInjector/crtPEM",
        "/proxyInjector/keyPEM",
        "/proxyInjector/caBundle",
    ] {
        let (parent, name) = path.rsplit_once('/').expect("the paths begin with a slash");
        if let Some(map) = values.pointer_mut(parent).and_then(Value::as_object_mut) {
            map.remove(name);
        }
    }
}

/// Returns the text at a path, or an empty text.
fn text<'a>(values: &'a Value, path: &[&str]) -> &'a str {
    let found = path.iter().try_fold(values, |at, name| at.get(name));
    found.and_then(Value::as_str).map_or("", str::trim)
}

/// Sets a text at a path.
pub(super) fn put(values: &mut Value, path: &[&str], text: String) {
    let mut at = values;
    for name in path {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = at
            .as_object_mut()
            .expect("just made an object")
            .entry(*name)
            .or_insert(Value::Null);
    }
    *at = Value::String(text);
}
