//! Desired statuses of routes and policies: accepted or not, with the reason. Decided here, written by the holder of
//! the lease.

use std::collections::BTreeMap;

use destination_k8s::{
    EgressNetwork, HttpLocalRateLimitPolicy, Kind, Object, ObjectRef, keys,
    policy::{Network, TargetRef},
    route::{BackendRef, ParentRef},
};
use ipnet::IpNet;
use proxy_model::limits;

use crate::{dep::Parent, problem::ROUTES, reader::Reader, route::AnyRoute, store};

/// Controller name of the mesh in statuses of routes.
pub const CONTROLLER: &str = "linkerd.io/policy-controller";

/// Content of a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Status of a route, for each parent that the mesh controls.
    Route(Vec<ParentStatus>),
    /// Status of a policy, with its target.
    Policy(Vec<Condition>, Option<TargetRef>),
}

/// Status of a route at one parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentStatus {
    /// Parent, with its namespace.
    pub parent: ParentRef,
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// Condition of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Type of condition.
    pub kind: &'static str,
    /// The condition holds.
    pub holds: bool,
    /// Reason, as a word for programs.
    pub reason: &'static str,
    /// Message, one sentence; empty if the condition holds.
    pub message: String,
}

const ACCEPTED: &str = "Accepted";
const RESOLVED_REFS: &str = "ResolvedRefs";

impl Condition {
    fn new(kind: &'static str, failure: Failure) -> Self {
        let holds = failure.is_none();
        let (reason, message) = failure.unwrap_or((kind, String::new()));
        Self {
            kind,
            holds,
            reason,
            message,
        }
    }
}

/// Returns the statuses of all objects that have one.
pub(crate) fn all(reader: &Reader<'_>) -> BTreeMap<ObjectRef, Content> {
    let mut found = BTreeMap::new();
    for kind in ROUTES {
        for object in reader.all(kind) {
            let Some(route) = AnyRoute::from_object(object) else {
                continue;
            };
            let parents = route
                .parents()
                .iter()
                .filter_map(|parent| parent_status(reader, route, parent));
            let parents: Vec<_> = parents.collect();
            if !parents.is_empty() {
                found.insert(object.object_ref(), Content::Route(parents));
            }
        }
    }
    for object in reader.all(Kind::HttpLocalRateLimitPolicy) {
        let Object::HttpLocalRateLimitPolicy(limit) = object else {
            continue;
        };
        let accepted = Condition::new(ACCEPTED, limit_failure(reader, limit));
        let content = Content::Policy(vec![accepted], Some(limit.spec.target_ref.clone()));
        found.insert(object.object_ref(), content);
    }
    for object in reader.all(Kind::EgressNetwork) {
        let Object::EgressNetwork(network) = object else {
            continue;
        };
        let accepted = Condition::new(ACCEPTED, overlap(reader, network));
        found.insert(object.object_ref(), Content::Policy(vec![accepted], None));
    }
    found
}

/// Reason and message of a condition that does not hold.
type Failure = Option<(&'static str, String)>;

fn parent_status(reader: &Reader<'_>, route: AnyRoute<'_>, reference: &ParentRef) -> Option<ParentStatus> {
    let parent = Parent::from_ref(reference, route.namespace())?;
    let failure = no_parent(reader, route, &parent)
        .or_else(|| too_many(reader, route, &parent))
        .or_else(|| conflict(reader, route, reference, &parent))
        .or_else(|| {
            reader
                .unsupported(route)
                .map(|fault| (fault.reason(), format!("{fault}.")))
        });
    let mut conditions = vec![Condition::new(ACCEPTED, failure)];
    // A Server's routes have no backends.
    if parent.kind != Kind::Server {
        let unresolved = route
            .backends()
            .into_iter()
            .find_map(|found| unresolved(reader, route, found))
            .or_else(|| {
                route
                    .mirrors()
                    .into_iter()
                    .find_map(|found| unmirrored(reader, route, found))
            });
        conditions.push(Condition::new(RESOLVED_REFS, unresolved));
    }
    let group = if parent.kind == Kind::Service {
        keys::CORE_GROUP
    } else {
        &reference.group
    };
    let reference = ParentRef {
        group: group.to_owned(),
        namespace: Some(parent.namespace.to_string()),
        ..reference.clone()
    };
    Some(ParentStatus {
        parent: reference,
        conditions,
    })
}

fn no_parent(reader: &Reader<'_>, route: AnyRoute<'_>, parent: &Parent) -> Failure {
    const REASON: &str = "NoMatchingParent";
    let Parent { kind, namespace, name } = parent;
    let Some(object) = reader.object(*kind, namespace, name) else {
        return Some((REASON, format!("The {kind} {namespace}/{name} does not exist.")));
    };
    match object {
        Object::Service(service) if store::cluster_ips(service).is_empty() => {
            let text = format!("The Service {namespace}/{name} has no cluster IP, which routes require.");
            Some((REASON, text))
        }
        Object::Server(_) if route.namespace() != &**namespace => {
            let text = format!("The Server {namespace}/{name} is in another namespace than the route.");
            Some((REASON, text))
        }
        Object::EgressNetwork(network) => overlap(reader, network).map(|(_, why)| {
            let text = format!("The EgressNetwork {namespace}/{name} is not accepted: {why}");
            (REASON, text)
        }),
        _ => None,
    }
}

/// Detects routes beyond the limit of their parent, of which the oldest apply.
fn too_many(reader: &Reader<'_>, route: AnyRoute<'_>, parent: &Parent) -> Failure {
    let most = limits::PARENT_ROUTES.value;
    let all = reader.routes(parent);
    // Compared by address: an object is stored once.
    let is_own = |object: &&Object| std::ptr::eq((*object).metadata(), route.metadata());
    if all.len() < most || all.iter().any(is_own) {
        return None;
    }
    let Parent { kind, namespace, name } = parent;
    let text = format!("The {kind} {namespace}/{name} has {most} older routes, the most that apply.");
    Some(("UnsupportedValue", text))
}

/// Detects routes of other kinds at the same port of a parent, of which only one kind applies.
fn conflict(reader: &Reader<'_>, route: AnyRoute<'_>, own: &ParentRef, parent: &Parent) -> Failure {
    if parent.kind == Kind::Server {
        return None;
    }
    let others = reader.routes(parent).into_iter().filter_map(AnyRoute::from_object);
    let mut stronger = others.filter(|other| {
        let overlaps = |theirs: &ParentRef| {
            Parent::from_ref(theirs, other.namespace()).as_ref() == Some(parent)
                && (theirs.port.is_none() || own.port.is_none() || theirs.port == own.port)
        };
        other.traffic() < route.traffic() && other.parents().iter().any(overlaps)
    });
    let winner = stronger.next()?;
    let (_, kind) = winner.group_and_kind();
    let text = format!(
        "The {kind} {}/{} has the same parent and port, and takes precedence over a {}.",
        winner.namespace(),
        winner.name(),
        route.group_and_kind().1
    );
    Some(("RouteReasonConflicted", text))
}

fn unresolved(reader: &Reader<'_>, route: AnyRoute<'_>, found: &BackendRef) -> Failure {
    let namespace = found.namespace.as_deref().unwrap_or(route.namespace());
    let (name, kind) = (&found.name, found.kind());
    match (found.group.as_deref().unwrap_or_default(), kind) {
        ("" | keys::CORE_GROUP, "Service") => {
            if reader.service(namespace, name).is_none() {
                let text =
                    format!("The backend Service {namespace}/{name} does not exist; its share of requests fails.");
                return Some(("BackendNotFound", text));
            }
            None
        }
        (keys::POLICY_GROUP, "EgressNetwork") => {
            let backend = Parent::new(Kind::EgressNetwork, namespace, name);
            let mut parents = route
                .parents()
                .iter()
                .filter_map(|parent| Parent::from_ref(parent, route.namespace()));
            if parents.any(|parent| parent == backend) {
                return None;
            }
            let text = format!(
                "The EgressNetwork {namespace}/{name} can be a backend only of a route that it is a parent of."
            );
            Some(("InvalidKind", text))
        }
        _ => Some(("InvalidKind", format!("A backend of kind {kind} is not supported."))),
    }
}

fn unmirrored(reader: &Reader<'_>, route: AnyRoute<'_>, found: &BackendRef) -> Failure {
    let namespace = found.namespace.as_deref().unwrap_or(route.namespace());
    let (reason, _) = unresolved(reader, route, found)?;
    let text = format!(
        "The mirror's backend {namespace}/{} does not exist; it gets no copies.",
        found.name
    );
    Some((reason, text))
}

fn limit_failure(reader: &Reader<'_>, limit: &HttpLocalRateLimitPolicy) -> Failure {
    let target = &limit.spec.target_ref;
    let namespace = limit.metadata.namespace.as_deref().unwrap_or_default();
    let name = &target.name;
    if !target.is(keys::POLICY_GROUP, "Server") || reader.object(Kind::Server, namespace, name).is_none() {
        let text = format!("There is no Server {namespace}/{name}.");
        return Some(("NoMatchingTarget", text));
    }
    let same = |other: &&std::sync::Arc<HttpLocalRateLimitPolicy>| {
        let theirs = &other.spec.target_ref;
        theirs.is(keys::POLICY_GROUP, "Server") && theirs.name == *name
    };
    let others = reader.rate_limits(namespace).filter(same);
    let first = others.min_by(|a, b| store::age(&a.metadata).cmp(&store::age(&b.metadata)))?;
    if first.metadata.name == limit.metadata.name {
        return None;
    }
    let other = first.metadata.name.as_deref().unwrap_or_default();
    let text = format!("The older {namespace}/{other} is for the same Server, and only the oldest applies.");
    Some(("RateLimitReasonAlreadyExists", text))
}

/// Detects networks that overlap the cluster's own, where they would never apply.
fn overlap(reader: &Reader<'_>, network: &EgressNetwork) -> Failure {
    let overlaps = |own: &IpNet, found: &Network| {
        let cidr = &found.cidr.0;
        let meets = cidr.contains(own) || own.contains(cidr);
        meets && !found.except.iter().any(|except| except.0.contains(own))
    };
    for found in network.spec.networks.iter().flatten() {
        if let Some(own) = reader.config.cluster_networks.iter().find(|own| overlaps(own, found)) {
            let text = format!("The network {} overlaps the cluster network {own}.", found.cidr);
            return Some(("EgressReasonNetworkOverlap", text));
        }
    }
    None
}
