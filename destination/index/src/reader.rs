//! Reader of the store that records dependencies: the only way in which views see objects.

use std::{
    cell::{Ref, RefCell},
    hash::{Hash as _, Hasher as _},
    net::IpAddr,
    sync::Arc,
};

use destination_k8s::{
    HttpRouteGroup, Kind, Object, ObjectRef, Server, ServiceProfile, SmiTcpRoute, TrafficSplit, TrafficTarget,
    custom::Custom, policy::EgressNetworkSpec,
};
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use proxy_model::limits;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use crate::{
    Config, apex,
    dep::{Dep, Parent},
    route::{AnyRoute, Unsupported},
    store::Store,
    verdict::Check,
};

/// Store with a record of what is read from it.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    store: &'a Store,
    pub(crate) config: &'a Config,
    deps: RefCell<FxHashSet<Dep>>,
    /// Results of lookups by name, by a hash of kind and name: thousands of answers are made of the same few objects.
    found: RefCell<FxHashMap<u64, Vec<CachedLookup<'a>>>>,
    /// Routes of parents, which are sorted once: a status of each route asks for all of its parent.
    routes: RefCell<FxHashMap<Parent, Vec<&'a Object>>>,
    /// Splits by namespace and apex: each reference of a route may name one.
    splits: RefCell<FxHashMap<Arc<str>, SplitsByApex<'a>>>,
    /// Last listed namespace.
    namespace: RefCell<Arc<str>>,
}

type CachedLookup<'a> = (ObjectRef, Option<&'a Object>);
type SplitsByApex<'a> = FxHashMap<&'a str, &'a Arc<TrafficSplit>>;

macro_rules! get {
    ($($(#[$doc:meta])* $name:ident: $variant:ident -> $ty:ty;)*) => {
        $($(#[$doc])*
        pub(crate) fn $name(&self, namespace: &str, name: &str) -> Option<&'a Arc<$ty>> {
            match self.object(Kind::$variant, namespace, name)? {
                Object::$variant(object) => Some(object),
                _ => None,
            }
        })*
    };
}

macro_rules! list {
    ($($(#[$doc:meta])* $name:ident: $variant:ident -> $ty:ty;)*) => {
        $($(#[$doc])*
        pub(crate) fn $name(&self, namespace: &str) -> impl Iterator<Item = &'a Arc<$ty>> + use<'a> {
            self.list(Kind::$variant, namespace).filter_map(|object| match object {
                Object::$variant(object) => Some(object),
                _ => None,
            })
        })*
    };
}

impl<'a> Reader<'a> {
    pub(crate) fn new(store: &'a Store, config: &'a Config) -> Self {
        Self {
            store,
            config,
            deps: RefCell::default(),
            found: RefCell::default(),
            routes: RefCell::default(),
            splits: RefCell::default(),
            namespace: RefCell::new("".into()),
        }
    }

    /// Begins another answer, clearing the dependencies of the last.
    pub(crate) fn begin(&self) {
        self.deps.borrow_mut().clear();
    }

    /// Returns the dependencies since then.
    pub(crate) fn deps(&self) -> Ref<'_, FxHashSet<Dep>> {
        self.deps.borrow()
    }

    pub(crate) fn read(&self, dep: Dep) {
        self.deps.borrow_mut().insert(dep);
    }

    pub(crate) fn object(&self, kind: Kind, namespace: &str, name: &str) -> Option<&'a Object> {
        let mut hasher = FxHasher::default();
        (kind, namespace, name).hash(&mut hasher);
        let mut found = self.found.borrow_mut();
        let found = found.entry(hasher.finish()).or_default();
        let is = |key: &ObjectRef| key.kind == kind && *key.namespace == *namespace && *key.name == *name;
        if let Some((key, object)) = found.iter().find(|(key, _)| is(key)) {
            self.read(Dep::Object(key.clone()));
            return *object;
        }
        let key = ObjectRef::new(kind, namespace, name);
        let object = self.store.get(&key);
        found.push((key.clone(), object));
        self.read(Dep::Object(key));
        object
    }

    /// Interns a namespace.
    fn namespace(&self, namespace: &str) -> Arc<str> {
        let mut last = self.namespace.borrow_mut();
        if **last != *namespace {
            *last = namespace.into();
        }
        last.clone()
    }

    pub(crate) fn list(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = &'a Object> + use<'a> {
        let namespace = self.namespace(namespace);
        self.read(Dep::List(kind, namespace.clone()));
        self.store.list(kind, namespace)
    }

    get! {
        service: Service -> Service;
        pod: Pod -> Pod;
        route_group: HttpRouteGroup -> HttpRouteGroup;
        connection_route: SmiTcpRoute -> SmiTcpRoute;
        replica_set: ReplicaSet -> k8s_openapi::api::apps::v1::ReplicaSet;
        job: Job -> k8s_openapi::api::batch::v1::Job;
    }

    list! {
        servers: Server -> Server;
        splits: TrafficSplit -> TrafficSplit;
        targets: TrafficTarget -> TrafficTarget;
        server_authorizations: ServerAuthorization -> destination_k8s::ServerAuthorization;
        authorization_policies: AuthorizationPolicy -> destination_k8s::AuthorizationPolicy;
        rate_limits: HttpLocalRateLimitPolicy -> destination_k8s::HttpLocalRateLimitPolicy;
        egress_networks: EgressNetwork -> Custom<EgressNetworkSpec>;
    }

    /// Returns the split of a Service.
    pub(crate) fn split(&self, namespace: &str, name: &str) -> Option<&'a Arc<TrafficSplit>> {
        let namespace = self.namespace(namespace);
        self.read(Dep::List(Kind::TrafficSplit, namespace.clone()));
        let mut splits = self.splits.borrow_mut();
        let of_namespace = splits
            .entry(namespace)
            .or_insert_with_key(|namespace| apex::by_name(self.splits(namespace), self.config));
        of_namespace.get(name).copied()
    }

    /// Returns an annotation of a namespace.
    pub(crate) fn namespace_annotation(&self, namespace: &str, key: &str) -> Option<&'a str> {
        self.object(Kind::Namespace, "", namespace)?.annotation(key)
    }

    /// Returns the zone of a node; none if the node or its zone is unknown.
    pub(crate) fn zone(&self, node: &str) -> Option<&'a str> {
        if node.is_empty() {
            return None;
        }
        self.object(Kind::Node, "", node)?
            .label(destination_k8s::keys::TOPOLOGY_ZONE)
    }

    /// Returns the slices of a Service.
    pub(crate) fn slices(
        &self,
        namespace: &str,
        service: &str,
    ) -> impl Iterator<Item = &'a Arc<EndpointSlice>> + use<'a> {
        let (namespace, service): (Arc<str>, Arc<str>) = (namespace.into(), service.into());
        self.read(Dep::Slices(namespace.clone(), service.clone()));
        self.store.slices(namespace, service)
    }

    /// Returns the oldest Service with an address.
    pub(crate) fn service_of_ip(&self, ip: IpAddr) -> Option<&'a Arc<Service>> {
        self.read(Dep::Ip(ip));
        let mut found: Vec<_> = self
            .store
            .services_of_ip(ip)
            .filter_map(|key| self.service(&key.namespace, &key.name))
            .collect();
        found.sort_by(|a, b| crate::store::age(&a.metadata).cmp(&crate::store::age(&b.metadata)));
        found.first().copied()
    }

    /// Returns the pods with an address, their own or their host's.
    pub(crate) fn pods_of_ip(&self, ip: IpAddr) -> Vec<&'a Arc<Pod>> {
        self.read(Dep::Ip(ip));
        self.store
            .pods_of_ip(ip)
            .filter_map(|key| self.pod(&key.namespace, &key.name))
            .collect()
    }

    /// Returns the routes of a parent, oldest first, then by name; those within the limit.
    pub(crate) fn routes(&self, parent: &Parent) -> Vec<&'a Object> {
        self.read(Dep::Routes(parent.clone()));
        if let Some(known) = self.routes.borrow().get(parent) {
            return known.clone();
        }
        let mut found: Vec<_> = self
            .store
            .routes(parent)
            .filter_map(|key| self.store.get(key))
            .collect();
        found.sort_by(|a, b| crate::store::age(a.metadata()).cmp(&crate::store::age(b.metadata())));
        found.truncate(limits::PARENT_ROUTES.value);
        self.routes.borrow_mut().insert(parent.clone(), found.clone());
        found
    }

    /// Returns a ServiceProfile, unless it is over its budget.
    pub(crate) fn service_profile(&self, namespace: &str, name: &str) -> Option<&'a Arc<ServiceProfile>> {
        let Object::ServiceProfile(profile) = self.object(Kind::ServiceProfile, namespace, name)? else {
            return None;
        };
        let key = ObjectRef::new(Kind::ServiceProfile, namespace, name);
        let is_refused = self.store.check(&key).is_some_and(|check| check.refusal.is_some());
        (!is_refused).then_some(profile)
    }

    /// Returns the positions of a profile's invalid routes.
    pub(crate) fn invalid_routes(&self, profile: &ServiceProfile) -> &'a [usize] {
        let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
        let (namespace, name) = (text(&profile.metadata.namespace), text(&profile.metadata.name));
        let key = ObjectRef::new(Kind::ServiceProfile, &namespace, &name);
        self.store.check(&key).map_or(&[], |check| &check.invalid_routes)
    }

    /// Fails if a route is over its budget or has an invalid expression. The caller has read the route.
    pub(crate) fn accept(&self, route: AnyRoute<'_>) -> Result<(), Unsupported> {
        let check = self.store.check(&route.object_ref());
        check.and_then(|check| check.refusal.clone()).map_or(Ok(()), Err)
    }

    /// Returns the result of an object's check; none if it has found nothing. The caller has read the object.
    pub(crate) fn check(&self, key: &ObjectRef) -> Option<&'a Check> {
        self.store.check(key)
    }

    /// Returns the reason for which clients ignore a route. Not for views, as it records no dependency.
    pub(crate) fn unsupported(&self, route: AnyRoute<'_>) -> Option<&'a Unsupported> {
        self.store.check(&route.object_ref())?.unsupported.as_ref()
    }

    /// Returns what the checks of all objects have found. Not for views, as it records no dependency.
    pub(crate) fn checks(&self) -> impl Iterator<Item = (&'a ObjectRef, &'a Check)> + use<'a> {
        self.store.checks()
    }

    /// Returns every object of a kind, in all namespaces. Not for views, as it records no dependency.
    pub(crate) fn all(&self, kind: Kind) -> impl Iterator<Item = &'a Object> + use<'a> {
        self.store.all(kind)
    }
}
