//! Problems of objects, each in one sentence, so that nothing is ignored silently.

mod targets;

use std::fmt;

use destination_k8s::{Kind, Object, ObjectRef};

use crate::{inbound, reader::Reader, verdict::Check};

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
    targets::problems(reader, &mut add);
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
