//! Decision to create or renew a certificate, and its creation. Pure.
//!
//! Each certificate has a CA of its own, whose key is discarded, so that it cannot sign another one.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use identity_x509::Validity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;
use x509_parser::{
    extensions::GeneralName,
    pem::Pem,
    prelude::{FromDer, X509Certificate},
};

use super::{Credentials, Keep};
use crate::cluster::{SecretData, secret::FoundSecret};

/// Lifetime of a certificate.
const LIFETIME: Duration = Duration::from_secs(365 * DAY);
/// Remaining lifetime at which it is renewed: longer than the 60 days at which `mesh check` warns.
const BEFORE_END: Duration = Duration::from_secs(120 * DAY);
/// Allowance for an API server's clock that is behind.
const SKEW: Duration = Duration::from_secs(3600);
const DAY: u64 = 24 * 3600;
/// Label of a Secret whose certificate is created and renewed here.
const KEPT: (&str, &str) = ("linkerd.io/kept-certificate", "true");
/// Annotations of a Secret that cert-manager keeps.
const CERT_MANAGER: &str = "cert-manager.io/";
/// Keys of the Secret.
pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";
pub(super) const CA: &str = "ca.crt";

/// Facts to decide on.
#[derive(Copy, Clone, Debug)]
pub(super) struct Situation<'a> {
    pub(super) keep: &'a Keep,
    pub(super) found: Option<&'a FoundSecret>,
    pub(super) now: SystemTime,
}

/// Action on the Secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CertificateAction {
    /// Creates the missing Secret.
    Create,
    /// Renews a Secret that is managed here.
    Renew {
        /// CA certificates, PEM, that stay trusted for a while.
        previous: String,
        /// Version of the Secret.
        version: String,
    },
    /// Serves these credentials; callers must trust the CA certificates, where known.
    Use(Credentials, Option<String>),
    /// Waits for others to act.
    Wait(String),
}

/// Decides on the action.
pub(super) fn decide(situation: Situation<'_>) -> CertificateAction {
    let Situation { keep, found, now } = situation;
    let Some(found) = found else {
        return if keep.external {
            CertificateAction::Wait("the externally managed Secret does not exist yet".to_owned())
        } else {
            CertificateAction::Create
        };
    };
    let text = |key: &str| {
        found
            .data
            .get(key)
            .and_then(|bytes| String::from_utf8(bytes.clone()).ok())
    };
    let ca = text(CA).filter(|ca| !ca.trim().is_empty());
    // cert-manager takes over an existing Secret, labels included.
    let taken = found.annotations.keys().any(|key| key.starts_with(CERT_MANAGER));
    let kept = found.labels.get(KEPT.0).is_some_and(|value| value == KEPT.1);
    let is_ours = kept && !taken && !keep.external;
    let credentials = text(CERTIFICATE).zip(text(KEY));
    let inspected = credentials.as_ref().map(|(cert, _)| inspect(cert, &keep.dns_names));
    let renew = || CertificateAction::Renew {
        previous: ca.clone().unwrap_or_default(),
        version: found.version.clone(),
    };
    let (Some((cert_pem, key_pem)), Some(inspected)) = (credentials, inspected) else {
        return if is_ours {
            renew()
        } else {
            CertificateAction::Wait(format!("the Secret lacks {CERTIFICATE} or {KEY}"))
        };
    };
    match inspected {
        Err(_) if is_ours => return renew(),
        Ok(validity) if is_ours && validity.remaining(now) < BEFORE_END => return renew(),
        Err(why) if !cert_pem.contains("BEGIN CERTIFICATE") => return CertificateAction::Wait(why),
        Err(why) => tracing::debug!(secret = %keep.secret, "{why}"),
        Ok(validity) if !validity.contains(now) => {
            tracing::debug!(secret = %keep.secret, "the externally managed certificate has expired");
        }
        Ok(_) => {}
    }
    CertificateAction::Use(Credentials { cert_pem, key_pem }, ca)
}

/// Returns the validity of the first certificate, or the reason for which it is unusable.
fn inspect(pem: &str, names: &[String]) -> Result<Validity, String> {
    let wrong = |why: &str| format!("{CERTIFICATE} {why}");
    let first = Pem::iter_from_buffer(pem.as_bytes()).next();
    let first = first.and_then(Result::ok).ok_or_else(|| wrong("is not PEM"))?;
    let (_, certificate) = X509Certificate::from_der(&first.contents).map_err(|_| wrong("is not a certificate"))?;
    let sans = certificate.subject_alternative_name().ok().flatten();
    let has = |name: &String| {
        sans.as_ref().is_some_and(|sans| {
            let mut names = sans.value.general_names.iter();
            names.any(|san| matches!(san, GeneralName::DNSName(dns) if dns == name))
        })
    };
    if let Some(missing) = names.iter().find(|name| !has(name)) {
        return Err(wrong(&format!("is not for {missing}")));
    }
    Validity::from_der(&first.contents).map_err(|error| error.to_string())
}

/// Returns the labels of a Secret that is created here.
pub(super) fn labels(keep: &Keep) -> BTreeMap<String, String> {
    let mut labels = keep.labels.clone();
    labels.insert(KEPT.0.to_owned(), KEPT.1.to_owned());
    labels
}

/// Makes a CA and a certificate for `names`; the CA of `previous` is kept beside the new one.
pub(super) fn make(names: &[String], previous: Option<&str>, now: SystemTime) -> Result<SecretData, rcgen::Error> {
    let params = |name: &str| {
        let mut params = CertificateParams::new(vec![])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = offset(now - SKEW);
        params.not_after = offset(now + LIFETIME);
        Ok::<_, rcgen::Error>(params)
    };
    let server = names.first().map_or("webhook", String::as_str);
    // A new name each time, as verifiers would try two CAs of the same name in vain.
    let mut ca = params(&format!("{server} CA {}", seconds(now)))?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_key = KeyPair::generate()?;
    let ca_cert = ca.self_signed(&ca_key)?;
    let mut leaf = params(server)?;
    leaf.subject_alt_names = CertificateParams::new(names.to_vec())?.subject_alt_names;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let cert = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;
    let mut bundle = ca_cert.pem();
    bundle.push_str(first_certificate(previous.unwrap_or_default()));
    Ok(SecretData::from([
        (CERTIFICATE.to_owned(), cert.pem().into_bytes()),
        (KEY.to_owned(), key.serialize_pem().into_bytes()),
        (CA.to_owned(), bundle.into_bytes()),
    ]))
}

/// Returns the first certificate of a PEM text, which is the newest: leaves of older ones are no longer served.
fn first_certificate(pem: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----";
    match (pem.find("-----BEGIN CERTIFICATE-----"), pem.find(END)) {
        (Some(begin), Some(end)) if begin < end => &pem[begin..end + END.len()],
        _ => "",
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn offset(time: SystemTime) -> OffsetDateTime {
    let seconds = i64::try_from(seconds(time)).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
