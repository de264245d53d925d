//! Targets of a Service: what directs its traffic elsewhere, and what takes precedence. The one place that decides it,
//! for profiles and client policies alike.
//!
//! ```text
//! TrafficSplit, unless the profile skips it ─▶ dstOverrides of the profile ─▶ the Service itself
//! the profile: the client's own namespace's as a whole ─▶ the Service's namespace's
//! ```

use std::sync::Arc;

use destination_k8s::{ServiceProfile, TrafficSplit, keys};
use proxy_model::{
    Authority, ClientProtocol, Meta,
    limits::RULE_TARGETS,
    outbound::{Dispatch, Distribution, Targets},
    profile::Target,
};
use rustc_hash::FxHashSet;

use crate::{Config, name::ServiceName, reader::Reader, split};

/// Port of a Service, as clients of one namespace see it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Root<'a> {
    pub client_ns: &'a str,
    pub ns: &'a str,
    pub name: &'a str,
    pub port: u16,
}

impl Root<'_> {
    /// Returns the ServiceProfile that holds.
    pub(crate) fn profile<'b>(&self, reader: &Reader<'b>) -> Option<&'b Arc<ServiceProfile>> {
        let full = format!("{}.{}.svc.{}", self.name, self.ns, reader.config.cluster_domain);
        let own = (!self.client_ns.is_empty())
            .then(|| reader.service_profile(self.client_ns, &full))
            .flatten();
        own.or_else(|| reader.service_profile(self.ns, &full))
    }

    /// Returns what directs the traffic of the Service, in the order of precedence.
    fn sources<'b>(&self, reader: &Reader<'b>) -> Sources<'b> {
        let profile = self.profile(reader);
        let has_split = !profile.is_some_and(|profile| skips_splits(profile));
        Sources {
            split: has_split.then(|| reader.split(self.ns, self.name)).flatten(),
            profile,
        }
    }

    /// Returns the targets with their weights; none is the Service itself.
    pub(crate) fn destinations(&self, reader: &Reader<'_>) -> Vec<Target> {
        self.sources(reader).targets(reader, self.port)
    }

    /// Returns the targets that take the place of the Service in rules: those with a share. None is the Service itself,
    /// which it stays if a rule has no room for as many.
    pub(crate) fn replacements(&self, reader: &Reader<'_>) -> Vec<Target> {
        let sources = self.sources(reader);
        if sources.most() > RULE_TARGETS.value {
            return vec![];
        }
        let mut targets = sources.targets(reader, self.port);
        targets.retain(|target| target.weight > 0);
        for target in &mut targets {
            let named = || named(&target.authority, reader.config);
            target.backend = target.backend.take().or_else(named);
        }
        targets
    }
}

/// Objects that direct the traffic of a Service.
struct Sources<'a> {
    split: Option<&'a Arc<TrafficSplit>>,
    profile: Option<&'a Arc<ServiceProfile>>,
}

impl Sources<'_> {
    /// Returns the largest number of targets, without looking at any.
    fn most(&self) -> usize {
        let of_split = self.split.map_or(0, |split| split.spec.backends.len());
        of_split.max(self.profile.map_or(0, |profile| profile.spec.dst_overrides.len()))
    }

    fn targets(&self, reader: &Reader<'_>, port: u16) -> Vec<Target> {
        let split = self.split.map(|split| split::targets(reader, split, port));
        match split.filter(|targets| !targets.is_empty()) {
            Some(targets) => targets,
            None => self.profile.map_or(vec![], |profile| overrides(profile, port)),
        }
    }
}

/// Returns the targets of all Services to which the rules of a policy lead, for clients of a namespace.
pub(crate) fn for_rules(reader: &Reader<'_>, client_ns: &str, protocol: &ClientProtocol) -> Targets {
    let mut seen = FxHashSet::default();
    let mut all = Targets::new();
    let distributions = protocol.distributions().into_iter();
    for found in distributions.flat_map(Distribution::backends) {
        let Some(Dispatch::Balance { path, .. }) = &found.backend.dispatch else {
            continue;
        };
        let Meta::Resource {
            name,
            namespace,
            port: Some(port),
            ..
        } = &found.backend.meta
        else {
            continue;
        };
        if !seen.insert(path) {
            continue;
        }
        let root = Root {
            client_ns,
            ns: namespace,
            name,
            port: port.get(),
        };
        let targets = root.replacements(reader);
        if !targets.is_empty() {
            all.insert(path.clone(), targets);
        }
    }
    all
}

/// Returns the Service that an authority names.
fn named(authority: &Authority, config: &Config) -> Option<Meta> {
    let ServiceName { ns, name, .. } = crate::service_name(authority.host(), config)?;
    Some(Meta::resource(keys::CORE_GROUP, "Service", &ns, &name).with_port(authority.port()))
}

/// Returns true if splits do not apply to clients of the profile.
pub(crate) fn skips_splits(profile: &ServiceProfile) -> bool {
    let annotations = profile.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(keys::SMI_SKIP))
}

fn overrides(profile: &ServiceProfile, port: u16) -> Vec<Target> {
    let targets = profile.spec.dst_overrides.iter().filter_map(|target| {
        let authority = Authority::parse_or_port(&target.authority, port).ok()?;
        Some((authority, target.weight, None))
    });
    split::weighted(targets.collect())
}
