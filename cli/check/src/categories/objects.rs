//! `linkerd-objects`: what people wrote for the mesh and the mesh does not take, or what refers to nothing. Admission says
//! the same, but only while it is up, and not about what was there before it.

use std::collections::BTreeSet;

use destination_k8s::Object;
use serde_json::Value;

use crate::{
    Category, Check, Facts, Outcome, What,
    facts::{full_name, items, object_name, object_namespace, text},
};

/// The kinds that people write for the mesh.
const WRITTEN: [(What, &str); 11] = [
    (What::ServiceProfiles, "ServiceProfile"),
    (What::TrafficSplits, "TrafficSplit"),
    (What::Servers, "Server"),
    (What::ServerAuthorizations, "ServerAuthorization"),
    (What::AuthorizationPolicies, "AuthorizationPolicy"),
    (What::MeshTlsAuthentications, "MeshTLSAuthentication"),
    (What::NetworkAuthentications, "NetworkAuthentication"),
    (What::RateLimits, "HTTPLocalRateLimitPolicy"),
    (What::PolicyHttpRoutes, "HTTPRoute"),
    (What::HttpRoutes, "HTTPRoute"),
    (What::GrpcRoutes, "GRPCRoute"),
];

pub(super) fn category() -> Category {
    Category::new(
        "linkerd-objects",
        vec![
            Check::new("objects of the mesh are valid", valid)
                .hint("correct the named field: what is invalid has no effect, and the last valid state stays"),
            Check::new("objects of the mesh have no unknown fields", unknown)
                .hint("delete or correct the named field: the mesh does not read it")
                .warns(),
            Check::new("traffic splits refer to Services that exist", splits)
                .hint("make the Service, or correct the split: without its root Service a split has no effect")
                .warns(),
            Check::new("service profiles are named after a Service", profiles)
                .hint("a ServiceProfile's name is NAME.NAMESPACE.svc.DOMAIN of its Service")
                .warns(),
        ],
    )
}

/// Each object that people wrote, with its kind named even where a list leaves it out.
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
    Outcome::none_of(&wrong, |names| names.to_owned())
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
    Outcome::none_of(&found, |names| format!("not read: {names}"))
}

/// The fields of a document that the value which was read from it does not have.
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

/// What a writer may leave out without a difference.
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
    let services = facts.list(What::Services).ok()?;
    Some(
        services
            .iter()
            .map(|service| (object_namespace(service), object_name(service)))
            .collect(),
    )
}

fn splits(facts: &Facts) -> Outcome {
    let (Ok(splits), Some(services)) = (facts.list(What::TrafficSplits), services(facts)) else {
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
    Outcome::none_of(&wrong, |names| names.to_owned())
}

fn profiles(facts: &Facts) -> Outcome {
    let (Ok(profiles), Some(services)) = (facts.list(What::ServiceProfiles), services(facts)) else {
        return Outcome::Skip;
    };
    let mut wrong = Vec::new();
    for profile in profiles {
        let mut parts = object_name(profile).split('.');
        let (name, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if parts.next() != Some("svc") {
            wrong.push(format!(
                "ServiceProfile {}: the name is not a Service's",
                full_name(profile)
            ));
        } else if !services.contains(&(namespace, name)) {
            wrong.push(format!(
                "ServiceProfile {}: there is no Service {namespace}/{name}",
                full_name(profile)
            ));
        }
    }
    Outcome::none_of(&wrong, |names| names.to_owned())
}
