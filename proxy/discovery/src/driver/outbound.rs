//! Outbound lookup: two streams, one answer.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use proxy_model::{ClientPolicy, OutboundTarget, Profile};
use tokio::{sync::watch, time::Instant};

use super::{connected, until, unused};
use crate::{
    Config, ControlPlane, Discovery, Outbound, Service, Source,
    cache::Lookup,
    fallback::{address_policy, invalid_policy},
    stream::{Event, Known, Live, OnRefusal, StreamDriver},
};

type OutboundLookup = Lookup<OutboundTarget, Option<Arc<Outbound>>>;

/// Latest answer of one stream.
enum Part<T> {
    Waiting,
    Known(T),
}

impl<T> Part<T> {
    fn known(&self) -> Known {
        match self {
            Self::Waiting => Known::No,
            Self::Known(_) => Known::Yes,
        }
    }
}

struct Parts<'a> {
    config: &'a Config,
    lookup: &'a OutboundLookup,
    policy: RefCell<Part<(Arc<ClientPolicy>, Source)>>,
    profile: RefCell<Part<Option<Arc<Profile>>>>,
}

pub(super) async fn follow<C: ControlPlane>(discovery: Discovery, control_plane: Rc<C>, lookup: OutboundLookup) {
    let config = &discovery.0.config;
    let (target, path) = (lookup.key.clone(), lookup.key.to_string());
    let with_profile = match &target {
        OutboundTarget::Addr(addr) => config.profile_networks.iter().any(|net| net.contains(&addr.ip())),
        OutboundTarget::Authority(_) => true,
    };
    let remembered = lookup.answer.borrow().clone();
    let policy = remembered
        .as_ref()
        .map(|known| Part::Known((known.policy.clone(), known.source)));
    let profile = match remembered {
        Some(known) => Part::Known(known.profile.clone()),
        None if with_profile => Part::Waiting,
        None => Part::Known(None),
    };
    let parts = Parts {
        config,
        lookup: &lookup,
        policy: RefCell::new(policy.unwrap_or(Part::Waiting)),
        profile: RefCell::new(profile),
    };
    let policy_live = watch::Sender::new(false);
    let profile_live = watch::Sender::new(!with_profile);
    let driver = |kind, limits, live| {
        let age = RefCell::new(config.metrics.answer_age(kind, &path));
        StreamDriver {
            limits,
            health: &lookup.health,
            live,
            target: path.clone(),
            on_refusal: OnRefusal::End,
            age,
        }
    };
    let policy_stream = driver("outbound", config.policy_limits, &policy_live);
    let policies = policy_stream.run(
        connected(&*control_plane, Service::Policy),
        || control_plane.watch_outbound(&target),
        |event| parts.on_policy(event),
    );
    let profiles = async {
        if with_profile {
            let stream = driver("profile", config.destination_limits, &profile_live);
            stream
                .run(
                    connected(&*control_plane, Service::Destination),
                    || control_plane.profile(&path),
                    |event| parts.on_profile(event),
                )
                .await;
        }
    };
    let live: [&Live; 2] = [&policy_live, &profile_live];
    let answered = || lookup.answer.borrow().is_some();
    let unused = unused(&discovery.0.outbound, &lookup, config.outbound_idle, &live, answered);
    until(unused, async { tokio::join!(policies, profiles) }).await;
}

impl Parts<'_> {
    fn on_policy(&self, event: Event<ClientPolicy>) -> Known {
        let invalid = |reason: &str| Arc::new(invalid_policy(reason, self.config.detect_timeout));
        let answer = match event {
            Event::Opened => None,
            Event::Message(policy) => Some((Arc::new(policy), Source::ControlPlane)),
            Event::Invalid(reason) => Some((invalid(&reason), Source::ControlPlane)),
            // An address is replaced by a synthesised policy in `publish`; a name has no destination.
            Event::Unknown | Event::Refused => {
                Some((invalid("name unknown to the control plane"), Source::Synthesised))
            }
        };
        if let Some(answer) = answer {
            *self.policy.borrow_mut() = Part::Known(answer);
            self.publish(self.config.detect_timeout);
        }
        self.policy.borrow().known()
    }

    fn on_profile(&self, event: Event<Profile>) -> Known {
        let first = self.profile.borrow().known() == Known::No;
        let answer = match event {
            Event::Message(profile) => Part::Known(Some(Arc::new(profile))),
            Event::Unknown | Event::Refused => Part::Known(None),
            // A known answer stays; a first answer that is invalid ends the wait.
            Event::Invalid(_) if first => Part::Known(None),
            Event::Invalid(_) | Event::Opened => Part::Waiting,
        };
        if answer.known() == Known::Yes {
            *self.profile.borrow_mut() = answer;
            self.publish(self.config.detect_timeout);
        }
        self.profile.borrow().known()
    }

    fn publish(&self, detect_timeout: Duration) {
        let (policy, profile) = (self.policy.borrow(), self.profile.borrow());
        let (Part::Known((policy, source)), Part::Known(profile)) = (&*policy, &*profile) else {
            return;
        };
        let policy = match (source, &self.lookup.key) {
            (Source::Synthesised, OutboundTarget::Addr(addr)) => {
                Arc::new(address_policy(*addr, profile.as_deref(), detect_timeout))
            }
            _ => Arc::clone(policy),
        };
        let answer = Outbound {
            policy,
            profile: profile.clone(),
            source: *source,
            since: Instant::now(),
        };
        let changed = self.lookup.answer.send_if_modified(|last| {
            let same = |old: &Outbound| {
                old.policy == answer.policy && old.profile == answer.profile && old.source == answer.source
            };
            // An equal answer is not published: each watcher would compile it again.
            let changed = !last.as_deref().is_some_and(same);
            if changed {
                *last = Some(Arc::new(answer));
            }
            changed
        });
        if changed {
            self.lookup.health.changed();
        }
    }
}
