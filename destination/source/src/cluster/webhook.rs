//! The `caBundle` of webhooks and aggregated APIs, by which the API server trusts them.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kube::core::{
    params::{GetParams, Patch, PatchParams},
    request::Request,
};
use serde_json::{Value, json};

use super::Client;
use crate::Error;

/// Prefix of annotations that let cert-manager manage a `caBundle`; it must not be written then.
const INJECTED: &str = "cert-manager.io/inject-";

/// Kind of object with a `caBundle`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CaBundleOf {
    /// A MutatingWebhookConfiguration: each of its webhooks.
    Mutating,
    /// A ValidatingWebhookConfiguration: each of its webhooks.
    Validating,
    /// An APIService.
    ApiService,
}

impl CaBundleOf {
    fn path(self) -> &'static str {
        match self {
            Self::Mutating => "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
            Self::Validating => "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            Self::ApiService => "/apis/apiregistration.k8s.io/v1/apiservices",
        }
    }

    fn plural(self) -> &'static str {
        self.path().rsplit('/').next().unwrap_or_default()
    }
}

/// Writes the anchors (PEM) into an object and returns true, unless it has them already. Fails with [`Error::Conflict`]
/// if the object is changed concurrently: try again.
pub async fn write_ca_bundle(client: &Client, of: CaBundleOf, name: &str, pem: &[u8]) -> Result<bool, Error> {
    let requests = || Request::new(of.path());
    let what = format!("get {} {name}", of.plural());
    let object: Value = client
        .request(&what, requests().get(name, &GetParams::default()))
        .await?;
    let Some(patch) = patch(of, &object, &BASE64_STANDARD.encode(pem)) else {
        return Ok(false);
    };
    let request = requests().patch(name, &PatchParams::default(), &Patch::Merge(patch));
    let what = format!("patch {} {name}", of.plural());
    client.request::<Value>(&what, request).await?;
    Ok(true)
}

/// Makes the patch for `object` to trust `bundle`; none if it does already. A list is replaced as a whole, and the
/// version ensures that no concurrent change is lost.
fn patch(of: CaBundleOf, object: &Value, bundle: &str) -> Option<Value> {
    let mut annotations = object["metadata"]["annotations"].as_object().into_iter().flatten();
    if annotations.any(|(key, _)| key.starts_with(INJECTED)) {
        return None;
    }
    let metadata = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
    if of == CaBundleOf::ApiService {
        let spec = json!({ "caBundle": bundle, "insecureSkipTLSVerify": null });
        return (object["spec"]["caBundle"] != bundle).then(|| json!({ "metadata": metadata, "spec": spec }));
    }
    let mut webhooks = object.get("webhooks")?.as_array()?.clone();
    let mut changed = false;
    for webhook in &mut webhooks {
        if webhook["clientConfig"]["caBundle"] != bundle {
            webhook["clientConfig"]["caBundle"] = bundle.into();
            changed = true;
        }
    }
    changed.then(|| json!({ "metadata": metadata, "webhooks": webhooks }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_only_differing_bundles_with_their_version() {
        let object = json!({"metadata": {"name": "m", "resourceVersion": "7"}, "webhooks": [
            {"name": "a", "clientConfig": {"service": {"name": "s"}}},
            {"name": "b", "clientConfig": {"caBundle": "new"}},
        ]});
        let patched = patch(CaBundleOf::Mutating, &object, "new").expect("one differs");
        assert_eq!(patched["metadata"], json!({"resourceVersion": "7"}));
        assert_eq!(
            patched["webhooks"][0]["clientConfig"],
            json!({"service": {"name": "s"}, "caBundle": "new"})
        );
        assert_eq!(patch(CaBundleOf::Mutating, &patched, "new"), None);
        let mut injected = object;
        injected["metadata"]["annotations"] = json!({"cert-manager.io/inject-ca-from": "a/b"});
        assert_eq!(patch(CaBundleOf::Mutating, &injected, "new"), None);
        let api = json!({"metadata": {"resourceVersion": "7"}, "spec": {"caBundle": "old"}});
        let patched = patch(CaBundleOf::ApiService, &api, "new").expect("it differs");
        assert_eq!(
            patched["spec"],
            json!({"caBundle": "new", "insecureSkipTLSVerify": null})
        );
    }
}
