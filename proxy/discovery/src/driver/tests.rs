//! Tests of the driver with a simulated control plane and paused time.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use futures_util::StreamExt;
use proxy_model::{ClientPolicy, Endpoint, Labels, Meta, OutboundTarget, Profile, ServerProtocol, route::Filter};
use tokio::{sync::mpsc, task::LocalSet, time::Instant};

use super::*;
use crate::{Config, Failure, PolicyWatch, PortPolicy, Source, Stream, StreamLimits, forward_policy};

/// Streams that a test feeds: each call takes the next feed, or fails.
struct Feeds<T>(RefCell<Vec<Result<Feed<T>, Failure>>>);

type Feed<T> = mpsc::Receiver<Result<T, Failure>>;

impl<T: 'static> Feeds<T> {
    fn open(&self) -> Result<Stream<T>, Failure> {
        let mut feeds = self.0.borrow_mut();
        let next = if feeds.is_empty() {
            Err(Failure::Unavailable("nothing fed".into()))
        } else {
            feeds.remove(0)
        };
        let stream =
            |mut feed: mpsc::Receiver<_>| futures_util::stream::poll_fn(move |cx| feed.poll_recv(cx)).boxed_local();
        next.map(stream)
    }

    fn feed(&self) -> mpsc::Sender<Result<T, Failure>> {
        let (sender, receiver) = mpsc::channel(16);
        self.0.borrow_mut().push(Ok(receiver));
        sender
    }

    fn fail(&self, failure: Failure) {
        self.0.borrow_mut().push(Err(failure));
    }
}

impl<T> Default for Feeds<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

#[derive(Default)]
struct Simulated {
    outbound: Feeds<ClientPolicy>,
    inbound: Feeds<ServerPolicy>,
    profiles: Feeds<Profile>,
    endpoints: Feeds<EndpointUpdate>,
    asked: Cell<usize>,
    down: Cell<bool>,
}

struct Handle(Rc<Simulated>);

impl ControlPlane for Handle {
    async fn connected(&self, _: Service) {
        while self.0.down.get() {
            moment().await;
        }
    }

    async fn watch_outbound(&self, _: &OutboundTarget) -> Result<Stream<ClientPolicy>, Failure> {
        self.0.asked.set(self.0.asked.get() + 1);
        self.0.outbound.open()
    }

    async fn watch_inbound(&self, _: u16) -> Result<Stream<ServerPolicy>, Failure> {
        self.0.inbound.open()
    }

    async fn profile(&self, _: &str) -> Result<Stream<Profile>, Failure> {
        self.0.profiles.open()
    }

    async fn endpoints(&self, _: &str) -> Result<Stream<EndpointUpdate>, Failure> {
        self.0.asked.set(self.0.asked.get() + 1);
        self.0.endpoints.open()
    }
}

fn config() -> Config {
    Config {
        profile_networks: vec!["10.0.0.0/8".parse().expect("a network")],
        ..Config::default()
    }
}

async fn simulate<F: Future<Output = ()>>(config: Config, test: impl FnOnce(Discovery, Rc<Simulated>) -> F) {
    let control = Rc::new(Simulated::default());
    let (discovery, driver) = Discovery::new(config, Handle(Rc::clone(&control)));
    let local = LocalSet::new();
    local.spawn_local(driver.run());
    local.run_until(test(discovery, control)).await;
}

fn policy(name: &str) -> ClientPolicy {
    let endpoint = Endpoint::bare("10.9.9.9:80".parse().expect("an address"));
    ClientPolicy {
        meta: Meta::default_named(name),
        ..forward_policy(Arc::new(endpoint), Duration::from_secs(10))
    }
}

fn add(addr: &str) -> EndpointUpdate {
    let endpoints = vec![Endpoint::bare(addr.parse().expect("an address"))];
    EndpointUpdate::Add {
        labels: Labels::default(),
        endpoints,
    }
}

fn addrs(set: &watch::Receiver<Option<Arc<EndpointSet>>>) -> Vec<SocketAddr> {
    set.borrow()
        .as_ref()
        .map(|set| set.endpoints.keys().copied().collect())
        .unwrap_or_default()
}

fn target() -> OutboundTarget {
    OutboundTarget::Addr("10.0.0.1:80".parse().expect("an address"))
}

async fn moment() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn publishes_an_outbound_answer_once_policy_and_profile_are_known() {
    simulate(config(), |discovery, control| async move {
        let (policies, profiles) = (control.outbound.feed(), control.profiles.feed());
        let mut answer = discovery.outbound(&target());
        policies.send(Ok(policy("first"))).await.expect("listening");
        moment().await;
        assert!(answer.borrow().is_none(), "the profile is missing");
        profiles.send(Ok(Profile::default())).await.expect("listening");
        answer.changed().await.expect("answered");
        let first = answer.borrow_and_update().clone().expect("answered");
        assert_eq!(
            (first.policy.meta.name(), first.source),
            ("first", Source::ControlPlane)
        );
        assert_eq!(first.profile.as_deref(), Some(&Profile::default()));
        policies.send(Ok(policy("first"))).await.expect("listening");
        moment().await;
        assert!(
            !answer.has_changed().expect("alive"),
            "an equal answer is not published"
        );
        policies.send(Ok(policy("second"))).await.expect("listening");
        answer.changed().await.expect("updated");
        let status = discovery.status();
        assert!(
            status[0].live && status[0].age_seconds.is_some_and(|age| age < 1.0),
            "{status:?}"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn publishes_and_remembers_that_a_policy_has_the_targets_of_its_profile() {
    simulate(config(), |discovery, control| async move {
        let (policies, profiles) = (control.outbound.feed(), control.profiles.feed());
        let mut answer = discovery.outbound(&target());
        policies.send(Ok(policy("web"))).await.expect("listening");
        profiles.send(Ok(Profile::default())).await.expect("listening");
        answer.changed().await.expect("answered");
        let targets = |answer: &crate::Outbound| answer.policy.targets.clone();
        assert_eq!(answer.borrow_and_update().as_deref().map(targets), Some(None));
        let with_targets = ClientPolicy {
            targets: Some(proxy_model::outbound::Targets::new()),
            ..policy("web")
        };
        policies.send(Ok(with_targets.clone())).await.expect("listening");
        answer.changed().await.expect("another answer");
        let (_, cached) = discovery.answers().outbound.remove(0);
        let restored = crate::persist::restore(cached);
        assert_eq!(restored.as_deref().map(targets), Some(with_targets.targets));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn forwards_an_unknown_target_to_its_address() {
    simulate(config(), |discovery, control| async move {
        let outside = OutboundTarget::Addr("192.0.2.1:443".parse().expect("an address"));
        control.outbound.fail(Failure::Unknown("no such service".into()));
        let mut answer = discovery.outbound(&outside);
        answer.changed().await.expect("answered");
        let known = answer.borrow_and_update().clone().expect("answered");
        assert_eq!((known.source, known.profile.as_ref()), (Source::Synthesised, None));
        let expected = forward_policy(
            Arc::new(Endpoint::bare("192.0.2.1:443".parse().expect("an address"))),
            Duration::from_secs(10),
        );
        assert_eq!(*known.policy, expected);
        // Later it becomes a service.
        let policies = control.outbound.feed();
        policies.send(Ok(policy("now"))).await.expect("a queue");
        answer.changed().await.expect("asked again");
        assert_eq!(answer.borrow().as_ref().expect("answered").source, Source::ControlPlane);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn keeps_endpoints_during_an_outage_and_replaces_them_with_the_first_add() {
    simulate(config(), |discovery, control| async move {
        let feed = control.endpoints.feed();
        let mut set = discovery.endpoints("web.ns.svc.cluster.local:80");
        feed.send(Ok(add("10.0.0.1:80"))).await.expect("listening");
        set.changed().await.expect("answered");
        feed.send(Err(Failure::Unavailable("gone".into())))
            .await
            .expect("listening");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(addrs(&set).len(), 1, "still served");
        let status = discovery.status();
        assert!(
            !status[0].live && status[0].age_seconds.is_some_and(|age| age > 59.0),
            "{status:?}"
        );

        let feed = control.endpoints.feed();
        let back = Instant::now();
        feed.send(Ok(EndpointUpdate::Remove(vec![
            "10.0.0.1:80".parse().expect("an address"),
        ])))
        .await
        .expect("a queue");
        feed.send(Ok(add("10.0.0.2:80"))).await.expect("a queue");
        set.changed().await.expect("back");
        assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
        assert_eq!(addrs(&set), ["10.0.0.2:80".parse().expect("an address")]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn ends_an_unused_lookup_unless_its_stream_is_down() {
    simulate(config(), |discovery, control| async move {
        let feed = control.endpoints.feed();
        let mut set = discovery.endpoints("web:80");
        feed.send(Ok(add("10.0.0.1:80"))).await.expect("listening");
        set.changed().await.expect("answered");
        drop(set);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(addrs(&discovery.endpoints("web:80")).len(), 1, "kept for the idle time");

        feed.send(Err(Failure::Unavailable("gone".into())))
            .await
            .expect("listening");
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(
            addrs(&discovery.endpoints("web:80")).len(),
            1,
            "kept while the control plane is down"
        );

        let feed = control.endpoints.feed();
        feed.send(Ok(add("10.0.0.1:80"))).await.expect("a queue");
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(discovery.status().is_empty(), "unused");
        assert!(feed.is_closed(), "its stream was closed");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn counts_endpoints_beyond_the_limit_in_metrics() {
    let config = config();
    let metrics = config.metrics.clone();
    simulate(config, |discovery, control| async move {
        let feed = control.endpoints.feed();
        let mut set = discovery.endpoints("web:80");
        let count = u32::try_from(limits::ENDPOINTS_PER_SERVICE.value).expect("small") + 2;
        let endpoint = |i: u32| Endpoint::bare((std::net::Ipv4Addr::from(0x0a00_0000 + i), 80).into());
        let update = EndpointUpdate::Add {
            labels: Labels::default(),
            endpoints: (0..count).map(endpoint).collect(),
        };
        feed.send(Ok(update)).await.expect("listening");
        set.changed().await.expect("answered");
        let counted = "mesh_limit_refused_total{limit=\"ENDPOINTS_PER_SERVICE\"} 2\n";
        assert!(metrics.render().contains(counted), "{}", metrics.render());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn restarts_a_silent_or_old_stream() {
    let second = |s| Some(Duration::from_secs(s));
    let limits = StreamLimits {
        initial: second(3),
        idle: second(300),
        lifetime: second(3600),
    };
    simulate(
        Config {
            destination_limits: limits,
            ..config()
        },
        |discovery, control| async move {
            let (silent, quiet) = (control.endpoints.feed(), control.endpoints.feed());
            let mut set = discovery.endpoints("web:80");
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert!(silent.is_closed(), "no first message in 3 s");
            quiet.send(Ok(add("10.0.0.1:80"))).await.expect("listening");
            set.changed().await.expect("answered");
            let next = control.endpoints.feed();
            tokio::time::sleep(Duration::from_secs(301)).await;
            assert!(quiet.is_closed(), "no message in 5 min");
            next.send(Ok(add("10.0.0.2:80"))).await.expect("asked for at once");
            set.changed().await.expect("answered");
            assert_eq!(addrs(&set), ["10.0.0.2:80".parse().expect("an address")]);
            assert_eq!(control.asked.get(), 3);
        },
    )
    .await;
}

/// Policy of a port that the control plane sends.
fn opaque() -> ServerPolicy {
    let policy = PortPolicy::default().for_port(8080, &proxy_model::ports::PortSet::default());
    ServerPolicy {
        protocol: ServerProtocol::Opaque,
        authorizations: Vec::new(),
        ..policy
    }
}

fn protocol(watch: &PolicyWatch) -> Option<ServerProtocol> {
    watch.borrow().as_ref().map(|policy| policy.protocol.clone())
}

#[tokio::test(start_paused = true)]
async fn an_invalid_policy_fails_closed() {
    simulate(config(), |discovery, control| async move {
        let mut policy = discovery.inbound(8080);
        let feed = control.inbound.feed();
        feed.send(Ok(opaque())).await.expect("a queue");
        policy.changed().await.expect("updated");
        assert_eq!(protocol(&policy), Some(ServerProtocol::Opaque));
        policy.borrow_and_update();
        feed.send(Err(Failure::Invalid("protocol: is missing".into())))
            .await
            .expect("listening");
        policy.changed().await.expect("updated");
        let invalid = policy.borrow_and_update().clone().expect("known");
        let ServerProtocol::Detect { routes, .. } = &invalid.protocol else {
            panic!("{invalid:?}")
        };
        assert_eq!(
            routes[0].rules[0].filters,
            [Filter::Invalid("protocol: is missing".into())]
        );
        assert_eq!(
            invalid.authorizations.len(),
            1,
            "opaque connections are accepted from this host only"
        );
        assert!(!feed.is_closed(), "the stream goes on");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_absence_of_a_policy_is_not_a_policy() {
    let refused = || Failure::Refused("not for you".into());
    for failure in [
        Failure::Unknown("no such pod".into()),
        refused(),
        Failure::Unavailable("gone".into()),
    ] {
        simulate(config(), |discovery, control| async move {
            control.inbound.fail(failure);
            let mut policy = discovery.inbound(8080);
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(protocol(&policy), None);
            let feed = control.inbound.feed();
            feed.send(Ok(opaque())).await.expect("a queue");
            tokio::time::timeout(Duration::from_secs(1), policy.changed())
                .await
                .expect("asked again, even after a refusal")
                .expect("updated");
            for failure in [Failure::Unknown("no such pod".into()), refused()] {
                (0..20).for_each(|_| control.inbound.fail(failure.clone()));
            }
            feed.send(Err(refused())).await.expect("listening");
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(protocol(&policy), Some(ServerProtocol::Opaque), "known is known");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_was_long_unknown_is_known_within_seconds() {
    simulate(config(), |discovery, control| async move {
        (0..100).for_each(|_| control.inbound.fail(Failure::Unknown("no such pod".into())));
        let mut policy = discovery.inbound(8080);
        tokio::time::sleep(Duration::from_secs(60)).await;
        control.inbound.0.borrow_mut().clear();
        let feed = control.inbound.feed();
        feed.send(Ok(opaque())).await.expect("a queue");
        tokio::time::timeout(Duration::from_secs(3), policy.changed())
            .await
            .expect("asked again soon")
            .expect("updated");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_port_is_asked_for_again_before_it_is_served() {
    simulate(config(), |discovery, control| async move {
        let feed = control.inbound.feed();
        let mut policy = discovery.inbound(8080);
        feed.send(Ok(opaque())).await.expect("listening");
        policy.changed().await.expect("updated");
        drop(policy);
        tokio::time::sleep(discovery.0.config.inbound_idle * 2).await;
        assert!(feed.is_closed(), "forgotten");
        assert_eq!(protocol(&discovery.inbound(8080)), None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn too_many_lookups_open_no_port_and_take_none_away() {
    simulate(config(), |discovery, control| async move {
        let feed = control.inbound.feed();
        let declared = discovery.declared(1);
        feed.send(Ok(opaque())).await.expect("a queue");
        let count = u16::try_from(limits::UNDECLARED_PORTS.value).expect("small") + 1;
        let scan: Vec<_> = (2..=count).map(|port| discovery.inbound(port)).collect();
        moment().await;
        let late = discovery.inbound(count + 1);
        assert!(
            late.borrow().is_none() && late.has_changed().is_err(),
            "closed, without a policy"
        );
        drop(scan);
        for port in 2..=count {
            drop(discovery.inbound(count + port));
        }
        assert_eq!(protocol(&declared), Some(ServerProtocol::Opaque));
        assert_eq!(
            protocol(&discovery.inbound(1)),
            Some(ServerProtocol::Opaque),
            "never evicted while in use"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn fails_open_only_by_configuration() {
    let open = Config {
        fail_open: true,
        ..config()
    };
    simulate(open, |discovery, control| async move {
        control.inbound.fail(Failure::Unknown("no such pod".into()));
        let mut policy = discovery.inbound(8080);
        let default = policy.borrow_and_update().clone().expect("at once");
        assert_eq!(default.labels["name"], "all-unauthenticated");
        assert!(discovery.answers().inbound.is_empty(), "a default is not an answer");
        let feed = control.inbound.feed();
        feed.send(Ok(opaque())).await.expect("a queue");
        policy.changed().await.expect("updated");
        (0..20).for_each(|_| control.inbound.fail(Failure::Unknown("no such pod".into())));
        feed.send(Err(Failure::Unavailable("gone".into())))
            .await
            .expect("listening");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(protocol(&policy), Some(ServerProtocol::Opaque), "known is known");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn restores_answers_after_a_restart_until_newer_ones_arrive() {
    let path = |name: &str| format!("{name}:80");
    let cache = Rc::new(RefCell::new(proxy_model::DiscoveryCache::default()));
    let kept = Rc::clone(&cache);
    simulate(config(), |discovery, control| async move {
        let before = discovery.changes();
        let (policies, profiles) = (control.outbound.feed(), control.profiles.feed());
        let (first, second) = (control.endpoints.feed(), control.endpoints.feed());
        let (mut outbound, port) = (discovery.outbound(&target()), discovery.inbound(8080));
        let mut sets = [discovery.endpoints(&path("web")), discovery.endpoints(&path("api"))];
        policies.send(Ok(policy("kept"))).await.expect("listening");
        profiles.send(Ok(Profile::default())).await.expect("listening");
        first.send(Ok(add("10.0.0.1:80"))).await.expect("listening");
        second.send(Ok(add("10.0.0.2:80"))).await.expect("listening");
        outbound.changed().await.expect("answered");
        for set in &mut sets {
            set.changed().await.expect("answered");
        }
        *kept.borrow_mut() = discovery.answers();
        assert!(discovery.changes() > before);
        drop(port);
    })
    .await;
    let cache = cache.take();
    assert_eq!((cache.outbound.len(), cache.endpoints.len()), (1, 2));
    assert!(cache.inbound.is_empty(), "a default is not an answer");

    let config = Config { cache, ..config() };
    simulate(config, |discovery, control| async move {
        control.down.set(true);
        let outbound = discovery.outbound(&target());
        let known = outbound.borrow().clone().expect("known at once");
        assert_eq!(known.policy.meta, Meta::default_named("kept"));
        let mut set = discovery.endpoints(&path("web"));
        assert_eq!(addrs(&set), ["10.0.0.1:80".parse().expect("an address")]);
        assert_eq!(
            discovery.answers().endpoints.len(),
            2,
            "the other one is kept for the next restart"
        );
        tokio::time::sleep(Duration::from_secs(60)).await;
        let feed = control.endpoints.feed();
        feed.send(Ok(add("10.0.0.9:80"))).await.expect("a queue");
        control.down.set(false);
        tokio::time::timeout(Duration::from_millis(10), set.changed())
            .await
            .expect("asked for as soon as there is a connection")
            .expect("answered");
        assert_eq!(addrs(&set), ["10.0.0.9:80".parse().expect("an address")]);
        let late = discovery.endpoints(&path("api"));
        assert!(late.borrow().is_none(), "the control plane is connected and asked");
        assert_eq!(discovery.answers().endpoints.len(), 1);
    })
    .await;
}
