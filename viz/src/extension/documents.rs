//! Discovery documents of a Kubernetes API server, for `kubectl api-resources` and other clients.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use viz_api::{
    Kind,
    cluster::{GROUP, KINDS, SUBRESOURCE, VERSION},
};

use crate::rejection::Rejection;

fn group_version() -> String {
    format!("{GROUP}/{VERSION}")
}

fn group_value() -> Value {
    let version = json!({"groupVersion": group_version(), "version": VERSION});
    json!({"name": GROUP, "versions": [version], "preferredVersion": version})
}

pub(super) async fn paths() -> Json<Value> {
    let group = format!("/apis/{GROUP}");
    let version = format!("/apis/{}", group_version());
    Json(json!({"paths": ["/apis", group, version, "/healthz", "/openapi/v2", "/version"]}))
}

/// Not in the aggregated form; newer API servers then ask for each document.
pub(super) async fn groups() -> Json<Value> {
    Json(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group_value()]}))
}

pub(super) async fn group() -> Json<Value> {
    let mut value = group_value();
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Json(value)
}

pub(super) async fn resources() -> Json<Value> {
    let resources: Vec<Value> = KINDS.into_iter().flat_map(resource).collect();
    Json(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version(),
        "resources": resources,
    }))
}

fn resource(kind: Kind) -> [Value; 2] {
    let namespaced = kind != Kind::Namespace;
    let named = |name: String| {
        json!({
            "name": name,
            "singularName": "",
            "namespaced": namespaced,
            "kind": "Tap",
            "verbs": ["watch"],
        })
    };
    [
        named(kind.plural().to_owned()),
        named(format!("{}/{SUBRESOURCE}", kind.plural())),
    ]
}

pub(super) async fn openapi() -> Json<Value> {
    Json(json!({"swagger": "2.0", "info": {"title": "mesh-viz tap", "version": VERSION}, "paths": {}}))
}

/// Rejection as a Kubernetes `Status`, with the additional key of Linkerd's tap.
pub(super) fn status(Rejection(code, message): Rejection) -> Response {
    let reason = match code {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code.as_u16(),
        "error": message,
    });
    (code, Json(status)).into_response()
}

pub(super) async fn version() -> Json<Value> {
    Json(json!({"major": "", "minor": "", "gitVersion": env!("CARGO_PKG_VERSION")}))
}
