//! The program over loopback, with a fake proxy that only has metrics.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Kills the program when the test ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Answers each request with counters that are ten requests further.
fn serve_metrics(ip: IpAddr) -> Arc<AtomicU64> {
    let listener = TcpListener::bind((ip, 4191)).expect("loopback addresses are free");
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head);
            let n = counted.fetch_add(10, Relaxed) + 10;
            let body = format!(
                "response_total{{direction=\"inbound\",target_port=\"80\",tls=\"true\",client_id=\"a\",classification=\"success\"}} {n}\n"
            );
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    count
}

fn get(addr: SocketAddr, path: &str) -> Option<(u16, String)> {
    get_with(addr, path, "host: viz")
}

fn get_with(addr: SocketAddr, path: &str, headers: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(addr).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\n{headers}\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a free port")
        .port()
}

#[test]
fn serves_rows_of_scrapes_and_explains_rejections() {
    let pid = std::process::id().to_be_bytes();
    let ip = IpAddr::V4(Ipv4Addr::new(127, pid[2] | 1, pid[3], 7));
    let scrapes = serve_metrics(ip);
    let dir = tempfile::tempdir().expect("a directory");
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web-1\n  namespace: vote\n  labels: {{linkerd.io/control-plane-ns: linkerd, linkerd.io/proxy-deployment: web}}\nspec: {{containers: [{{name: web}}]}}\nstatus: {{phase: Running, podIP: {ip}}}\n"
    );
    std::fs::write(dir.path().join("pod.yaml"), pod).expect("written");
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let program = Command::new(env!("CARGO_BIN_EXE_mesh-viz"))
        .args([
            "--scrape-interval",
            "100ms",
            "--addr",
            &addr.to_string(),
            "--admin-addr",
            "127.0.0.1:0",
            "--manifests",
        ])
        .arg(dir.path())
        .spawn();
    let _program = Program(program.expect("the program starts"));

    let deadline = Instant::now() + Duration::from_secs(20);
    while scrapes.load(Relaxed) < 50 {
        assert!(Instant::now() < deadline, "no scrapes");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (status, stat) = get(addr, "/api/stat?resource=deploy&namespace=vote").expect("an answer");
    assert_eq!(status, 200, "{stat}");
    let stat: serde_json::Value = serde_json::from_str(&stat).expect("JSON");
    let row = &stat["rows"][0];
    assert_eq!(
        (&row["name"], &row["success"], &row["secured"]),
        (&"web".into(), &1.0.into(), &1.0.into())
    );
    // Ten requests a scrape, whatever the time between two.
    let gained = row["successes"].as_u64().expect("a number");
    assert!(gained >= 30 && gained.is_multiple_of(10), "{gained}");
    let per_second = gained as f64 / (row["covered_ms"].as_f64().expect("a number") / 1000.0);
    assert!((row["rps"].as_f64().expect("a number") - per_second).abs() < 0.01);
    assert!(stat["source"]["age_ms"].as_u64().expect("an age") < 5000);

    let (status, text) = get(addr, "/api/proxy-metrics?namespace=vote&pod=web-1").expect("an answer");
    assert!(status == 200 && text.starts_with("response_total"), "{status} {text}");
    for (path, code, word) in [
        ("/api/stat?resource=banana", 400, "unknown resource kind"),
        (
            "/api/stat?resource=deploy&window_ms=9000000",
            400,
            "longer than the 600 s",
        ),
        ("/api/edges?kind=svc", 400, "service has no edges"),
        (
            "/api/tap?resource=deploy/api",
            404,
            "no meshed pod of deployment/api is running",
        ),
        ("/api/proxy-metrics?namespace=vote&pod=x", 404, "pod vote/x not found"),
    ] {
        let (status, text) = get(addr, path).expect("an answer");
        assert!(status == code && text.contains(word), "{path}: {status} {text}");
    }
    assert_eq!(get(addr, "/ready").map(|(status, _)| status), Some(200));
}

#[test]
fn requires_the_token_of_its_mesh() {
    let dir = tempfile::tempdir().expect("a directory");
    let (token, manifests) = (dir.path().join("token"), dir.path().join("manifests"));
    let secret = "0123456789abcdef0123456789abcdef";
    std::fs::write(&token, secret).expect("written");
    std::fs::create_dir(&manifests).expect("a directory");
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let program = Command::new(env!("CARGO_BIN_EXE_mesh-viz"))
        .args(["--addr", &addr.to_string(), "--admin-addr", "127.0.0.1:0"])
        .args(["--token-file".as_ref(), token.as_os_str()])
        .args(["--manifests".as_ref(), manifests.as_os_str()])
        .spawn();
    let _program = Program(program.expect("the program starts"));
    let deadline = Instant::now() + Duration::from_secs(20);
    while get(addr, "/live").is_none() {
        assert!(Instant::now() < deadline, "no answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    let ask = |headers: &str| get_with(addr, "/api/pods", headers).expect("an answer").0;
    assert_eq!(ask("host: localhost"), 401);
    assert_eq!(ask("host: localhost\r\nauthorization: Bearer 0123"), 401);
    let changed = secret.replace('f', "e");
    assert_eq!(ask(&format!("host: localhost\r\nauthorization: Bearer {changed}")), 401);
    let authorization = format!("authorization: Bearer {secret}");
    assert_eq!(ask(&format!("host: localhost\r\n{authorization}")), 200);
    assert_eq!(ask(&format!("host: attacker.example\r\n{authorization}")), 403);
    assert_eq!(
        ask(&format!(
            "host: localhost\r\norigin: http://attacker.example\r\n{authorization}"
        )),
        403
    );
}
