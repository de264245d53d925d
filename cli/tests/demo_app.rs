//! Demo application over loopback, without a mesh: calls between its roles, and the counts of `load`.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Output},
    time::{Duration, Instant},
};

/// Kills a role when the test ends.
struct Role(Child);

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn mesh(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh"));
    command.arg("demo-app").args(args);
    command
}

fn start(args: &[&str]) -> Role {
    Role(mesh(args).spawn().expect("the program starts"))
}

/// Returns ports that were free a moment ago.
fn free_ports<const N: usize>() -> [String; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound").port().to_string())
}

fn wait_for(ports: &[String]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    for port in ports {
        while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
            assert!(Instant::now() < deadline, "nothing listens on {port}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn load(web: &str, path: &str, more: &[&str]) -> serde_json::Value {
    let url = format!("http://127.0.0.1:{web}{path}");
    let mut args = vec!["load", &url];
    args.extend_from_slice(more);
    let Output { status, stdout, stderr } = mesh(&args).output().expect("the program starts");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).expect("one JSON object")
}

#[test]
fn counts_votes_and_every_nth_failure() {
    let ports = free_ports::<4>();
    let [web, emoji, voting, results] = &ports;
    let url = |port: &str| format!("http://127.0.0.1:{port}");
    let _emoji = start(&["emoji", "--port", emoji]);
    let _voting = start(&[
        "voting",
        "--port",
        voting,
        "--http-port",
        results,
        "--app-version",
        "v2",
        "--fail-every",
        "4",
    ]);
    let urls = [url(emoji), url(voting), url(results)];
    let [emoji_url, voting_url, results_url] = &urls;
    let _web = start(&[
        "web",
        "--port",
        web,
        "--emoji",
        emoji_url,
        "--voting",
        voting_url,
        "--voting-http",
        results_url,
    ]);
    wait_for(&ports);

    let votes = load(web, "/api/vote?choice=:crab:", &["--requests", "100", "--body", "note"]);
    assert_eq!(votes["total"]["requests"], 100, "{votes}");
    assert_eq!(votes["versions"]["v2"]["failures"], 25, "{votes}");
    assert_eq!(
        (&votes["unanswered"], &votes["statuses"]["500"]),
        (&0.into(), &25.into())
    );
    let results = load(web, "/api/results", &["--requests", "10"]);
    assert_eq!(
        (&results["total"]["failures"], &results["versions"]["v2"]["requests"]),
        (&0.into(), &10.into())
    );
    let unknown = load(web, "/api/vote?choice=:nothing:", &["--requests", "1"]);
    assert_eq!(unknown["statuses"]["404"], 1, "{unknown}");
    let limited = load(web, "/api/list", &["--seconds", "0.3", "--rps", "50"]);
    let sent = limited["total"]["requests"].as_u64().expect("a count");
    assert!((5..=20).contains(&sent), "{limited}");
}

#[test]
fn counts_requests_without_a_response() {
    let [unused] = free_ports();
    let report = load(&unused, "/", &["--requests", "3", "--connections", "1"]);
    assert_eq!(
        (&report["unanswered"], &report["total"]["failures"]),
        (&3.into(), &3.into())
    );
    assert!(
        report["first_error"]
            .as_str()
            .is_some_and(|text| text.contains("cannot connect")),
        "{report}"
    );
}
