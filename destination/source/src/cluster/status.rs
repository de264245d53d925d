//! Writes the status of an object.

use destination_k8s::ObjectRef;
use kube::core::{
    params::{Patch, PatchParams},
    request::Request,
};
use serde_json::{Value, json};

use super::{Client, kinds};
use crate::Error;

/// Who writes, as `kubectl get --show-managed-fields` says it.
const WRITER: &str = "mesh";

/// Merges `status` into the status of an object, written as `version` (`group/version`). Lists in it replace lists.
pub async fn patch_status(client: &Client, object: &ObjectRef, version: &str, status: &Value) -> Result<(), Error> {
    let namespace = Some(&*object.namespace).filter(|namespace| !namespace.is_empty());
    let params = PatchParams {
        field_manager: Some(WRITER.to_owned()),
        ..PatchParams::default()
    };
    let request = Request::new(kinds::path(object.kind, version, namespace)).patch_subresource(
        "status",
        &object.name,
        &params,
        &Patch::Merge(json!({ "status": status })),
    );
    let what = format!("patch the status of the {object}");
    client.request::<Value>(&what, request).await.map(|_| ())
}
