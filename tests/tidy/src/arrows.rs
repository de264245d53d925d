//! Dependencies between crates. Those of tests alone are not checked.

use crate::{
    assert_none,
    source::{self, Source},
    workspace::{dependents, direct, packages, reachable},
};

/// Programs.
const PROGRAMS: [&str; 9] = [
    "mesh",
    "mesh-bench",
    "mesh-cni",
    "mesh-destination",
    "mesh-identity",
    "mesh-init",
    "mesh-injector",
    "mesh-proxy",
    "mesh-viz",
];
/// Programs of the control plane and the crates they are made of.
const CONTROL_PLANE: [&str; 14] = [
    "mesh-destination",
    "destination-grpc",
    "destination-index",
    "destination-k8s",
    "destination-source",
    "mesh-identity",
    "identity-x509",
    "mesh-injector",
    "mesh-cni",
    "injector-patch",
    "injector-sidecar",
    "mesh-viz",
    "viz-api",
    "viz-query",
];
/// Data path, which no program of the control plane contains.
const DATA_PATH: [&str; 7] = [
    "proxy-core",
    "proxy-http",
    "proxy-inbound",
    "proxy-outbound",
    "proxy-tls",
    "proxy-tls-records",
    "proxy-transport",
];
/// Crates that may name the proxy API's protobuf and gRPC: proxy-api, and its servers and clients.
const WIRE: [&str; 4] = ["proxy-api", "destination-grpc", "mesh-identity", "mesh-proxy"];
/// Crates with protobuf other than the proxy API: the transport header, the demo application, taps.
const PROTOBUF_OF_THEIR_OWN: [&str; 3] = ["proxy-transport", "cli-demo-app", "viz-api"];

/// Packages of ours whose name a pattern matches (`a`, or `a-*`).
fn ours(pattern: &str) -> Vec<String> {
    packages()
        .into_iter()
        .map(|package| package.name)
        .filter(|name| matches(pattern, name))
        .collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern
        .strip_suffix('*')
        .map_or(pattern == name, |prefix| name.starts_with(prefix))
}

/// Paths of dependencies, direct or not, from packages that match `from` to packages that match one of `to`.
fn forbidden(from: &str, to: &[&str]) -> Vec<String> {
    let mut ways = Vec::new();
    for package in ours(from) {
        for (name, way) in reachable(&package) {
            if to.iter().any(|pattern| matches(pattern, name)) {
                ways.push(way);
            }
        }
    }
    ways
}

#[test]
fn proxy_does_not_depend_on_kubernetes() {
    let kubernetes = ["kube", "kube-*", "k8s-openapi", "destination-*", "mesh-destination"];
    assert_none(
        "proxy-* must not depend on Kubernetes",
        &forbidden("proxy-*", &kubernetes),
    );
    assert_none(
        "mesh-proxy must not depend on Kubernetes",
        &forbidden("mesh-proxy", &kubernetes),
    );
}

#[test]
fn model_depends_on_no_crate_of_ours() {
    let ours: Vec<String> = packages().into_iter().map(|package| package.name).collect();
    let names: Vec<&str> = ours.iter().map(String::as_str).collect();
    assert_none(
        "proxy-model must depend on nothing of ours",
        &forbidden("proxy-model", &names),
    );
    let but_model: Vec<&str> = names.into_iter().filter(|name| *name != "proxy-model").collect();
    assert_none(
        "proxy-core must depend on nothing of ours but proxy-model",
        &forbidden("proxy-core", &but_model),
    );
}

#[test]
fn protobuf_stays_at_the_edge() {
    let mut wrong = Vec::new();
    for package in packages().iter().filter(|package| !package.path.starts_with("tests/")) {
        let named = direct(&package.name);
        let may = |users: &[&str]| users.contains(&package.name.as_str());
        for (name, allowed) in [
            ("linkerd2-proxy-api", may(&WIRE)),
            ("tonic", may(&WIRE) || may(&PROGRAMS) || may(&PROTOBUF_OF_THEIR_OWN)),
            ("tonic-prost", may(&WIRE) || may(&PROTOBUF_OF_THEIR_OWN)),
            ("prost", may(&WIRE) || may(&PROTOBUF_OF_THEIR_OWN)),
            ("prost-types", may(&WIRE)),
        ] {
            if named.contains(name) && !allowed {
                wrong.push(format!("{} → {name}", package.name));
            }
        }
    }
    assert_none("only proxy-api and the gRPC servers name generated protobuf", &wrong);
}

#[test]
fn index_is_pure() {
    let io = ["hyper", "hyper-util", "kube", "notify", "socket2", "tonic", "nix"];
    // It uses the channels of tokio; the dependencies of tokio itself do not count.
    let named = direct("destination-index");
    let mut wrong: Vec<String> = io
        .iter()
        .filter(|name| named.contains(*name))
        .map(|name| (*name).to_owned())
        .collect();
    wrong.extend(uses("destination-index", &IMPURE));
    assert_none(
        "destination-index must have no I/O, no clock, no task of its own",
        &wrong,
    );
}

#[test]
fn core_is_pure() {
    let mut wrong = forbidden("proxy-core", &["tokio", "hyper", "socket2", "nix"]);
    wrong.extend(uses("proxy-core", &IMPURE));
    let global = [
        "fastrand::u",
        "fastrand::i",
        "fastrand::f",
        "fastrand::b",
        "fastrand::s",
        "fastrand::c",
        "Rng::new()",
    ];
    wrong.extend(uses("proxy-core", &global));
    assert_none("proxy-core takes time and randomness as arguments", &wrong);
}

/// Names of I/O, clocks and tasks.
const IMPURE: [&str; 8] = [
    "tokio::spawn",
    "tokio::time",
    "tokio::net",
    "tokio::fs",
    "std::fs",
    "std::net::Tcp",
    "Instant::now",
    "SystemTime::now",
];

#[test]
fn data_path_uses_its_own_timers() {
    let own = ["tokio::time::sleep", "tokio::time::timeout", "tokio::time::interval"];
    let mut wrong: Vec<_> = DATA_PATH.iter().flat_map(|package| uses(package, &own)).collect();
    let all = wrong.len();
    wrong.retain(|at| !at.starts_with("proxy/transport/src/timers.rs"));
    assert!(all > wrong.len(), "proxy/transport/src/timers.rs creates them");
    assert_none("timers of the data path come from proxy_transport::timers", &wrong);
}

/// A decompressor turns a small message into a large one, and a runtime for foreign code runs it.
#[test]
fn data_plane_contains_no_decompressor() {
    let crates = [
        "async-compression",
        "brotli*",
        "libdeflater",
        "lz4*",
        "lzma*",
        "snap",
        "wasm*",
        "xz*",
        "zstd*",
    ];
    let mut wrong = forbidden("mesh-proxy", &crates);
    // It compresses `/metrics`.
    let reached = reachable("mesh-proxy");
    let users = dependents("flate2").into_iter();
    wrong.extend(
        users
            .filter(|user| reached.contains_key(user) && *user != "proxy-process")
            .map(|user| format!("{user} → flate2")),
    );
    wrong.extend(uses(
        "proxy-process",
        &["flate2::read", "flate2::bufread", "Decoder", "Decompress"],
    ));
    assert_none("the data plane must not decompress", &wrong);
}

fn uses(package: &str, words: &[&str]) -> Vec<String> {
    let package = packages()
        .into_iter()
        .find(|p| p.name == package)
        .expect("a package of ours");
    let mut found = Vec::new();
    for file in source::in_package(&package).filter(|file| !file.is_test()) {
        let lines = file.code.lines().take(file.lines_before_tests()).enumerate();
        for (number, line) in lines {
            found.extend(
                words
                    .iter()
                    .filter(|word| line.contains(*word))
                    .map(|word| at(file, number, word)),
            );
        }
    }
    found
}

fn at(file: &Source, line: usize, what: &str) -> String {
    format!("{}:{}: {what}", file.path, line + 1)
}

#[test]
fn one_crate_names_a_kubernetes_client() {
    let mut wrong = Vec::new();
    for package in packages().iter().filter(|package| package.name != "destination-source") {
        let named = direct(&package.name);
        wrong.extend(
            ["kube", "kube-client"]
                .iter()
                .filter(|kube| named.contains(*kube))
                .map(|kube| format!("{} → {kube}", package.name)),
        );
    }
    assert_none("only destination-source may name a Kubernetes client", &wrong);
}

#[test]
fn one_crate_names_a_yaml_parser() {
    let parsers = [
        "serde-saphyr",
        "serde_yaml",
        "serde_yaml_ng",
        "serde_norway",
        "serde_yml",
    ];
    let mut wrong = Vec::new();
    for package in packages().iter().filter(|package| package.name != "destination-yaml") {
        let named = direct(&package.name);
        let theirs = parsers.iter().filter(|parser| named.contains(*parser));
        wrong.extend(theirs.map(|parser| format!("{} → {parser}", package.name)));
    }
    assert_none("only destination-yaml may name a YAML parser", &wrong);
}

#[test]
fn control_plane_contains_no_data_path() {
    let wrong: Vec<String> = CONTROL_PLANE
        .iter()
        .flat_map(|package| forbidden(package, &DATA_PATH))
        .collect();
    assert_none("the control plane must not depend on the proxy's data path", &wrong);
}

#[test]
fn inbound_and_outbound_are_independent() {
    let mut wrong = forbidden("proxy-inbound", &["proxy-outbound"]);
    wrong.extend(forbidden("proxy-outbound", &["proxy-inbound"]));
    assert_none("inbound and outbound must not depend on each other", &wrong);
}

#[test]
fn viz_does_not_depend_on_the_index() {
    let mut wrong = forbidden("viz-*", &["destination-index"]);
    wrong.extend(forbidden("mesh-viz", &["destination-index"]));
    assert_none("viz must not depend on the index", &wrong);
}

#[test]
fn programs_and_tests_are_leaves() {
    let mut wrong = Vec::new();
    for package in packages() {
        let to_tests = !package.name.starts_with("tests-") && package.name != "mesh-bench";
        wrong.extend(
            direct(&package.name)
                .into_iter()
                .filter(|name| PROGRAMS.contains(name) || (to_tests && name.starts_with("tests-")))
                .map(|name| format!("{} → {name}", package.name)),
        );
    }
    assert_none("nothing may depend on a program, and only tests on tests", &wrong);
}

#[test]
fn lists_name_existing_packages() {
    let names: Vec<String> = packages().into_iter().map(|package| package.name).collect();
    let lists = PROGRAMS
        .iter()
        .chain(&CONTROL_PLANE)
        .chain(&DATA_PATH)
        .chain(&WIRE)
        .chain(&PROTOBUF_OF_THEIR_OWN);
    let gone: Vec<String> = lists
        .filter(|name| !names.iter().any(|n| n == *name))
        .map(|n| (*n).to_owned())
        .collect();
    assert_none("these packages do not exist (any more)", &gone);
}
