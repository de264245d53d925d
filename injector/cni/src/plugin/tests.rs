//! Calls, configurations and decisions, without a cluster and without a network namespace.

use std::time::Duration;

use destination_k8s::pod::PodView;
use injector_redirect::Rules;
use serde_json::{Value, json};

use super::{
    answer,
    call::{Call, Command, Failure, PodName},
    cluster::{PodContext, lookup},
    config::NetConf,
    pod::{Decision, decide, is_ours},
};

/// As Linkerd's chart writes it.
const CONF: &str = r#"{
  "name": "linkerd-cni", "type": "linkerd-cni", "cniVersion": "1.0.0", "log_level": "info",
  "policy": {"type": "k8s"},
  "kubernetes": {"kubeconfig": "/etc/cni/net.d/ZZZ-linkerd-cni-kubeconfig", "exclude-namespaces": ["kube-system"]},
  "linkerd": {
    "incoming-proxy-port": 4143, "outgoing-proxy-port": 4140, "proxy-uid": 2102, "proxy-gid": -1,
    "ports-to-redirect": [], "inbound-ports-to-ignore": ["4190", "4191", "25-30"], "outbound-ports-to-ignore": [4567, "4568"],
    "simulate": false, "use-wait-flag": false, "iptables-mode": "nft", "ipv6": false
  },
  "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/24"}]}
}"#;

fn called(command: &str, args: &str, text: &str) -> Result<String, Failure> {
    answer(
        |name| match name {
            "CNI_COMMAND" => Some(command.to_owned()),
            "CNI_NETNS" => Some("/var/run/netns/x".to_owned()),
            "CNI_ARGS" => Some(args.to_owned()),
            _ => None,
        },
        text,
    )
}

fn conf() -> NetConf {
    NetConf::read(CONF).expect("a configuration")
}

fn pod(containers: &[&str], init: &[(&str, bool)]) -> Value {
    let containers: Vec<Value> = containers.iter().map(|name| json!({"name": name})).collect();
    let init = init.iter().map(|(name, stays)| {
        let policy = if *stays { json!("Always") } else { Value::Null };
        json!({"name": name, "restartPolicy": policy})
    });
    let init: Vec<Value> = init.collect();
    json!({"metadata": {"annotations": {}}, "spec": {"containers": containers, "initContainers": init}})
}

fn known(pod: Value) -> PodContext {
    PodContext {
        pod: serde_json::from_value(pod).expect("a pod"),
        ..PodContext::default()
    }
}

fn ours(pod: Value) -> bool {
    is_ours(PodView::new(&known(pod).pod))
}

fn decided(known: &PodContext) -> Rules {
    match decide(known, &conf()).expect("a decision") {
        Decision::Redirect(rules) => rules,
        Decision::Pass(reason) => panic!("not redirected: {reason}"),
    }
}

#[test]
fn calls_other_than_add_do_nothing() {
    assert_eq!(called("DEL", "", ""), Ok(String::new()), "even without a configuration");
    assert_eq!(called("GC", "", CONF), Ok(String::new()));
    assert_eq!(called("CHECK", "", CONF), Ok(String::new()));
    assert_eq!(called("STATUS", "", CONF), Ok(String::new()));
    let versions: Value = serde_json::from_str(&called("VERSION", "", CONF).expect("an answer")).expect("JSON");
    assert_eq!(versions["cniVersion"], "1.0.0");
    let supported = versions["supportedVersions"].as_array().expect("versions");
    assert!(supported.contains(&json!("1.1.0")) && supported.contains(&json!("0.3.1")));
}

#[test]
fn foreign_networks_and_excluded_namespaces_get_the_result_unchanged() {
    let given: Value = serde_json::from_str(CONF).expect("JSON");
    for args in [
        "",
        "IgnoreUnknown=1",
        "K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=coredns-1",
    ] {
        let result: Value = serde_json::from_str(&called("ADD", args, CONF).expect("a result")).expect("JSON");
        assert_eq!(result, given["prevResult"], "{args}");
    }
}

#[test]
fn reports_errors_in_cnis_form() {
    let code = |answer: Result<String, Failure>| answer.expect_err("refused").code;
    assert_eq!(code(called("ADD", "", "{")), 6);
    assert_eq!(code(called("ADD", "", r#"{"linkerd": {"proxy-uid": "root"}}"#)), 7);
    let alone = called("ADD", "", "{}").expect_err("no chain");
    assert!(
        (alone.code, alone.details.contains("prevResult")) == (7, true),
        "{alone}"
    );
    assert_eq!(code(answer(|_| None, CONF)), 4);
    let no_netns = answer(|name| (name == "CNI_COMMAND").then(|| "ADD".to_owned()), CONF);
    assert_eq!(code(no_netns), 4);
    let away = NetConf::read(&CONF.replace("/etc/cni/net.d/ZZZ", "/nowhere/ZZZ")).expect("a configuration");
    let name = PodName {
        namespace: "a".to_owned(),
        name: "web".to_owned(),
        uid: None,
    };
    let away = lookup(&away, &name, Duration::ZERO).expect_err("no kubeconfig");
    assert_eq!(away.code, 11, "the kubelet retries: {away}");
    assert!(
        away.details.contains("/nowhere/ZZZ") && away.details.contains("DaemonSet linkerd-cni"),
        "{away}"
    );
    let json: Value = serde_json::from_str(&away.to_json(Some("0.4.0".to_owned()))).expect("JSON");
    assert_eq!(
        (json["cniVersion"].as_str(), json["code"].as_u64()),
        (Some("0.4.0"), Some(11))
    );
}

#[test]
fn parses_the_pod_of_a_call() {
    let call = Call::read(|name| match name {
        "CNI_COMMAND" => Some("ADD".to_owned()),
        "CNI_NETNS" => Some("/var/run/netns/x".to_owned()),
        "CNI_ARGS" => Some("IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=web-0;K8S_POD_UID=u".to_owned()),
        _ => None,
    });
    let name = PodName {
        namespace: "a".to_owned(),
        name: "web-0".to_owned(),
        uid: Some("u".to_owned()),
    };
    let call = call.expect("a call");
    assert_eq!((call.command, call.pod), (Command::Add, Some(name)));
}

#[test]
fn redirects_pods_with_a_sidecar_and_without_a_redirecting_init_container() {
    let validator = ("linkerd-network-validator", false);
    assert!(ours(pod(&["web", "linkerd-proxy"], &[validator])));
    assert!(ours(pod(&["web"], &[validator, ("linkerd-proxy", true)])));
    assert!(
        !ours(pod(&["web"], &[("linkerd-proxy", false)])),
        "an init container that exits is not a sidecar"
    );
    assert!(!ours(pod(&["web"], &[])));
    let itself = pod(&["web", "linkerd-proxy"], &[("linkerd-init", false)]);
    assert!(!ours(itself.clone()));
    assert!(matches!(decide(&known(itself), &conf()), Ok(Decision::Pass(_))));
}

#[test]
fn configuration_applies_without_annotations() {
    let rules = decided(&known(pod(&["web", "linkerd-proxy"], &[])));
    assert_eq!((rules.inbound_port, rules.outbound_port), (4143, 4140));
    assert_eq!(
        (rules.proxy_uid, rules.proxy_gid, rules.ipv6),
        (Some(2102), None, false)
    );
    assert!(
        rules.inbound_skip.contains(27) && rules.outbound_skip.contains(4568) && !rules.outbound_skip.contains(443)
    );
}

#[test]
fn pod_annotations_override_the_namespaces() {
    let mut pod = pod(&["web", "linkerd-proxy"], &[]);
    pod["metadata"]["annotations"] = json!({"config.linkerd.io/skip-outbound-ports": "3306"});
    let mut known = known(pod);
    known.namespace = [
        ("config.linkerd.io/skip-outbound-ports", "9999"),
        ("config.linkerd.io/skip-inbound-ports", "8000-8010"),
        ("config.linkerd.io/skip-subnets", "10.0.0.0/8, 192.168.1.7"),
        ("config.linkerd.io/proxy-uid", "5000"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let rules = decided(&known);
    let skips = |port| rules.outbound_skip.contains(port);
    assert!(
        skips(3306) && !skips(9999) && !skips(4567),
        "the configuration's are replaced"
    );
    assert!(rules.inbound_skip.contains(8005) && !rules.inbound_skip.contains(27));
    assert_eq!(rules.inbound_skip_from.len(), 2);
    assert_eq!(rules.proxy_uid, Some(5000));
}

#[test]
fn rules_follow_the_sidecars_user_and_ports() {
    let mut pod = pod(&["web", "linkerd-proxy"], &[]);
    pod["spec"]["containers"][1] = json!({"name": "linkerd-proxy",
    "securityContext": {"runAsUser": 1234, "runAsGroup": 77},
    "env": [
        {"name": "LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "value": "[::]:5143"},
        {"name": "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS", "value": "127.0.0.1:5140,[::1]:5140"},
        {"name": "LINKERD2_PROXY_ADMIN_LISTEN_ADDR", "value": "0.0.0.0:5191"},
    ]});
    let rules = decided(&known(pod.clone()));
    assert_eq!((rules.inbound_port, rules.outbound_port), (5143, 5140));
    assert_eq!((rules.proxy_uid, rules.proxy_gid), (Some(1234), Some(77)));
    assert!(rules.inbound_skip.contains(5191), "the kubelet probes the admin port");
    pod["metadata"]["annotations"] = json!({"config.linkerd.io/proxy-uid": "4321"});
    assert_eq!(decided(&known(pod)).proxy_uid, Some(4321));
}

#[test]
fn control_plane_pods_reach_the_api_server_directly() {
    let mut known = known(pod(&["destination", "linkerd-proxy"], &[]));
    known.api_ports = Some("443,6443".to_owned());
    let rules = decided(&known);
    assert!([443, 6443, 4567].iter().all(|port| rules.outbound_skip.contains(*port)));
}

#[test]
fn invalid_annotations_are_named() {
    for (key, value) in [
        ("config.linkerd.io/skip-inbound-ports", "http"),
        ("config.linkerd.io/skip-subnets", "10.0.0.0/40"),
        ("config.linkerd.io/proxy-uid", "root"),
        ("config.linkerd.io/proxy-gid", "99999999999"),
    ] {
        let mut pod = pod(&["web", "linkerd-proxy"], &[]);
        pod["metadata"]["annotations"] = json!({key: value});
        let failure = decide(&known(pod), &conf()).expect_err("refused");
        assert_eq!(failure.code, 100);
        assert!(
            failure.details.contains(key) && failure.details.contains(value),
            "{failure}"
        );
    }
}
