//! `linkerd-webhooks-and-apisvc-tls`: the API server can call the webhooks, and no pod lacks a sidecar because it could
//! not.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{
    control_plane::{has, has_ended, is_ready},
    identity::{not_over, secret_text},
};
use crate::{
    Category, Check, Facts, ObjectKind, Outcome, Scope,
    facts::{annotation, full_name, items, label, object_name, object_namespace, text, view_pod},
};

/// Configuration of the mutating webhook.
pub(super) const INJECTOR: &str = "linkerd-proxy-injector-webhook-config";
/// Configuration of the validating webhook.
pub(super) const VALIDATOR: &str = "linkerd-policy-validator-webhook-config";
const SECRET: &str = "linkerd-proxy-injector-k8s-tls";
/// Required remaining validity of a certificate that the mesh renews.
const RENEWED: Duration = Duration::from_secs(24 * 60 * 60);
const RENEW: &str = "the injector renews it: run `kubectl -n linkerd logs deploy/linkerd-proxy-injector` to see why it cannot; \
an external one (externalSecret) is renewed by its owner";

pub(super) fn category(_: &Scope) -> Category {
    let checks = vec![
        Check::new("proxy-injector webhook has valid cert", |facts| {
            verifiable(facts, ObjectKind::Mutating, INJECTOR)
        })
        .hint(RENEW)
        .retried(),
        Check::new("proxy-injector cert is valid for at least 1 day", |facts| {
            let Ok(Some(secret)) = facts.named(ObjectKind::Secrets, SECRET) else { return Outcome::Skip };
            let pem = secret_text(secret, "tls.crt").unwrap_or_default();
            not_over(&pem, facts.now, RENEWED).map_or_else(Outcome::Fail, |()| Outcome::Pass)
        })
        .hint(RENEW)
        .warning(),
        Check::new("policy-validator webhook has valid cert", |facts| {
            verifiable(facts, ObjectKind::Validating, VALIDATOR)
        })
        .hint(RENEW)
        .retried(),
        Check::new("proxy-injector webhook can be reached", reachable)
            .hint("until a linkerd-proxy-injector pod is ready, pods start without a sidecar or not at all, depending on the failure policy")
            .retried(),
        Check::new("proxy-injector webhook fails as it was installed to", policy)
            .hint("run `mesh upgrade | kubectl apply -f -` with the intended values"),
        Check::new("pods in annotated namespaces have their sidecar", without_sidecar)
            .hint("they started before the annotation was set or while the webhook was down: run `kubectl rollout restart` on their workloads")
            .warning(),
    ];
    Category::new("linkerd-webhooks-and-apisvc-tls", checks)
}

/// Verifies that the API server, with its caBundle, accepts the certificate in the Secret.
fn verifiable(facts: &Facts, what: ObjectKind, name: &str) -> Outcome {
    if has(facts, what, &[name]) != Outcome::Pass {
        return Outcome::Skip;
    }
    let found = facts.named(what, name).ok().flatten().expect("just found");
    let Some(webhook) = items(found, "/webhooks").next() else {
        return Outcome::Fail(format!("{name} defines no webhook"));
    };
    let service = text(webhook, "/clientConfig/service/name");
    let host = format!("{service}.{}.svc", text(webhook, "/clientConfig/service/namespace"));
    let secret = match facts.named(ObjectKind::Secrets, SECRET) {
        Ok(Some(secret)) => secret,
        Ok(None) => return Outcome::Fail(format!("missing Secret {SECRET}")),
        Err(error) => return Outcome::Unknown(error),
    };
    let bundle = text(webhook, "/clientConfig/caBundle");
    match verify(bundle, secret, &host, facts.now) {
        Ok(()) => Outcome::Pass,
        Err(error) => Outcome::Fail(error),
    }
}

/// Verifies the certificate of a Secret of type `kubernetes.io/tls` against a caBundle, for a server name.
pub(super) fn verify(bundle: &str, secret: &Value, host: &str, now: SystemTime) -> Result<(), String> {
    if bundle.is_empty() {
        return Err("the caBundle is empty, so the API server accepts no certificate".to_owned());
    }
    let bundle = STANDARD
        .decode(bundle)
        .map_err(|error| format!("the caBundle is not Base64: {error}"))?;
    let roots = certificates("the caBundle", &bundle)?;
    let chain = secret_text(secret, "tls.crt").ok_or("the Secret has no tls.crt")?;
    let chain = certificates("tls.crt", chain.as_bytes())?;
    let broken = |error: webpki::Error| format!("the certificate is not valid for {host}: {error}");
    let anchors: Result<Vec<_>, _> = roots.iter().map(anchor_from_trusted_cert).collect();
    let anchors = anchors.map_err(|error| format!("the caBundle is not a CA: {error}"))?;
    let (leaf, between) = chain.split_first().ok_or("tls.crt holds no certificate")?;
    let leaf = EndEntityCert::try_from(leaf).map_err(broken)?;
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = UnixTime::since_unix_epoch(since_1970);
    let usage = KeyUsage::server_auth();
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        between,
        time,
        usage,
        None,
        None,
    )
    .map_err(|error| match error {
        // The second: the caBundle has a CA with the same name, but another key.
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            "the certificate is not signed by the caBundle".to_owned()
        }
        error => broken(error),
    })?;
    let name = ServerName::try_from(host).map_err(|_| format!("invalid server name {host:?}"))?;
    leaf.verify_is_valid_for_subject_name(&name).map_err(broken)
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let sections = pem::parse_many(pem).map_err(|error| format!("{what} is not PEM: {error}"))?;
    let certificates = sections.into_iter().filter(|section| section.tag() == "CERTIFICATE");
    Ok(certificates
        .map(|section| CertificateDer::from(section.into_contents()))
        .collect())
}

fn reachable(facts: &Facts) -> Outcome {
    let pods = match facts.pods_in(&facts.scope.control_plane) {
        Ok(pods) => pods,
        Err(error) => return Outcome::Unknown(error),
    };
    let mut injectors = pods.filter(|pod| label(pod, "linkerd.io/control-plane-component") == "proxy-injector");
    if injectors.any(|pod| is_ready(pod) && !has_ended(pod)) {
        return Outcome::Pass;
    }
    let found = facts.named(ObjectKind::Mutating, INJECTOR).ok().flatten();
    let fails = found.and_then(|found| items(found, "/webhooks").next());
    let then = match fails.map(|webhook| text(webhook, "/failurePolicy")) {
        Some("Fail") => "new pods cannot be created",
        _ => "new pods start without a sidecar",
    };
    Outcome::Fail(format!("no linkerd-proxy-injector pod is ready, so {then}"))
}

fn policy(facts: &Facts) -> Outcome {
    let Ok(Some(config)) = facts.named(ObjectKind::ConfigMaps, "linkerd-config") else {
        return Outcome::Skip;
    };
    let Ok(Some(found)) = facts.named(ObjectKind::Mutating, INJECTOR) else {
        return Outcome::Skip;
    };
    let values = text(config, "/data/values");
    let expected = values
        .lines()
        .find_map(|line| line.strip_prefix("webhookFailurePolicy:"));
    let Some(expected) = expected.map(|expected| expected.trim().trim_matches('"')) else {
        return Outcome::Skip;
    };
    let is = items(found, "/webhooks")
        .next()
        .map_or("", |webhook| text(webhook, "/failurePolicy"));
    if is == expected {
        return Outcome::Pass;
    }
    Outcome::Fail(format!("its failurePolicy is {is} instead of {expected}, as installed"))
}

fn without_sidecar(facts: &Facts) -> Outcome {
    let pods = match facts.list(ObjectKind::Pods) {
        Ok(pods) => pods,
        Err(error) => return Outcome::Unknown(error),
    };
    let bare: Vec<String> = pods
        .iter()
        .filter(|pod| requests_sidecar(facts, pod) && !is_injected(pod) && !has_ended(pod))
        .map(full_name)
        .collect();
    Outcome::fail_if_any(&bare, |names| format!("running without a sidecar: {names}"))
}

/// Returns true if annotations request a sidecar, and nothing precludes it.
fn requests_sidecar(facts: &Facts, pod: &Value) -> bool {
    let namespace = object_namespace(pod);
    let Some(of) = facts.namespace(namespace) else {
        return false;
    };
    let asks = |value: &str| matches!(value, "enabled" | "ingress");
    let inject = destination_k8s::keys::INJECT;
    let expected = match annotation(pod, inject) {
        "" => asks(annotation(of, inject)),
        own => asks(own),
    };
    expected
        && !matches!(object_name(of), "kube-system" | "cert-manager")
        && label(of, "config.linkerd.io/admission-webhooks") != "disabled"
        && label(pod, "linkerd.io/control-plane-component").is_empty()
        && pod["spec"]["hostNetwork"] != true
}

/// Returns true if the pod has a sidecar, ordinary or native.
pub(super) fn is_injected(pod: &Value) -> bool {
    view_pod(pod, |pod| pod.sidecar().is_some())
}
