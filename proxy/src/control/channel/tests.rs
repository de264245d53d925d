//! Discovery over real gRPC, through an outage.

use proxy_discovery::{Config, Discovery, Source};
use proxy_metrics::{Metrics, NoTls};
use proxy_model::{ClientPolicy, OutboundTarget};
use proxy_tls::{Anchors, Tls};
use proxy_transport::Connect;
use tests_harness::ControlPlane;
use tokio::{task::LocalSet, time::Instant};

use super::*;
use crate::{control::Grpc, env};

fn policy(name: &str) -> ClientPolicy {
    tests_harness::values::service("ns", name, 80)
}

fn channel(control: &ControlPlane, metrics: &Metrics) -> Channel {
    let anchors = Anchors::from_pem(&control.pki().anchors_pem()).expect("anchors");
    let tls = Tls::new("web.local".parse().expect("an id"), anchors).expect("anchors");
    let service = env::Service {
        addr: control.addr().to_string().parse().expect("valid"),
        tls: None,
    };
    let slot = metrics.control("control", &proxy_metrics::Tls::None(NoTls::Loopback));
    let (channel, keep_up) = Channel::new(
        Connector {
            service,
            tls,
            tcp: Connect::default(),
        },
        slot,
    );
    tokio::task::spawn_local(keep_up);
    channel
}

#[tokio::test]
async fn all_streams_are_back_within_two_seconds_of_an_outage() {
    let mut control = ControlPlane::start().await;
    let targets: Vec<OutboundTarget> = (1..=50)
        .map(|i| OutboundTarget::Addr(([10, 0, 0, i], 80).into()))
        .collect();
    for target in &targets {
        control.set_outbound(target, Some(policy("before")));
    }
    let metrics = Metrics::default();
    let test = async {
        let (destination, policies) = (channel(&control, &metrics), channel(&control, &metrics));
        let grpc = Grpc {
            destination,
            policy: policies,
            workload: "w".into(),
            context: "c".into(),
        };
        let (discovery, driver) = Discovery::new(Config::default(), grpc);
        tokio::task::spawn_local(driver.run());
        let mut answers: Vec<_> = targets.iter().map(|target| discovery.outbound(target)).collect();
        for answer in &mut answers {
            answer.wait_for(Option::is_some).await.expect("answered");
        }
        control.stop();
        tokio::time::sleep(Duration::from_millis(700)).await;
        let kept = |name: &str| {
            let named =
                |o: &Arc<proxy_discovery::Outbound>| o.policy.meta.name() == name && o.source == Source::ControlPlane;
            answers
                .iter()
                .filter(|answer| answer.borrow().as_ref().is_some_and(named))
                .count()
        };
        assert_eq!(kept("before"), targets.len(), "what was known is kept");
        for target in &targets {
            control.set_outbound(target, Some(policy("after")));
        }
        control.restart().await;
        let back = Instant::now();
        while kept("after") < targets.len() {
            assert!(
                back.elapsed() < Duration::from_secs(2),
                "only {} are back",
                kept("after")
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), LocalSet::new().run_until(test))
        .await
        .expect("in time");
    assert!(metrics.render().contains("control_request_total{addr=\"control\""));
}

#[tokio::test]
async fn a_connection_that_answers_nothing_is_left_and_one_that_has_answered_stays() {
    let after = Duration::from_millis(100);
    let usage = Usage::default();
    let asked = Usage::default();
    asked.asked.store(true, Relaxed);
    let answered = Usage::default();
    answered.asked.store(true, Relaxed);
    answered.answered.store(true, Relaxed);
    let left = |usage: Arc<Usage>| async move { tokio::time::timeout(3 * after, usage.silent(after)).await.is_ok() };
    let left = tokio::join!(left(Arc::new(usage)), left(Arc::new(asked)), left(Arc::new(answered)));
    assert_eq!(left, (false, true, false), "unasked, asked in vain, answered once");
}
