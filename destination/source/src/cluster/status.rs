//! Writes the status of an object: only where it differs, and without touching other controllers' parts.

use destination_k8s::ObjectRef;
use k8s_openapi::jiff::{Timestamp, Unit};
use kube::core::{
    params::{GetParams, Patch, PatchParams},
    request::Request,
};
use serde_json::{Map, Value, json};

use super::{Client, kinds};
use crate::Error;

/// Field manager, as `kubectl get --show-managed-fields` shows it.
const WRITER: &str = "mesh";

/// Updates the status of an object, read and written as `version` (`group/version`), to `wanted`: `conditions` without
/// times, or `parents` of one controller with such conditions. Returns true if anything was written.
pub async fn write_status(client: &Client, object: &ObjectRef, version: &str, wanted: &Value) -> Result<bool, Error> {
    let namespace = Some(&*object.namespace).filter(|namespace| !namespace.is_empty());
    let requests = Request::new(kinds::path(object.kind, version, namespace));
    let what = format!("get the {object}");
    let now: Value = client
        .request(&what, requests.get(&object.name, &GetParams::default()))
        .await?;
    // The API server keeps whole seconds.
    let time = Timestamp::now().round(Unit::Second).unwrap_or_default().to_string();
    let Some(status) = merged(&now["status"], wanted, &time) else {
        return Ok(false);
    };
    let params = PatchParams {
        field_manager: Some(WRITER.to_owned()),
        ..PatchParams::default()
    };
    // Carries the version that was read: lists are replaced as a whole, and of two concurrent writers one fails.
    let version = &now["metadata"]["resourceVersion"];
    let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
    let request = requests.patch_subresource("status", &object.name, &params, &Patch::Merge(patch));
    let what = format!("patch the status of the {object}");
    client.request::<Value>(&what, request).await.map(|_| true)
}

/// Returns the parts of a status that must change; none if it is as wanted.
fn merged(now: &Value, wanted: &Value, time: &str) -> Option<Value> {
    let mut parts = Map::new();
    for (key, value) in wanted.as_object().into_iter().flatten() {
        let value = match (key.as_str(), value.as_array()) {
            ("parents", Some(wanted)) => parents(&now["parents"], wanted, time),
            ("conditions", Some(wanted)) => conditions(&now["conditions"], wanted, time),
            _ => value.clone(),
        };
        if now[key] != value {
            parts.insert(key.clone(), value);
        }
    }
    (!parts.is_empty()).then_some(Value::Object(parts))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Merges the parents: other controllers' first, then ours.
fn parents(now: &Value, wanted: &[Value], time: &str) -> Value {
    let is_ours = |parent: &Value| {
        wanted
            .iter()
            .any(|own| own["controllerName"] == parent["controllerName"])
    };
    let theirs = items(now).filter(|parent| !is_ours(parent)).cloned();
    let ours = wanted
        .iter()
        .filter(|parent| !parent["parentRef"].is_null())
        .map(|own| {
            let mut before = items(now).filter(|parent| is_ours(parent));
            let before = before.find(|parent| parent["parentRef"] == own["parentRef"]);
            let own_conditions: Vec<Value> = items(&own["conditions"]).cloned().collect();
            let before = before.map_or(&Value::Null, |parent| &parent["conditions"]);
            let mut parent = own.clone();
            parent["conditions"] = conditions(before, &own_conditions, time);
            parent
        });
    theirs.chain(ours).collect()
}

/// Adds the time of the last transition to conditions.
fn conditions(now: &Value, wanted: &[Value], time: &str) -> Value {
    let timed = |condition: &Value| {
        let same = |before: &&Value| {
            ["type", "status", "reason"]
                .iter()
                .all(|key| before[*key] == condition[*key])
        };
        let since = items(now).find(same).map(|before| before["lastTransitionTime"].clone());
        let mut condition = condition.clone();
        condition["lastTransitionTime"] = since.filter(Value::is_string).unwrap_or_else(|| json!(time));
        condition
    };
    wanted.iter().map(timed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(status: &str, time: Option<&str>) -> Value {
        let mut condition = json!({"type": "Accepted", "status": status, "reason": "Accepted", "message": ""});
        if let Some(time) = time {
            condition["lastTransitionTime"] = json!(time);
        }
        condition
    }

    fn parent(controller: &str, name: &str, condition: Value) -> Value {
        json!({"controllerName": controller, "parentRef": {"name": name}, "conditions": [condition]})
    }

    #[test]
    fn skips_unchanged_conditions_and_keeps_their_times() {
        let now = json!({"conditions": [condition("True", Some("1"))]});
        let wanted = |status: &str| json!({"conditions": [condition(status, None)]});
        assert_eq!(merged(&now, &wanted("True"), "2"), None);
        let changed = merged(&now, &wanted("False"), "2");
        assert_eq!(changed, Some(json!({"conditions": [condition("False", Some("2"))]})));
        assert!(merged(&Value::Null, &wanted("True"), "2").is_some());
    }

    #[test]
    fn keeps_other_controllers_parents() {
        let theirs = parent("other", "gateway", condition("True", Some("1")));
        let ours = |name: &str, time: Option<&str>| parent("us", name, condition("True", time));
        let now = json!({"parents": [ours("a", Some("1")), theirs, ours("gone", Some("1"))]});
        let wanted = json!({"parents": [ours("a", None), ours("b", None)]});
        let expected = json!({"parents": [theirs, ours("a", Some("1")), ours("b", Some("2"))]});
        assert_eq!(merged(&now, &wanted, "2"), Some(expected.clone()));
        assert_eq!(merged(&expected, &wanted, "3"), None);
        // A parent without a reference names the controller whose parents are removed.
        let none = json!({"parents": [{"controllerName": "us"}]});
        assert_eq!(merged(&expected, &none, "3"), Some(json!({"parents": [theirs]})));
    }
}
