//! Problems of what directs a Service's traffic elsewhere: splits and overrides that have no effect, or not all of it,
//! and rules that refer to more than there is room for.

use std::collections::BTreeMap;

use destination_k8s::{Kind, Object, TrafficSplit, keys, route::BackendRef};
use k8s_openapi::api::core::v1::Service;
use proxy_model::limits::RULE_TARGETS;

use super::ROUTES;
use crate::{
    apex,
    dep::Parent,
    name::ServiceName,
    reader::Reader,
    route::{AnyRoute, Traffic},
    split,
    target::{self, Root},
};

/// Namespaces with a profile that skips splits, by the profile's name.
type Skipping<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// Finds the problems of TrafficSplits, ServiceProfiles and routes.
pub(super) fn problems(reader: &Reader<'_>, add: &mut impl FnMut(&Object, String)) {
    let mut skipping = Skipping::new();
    for object in reader.all(Kind::ServiceProfile) {
        let Object::ServiceProfile(profile) = object else {
            continue;
        };
        if target::skips_splits(profile) {
            skipping.entry(object.name()).or_default().push(object.namespace());
        }
        for reason in overrides(reader, object) {
            add(object, reason);
        }
    }
    for object in reader.all(Kind::TrafficSplit) {
        let Object::TrafficSplit(split) = object else { continue };
        for reason in split_problems(reader, object.namespace(), split, &skipping) {
            add(object, reason);
        }
    }
    for object in ROUTES.into_iter().flat_map(|kind| reader.all(kind)) {
        let route = AnyRoute::from_object(object);
        if let Some(reason) = route.and_then(|route| crowded(reader, route)) {
            add(object, reason);
        }
    }
}

/// Returns the problems of a split.
fn split_problems(reader: &Reader<'_>, ns: &str, split: &TrafficSplit, skipping: &Skipping<'_>) -> Vec<String> {
    let Some(apex) = apex::name(split, reader.config) else {
        let name = &split.spec.service;
        return vec![format!(
            "spec.service {name:?} is not a Service of namespace {ns}, so the split has no effect"
        )];
    };
    if !split.spec.matches.is_empty() {
        return vec!["spec.matches is not supported yet, so the split has no effect".to_owned()];
    }
    let winner = reader
        .split(ns, apex)
        .and_then(|winner| winner.metadata.name.as_deref());
    if let Some(other) = winner.filter(|name| Some(*name) != split.metadata.name.as_deref()) {
        return vec![format!(
            "TrafficSplit {ns}/{other} already splits {apex}, so this one has no effect"
        )];
    }
    let Some(service) = reader.service(ns, apex) else {
        return vec![format!(
            "the Service {ns}/{apex} does not exist, so the split has no effect"
        )];
    };
    let mut reasons = skips(reader, (ns, apex), skipping);
    let declared = split.spec.backends.len();
    if declared > RULE_TARGETS.value {
        let most = RULE_TARGETS.value;
        reasons.push(format!(
            "it has {declared} backends, more than the limit of {most}, so the split has no effect"
        ));
    }
    let ports = ports(service);
    if split.spec.backends.iter().all(|backend| backend.weight.millis() == 0) {
        reasons.push("all backends have weight 0, so the split has no effect".to_owned());
    } else {
        reasons.extend(missing_backends(reader, (ns, apex), split, &ports));
    }
    if !is_reached(reader, (ns, apex), &ports) {
        reasons.push(unreached((ns, apex), "the split has"));
    }
    reasons
}

/// Finds the profiles that skip the split of a Service.
fn skips(reader: &Reader<'_>, (ns, apex): (&str, &str), skipping: &Skipping<'_>) -> Vec<String> {
    let full = format!("{apex}.{ns}.svc.{}", reader.config.cluster_domain);
    let namespaces = skipping.get(full.as_str()).into_iter().flatten();
    let reason = |of: &&str| {
        // A profile that is ignored skips nothing.
        reader.service_profile(of, &full)?;
        let clients = if *of == ns {
            String::new()
        } else {
            format!(" on clients in namespace {of}")
        };
        Some(format!(
            "the ServiceProfile {of}/{full} is annotated {}, so the split has no effect{clients}",
            keys::SMI_SKIP
        ))
    };
    namespaces.filter_map(reason).collect()
}

/// Finds the backends that get no traffic, and says what becomes of their share.
fn missing_backends(reader: &Reader<'_>, (ns, apex): (&str, &str), split: &TrafficSplit, ports: &[u16]) -> Vec<String> {
    let has_port = |name: &str, port: u16| split::has_port(reader.service(ns, name), port);
    let (served, unserved): (Vec<u16>, Vec<u16>) = ports.iter().partition(|port| {
        let mut weighted = split.spec.backends.iter().filter(|backend| backend.weight.millis() > 0);
        weighted.any(|backend| has_port(&backend.service, **port))
    });
    let heir = if served.is_empty() {
        format!("{ns}/{apex} itself receives")
    } else {
        "the others receive".to_owned()
    };
    let (mut reasons, mut exists) = (vec![], false);
    for backend in &split.spec.backends {
        let name = &backend.service;
        if reader.service(ns, name).is_none() {
            reasons.push(format!("the backend {ns}/{name} does not exist, so {heir} its share"));
            continue;
        }
        exists |= backend.weight.millis() > 0;
        let missing = served.iter().filter(|port| !has_port(name, **port));
        reasons.extend(
            missing.map(|port| {
                format!("the backend {ns}/{name} has no port {port}, so the others receive its share there")
            }),
        );
    }
    let own =
        |port| format!("no backend with a weight has port {port}, so all traffic there goes to {ns}/{apex} itself");
    // If none exists, all is said.
    reasons.extend(unserved.into_iter().filter(|_| exists).map(own));
    reasons
}

/// Returns the problems of a profile's overrides.
fn overrides(reader: &Reader<'_>, object: &Object) -> Vec<String> {
    let Object::ServiceProfile(profile) = object else {
        return vec![];
    };
    let all = &profile.spec.dst_overrides;
    let name = crate::service_name(object.name(), reader.config);
    let Some(ServiceName { ns, name, .. }) = name.filter(|_| !all.is_empty()) else {
        return vec![];
    };
    let Some(service) = reader.service(&ns, &name) else {
        return vec![];
    };
    let (ports, most) = (ports(service), RULE_TARGETS.value);
    let split = reader.split(&ns, &name).filter(|_| !target::skips_splits(profile));
    let is_split = |split: &&std::sync::Arc<TrafficSplit>| {
        ports
            .iter()
            .all(|port| !split::targets(reader, split, *port).is_empty())
    };
    if let Some(split) = split.filter(is_split) {
        let other = split.metadata.name.as_deref().unwrap_or_default();
        return vec![format!(
            "TrafficSplit {ns}/{other} splits {name}, so dstOverrides have no effect"
        )];
    }
    let mut reasons = vec![];
    if all.iter().all(|target| target.weight.millis() == 0) {
        reasons.push("all dstOverrides have weight 0, so they have no effect".to_owned());
    }
    if all.len() > most {
        let count = all.len();
        reasons.push(format!(
            "there are {count} dstOverrides, more than the limit of {most}, so they have no effect"
        ));
    }
    if !is_reached(reader, (&ns, &name), &ports) {
        reasons.push(unreached((&ns, &name), "dstOverrides have"));
    }
    reasons
}

fn unreached((ns, name): (&str, &str), what: &str) -> String {
    format!(
        "no rule of the routes at Service {ns}/{name} leads to it, so {what} no effect on the requests that they match"
    )
}

fn ports(service: &Service) -> Vec<u16> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.filter_map(|port| u16::try_from(port.port).ok()).collect()
}

/// Returns true if the targets of a Service apply at some port: where there is no route, or one of its rules leads to
/// the Service itself.
fn is_reached(reader: &Reader<'_>, (ns, name): (&str, &str), ports: &[u16]) -> bool {
    let parent = Parent::new(Kind::Service, ns, name);
    let routes = reader.routes(&parent).into_iter().filter_map(AnyRoute::from_object);
    // Those of other namespaces apply to their own clients alone, and those that are ignored to none.
    let routes = routes.filter(|route| {
        let of_requests = matches!(route.traffic(), Traffic::Grpc | Traffic::Http);
        of_requests && route.namespace() == ns && reader.unsupported(*route).is_none()
    });
    let routes: Vec<_> = routes.collect();
    let is_own = |found: &BackendRef| {
        let of = found.namespace.as_deref().unwrap_or(ns);
        found.kind() == "Service" && (of, found.name.as_str()) == (ns, name)
    };
    let leads_here = |route: &&AnyRoute<'_>| {
        let mut rules = route.rules().into_iter();
        rules.any(|rule| rule.is_empty() || rule.iter().any(is_own))
    };
    ports.iter().any(|port| {
        let at_port = |route: &&AnyRoute<'_>| {
            route.parents().iter().any(|found| {
                let is_here = Parent::from_ref(found, ns).as_ref() == Some(&parent);
                is_here && found.port.is_none_or(|own| own == *port)
            })
        };
        let mut attached = routes.iter().filter(at_port).peekable();
        attached.peek().is_none() || attached.any(|route| leads_here(&route))
    })
}

/// Finds the first backend of a route whose targets have no room in their rule.
fn crowded(reader: &Reader<'_>, route: AnyRoute<'_>) -> Option<String> {
    let most = RULE_TARGETS.value;
    route.rules().into_iter().find_map(|rule| {
        let mut room = most;
        rule.iter().find_map(|found| {
            let root = Root {
                client_ns: "",
                ns: found.namespace.as_deref().unwrap_or(route.namespace()),
                name: &found.name,
                port: found.port?,
            };
            let is_service = found.kind() == "Service";
            reader.service(root.ns, root.name).filter(|_| is_service)?;
            match room.checked_sub(root.replacements(reader).len()) {
                Some(left) => {
                    room = left;
                    None
                }
                None => Some(format!(
                    "the splits of one rule's backends have more than {most} targets, so that of {}/{} has no effect there",
                    root.ns, root.name
                )),
            }
        })
    })
}
