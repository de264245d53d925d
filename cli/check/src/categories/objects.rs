//! `linkerd-objects`: users' objects that the mesh rejects, or that refer to nothing. Admission reports the same, but
//! only while it is up, and not about older objects.

use std::collections::BTreeSet;

use destination_k8s::Object;
use serde_json::Value;

use crate::{
    Category, Check, Facts, ObjectKind, Outcome,
    facts::{full_name, items, object_name, object_namespace, text},
};

/// Kinds that users write for the mesh.
const WRITTEN: [(ObjectKind, &str); 15] = [
    (ObjectKind::ServiceProfiles, "ServiceProfile"),
    (ObjectKind::TrafficSplits, "TrafficSplit"),
    (ObjectKind::TrafficTargets, "TrafficTarget"),
    (ObjectKind::HttpRouteGroups, "HTTPRouteGroup"),
    (ObjectKind::SmiTcpRoutes, "TCPRoute"),
    (ObjectKind::UdpRoutes, "UDPRoute"),
    (ObjectKind::Servers, "Server"),
    (ObjectKind::ServerAuthorizations, "ServerAuthorization"),
    (ObjectKind::AuthorizationPolicies, "AuthorizationPolicy"),
    (ObjectKind::MeshTlsAuthentications, "MeshTLSAuthentication"),
    (ObjectKind::NetworkAuthentications, "NetworkAuthentication"),
    (ObjectKind::RateLimits, "HTTPLocalRateLimitPolicy"),
    (ObjectKind::PolicyHttpRoutes, "HTTPRoute"),
    (ObjectKind::HttpRoutes, "HTTPRoute"),
    (ObjectKind::GrpcRoutes, "GRPCRoute"),
];

pub(super) fn category() -> Category {
    Category::new(
        "linkerd-objects",
        vec![
            Check::new("objects of the mesh are valid", valid)
                .hint("correct the named field: an invalid object has no effect, and the last valid state is kept"),
            Check::new("objects of the mesh have no unknown fields", unknown)
                .hint("delete or correct the named field: the mesh ignores it")
                .warning(),
            Check::new("traffic splits refer to Services that exist", splits)
                .hint("create the Service, or correct the split: without its root Service a split has no effect")
                .warning(),
            Check::new("service profiles are named after a Service", profiles)
                .hint("name a ServiceProfile after its Service: NAME.NAMESPACE.svc.DOMAIN")
                .warning(),
        ],
    )
}

/// Iterates over users' objects, with the kind that lists leave out.
fn written(facts: &Facts) -> impl Iterator<Item = (&'static str, Value)> + '_ {
    WRITTEN.iter().flat_map(move |(what, kind)| {
        let list = facts.list(*what).unwrap_or_default().iter();
        list.map(move |object| {
            let mut object = object.clone();
            if object["kind"].is_null() {
                object["kind"] = (*kind).into();
                object["apiVersion"] = what.api_version().into();
            }
            (*kind, object)
        })
    })
}

fn valid(facts: &Facts) -> Outcome {
    let wrong: Vec<String> = written(facts)
        .filter_map(|(_, object)| Object::from_value(object).err())
        .map(|invalid| invalid.to_string())
        .collect();
    Outcome::fail_if_any(&wrong, |names| names.to_owned())
}

fn unknown(facts: &Facts) -> Outcome {
    let mut found = Vec::new();
    for (kind, object) in written(facts) {
        let Ok(read) = Object::from_value(object.clone()) else {
            continue;
        };
        let Ok(read) = serde_json::to_value(&read) else {
            continue;
        };
        let mut fields = Vec::new();
        differences("spec", &object["spec"], &read["spec"], &mut fields);
        let name = full_name(&object);
        found.extend(fields.into_iter().map(|field| format!("{kind} {name}: {field}")));
    }
    Outcome::fail_if_any(&found, |names| format!("ignored: {names}"))
}

/// Collects the fields of a document that are missing in the value parsed from it.
fn differences(at: &str, written: &Value, read: &Value, found: &mut Vec<String>) {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            for (key, value) in written {
                let at = format!("{at}.{key}");
                match read.get(key) {
                    Some(read) => differences(&at, value, read, found),
                    None if is_nothing(value) => {}
                    None => found.push(at),
                }
            }
        }
        (Value::Array(written), Value::Array(read)) => {
            for (i, (written, read)) in written.iter().zip(read).enumerate() {
                differences(&format!("{at}[{i}]"), written, read, found);
            }
        }
        _ => {}
    }
}

/// Returns true for values that may be omitted without a difference.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(true) => false,
    }
}

fn services(facts: &Facts) -> Option<BTreeSet<(&str, &str)>> {
    let services = facts.list(ObjectKind::Services).ok()?;
    Some(
        services
            .iter()
            .map(|service| (object_namespace(service), object_name(service)))
            .collect(),
    )
}

fn splits(facts: &Facts) -> Outcome {
    let (Ok(splits), Some(services)) = (facts.list(ObjectKind::TrafficSplits), services(facts)) else {
        return Outcome::Skip;
    };
    let mut wrong = Vec::new();
    for split in splits {
        let namespace = object_namespace(split);
        let backends = items(split, "/spec/backends").map(|backend| text(backend, "/service"));
        for service in std::iter::once(text(split, "/spec/service")).chain(backends) {
            let first = service.split('.').next().unwrap_or_default();
            if !services.contains(&(namespace, first)) {
                wrong.push(format!(
                    "TrafficSplit {}: there is no Service {namespace}/{first}",
                    full_name(split)
                ));
            }
        }
    }
    Outcome::fail_if_any(&wrong, |names| names.to_owned())
}

fn profiles(facts: &Facts) -> Outcome {
    let (Ok(profiles), Some(services)) = (facts.list(ObjectKind::ServiceProfiles), services(facts)) else {
        return Outcome::Skip;
    };
    let mut wrong = Vec::new();
    for profile in profiles {
        let mut parts = object_name(profile).split('.');
        let (name, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if parts.next() != Some("svc") {
            wrong.push(format!(
                "ServiceProfile {}: the name is not that of a Service",
                full_name(profile)
            ));
        } else if !services.contains(&(namespace, name)) {
            wrong.push(format!(
                "ServiceProfile {}: there is no Service {namespace}/{name}",
                full_name(profile)
            ));
        }
    }
    Outcome::fail_if_any(&wrong, |names| names.to_owned())
}
