//! Runs both programs in a network namespace: validation succeeds only once traffic is redirected.
//!
//! Without the test harness, because namespaces must be entered before the first thread starts. Needs root, or user
//! namespaces for ordinary users.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Output};

use nix::sched::{CloneFlags, unshare};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

const INIT: &str = env!("CARGO_BIN_EXE_mesh-init");
const VALIDATOR: &str = env!("CARGO_BIN_EXE_mesh-validator");
const FLAGS: [&str; 8] = [
    "--proxy-uid",
    "2102",
    "--inbound-ports-to-ignore",
    "4190,4191,4567-4568",
    "--log-level",
    "info",
    "--log-format",
    "plain",
];

fn main() {
    let mut flags = CloneFlags::CLONE_NEWNET;
    if !nix::unistd::geteuid().is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).expect("a network namespace (root, or user namespaces for ordinary users)");
    wire();
    fails_without_rules();
    simulation_changes_nothing();
    the_capability_net_admin_is_enough();
    rules_redirect_after_repeated_installation();
    other_programs_do_not_validate();
    invalid_flags_are_reported();
    eprintln!("init containers: 6 cases passed");
}

/// Sets up loopback and a default route, as in a pod.
fn wire() {
    let wire = async {
        let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
        tokio::spawn(connection);
        let veth = LinkVeth::new("eth0", "peer").build();
        handle.link().add(veth).execute().await.expect("a pair of interfaces");
        for name in ["lo", "peer", "eth0"] {
            let link = LinkMessageBuilder::<LinkUnspec>::default().name(name.to_owned());
            handle.link().change(link.up().build()).execute().await.expect("up");
        }
        let index = nix::net::if_::if_nametoindex("eth0").expect("eth0");
        let address = Ipv4Addr::new(10, 9, 0, 2).into();
        handle
            .address()
            .add(index, address, 24)
            .execute()
            .await
            .expect("address");
        let route = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index).build();
        handle.route().add(route).execute().await.expect("default route");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("runtime").block_on(wire);
}

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().expect("the program runs")
}

fn validate(more: &[&str]) -> (Option<i32>, String) {
    let output = run(VALIDATOR, &[&["--timeout", "300ms"], more].concat());
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn fails_without_rules() {
    let (code, said) = validate(&[]);
    assert_eq!(code, Some(95), "{said}");
    assert!(
        said.contains("traffic is not redirected") && said.lines().count() == 1,
        "{said}"
    );
}

fn simulation_changes_nothing() {
    let output = run(INIT, &[&FLAGS[..], &["--simulate"]].concat());
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    for line in [
        "meta skuid 2102 return",
        "th dport 4567-4568 return",
        "redirect to :4143",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert_eq!(validate(&[]).0, Some(95));
}

/// Runs mesh-init with one capability or none.
fn init_with(capabilities: &str) -> Output {
    let flag = |name: &str| format!("--{name}={capabilities}");
    let mut limited = Command::new("setpriv");
    limited.args([flag("bounding-set"), flag("inh-caps"), flag("ambient-caps")]);
    limited.arg(INIT).args(FLAGS).output().expect("setpriv, of util-linux")
}

fn the_capability_net_admin_is_enough() {
    let denied = init_with("-all");
    let said = String::from_utf8_lossy(&denied.stderr).into_owned();
    assert!(!denied.status.success() && said.contains("permission denied"), "{said}");
    assert_eq!(validate(&[]).0, Some(95));
    let output = init_with("-all,+net_admin");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(validate(&[]), (Some(0), String::new()));
}

fn rules_redirect_after_repeated_installation() {
    for _ in 0..2 {
        let output = run(INIT, &FLAGS);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(validate(&[]), (Some(0), String::new()));
    let elsewhere = validate(&["--listen-addr", "0.0.0.0:5140"]);
    assert_eq!(elsewhere.0, Some(95), "nothing listens where the rules redirect to");
}

fn other_programs_do_not_validate() {
    let stranger = TcpListener::bind("127.0.0.1:4140").expect("the sidecar's port");
    let (code, said) = validate(&["--listen-addr", "0.0.0.0:5140"]);
    assert_eq!(code, Some(95), "a silent program: {said}");
    std::thread::spawn(move || {
        for stream in stranger.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut &stream, b"not the token\n");
        }
    });
    let (code, said) = validate(&["--listen-addr", "0.0.0.0:5140"]);
    assert_eq!(code, Some(95));
    assert!(said.contains("another program"), "{said}");
    let (code, said) = validate(&["--listen-addr", "127.0.0.1:4140"]);
    assert_eq!(code, Some(95));
    assert!(said.contains("cannot listen on 127.0.0.1:4140"), "{said}");
}

fn invalid_flags_are_reported() {
    let said = |args: &[&str]| {
        let output = run(INIT, args);
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(said(&["--netns", "/proc/1/ns/net"]).contains("--netns: not supported"));
    assert!(said(&["--inbound-ports-to-ignore", "80,http"]).contains("--inbound-ports-to-ignore: \"http\""));
    assert!(said(&["--subnets-to-ignore", "10.0.0.0/40"]).contains("--subnets-to-ignore"));
}
