//! Problems of objects, each in one sentence, so that nothing is ignored silently.

use std::{collections::BTreeMap, fmt};

use destination_k8s::{Kind, Object, ObjectRef, TrafficSplit, keys};

use crate::{
    inbound,
    reader::Reader,
    split::{self, Missing},
    verdict::Check,
};

/// Problem of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// The object.
    pub object: ObjectRef,
    /// Cause and consequence.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
}

/// Kinds of routes.
pub(crate) const ROUTES: [Kind; 5] = [
    Kind::HttpRoute,
    Kind::PolicyHttpRoute,
    Kind::GrpcRoute,
    Kind::TlsRoute,
    Kind::TcpRoute,
];

/// Returns all current problems.
pub(crate) fn all(reader: &Reader<'_>) -> Vec<Problem> {
    let mut found = vec![];
    let mut add = |object: &Object, reason: String| {
        let object = object.object_ref();
        found.push(Problem { object, reason });
    };
    splits(reader, &mut add);
    inbound::access_problems(reader, &mut add);
    for object in reader.all(Kind::AuthorizationPolicy) {
        let Object::AuthorizationPolicy(policy) = object else {
            continue;
        };
        if let Some(reason) = inbound::authorization_problem(reader, policy) {
            add(object, format!("{reason}, so the policy does not allow any client"));
        }
    }
    found.extend(reader.checks().flat_map(|(object, check)| own(object, check)));
    found.sort();
    found
}

/// Returns the problems that the check of an object has found.
fn own(object: &ObjectRef, check: &Check) -> Vec<Problem> {
    let consequence = match object.kind {
        Kind::ServiceProfile if check.refusal.is_some() => "the profile is ignored",
        Kind::TrafficTarget => "the target allows nothing",
        Kind::HttpRouteGroup => "the targets that name it allow nothing",
        _ => "the route is ignored",
    };
    let content = check.faults.content.iter();
    let content = content.map(|reason| format!("{reason}, so {consequence}"));
    let annotations = check.faults.annotations.iter();
    let annotations = annotations.map(|reason| format!("{reason}, so its group of settings is ignored"));
    let problem = |reason| Problem {
        object: object.clone(),
        reason,
    };
    content.chain(annotations).map(problem).collect()
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
        let winner = split::find(reader, ns, apex).map(|winner| &**winner);
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
        reasons.push("all backends have weight 0, so the split has no effect".to_owned());
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
                        "the backend {ns}/{name} does not exist, so the others receive its share"
                    ));
                    break;
                }
                Some(Missing::Port) => {
                    reasons.push(format!(
                        "the backend {ns}/{name} has no port {port}, so the others receive its share there"
                    ));
                }
                None => {}
            }
        }
    }
    reasons
}
