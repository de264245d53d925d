//! The program as a container runs it: it rejects an invalid environment, becomes ready with its certificate, and
//! drains when stopped.

use std::{
    io::Read,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tests_harness::ControlPlane;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

const WEB: &str = "web.emoji.serviceaccount.identity.linkerd.cluster.local";

/// Ends the program with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("bound")
}

fn command(control: &ControlPlane, dir: &Path, admin: SocketAddr) -> Command {
    std::fs::write(dir.join("token"), "token").expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-proxy"));
    let token = dir.join("token");
    let loopback = control.addr().to_string();
    let pairs = [
        ("DESTINATION_SVC_ADDR", loopback.as_str()),
        ("POLICY_SVC_ADDR", &loopback),
        ("IDENTITY_SVC_ADDR", &loopback),
        ("POLICY_WORKLOAD", "w"),
        ("IDENTITY_DIR", dir.to_str().expect("UTF-8")),
        ("IDENTITY_TOKEN_FILE", token.to_str().expect("UTF-8")),
        ("IDENTITY_TRUST_ANCHORS", &control.pki().anchors_pem()),
        ("IDENTITY_LOCAL_NAME", WEB),
        ("INBOUND_LISTEN_ADDR", &free().to_string()),
        ("OUTBOUND_LISTEN_ADDRS", &free().to_string()),
        ("ADMIN_LISTEN_ADDR", &admin.to_string()),
        ("SHUTDOWN_GRACE_PERIOD", "5s"),
        ("LOG", "info"),
    ];
    command
        .env_clear()
        .envs(pairs.map(|(name, value)| (format!("LINKERD2_PROXY_{name}"), value.to_owned())));
    command.stdout(Stdio::piped());
    command
}

async fn get(addr: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(addr).await.ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

async fn until(what: &str, admin: SocketAddr, path: &str, holds: impl Fn(&str) -> bool) -> String {
    let began = Instant::now();
    loop {
        match get(admin, path).await {
            Some(answer) if holds(&answer) => return answer,
            last => assert!(began.elapsed() < Duration::from_secs(10), "{what}: {last:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn becomes_ready_serves_admin_endpoints_and_drains() {
    let mut control = ControlPlane::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let admin = free();
    control.stop();
    let mut program = Program(command(&control, dir.path(), admin).spawn().expect("it starts"));
    until("unready without a certificate", admin, "/ready", |answer| {
        answer.starts_with("HTTP/1.1 503")
    })
    .await;
    control.restart().await;
    until("ready with it", admin, "/ready", |answer| {
        answer.ends_with("ready\n") && !answer.contains("not")
    })
    .await;
    assert!(dir.path().join("key.p8").exists() && dir.path().join("csr.der").exists());
    let live = |answer: &str| answer.contains("\"live\":true");
    until("the policy of its admin port", admin, "/discovery.json", live).await;
    let metrics = get(admin, "/metrics").await.expect("serves");
    assert!(metrics.contains("control_identity_cert_refreshes_total{result=\"ok\"} 1") && metrics.ends_with("# EOF\n"));

    let pid = nix::unistd::Pid::from_raw(program.0.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
    let began = Instant::now();
    let status = loop {
        match program.0.try_wait().expect("our child") {
            Some(status) => break status,
            None => assert!(began.elapsed() < Duration::from_secs(4), "it does not end"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut log = String::new();
    program
        .0
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut log)
        .expect("text");
    assert!(status.success(), "{status}: {log}");
    assert!(
        log.contains("Certified identity") && log.contains("Admin interface on"),
        "{log}"
    );
}

/// Waits until the program has a certificate, and returns its answer to `/ready`.
async fn readiness(admin: SocketAddr) -> String {
    let certified = |answer: &str| answer.contains("control_identity_cert_refreshes_total{result=\"ok\"} 1");
    until("a certificate", admin, "/metrics", certified).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    get(admin, "/ready").await.expect("serves")
}

#[tokio::test]
async fn becomes_ready_once_it_knows_the_policies_of_its_ports() {
    let control = ControlPlane::start().await;
    let mut policies = ControlPlane::start().await;
    policies.stop();
    let addr = policies.addr().to_string();
    let start = |dir: &Path, admin, fail_open: &str| {
        let mut command = command(&control, dir, admin);
        command.env("LINKERD2_PROXY_POLICY_SVC_ADDR", &addr);
        command.env("LINKERD2_PROXY_INBOUND_PORTS", "8080,9090");
        command.env("MESH_PROXY_INBOUND_FAIL_OPEN", fail_open);
        Program(command.spawn().expect("it starts"))
    };
    let (dir, admin) = (tempfile::tempdir().expect("a directory"), free());
    let fresh = start(dir.path(), admin, "false");
    let answer = readiness(admin).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");

    let (other, admin_of_open) = (tempfile::tempdir().expect("a directory"), free());
    let _open = start(other.path(), admin_of_open, "true");
    let ready = |answer: &str| answer.starts_with("HTTP/1.1 200");
    until("ready without policies", admin_of_open, "/ready", ready).await;

    policies.restart().await;
    until("ready with policies", admin, "/ready", ready).await;
    while !dir.path().join("discovery.pb").exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    policies.stop();
    drop(fresh);
    let admin = free();
    let _restarted = start(dir.path(), admin, "false");
    until("ready with remembered policies", admin, "/ready", ready).await;
}

#[tokio::test]
async fn an_invalid_environment_is_logged_and_exits_with_64() {
    let control = ControlPlane::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = command(&control, dir.path(), free());
    command
        .env("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "somewhere")
        .env_remove("LINKERD2_PROXY_POLICY_WORKLOAD");
    let output = command.output().expect("it starts");
    let log = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(64), "{log}");
    assert!(
        log.contains("LINKERD2_PROXY_INBOUND_LISTEN_ADDR: \"somewhere\" is not IP:PORT"),
        "{log}"
    );
    assert!(
        log.contains("LINKERD2_PROXY_POLICY_WORKLOAD: required, but missing or empty"),
        "{log}"
    );
}

#[tokio::test]
async fn names_an_address_that_is_in_use() {
    let control = ControlPlane::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("bound");
    let output = command(&control, dir.path(), addr).output().expect("it starts");
    let log = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{log}");
    let what = format!("LINKERD2_PROXY_ADMIN_LISTEN_ADDR: cannot listen on {addr}: ");
    assert!(log.contains(&what), "{log}");
    assert_eq!(log.matches("in use").count(), 1, "the reason is said once: {log}");
}

#[tokio::test]
async fn restarts_from_the_discovery_cache_without_the_control_plane() {
    let mut control = ControlPlane::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let admin = free();
    control.set_inbound(admin.port(), tests_harness::values::all_unauthenticated());
    let first = Program(command(&control, dir.path(), admin).spawn().expect("it starts"));
    let live = |answer: &str| answer.contains("\"live\":true");
    until("the policy of its admin port", admin, "/discovery.json", live).await;
    let began = Instant::now();
    while !dir.path().join("discovery.pb").exists() {
        assert!(began.elapsed() < Duration::from_secs(10), "the cache is not written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(first);
    control.stop();

    let second = Program(command(&control, dir.path(), admin).spawn().expect("it starts"));
    until("ready with the leaf that it had", admin, "/ready", |answer| {
        answer.ends_with("ready\n") && !answer.contains("not")
    })
    .await;
    let known = get(admin, "/discovery.json").await.expect("serves");
    assert!(known.contains("\"remembered\":true,") && !live(&known), "{known}");
    control.restart().await;
    until("the control plane itself", admin, "/discovery.json", live).await;
    drop(second);

    let leaf = dir.path().join("leaf.pb");
    std::fs::write(&leaf, "no leaf").expect("written");
    control.stop();
    let _third = Program(command(&control, dir.path(), admin).spawn().expect("it starts"));
    until("unready with a leaf of no use", admin, "/ready", |answer| {
        answer.starts_with("HTTP/1.1 503")
    })
    .await;
}
