//! `linkerd-identity`: trust anchors and issuer are valid, belong together, and do not expire soon.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use identity_x509::{Anchors, Issuer, Validity};
use serde_json::Value;

use crate::{Category, Check, Facts, ObjectKind, Outcome, Scope, facts::text};

/// Required remaining validity of certificates that are replaced by hand.
pub(super) const ENOUGH: Duration = Duration::from_secs(60 * 24 * 60 * 60);
const ROTATE: &str =
    "create a new issuer signed by the anchors, and run `mesh upgrade` with the --identity-*-file flags";
const SOON: &str = "replace it before it expires: bundle new anchors with the old ones until all pods have restarted";

/// Certificates on the cluster.
struct Material {
    anchors: String,
    issuer: String,
    key: String,
}

pub(super) fn categories(_: &Scope) -> Vec<Category> {
    let checks = vec![
        Check::new("certificate config is valid", |facts| {
            material(facts).err().unwrap_or(Outcome::Pass)
        })
            .hint("the ConfigMap linkerd-identity-trust-roots and the Secret linkerd-identity-issuer must exist and be readable")
            .retried(),
        Check::new("trust anchors are using supported crypto algorithm", |facts| {
            with(facts, |material| Anchors::from_pem(&material.anchors).map(drop))
        })
        .hint("anchors must be PEM certificates with ECDSA P-256 or RSA keys"),
        Check::new("trust anchors are within their validity period", |facts| {
            valid(facts, |material| &material.anchors, Duration::ZERO)
        })
        .hint(ROTATE),
        Check::new("trust anchors are valid for at least 60 days", |facts| {
            valid(facts, |material| &material.anchors, ENOUGH)
        })
        .hint(SOON)
        .warning(),
        Check::new("issuer cert is using supported crypto algorithm", |facts| {
            with(facts, |material| Issuer::from_pem(&material.issuer, &material.key).map(drop))
        })
        .hint("the issuer must be a CA with an ECDSA P-256 key"),
        Check::new("issuer cert is within its validity period", |facts| {
            valid(facts, |material| &material.issuer, Duration::ZERO)
        })
        .hint(ROTATE),
        Check::new("issuer cert is valid for at least 60 days", |facts| {
            valid(facts, |material| &material.issuer, ENOUGH)
        })
        .hint(SOON)
        .warning(),
        Check::new("issuer cert is issued by the trust anchor", |facts| {
            with(facts, |material| {
                let anchors = Anchors::from_pem(&material.anchors)?;
                Issuer::from_pem(&material.issuer, &material.key)?.check(&anchors, facts.now)
            })
        })
        .hint(ROTATE),
    ];
    vec![Category::new("linkerd-identity", checks)]
}

/// Decides by the material; if it is missing, the first check reports it.
fn with<E: std::fmt::Display>(facts: &Facts, decide: impl FnOnce(&Material) -> Result<(), E>) -> Outcome {
    let Ok(material) = material(facts) else {
        return Outcome::Skip;
    };
    match decide(&material) {
        Ok(()) => Outcome::Pass,
        Err(error) => Outcome::Fail(error.to_string()),
    }
}

fn valid(facts: &Facts, of: impl FnOnce(&Material) -> &String, left: Duration) -> Outcome {
    with(facts, |material| not_over(of(material), facts.now, left))
}

/// Verifies that all certificates of a PEM text are valid now, and remain so for some time.
pub(super) fn not_over(pem: &str, now: std::time::SystemTime, left: Duration) -> Result<(), String> {
    let sections = pem::parse_many(pem).map_err(|error| error.to_string())?;
    for section in sections.iter().filter(|section| section.tag() == "CERTIFICATE") {
        let validity = Validity::from_der(section.contents()).map_err(|error| error.to_string())?;
        let days = validity.remaining(now).as_secs() / (24 * 60 * 60);
        if now < validity.not_before {
            return Err("not valid yet".to_owned());
        }
        if !validity.contains(now) {
            return Err("expired".to_owned());
        }
        if validity.remaining(now) < left {
            return Err(format!("expires in {days} days"));
        }
    }
    Ok(())
}

fn material(facts: &Facts) -> Result<Material, Outcome> {
    let missing = |what: &str| Outcome::Fail(what.to_owned());
    let bundle = facts
        .named(ObjectKind::ConfigMaps, "linkerd-identity-trust-roots")
        .map_err(Outcome::Unknown)?;
    let bundle = bundle.ok_or_else(|| missing("missing ConfigMap linkerd-identity-trust-roots"))?;
    let anchors = text(bundle, "/data/ca-bundle.crt");
    if anchors.is_empty() {
        return Err(missing(
            "the ConfigMap linkerd-identity-trust-roots has no ca-bundle.crt",
        ));
    }
    let secret = facts
        .named(ObjectKind::Secrets, "linkerd-identity-issuer")
        .map_err(Outcome::Unknown)?;
    let secret = secret.ok_or_else(|| missing("missing Secret linkerd-identity-issuer"))?;
    // The second names are those of type `kubernetes.io/tls`, which cert-manager creates.
    let either = |first: &str, second: &str| {
        secret_text(secret, first)
            .or_else(|| secret_text(secret, second))
            .ok_or_else(|| {
                missing(&format!(
                    "the Secret linkerd-identity-issuer has neither {first} nor {second}"
                ))
            })
    };
    Ok(Material {
        anchors: anchors.to_owned(),
        issuer: either("crt.pem", "tls.crt")?,
        key: either("key.pem", "tls.key")?,
    })
}

/// Returns the anchors that proxies should have.
pub(super) fn anchors(facts: &Facts) -> Option<&str> {
    let bundle = facts
        .named(ObjectKind::ConfigMaps, "linkerd-identity-trust-roots")
        .ok()??;
    Some(text(bundle, "/data/ca-bundle.crt"))
}

/// Decodes an entry of a Secret, if it is text.
pub(super) fn secret_text(secret: &Value, key: &str) -> Option<String> {
    let text = secret["data"][key].as_str()?;
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}
