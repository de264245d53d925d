//! The cluster as proxies need to know it. Pure and synchronous: objects go in (apply, delete, reset), answers come out
//! through watch channels, and each answer follows its objects as long as it has readers.
//!
//! ```text
//! Object ──▶ Store ──▶ changed dependencies ──▶ views that read them ──▶ watch<model value>
//! ```
//! A view records its reads (`reader.rs`), so that a change updates exactly the views that depend on it.

mod access;
mod access_fault;
mod apex;
mod check;
mod config;
mod dep;
mod endpoints;
mod filter;
mod inbound;
pub mod limits;
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
mod target;
mod verdict;
mod view;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use proxy_model::{ClientPolicy, EndpointSet, OutboundTarget, Profile, ServerPolicy, limits::Limit};
use rustc_hash::FxHashSet;
use tokio::sync::watch;

pub use check::Checker;
pub use config::Config;
pub use destination_k8s::{Object, ObjectRef};
pub use name::{Context, Workload};
pub use problem::Problem;
pub use verdict::{Checked, Faults};

use dep::Dep;
use name::{PathHost, ServiceName};
use reader::Reader;
use store::Store;
use view::Views;

/// Rejection of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The lookup is invalid; retrying does not help.
    #[error("{0}")]
    Invalid(String),
    /// The target does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The Service does not exist, in the one call where upstream responds with "unknown".
    #[error("{0}")]
    Unknown(String),
    /// The limit of distinct lookups is reached.
    #[error("the limit of {} distinct lookups is reached", .0.value)]
    TooMany(Limit),
}

/// Numbers of kept answers, by kind of lookup, and of objects.
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

/// Index of the cluster's objects.
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
    /// Makes an empty index.
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

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Applies new or changed objects; each affected answer changes once.
    pub fn apply(&mut self, objects: impl IntoIterator<Item: Into<Checked>>) {
        self.change(objects, []);
    }

    /// Deletes objects.
    pub fn delete(&mut self, objects: impl IntoIterator<Item = ObjectRef>) {
        self.change(std::iter::empty::<Checked>(), objects);
    }

    /// Applies and deletes objects as one change. Where others wait for the index, check them before.
    pub fn change(
        &mut self,
        applied: impl IntoIterator<Item: Into<Checked>>,
        deleted: impl IntoIterator<Item = ObjectRef>,
    ) {
        let mut changed = FxHashSet::default();
        for object in deleted {
            self.store.delete(&object, &mut changed);
        }
        for object in applied {
            self.store.apply(object.into(), &mut changed);
        }
        self.refresh(&changed);
    }

    /// Replaces all objects.
    pub fn reset(&mut self, objects: impl IntoIterator<Item: Into<Checked>>) {
        let mut changed = FxHashSet::default();
        let mut gone: FxHashSet<ObjectRef> = self.store.refs().cloned().collect();
        for object in objects.into_iter().map(Into::into) {
            gone.remove(&object.object_ref());
            self.store.apply(object, &mut changed);
        }
        for object in gone {
            self.store.delete(&object, &mut changed);
        }
        self.refresh(&changed);
    }

    /// Looks up the endpoints of `path` (`name:port`), for `Destination.Get`.
    pub fn endpoints(&mut self, path: &str, context: &Context) -> Result<watch::Receiver<Arc<EndpointSet>>, Refused> {
        let key = endpoints::Key::parse(path, context, &self.config)?;
        let reader = Reader::new(&self.store, &self.config);
        key.check(&reader, path)?;
        self.endpoints
            .subscribe(&reader, key, |key| Ok(Arc::new(endpoints::endpoints(&reader, key))))
    }

    /// Looks up the profile of `path` (`name:port` or `address:port`), for `Destination.GetProfile`.
    pub fn profile(&mut self, path: &str, context: &Context) -> Result<watch::Receiver<Arc<Profile>>, Refused> {
        let key = profile::Key::parse(path, context, &self.config)?;
        let reader = Reader::new(&self.store, &self.config);
        key.check(&reader, path)?;
        self.profiles
            .subscribe(&reader, key, |key| profile::profile(&reader, key).map(Arc::new))
    }

    /// Looks up the policy for traffic of `client` to `target`. When the target is deleted, the last answer stays.
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

    /// Looks up the policy for `port` of `workload`. None means that the workload is gone.
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

    /// Closes every answer's channel.
    pub fn close(&mut self) {
        self.endpoints = Views::default();
        self.profiles = Views::default();
        self.outbound = Views::default();
        self.inbound = Views::default();
    }

    /// Returns the problems of the current objects, each in one sentence.
    pub fn problems(&self) -> Vec<Problem> {
        problem::all(&Reader::new(&self.store, &self.config))
    }

    /// Returns the desired statuses of routes and policies.
    pub fn statuses(&self) -> BTreeMap<ObjectRef, status::Content> {
        status::all(&Reader::new(&self.store, &self.config))
    }

    /// Returns the numbers of answers and objects.
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

/// Splits a path of `Destination` into name or address, and port.
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

/// Returns the Service that a host names, if it is in the cluster's domain.
fn service_name(host: &str, config: &Config) -> Option<ServiceName> {
    ServiceName::parse(host, &config.cluster_domain)
}

#[cfg(test)]
mod tests;
