//! What is wrong with objects that are there: each in one sentence, so that nothing is silently ignored.

use std::{collections::BTreeMap, fmt};

use destination_k8s::{Kind, Object, ObjectRef, TrafficSplit, keys};

use crate::{
    inbound, outbound,
    outbound::annotations::Annotations,
    profile,
    reader::Reader,
    route::AnyRoute,
    split::{self, Missing},
};

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// The object.
    pub object: ObjectRef,
    /// What is wrong, and what follows from it.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
}

/// What is wrong with an object whatever else there is, so that admission can say it before the object is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Annotations with values that nobody knows.
    pub annotations: Vec<String>,
    /// What the mesh cannot use.
    pub content: Vec<String>,
}

impl Faults {
    /// Looks at an object alone.
    pub fn of(object: &Object) -> Self {
        let mut faults = Self::default();
        if let Object::ServiceProfile(profile) = object {
            let told = |route: &str| format!("the condition of the route {route:?} cannot be compiled");
            faults.content.extend(profile::bad_routes(profile).map(told));
        }
        if is_annotated(object.kind()) {
            let annotations = Annotations::of(object.metadata().annotations.as_ref());
            faults.annotations.extend(annotations.problems());
        }
        faults
            .content
            .extend(AnyRoute::of(object).and_then(outbound::route_problem));
        faults
    }
}

/// Whether annotations of the kind say how clients behave.
fn is_annotated(kind: Kind) -> bool {
    ANNOTATED.contains(&kind)
}

/// The kinds of routes.
pub(crate) const ROUTES: [Kind; 5] = [
    Kind::HttpRoute,
    Kind::PolicyHttpRoute,
    Kind::GrpcRoute,
    Kind::TlsRoute,
    Kind::TcpRoute,
];

const ANNOTATED: [Kind; 5] = [
    Kind::Service,
    Kind::HttpRoute,
    Kind::PolicyHttpRoute,
    Kind::GrpcRoute,
    Kind::EgressNetwork,
];

/// Everything that is wrong now.
pub(crate) fn all(reader: &Reader<'_>) -> Vec<Problem> {
    let mut found = vec![];
    let mut add = |object: &Object, reason: String| {
        let object = object.object_ref();
        found.push(Problem { object, reason });
    };
    splits(reader, &mut add);
    for object in reader.all(Kind::ServiceProfile) {
        let Object::ServiceProfile(profile) = object else {
            continue;
        };
        for route in profile::bad_routes(profile) {
            add(
                object,
                format!("the route {route:?} has a condition that cannot be compiled, so it is left out"),
            );
        }
    }
    for kind in ROUTES {
        for object in reader.all(kind) {
            if let Some(reason) = AnyRoute::of(object).and_then(outbound::route_problem) {
                add(object, format!("{reason}, so the route is left out"));
            }
        }
    }
    for kind in ANNOTATED {
        for object in reader.all(kind) {
            for reason in Annotations::of(object.metadata().annotations.as_ref()).problems() {
                add(object, format!("{reason}, so its group of settings is left out"));
            }
        }
    }
    for object in reader.all(Kind::AuthorizationPolicy) {
        let Object::AuthorizationPolicy(policy) = object else {
            continue;
        };
        if let Some(reason) = inbound::authorization_problem(reader, policy) {
            add(object, format!("{reason}, so the policy allows nobody"));
        }
    }
    found.sort();
    found
}

fn splits(reader: &Reader<'_>, add: &mut impl FnMut(&Object, String)) {
    let mut first: BTreeMap<(&str, &str), &TrafficSplit> = BTreeMap::new();
    for object in reader.all(Kind::TrafficSplit) {
        let Object::TrafficSplit(split) = object else { continue };
        let ns = object.namespace();
        let Some(apex) = split::apex(split, reader.config) else {
            let service = &split.spec.service;
            add(
                object,
                format!("spec.service {service:?} is not a Service of namespace {ns}, so the split has no effect"),
            );
            continue;
        };
        if !split.spec.matches.is_empty() {
            add(
                object,
                "spec.matches is not supported yet, so the split has no effect".to_owned(),
            );
            continue;
        }
        let winner = split::of_service(reader, ns, apex).map(|winner| &**winner);
        if winner.is_some_and(|winner| winner.metadata.name != split.metadata.name) {
            let other = winner
                .and_then(|winner| winner.metadata.name.as_deref())
                .unwrap_or_default();
            add(
                object,
                format!("TrafficSplit {ns}/{other} already splits {apex}, so this one has no effect"),
            );
            continue;
        }
        first.insert((ns, apex), split);
        for reason in backends(reader, ns, apex, split) {
            add(object, reason);
        }
    }
}

fn backends(reader: &Reader<'_>, ns: &str, apex: &str, split: &TrafficSplit) -> Vec<String> {
    let Some(service) = reader.service(ns, apex) else {
        return vec![format!(
            "the Service {ns}/{apex} does not exist, so the split has no effect"
        )];
    };
    let skips = |object: Option<&Object>| object.is_some_and(|object| object.annotation(keys::SMI_SKIP).is_some());
    let full = format!("{apex}.{ns}.svc.{}", reader.config.cluster_domain);
    let mut reasons = vec![];
    if skips(reader.object(Kind::ServiceProfile, ns, &full)) {
        reasons.push(format!(
            "the ServiceProfile {full} is annotated {}, so the split has no effect",
            keys::SMI_SKIP
        ));
    }
    if split.spec.backends.iter().all(|backend| backend.weight.millis() == 0) {
        reasons.push("no backend has a weight, so the split has no effect".to_owned());
    }
    for backend in &split.spec.backends {
        let name = &backend.service;
        let found = reader.service(ns, name);
        for port in service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten())
            .map(|p| p.port)
        {
            match split::missing(found, u16::try_from(port).unwrap_or(0)) {
                Some(Missing::Service) => {
                    reasons.push(format!(
                        "the backend {ns}/{name} does not exist, so the others take its share"
                    ));
                    break;
                }
                Some(Missing::Port) => {
                    reasons.push(format!(
                        "the backend {ns}/{name} has no port {port}, so the others take its share there"
                    ));
                }
                None => {}
            }
        }
    }
    reasons
}
