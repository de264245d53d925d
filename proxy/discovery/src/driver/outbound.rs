//! An outbound lookup: two streams, one answer.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use proxy_model::{ClientPolicy, OutboundTarget, Profile};
use tokio::{sync::watch, time::Instant};

use super::{connected, until, unused};
use crate::{
    Config, ControlPlane, Discovery, Outbound, Service, Source,
    cache::Lookup,
    fallback::{invalid_policy, of_address},
    stream::{Event, Follow, Known, Live},
};

type OutboundLookup = Lookup<OutboundTarget, Option<Arc<Outbound>>>;

/// What one of the streams has said.
enum Part<T> {
    Waiting,
    Told(T),
}

impl<T> Part<T> {
    fn known(&self) -> Known {
        match self {
            Self::Waiting => Known::No,
            Self::Told(_) => Known::Yes,
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
        .map(|known| Part::Told((known.policy.clone(), known.source)));
    let profile = match remembered {
        Some(known) => Part::Told(known.profile.clone()),
        None if with_profile => Part::Waiting,
        None => Part::Told(None),
    };
    let (policy, profile) = (RefCell::new(policy.unwrap_or(Part::Waiting)), RefCell::new(profile));
    let parts = Parts {
        config,
        lookup: &lookup,
        policy,
        profile,
    };
    let (policy_live, profile_live) = (watch::Sender::new(false), watch::Sender::new(!with_profile));
    let follow = |kind, limits, live| {
        let age = RefCell::new(config.metrics.answer_age(kind, &path));
        Follow {
            limits,
            health: &lookup.health,
            live,
            target: path.clone(),
            age,
        }
    };
    let policy_stream = follow("outbound", config.policy_limits, &policy_live);
    let policies = policy_stream.run(
        (connected(&*control_plane, Service::Policy), || {
            control_plane.watch_outbound(&target)
        }),
        |event| parts.on_policy(event),
    );
    let profiles = async {
        if with_profile {
            let stream = follow("profile", config.destination_limits, &profile_live);
            stream
                .run(
                    (connected(&*control_plane, Service::Destination), || {
                        control_plane.profile(&path)
                    }),
                    |event| parts.on_profile(event),
                )
                .await;
        }
    };
    let live: [&Live; 2] = [&policy_live, &profile_live];
    let answered = || lookup.answer.borrow().is_some();
    let unused = unused(&discovery.0.outbound, &lookup, config.outbound_idle, (&live, answered));
    until(unused, async { tokio::join!(policies, profiles) }).await;
}

impl Parts<'_> {
    fn on_policy(&self, event: Event<ClientPolicy>) -> Known {
        let invalid = |reason: &str| Arc::new(invalid_policy(reason, self.config.detect_timeout));
        let told = match event {
            Event::Opened => None,
            Event::Message(policy) => Some((Arc::new(policy), Source::ControlPlane)),
            Event::Invalid(reason) => Some((invalid(&reason), Source::ControlPlane)),
            // An address gets another one when it is published; a name has nowhere to go.
            Event::Unknown | Event::Refused => {
                Some((invalid("the control plane does not know the name"), Source::Synthesised))
            }
        };
        if let Some(told) = told {
            *self.policy.borrow_mut() = Part::Told(told);
            self.publish(self.config.detect_timeout);
        }
        self.policy.borrow().known()
    }

    fn on_profile(&self, event: Event<Profile>) -> Known {
        let first = self.profile.borrow().known() == Known::No;
        let told = match event {
            Event::Message(profile) => Part::Told(Some(Arc::new(profile))),
            Event::Unknown | Event::Refused => Part::Told(None),
            // What was known stays; who waits for the first answer does not wait for ever.
            Event::Invalid(_) if first => Part::Told(None),
            Event::Invalid(_) | Event::Opened => Part::Waiting,
        };
        if told.known() == Known::Yes {
            *self.profile.borrow_mut() = told;
            self.publish(self.config.detect_timeout);
        }
        self.profile.borrow().known()
    }

    fn publish(&self, detect_timeout: Duration) {
        let (policy, profile) = (self.policy.borrow(), self.profile.borrow());
        let (Part::Told((policy, source)), Part::Told(profile)) = (&*policy, &*profile) else {
            return;
        };
        let policy = match (source, &self.lookup.key) {
            (Source::Synthesised, OutboundTarget::Addr(addr)) => {
                Arc::new(of_address(*addr, profile.as_deref(), detect_timeout))
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
            // Saying the same again is no change: who watches would compile it anew.
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
