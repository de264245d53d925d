//! Endpoints that hang, fail or disappear: how soon they get no more requests, and how they get them again.

use std::{
    cell::Cell,
    net::SocketAddr,
    num::NonZeroU16,
    rc::Rc,
    time::{Duration, Instant},
};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use proxy_http::{Body, client};
use proxy_model::{
    Endpoint,
    outbound::{Ejection, FailureAccrual},
    route::{Backoff, Timeouts},
};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::support::*;
use crate::Worker;

pub(super) const MS: Duration = Duration::from_millis(1);

/// Breaker that opens after 7 failures in a row, for `wait` at first.
pub(super) fn consecutive(wait: Duration) -> FailureAccrual {
    FailureAccrual::Consecutive {
        max_failures: 7,
        backoff: Some(Backoff {
            min: wait,
            max: 60 * wait,
            jitter: 0.0,
            respect_retry_after_hint: false,
        }),
        ejection: Ejection::default(),
    }
}

/// Requests of a load: how many there were, and how many failed.
#[derive(Debug, Default)]
struct Counts {
    all: Cell<usize>,
    failed: Cell<usize>,
}

impl Counts {
    fn take(&self) -> (usize, usize) {
        (self.all.take(), self.failed.take())
    }
}

/// Sends requests from `clients` clients, each every 5 ms, for `time`.
async fn load(mesh: &Mesh, clients: usize, time: Duration) -> (usize, usize) {
    let (counts, http2) = (Counts::default(), mesh.http2().await);
    let end = Instant::now() + time;
    let client = async || {
        let mut http2 = http2.clone();
        while Instant::now() < end {
            let mut request = Request::get("http://web.ns/").body(Body::Empty).expect("valid");
            let response = http2.send(&mut request).await;
            counts.all.set(counts.all.get() + 1);
            let is_ok = match response {
                Ok(response) if response.status() == StatusCode::OK => response.into_body().collect().await.is_ok(),
                _ => false,
            };
            if !is_ok {
                counts.failed.set(counts.failed.get() + 1);
            }
            tokio::time::sleep(5 * MS).await;
        }
    };
    futures_util::future::join_all((0..clients).map(|_| client())).await;
    counts.take()
}

/// Starts a sidecar whose application answers after `time`.
async fn slow(mesh: &Mesh, time: Duration) -> Sidecar {
    let answer = move |_| async move {
        tokio::time::sleep(time).await;
        Ok(Response::new(Body::Empty))
    };
    mesh.web(answer).await
}

fn request_timeout(time: Duration) -> Timeouts {
    Timeouts {
        request: Some(time),
        ..Timeouts::default()
    }
}

#[test]
fn a_hung_endpoint_is_ejected_after_the_failures_of_the_policy_and_probed_one_by_one() {
    run(async || {
        let mesh = Mesh::new();
        mesh.accrual.set(Some(consecutive(200 * MS)));
        // So slow that the hung one is hardly dearer: the breaker has to eject it.
        let (one, two) = (slow(&mesh, 80 * MS).await, slow(&mesh, 80 * MS).await);
        let (hung, hits) = mesh.hung().await;
        mesh.policy(distribution(&[(SERVICE, 1)]), request_timeout(200 * MS));
        mesh.script
            .endpoints(SERVICE, [&one, &two, &hung].map(|sidecar| sidecar.endpoint.clone()));
        let (all, failed) = load(&mesh, 10, 3000 * MS).await;
        // 7 failures and what is in flight at the last of them; then probes after 200, 400, 800 ms.
        let report = format!(
            "{} hits, {failed} of {all} failed\n{}",
            hits.get(),
            mesh.metrics.render()
        );
        assert!((8..=7 + 9 + 4).contains(&hits.get()), "{report}");
        assert_eq!(mesh.count("mesh_breaker_ejections_total", &[]), 1, "{report}");
        assert_eq!(mesh.count("mesh_breaker_ejected", &[]), 1, "{report}");
        assert!(mesh.count("response_total", &["error=\"timeout\""]) >= 8, "{report}");
        let pending = ["endpoint_state=\"pending\""];
        assert_eq!(mesh.count("outbound_http_balancer_endpoints", &pending), 1, "{report}");
    });
}

#[test]
fn a_hung_endpoint_without_a_breaker_soon_gets_next_to_nothing() {
    run(async || {
        let mesh = Mesh::new();
        let (one, _) = mesh.text("one").await;
        let (two, _) = mesh.text("two").await;
        let (hung, hits) = mesh.hung().await;
        mesh.policy(distribution(&[(SERVICE, 1)]), request_timeout(400 * MS));
        mesh.script
            .endpoints(SERVICE, [&one, &two, &hung].map(|sidecar| sidecar.endpoint.clone()));
        let _ = load(&mesh, 10, 800 * MS).await;
        hits.set(0);
        let (all, failed) = load(&mesh, 10, 2000 * MS).await;
        assert!(hits.get() * 100 <= all, "{} hits, {failed} of {all} failed", hits.get());
    });
}

#[test]
fn requests_that_their_client_cancels_make_a_slow_endpoint_dear() {
    run(async || {
        let mesh = Mesh::new();
        mesh.accrual.set(Some(consecutive(200 * MS)));
        let (fast, _) = mesh.text("fast").await;
        let (hung, hits) = mesh.hung().await;
        mesh.split(&[(SERVICE, 1)]);
        mesh.script
            .endpoints(SERVICE, [&fast, &hung].map(|sidecar| sidecar.endpoint.clone()));
        let http2 = mesh.http2().await;
        for _ in 0..60 {
            let mut http2 = http2.clone();
            let mut request = Request::get("http://web.ns/").body(Body::Empty).expect("valid");
            let _ = tokio::time::timeout(30 * MS, http2.send(&mut request)).await;
        }
        assert!((1..=3).contains(&hits.get()), "{} hits", hits.get());
        assert_eq!(
            mesh.count("response_total", &["error=\"cancelled\""]) as usize,
            hits.get()
        );
    });
}

/// Sends a GET on a connection of its own, by `worker`.
pub(super) async fn get_by(mesh: &Mesh, worker: &Rc<Worker>) -> StatusCode {
    let socket = mesh.connect_by(worker, WEB).await;
    let mut http1 = client::http1(socket).await.expect("a connection");
    http1.send(&mut get("/")).await.expect("a response").status()
}

/// Starts a sidecar that answers by the status in the cell, and counts its requests.
pub(super) async fn answering(
    mesh: &Mesh,
    status: &Rc<Cell<u16>>,
    headers: &'static [(&'static str, &'static str)],
) -> Counted {
    let (status, hits) = (status.clone(), Rc::new(Cell::new(0)));
    let counted = hits.clone();
    let sidecar = mesh
        .web(move |_| {
            counted.set(counted.get() + 1);
            let mut response = Response::builder().status(status.get());
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            async move { Ok(response.body(Body::Empty).expect("valid")) }
        })
        .await;
    (sidecar, hits)
}

pub(super) type Counted = (Sidecar, Rc<Cell<usize>>);

#[test]
fn workers_share_a_breaker_and_its_single_probe() {
    run(async || {
        let mesh = Mesh::new();
        mesh.accrual.set(Some(consecutive(150 * MS)));
        let status = Rc::new(Cell::new(500));
        let (sidecar, hits) = answering(&mesh, &status, &[]).await;
        mesh.service(&[&sidecar.endpoint]);
        let (one, two) = (mesh.worker.clone(), mesh.another_worker());
        for worker in [&one, &two, &one, &two, &one, &two, &one] {
            assert_eq!(get_by(&mesh, worker).await, StatusCode::INTERNAL_SERVER_ERROR);
        }
        status.set(200);
        // Ejected for both. Both wait, and what one learns by its probe holds for the other.
        let began = Instant::now();
        let answers = futures_util::future::join(get_by(&mesh, &one), get_by(&mesh, &two)).await;
        assert_eq!(answers, (StatusCode::OK, StatusCode::OK));
        assert!(began.elapsed() >= 100 * MS, "{:?}", began.elapsed());
        assert!(began.elapsed() < 390 * MS, "{:?}", began.elapsed());
        assert_eq!(hits.get(), 9);
        assert_eq!(mesh.count("mesh_breaker_ejected", &[]), 0);
    });
}

#[test]
fn the_last_of_several_endpoints_is_not_ejected_however_it_fails() {
    run(async || {
        let mesh = Mesh::new();
        for (min_ready, max_percent, stay) in [
            (None, None, 1),
            (Some(2), None, 2),
            (Some(0), None, 0),
            (Some(0), Some(50), 2),
        ] {
            let mut accrual = consecutive(20_000 * MS);
            *accrual.ejection_mut() = Ejection { min_ready, max_percent };
            mesh.accrual.set(Some(accrual));
            let status = Rc::new(Cell::new(500));
            let mut pods = Vec::new();
            for _ in 0..3 {
                pods.push(answering(&mesh, &status, &[]).await);
            }
            mesh.service(&pods.iter().map(|(sidecar, _)| &sidecar.endpoint).collect::<Vec<_>>());
            let mut http2 = mesh.http2().await;
            let mut failed_fast = String::new();
            for _ in 0..60 {
                let mut request = Request::get("http://web.ns/").body(Body::Empty).expect("valid");
                let response = http2.send(&mut request).await.expect("a response");
                if response.status() == StatusCode::GATEWAY_TIMEOUT {
                    failed_fast = response.headers()["l5d-proxy-error"].to_str().expect("text").to_owned();
                    break;
                }
                assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            }
            let ejected = mesh.count("mesh_breaker_ejected", &[]);
            assert_eq!(ejected, 3 - stay, "{min_ready:?} {max_percent:?}");
            assert_eq!(
                failed_fast.contains("3 endpoints, 3 ejected"),
                stay == 0,
                "{failed_fast}"
            );
        }
    });
}

#[test]
fn an_ejected_endpoint_returns_when_it_is_the_last_of_several() {
    run(async || {
        let mesh = Mesh::new();
        let mut accrual = consecutive(20_000 * MS);
        *accrual.ejection_mut() = Ejection {
            min_ready: Some(1),
            max_percent: None,
        };
        mesh.accrual.set(Some(accrual));
        let (bad, good) = (Rc::new(Cell::new(500)), Rc::new(Cell::new(200)));
        let (failing, hits) = answering(&mesh, &bad, &[]).await;
        let (other, _) = answering(&mesh, &good, &[]).await;
        mesh.service(&[&failing.endpoint, &other.endpoint]);
        for _ in 0..50 {
            let _ = load(&mesh, 4, 50 * MS).await;
            if mesh.count("mesh_breaker_ejected", &[]) == 1 {
                break;
            }
        }
        assert_eq!(mesh.count("mesh_breaker_ejected", &[]), 1);
        hits.set(0);
        bad.set(200);
        mesh.script.endpoints(SERVICE, [failing.endpoint.clone()]);
        let (all, failed) = load(&mesh, 4, 100 * MS).await;
        assert_eq!((hits.get(), failed), (all, 0), "it was readmitted");
        assert_eq!(mesh.count("mesh_breaker_ejected", &[]), 0);
    });
}

#[test]
fn an_ejection_lasts_as_long_as_the_endpoint_asks_if_the_policy_says_so() {
    run(async || {
        for (honors, is_back) in [(false, true), (true, false)] {
            let mesh = Mesh::new();
            mesh.accrual.set(Some(FailureAccrual::Unified {
                success_rate_threshold: 0.8,
                decay: Some(10_000 * MS),
                min_requests: 5,
                max_consecutive_failures: 0,
                backoff: Some(Backoff {
                    min: 50 * MS,
                    max: 60_000 * MS,
                    jitter: 0.0,
                    respect_retry_after_hint: honors,
                }),
                ejection: Ejection::default(),
            }));
            let status = Rc::new(Cell::new(429));
            let (sidecar, hits) = answering(&mesh, &status, &[("retry-after", "30")]).await;
            mesh.service(&[&sidecar.endpoint]);
            for _ in 0..5 {
                assert_eq!(get_by(&mesh, &mesh.worker).await, StatusCode::TOO_MANY_REQUESTS);
            }
            status.set(200);
            let answer = get_by(&mesh, &mesh.worker).await;
            assert_eq!(
                (answer == StatusCode::OK, hits.get() == 6),
                (is_back, is_back),
                "{honors}: {answer}"
            );
        }
    });
}

/// Port at which connects are not answered: its queue is full, and no one accepts.
async fn unreachable_port() -> ((TcpListener, Vec<TcpStream>), SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a free port");
    let listener = socket.listen(1).expect("it listens");
    let addr = listener.local_addr().expect("bound");
    let mut waiting = Vec::new();
    while let Ok(connected) = tokio::time::timeout(100 * MS, TcpStream::connect(addr)).await {
        waiting.push(connected.expect("a connection"));
    }
    ((listener, waiting), addr)
}

#[test]
fn no_request_waits_for_an_endpoint_known_to_be_dead() {
    run(async || {
        let mesh = Mesh::with(|config| config.connect.timeout = 250 * MS);
        let (alive, _) = mesh.text("alive").await;
        let (_silent, addr) = unreachable_port().await;
        mesh.service(&[&alive.endpoint, &Endpoint::bare(addr)]);
        let mut http1 = mesh.http1().await;
        let mut slow = 0;
        let end = Instant::now() + 4000 * MS;
        while Instant::now() < end {
            let began = Instant::now();
            let response = http1.send(&mut get("/")).await.expect("a response");
            assert_eq!(read(response).await, (StatusCode::OK, "alive".to_owned()));
            slow += usize::from(began.elapsed() > 200 * MS);
            tokio::time::sleep(5 * MS).await;
        }
        assert!(slow <= 1, "{slow} requests waited for a dead endpoint");
    });
}

#[test]
fn an_endpoint_that_never_shakes_hands_is_ejected_too() {
    run(async || {
        let mesh = Mesh::new();
        mesh.accrual.set(Some(consecutive(20_000 * MS)));
        let (alive, _) = mesh.text("alive").await;
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut dead = alive.endpoint.clone();
        dead.addr.set_ip([127, 0, 0, 1].into());
        dead.opaque_transport_port = NonZeroU16::new(silent.local_addr().expect("bound").port());
        mesh.policy(distribution(&[(SERVICE, 1)]), request_timeout(20 * MS));
        mesh.script.endpoints(SERVICE, [dead.clone()]);
        for _ in 0..7 {
            assert_eq!(get_by(&mesh, &mesh.worker).await, StatusCode::GATEWAY_TIMEOUT);
        }
        assert_eq!(mesh.count("mesh_breaker_ejected", &[]), 1);
        mesh.script.endpoints(SERVICE, [alive.endpoint.clone(), dead]);
        for _ in 0..20 {
            assert_eq!(get_by(&mesh, &mesh.worker).await, StatusCode::OK);
        }
    });
}
