//! Store of all objects, with secondary indexes by address, Service and parent.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use destination_k8s::{Kind, Object, ObjectRef, PodView, keys};
use k8s_openapi::{
    api::{
        core::v1::{Pod, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    dep::{Dep, Parent},
    route::AnyRoute,
    verdict::{Check, Checked},
};

/// Sort key of objects, as in upstream: the oldest first, then by name.
pub(crate) fn age(meta: &ObjectMeta) -> impl Ord + use<'_> {
    Age(meta)
}

struct Age<'a>(&'a ObjectMeta);

impl Ord for Age<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.0, other.0);
        // Objects without a time come from a directory, and so do all others then.
        let created = a.creation_timestamp.cmp(&b.creation_timestamp);
        created
            .then_with(|| a.name.cmp(&b.name))
            .then_with(|| a.namespace.cmp(&b.namespace))
    }
}

impl PartialOrd for Age<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Age<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Age<'_> {}

type Refs = BTreeSet<ObjectRef>;

/// Store of objects.
#[derive(Debug, Default)]
pub(crate) struct Store {
    objects: BTreeMap<ObjectRef, Object>,
    /// Services and pods by their addresses; pods with host ports also by their host's.
    ips: FxHashMap<IpAddr, Refs>,
    slices: FxHashMap<(Arc<str>, Arc<str>), Refs>,
    routes: FxHashMap<Parent, Refs>,
    /// Results of checks that have found something.
    checks: BTreeMap<ObjectRef, Check>,
}

/// Key of a secondary index.
enum SecondaryKey {
    Ip(IpAddr),
    Slice(Arc<str>, Arc<str>),
    Route(Parent),
}

impl Store {
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(crate) fn refs(&self) -> impl Iterator<Item = &ObjectRef> {
        self.objects.keys()
    }

    pub(crate) fn get(&self, key: &ObjectRef) -> Option<&Object> {
        self.objects.get(key)
    }

    pub(crate) fn list(&self, kind: Kind, namespace: Arc<str>) -> impl Iterator<Item = &Object> {
        let from = ObjectRef {
            kind,
            namespace: namespace.clone(),
            name: "".into(),
        };
        let of_namespace = move |key: &ObjectRef| key.kind == kind && key.namespace == namespace;
        self.objects
            .range(from..)
            .take_while(move |(key, _)| of_namespace(key))
            .map(|(_, object)| object)
    }

    pub(crate) fn all(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        let from = ObjectRef {
            kind,
            namespace: "".into(),
            name: "".into(),
        };
        self.objects
            .range(from..)
            .take_while(move |(key, _)| key.kind == kind)
            .map(|(_, object)| object)
    }

    pub(crate) fn slices(&self, ns: Arc<str>, service: Arc<str>) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.slices
            .get(&(ns, service))
            .into_iter()
            .flatten()
            .filter_map(|key| match self.objects.get(key)? {
                Object::EndpointSlice(slice) => Some(slice),
                _ => None,
            })
    }

    pub(crate) fn services_of_ip(&self, ip: IpAddr) -> impl Iterator<Item = &ObjectRef> {
        self.ips
            .get(&ip)
            .into_iter()
            .flatten()
            .filter(|key| key.kind == Kind::Service)
    }

    pub(crate) fn pods_of_ip(&self, ip: IpAddr) -> impl Iterator<Item = &ObjectRef> {
        self.ips
            .get(&ip)
            .into_iter()
            .flatten()
            .filter(|key| key.kind == Kind::Pod)
    }

    pub(crate) fn routes(&self, parent: &Parent) -> impl Iterator<Item = &ObjectRef> {
        self.routes.get(parent).into_iter().flatten()
    }

    pub(crate) fn check(&self, key: &ObjectRef) -> Option<&Check> {
        self.checks.get(key)
    }

    pub(crate) fn checks(&self) -> impl Iterator<Item = (&ObjectRef, &Check)> {
        self.checks.iter()
    }

    pub(crate) fn apply(&mut self, checked: Checked, changed: &mut FxHashSet<Dep>) {
        let Checked { object, check } = checked;
        let key = object.object_ref();
        if self.objects.get(&key) == Some(&object) {
            return;
        }
        self.delete(&key, changed);
        for found in secondary_keys(&object) {
            match found {
                SecondaryKey::Ip(ip) => insert(&mut self.ips, ip, &key, Dep::Ip(ip), changed),
                SecondaryKey::Slice(ns, service) => {
                    let dep = Dep::Slices(ns.clone(), service.clone());
                    insert(&mut self.slices, (ns, service), &key, dep, changed);
                }
                SecondaryKey::Route(parent) => {
                    insert(&mut self.routes, parent.clone(), &key, Dep::Routes(parent), changed);
                }
            }
        }
        changed.insert(Dep::List(key.kind, key.namespace.clone()));
        changed.insert(Dep::Object(key.clone()));
        if !check.is_clean() {
            self.checks.insert(key.clone(), check);
        }
        self.objects.insert(key, object);
    }

    pub(crate) fn delete(&mut self, key: &ObjectRef, changed: &mut FxHashSet<Dep>) {
        let Some(object) = self.objects.remove(key) else { return };
        self.checks.remove(key);
        for found in secondary_keys(&object) {
            match found {
                SecondaryKey::Ip(ip) => remove(&mut self.ips, &ip, key, Dep::Ip(ip), changed),
                SecondaryKey::Slice(ns, service) => {
                    let dep = Dep::Slices(ns.clone(), service.clone());
                    remove(&mut self.slices, &(ns, service), key, dep, changed);
                }
                SecondaryKey::Route(parent) => {
                    remove(&mut self.routes, &parent, key, Dep::Routes(parent.clone()), changed);
                }
            }
        }
        changed.insert(Dep::List(key.kind, key.namespace.clone()));
        changed.insert(Dep::Object(key.clone()));
    }
}

fn insert<K: std::hash::Hash + Eq>(
    map: &mut FxHashMap<K, Refs>,
    at: K,
    key: &ObjectRef,
    dep: Dep,
    changed: &mut FxHashSet<Dep>,
) {
    map.entry(at).or_default().insert(key.clone());
    changed.insert(dep);
}

fn remove<K: std::hash::Hash + Eq>(
    map: &mut FxHashMap<K, Refs>,
    at: &K,
    key: &ObjectRef,
    dep: Dep,
    changed: &mut FxHashSet<Dep>,
) {
    if let Some(refs) = map.get_mut(at) {
        refs.remove(key);
        if refs.is_empty() {
            map.remove(at);
        }
    }
    changed.insert(dep);
}

fn secondary_keys(object: &Object) -> Vec<SecondaryKey> {
    match object {
        Object::Service(service) => cluster_ips(service).into_iter().map(SecondaryKey::Ip).collect(),
        Object::Pod(pod) => pod_ips(pod).into_iter().map(SecondaryKey::Ip).collect(),
        Object::EndpointSlice(slice) => {
            let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
            let service = slice
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(keys::SERVICE_NAME));
            service
                .map(|service| SecondaryKey::Slice(namespace.into(), service.as_str().into()))
                .into_iter()
                .collect()
        }
        _ => AnyRoute::from_object(object).map_or_else(Vec::new, parents),
    }
}

fn parents(route: AnyRoute<'_>) -> Vec<SecondaryKey> {
    let refs = route.parents().iter();
    refs.filter_map(|reference| Parent::from_ref(reference, route.namespace()))
        .map(SecondaryKey::Route)
        .collect()
}

/// Returns the addresses of a Service.
pub(crate) fn cluster_ips(service: &Service) -> BTreeSet<IpAddr> {
    let Some(spec) = &service.spec else {
        return BTreeSet::new();
    };
    let many = spec.cluster_ips.iter().flatten();
    many.chain(&spec.cluster_ip).filter_map(|ip| ip.parse().ok()).collect()
}

/// Returns the addresses by which a pod is found: its own unless it shares its host's, and its host's if it has host
/// ports.
fn pod_ips(pod: &Pod) -> BTreeSet<IpAddr> {
    let view = PodView::new(pod);
    let (Some(_), Some(status)) = (&pod.spec, &pod.status) else {
        return BTreeSet::new();
    };
    let mut ips = BTreeSet::new();
    if !view.has_host_network() {
        ips.extend(view.ips());
    }
    let has_host_port = view
        .containers()
        .any(|c| c.ports.iter().flatten().any(|p| p.host_port.is_some()));
    if has_host_port {
        ips.extend(status.host_ip.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()));
    }
    ips
}
