//! The cluster as proxies need to know it. Pure and synchronous: objects go in (apply, delete, reset), answers come out
//! through watch channels, and every answer follows its objects until nobody reads it any more.
//!
//! ```text
//! Object ──▶ Store ──▶ what changed ──▶ the views that read it ──▶ watch<model value>
//! ```
//! A view records what it reads (`reader.rs`), so that a change wakes exactly the views that it concerns.

mod config;
mod endpoints;
mod inbound;
mod name;
mod outbound;
mod pod;
mod ports;
mod problem;
mod profile;
mod reader;
mod route;
mod split;
pub mod status;
mod store;
mod view;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use proxy_model::{ClientPolicy, EndpointSet, OutboundTarget, Profile, ServerPolicy};
use rustc_hash::FxHashSet;
use tokio::sync::watch;

pub use config::Config;
pub use destination_k8s::{Object, ObjectRef};
pub use inbound::{DefaultPolicy, InvalidPolicy};
pub use name::{Context, Workload};
pub use problem::{Faults, Problem};

use name::{PathHost, ServiceName};
use reader::{Dep, Reader};
use store::Store;
use view::Views;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The question makes no sense; asking again does not help.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// There is no such Service, in the one call where upstream says "unknown" for it.
    #[error("{0}")]
    Unknown(String),
    /// There are too many different questions already.
    #[error("there are {0} different lookups already, the most there may be")]
    TooMany(usize),
}

/// How many answers are kept, by kind of question.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// `Destination.Get`.
    pub endpoints: usize,
    /// `Destination.GetProfile`.
    pub profiles: usize,
    /// `OutboundPolicies`.
    pub outbound: usize,
    /// `InboundServerPolicies`.
    pub inbound: usize,
    /// Objects.
    pub objects: usize,
}

/// The index.
#[derive(Debug)]
pub struct Index {
    config: Arc<Config>,
    store: Store,
    endpoints: Views<endpoints::Key, Arc<EndpointSet>>,
    profiles: Views<profile::Key, Arc<Profile>>,
    outbound: Views<outbound::Key, Arc<ClientPolicy>>,
    inbound: Views<inbound::Key, Option<Arc<ServerPolicy>>>,
    defaults: inbound::Defaults,
}

impl Index {
    /// An empty index.
    pub fn new(config: Config) -> Self {
        Self {
            config: Arc::new(config),
            store: Store::default(),
            endpoints: Views::default(),
            profiles: Views::default(),
            outbound: Views::default(),
            inbound: Views::default(),
            defaults: inbound::Defaults::default(),
        }
    }

    /// How the index was configured.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes new or changed objects in; the answers that they concern change once for all of them.
    pub fn apply(&mut self, objects: impl IntoIterator<Item = Object>) {
        self.change(objects, []);
    }

    /// Forgets objects.
    pub fn delete(&mut self, objects: impl IntoIterator<Item = ObjectRef>) {
        self.change([], objects);
    }

    /// Takes new or changed objects in and forgets others, as one change.
    pub fn change(&mut self, applied: impl IntoIterator<Item = Object>, deleted: impl IntoIterator<Item = ObjectRef>) {
        let mut changed = FxHashSet::default();
        for object in deleted {
            self.store.delete(&object, &mut changed);
        }
        for object in applied {
            self.store.apply(object, &mut changed);
        }
        self.refresh(&changed);
    }

    /// These are all objects; what else was known is gone.
    pub fn reset(&mut self, objects: impl IntoIterator<Item = Object>) {
        let mut changed = FxHashSet::default();
        let mut gone: FxHashSet<ObjectRef> = self.store.refs().cloned().collect();
        for object in objects {
            gone.remove(&object.object_ref());
            self.store.apply(object, &mut changed);
        }
        for object in gone {
            self.store.delete(&object, &mut changed);
        }
        self.refresh(&changed);
    }

    /// The endpoints of `path` (`name:port`), as `Destination.Get` asks for them.
    pub fn endpoints(&mut self, path: &str, context: &Context) -> Result<watch::Receiver<Arc<EndpointSet>>, Refused> {
        let key = endpoints::Key::parse(path, context, &self.config)?;
        let reader = Reader::new(&self.store, &self.config);
        key.check(&reader, path)?;
        self.endpoints
            .subscribe(&reader, key, |key| Ok(Arc::new(endpoints::endpoints(&reader, key))))
    }

    /// What `Destination.GetProfile` says about `path` (`name:port` or `address:port`).
    pub fn profile(&mut self, path: &str, context: &Context) -> Result<watch::Receiver<Arc<Profile>>, Refused> {
        let key = profile::Key::parse(path, context, &self.config)?;
        let reader = Reader::new(&self.store, &self.config);
        key.check(&reader, path)?;
        self.profiles
            .subscribe(&reader, key, |key| profile::profile(&reader, key).map(Arc::new))
    }

    /// The policy for what `client` sends to `target`. When the target goes away, the last answer stays.
    pub fn outbound(
        &mut self,
        target: &OutboundTarget,
        client: &Workload,
    ) -> Result<watch::Receiver<Arc<ClientPolicy>>, Refused> {
        let key = outbound::Key::parse(target, client, &self.config)?;
        let reader = Reader::new(&self.store, &self.config);
        self.outbound
            .subscribe(&reader, key, |key| outbound::policy(&reader, key).map(Arc::new))
    }

    /// The policy for `port` of `workload`. None means that the workload is gone.
    pub fn inbound(
        &mut self,
        workload: &Workload,
        port: u16,
    ) -> Result<watch::Receiver<Option<Arc<ServerPolicy>>>, Refused> {
        let key = inbound::Key::new(workload, port)?;
        let reader = Reader::new(&self.store, &self.config);
        let answer = self
            .inbound
            .subscribe(&reader, key, |key| Ok(inbound::policy(&reader, &self.defaults, key)))?;
        if answer.borrow().is_none() {
            return Err(Refused::NotFound("unknown server".to_owned()));
        }
        Ok(answer)
    }

    /// Ends every answer: who reads one sees that no other will come.
    pub fn close(&mut self) {
        self.endpoints = Views::default();
        self.profiles = Views::default();
        self.outbound = Views::default();
        self.inbound = Views::default();
    }

    /// What is wrong with the objects as they are now, each in one sentence.
    pub fn problems(&self) -> Vec<Problem> {
        problem::all(&Reader::new(&self.store, &self.config))
    }

    /// What the statuses of routes and policies should be now.
    pub fn statuses(&self) -> BTreeMap<ObjectRef, status::Content> {
        status::all(&Reader::new(&self.store, &self.config))
    }

    /// How many answers and objects are kept.
    pub fn counts(&self) -> Counts {
        Counts {
            endpoints: self.endpoints.len(),
            profiles: self.profiles.len(),
            outbound: self.outbound.len(),
            inbound: self.inbound.len(),
            objects: self.store.len(),
        }
    }

    fn refresh(&mut self, changed: &FxHashSet<Dep>) {
        if changed.is_empty() {
            return;
        }
        let reader = Reader::new(&self.store, &self.config);
        self.endpoints.refresh(&reader, changed, |key, _| {
            Ok(Arc::new(endpoints::endpoints(&reader, key)))
        });
        self.profiles.refresh(&reader, changed, |key, last| {
            profile::profile_after(&reader, key, last).map(Arc::new)
        });
        self.outbound
            .refresh(&reader, changed, |key, _| outbound::policy(&reader, key).map(Arc::new));
        let defaults = &self.defaults;
        self.inbound
            .refresh(&reader, changed, |key, _| Ok(inbound::policy(&reader, defaults, key)));
    }
}

/// A path of `Destination`: a name or an address, with a port.
fn split_path(path: &str) -> Option<(PathHost<'_>, u16)> {
    if let Ok(addr) = path.parse::<SocketAddr>() {
        return Some((PathHost::Ip(addr.ip()), addr.port()));
    }
    let (host, port) = match path.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
        None => (path, 80),
    };
    if host.is_empty() || host.contains(':') {
        return None;
    }
    Some((host.parse().map_or(PathHost::Name(host), PathHost::Ip), port))
}

/// The Service that a host names, if it is in the cluster's domain.
fn service_name(host: &str, config: &Config) -> Option<ServiceName> {
    ServiceName::parse(host, &config.cluster_domain)
}

#[cfg(test)]
mod tests;
