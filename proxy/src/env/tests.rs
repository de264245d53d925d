//! Parses the injector's environment; reports every error in another one.

use std::{collections::BTreeMap, time::Duration};

use proxy_model::env as name;

use super::{Config, HostPort, values};

const ID: &str = "web.emoji.serviceaccount.identity.linkerd.cluster.local";

fn injected(token_file: &str) -> BTreeMap<String, String> {
    let anchor = tests_anchor();
    let dst = "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local";
    let pairs = [
        (
            name::LOG,
            "warn,linkerd=info,hickory=error,[{headers}]=off,[{request}]=off",
        ),
        (name::LOG_FORMAT, "plain"),
        (
            name::DESTINATION_SVC_ADDR,
            "linkerd-dst-headless.linkerd.svc.cluster.local.:8086",
        ),
        (name::DESTINATION_SVC_NAME, dst),
        (name::POLICY_SVC_ADDR, "linkerd-policy.linkerd.svc.cluster.local.:8090"),
        (name::POLICY_SVC_NAME, dst),
        (
            name::IDENTITY_SVC_ADDR,
            "linkerd-identity-headless.linkerd.svc.cluster.local.:8080",
        ),
        (
            name::IDENTITY_SVC_NAME,
            "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local",
        ),
        (
            name::DESTINATION_PROFILE_NETWORKS,
            "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8",
        ),
        (name::POLICY_CLUSTER_NETWORKS, "10.0.0.0/8"),
        (name::POLICY_WORKLOAD, "{\"ns\":\"emoji\", \"pod\":\"web-1\"}\n"),
        (
            name::DESTINATION_CONTEXT,
            "{\"ns\":\"emoji\", \"nodeName\":\"n\", \"pod\":\"web-1\"}\n",
        ),
        (name::INBOUND_DEFAULT_POLICY, "all-unauthenticated"),
        (name::CONTROL_STREAM_INITIAL_TIMEOUT, "3s"),
        (name::CONTROL_STREAM_IDLE_TIMEOUT, "5m"),
        (name::CONTROL_STREAM_LIFETIME, "1h"),
        (name::INBOUND_CONNECT_TIMEOUT, "100ms"),
        (name::OUTBOUND_LISTEN_ADDRS, "127.0.0.1:4140,[::1]:4140"),
        (name::ADMIN_LISTEN_ADDR, "0.0.0.0:4191"),
        (name::INBOUND_IPS, "10.1.2.3,fd00::3"),
        (name::INBOUND_PORTS, "8080,9000"),
        (name::INBOUND_ACCEPT_KEEPALIVE, "10000ms"),
        (name::INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL, "10s"),
        (name::INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT, "3s"),
        (name::IDENTITY_DIR, "/var/run/linkerd/identity/end-entity"),
        (name::IDENTITY_TRUST_ANCHORS, anchor.as_str()),
        (name::IDENTITY_TOKEN_FILE, token_file),
        (name::IDENTITY_LOCAL_NAME, ID),
        (name::SHUTDOWN_ENDPOINT_ENABLED, "false"),
        ("LINKERD2_PROXY_FROM_THE_FUTURE", "ignored"),
    ];
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

fn tests_anchor() -> String {
    identity_x509::Anchor::generate("root", Duration::from_secs(3600))
        .expect("an anchor")
        .certificate_pem()
}

fn token() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "token").expect("written");
    file
}

#[test]
fn parses_the_injectors_environment() {
    let token = token();
    let path = token.path().to_str().expect("UTF-8");
    let config = Config::read(injected(path)).expect("valid");
    assert_eq!(config.workers, 1);
    assert_eq!(
        config.control.workload, "{\"ns\":\"emoji\", \"pod\":\"web-1\"}\n",
        "byte for byte"
    );
    assert_eq!(config.listen.outbound.len(), 2);
    assert_eq!(config.listen.inbound.to_string(), "0.0.0.0:4143");
    assert_eq!(config.inbound.connect_timeout, Duration::from_millis(100));
    assert_eq!(
        config.inbound.ping,
        Some((Duration::from_secs(10), Duration::from_secs(3)))
    );
    assert_eq!(config.outbound.connect_timeout, Duration::from_secs(1));
    assert_eq!(
        config.control.destination.addr.host,
        "linkerd-dst-headless.linkerd.svc.cluster.local."
    );
    assert!(config.control.destination.tls.is_some() && config.tap_client.is_none());
    assert_eq!(config.discovery.policy_limits.lifetime, Some(Duration::from_secs(3600)));
    assert!(config.discovery.opaque_ports.contains(3306));
    assert_eq!(config.local_ips.len(), 2);
}

#[test]
fn reports_all_errors_at_once() {
    let mut environment = injected("/nowhere/token");
    let wrong = [
        (name::INBOUND_LISTEN_ADDR, "4143"),
        (name::INBOUND_CONNECT_TIMEOUT, "1.5s"),
        (name::INBOUND_DEFAULT_POLICY, "everyone"),
        (name::SHUTDOWN_ENDPOINT_ENABLED, "yes"),
        (name::CONTROL_STREAM_IDLE_TIMEOUT, "2h"),
        (name::IDENTITY_LOCAL_NAME, "not a name"),
        (name::INBOUND_PORTS, "70000"),
        (name::IDENTITY_TRUST_ANCHORS, ""),
    ];
    environment.extend(wrong.map(|(k, v)| (k.to_owned(), v.to_owned())));
    environment.remove(name::POLICY_SVC_NAME);
    environment.remove(name::POLICY_WORKLOAD);
    let errors = Config::read(environment).expect_err("wrong");
    let told = |variable: &str| errors.iter().any(|error| error.variable == variable);
    let also = [name::POLICY_SVC_NAME, name::POLICY_WORKLOAD, name::IDENTITY_TOKEN_FILE];
    let order = name::CONTROL_STREAM_INITIAL_TIMEOUT;
    for (variable, _) in wrong
        .iter()
        .filter(|(variable, _)| *variable != name::CONTROL_STREAM_IDLE_TIMEOUT)
    {
        assert!(told(variable), "{variable}: {errors:?}");
    }
    assert!(also.iter().all(|variable| told(variable)) && told(order), "{errors:?}");
    assert_eq!(errors.len(), wrong.len() + also.len(), "{errors:?}");
    let sentence = errors
        .iter()
        .find(|e| e.variable == name::INBOUND_CONNECT_TIMEOUT)
        .expect("reported")
        .to_string();
    assert_eq!(
        sentence,
        "LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT: \"1.5s\" is not a duration such as 100ms, 3s, 5m, 1h or 1d"
    );
}

#[test]
fn an_unknown_policy_is_served_only_where_that_is_set() {
    let token = token();
    let mut environment = injected(token.path().to_str().expect("UTF-8"));
    let config = Config::read(environment.clone()).expect("valid");
    assert!(!config.discovery.fail_open && config.inbound.path_check);
    environment.insert(name::INBOUND_FAIL_OPEN.into(), "true".into());
    environment.insert(name::INBOUND_PATH_CHECK.into(), "false".into());
    let config = Config::read(environment.clone()).expect("valid");
    assert!(config.discovery.fail_open && !config.inbound.path_check);
    environment.remove(name::INBOUND_FAIL_OPEN);
    for own in [name::POLICY_SVC_ADDR, name::IDENTITY_SVC_ADDR] {
        let mut environment = environment.clone();
        environment.insert(own.into(), "localhost.:8080".into());
        let config = Config::read(environment.clone()).expect("valid");
        assert!(config.discovery.fail_open, "a pod of the control plane");
        environment.insert(name::INBOUND_FAIL_OPEN.into(), "false".into());
        assert!(!Config::read(environment).expect("valid").discovery.fail_open);
    }
}

#[test]
fn the_detect_timeout_holds_without_a_default_policy() {
    let token = token();
    let mut environment = injected(token.path().to_str().expect("UTF-8"));
    environment.insert(name::INBOUND_DETECT_TIMEOUT.into(), "2s".into());
    let named = Config::read(environment.clone()).expect("valid");
    environment.remove(name::INBOUND_DEFAULT_POLICY);
    let unnamed = Config::read(environment).expect("valid");
    assert_eq!(named.discovery.default_policy, unnamed.discovery.default_policy);
    assert_ne!(unnamed.discovery.default_policy, proxy_discovery::PortPolicy::default());
}

#[test]
fn a_control_plane_on_loopback_needs_neither_names_nor_limits() {
    let token = token();
    let mut environment = injected(token.path().to_str().expect("UTF-8"));
    environment.insert(name::DESTINATION_SVC_ADDR.into(), "localhost.:8086".into());
    environment.remove(name::DESTINATION_SVC_NAME);
    environment.insert(name::CONTROL_STREAM_IDLE_TIMEOUT.into(), String::new());
    let config = Config::read(environment).expect("valid");
    assert_eq!(config.control.destination.tls, None);
    assert_eq!(
        config.discovery.destination_limits,
        proxy_discovery::StreamLimits::default()
    );
    assert_eq!(config.discovery.policy_limits.idle, None, "empty is unlimited");
}

#[test]
fn durations_and_addresses() {
    assert_eq!(values::duration(" 2m "), Ok(Duration::from_secs(120)));
    assert_eq!(values::duration("0"), Ok(Duration::ZERO));
    assert!(values::duration("5").is_err() && values::duration("-1s").is_err() && values::duration("s").is_err());
    assert!("[::1]:80".parse::<HostPort>().expect("valid").is_loopback());
    assert_eq!("[::1]:80".parse::<HostPort>().expect("valid").to_string(), "[::1]:80");
    assert!("127.0.0.5:80".parse::<HostPort>().expect("valid").is_loopback());
    assert!(!"local.:80".parse::<HostPort>().expect("valid").is_loopback());
    assert!(
        ["web", "web:0", ":80", "web:x"]
            .iter()
            .all(|text| text.parse::<HostPort>().is_err())
    );
    assert!(values::addresses("1.1.1.1:1,1.1.1.1:2,1.1.1.1:3").is_err());
}

#[test]
fn shows_known_variables_only() {
    let token = token();
    let mut environment = injected(token.path().to_str().expect("UTF-8"));
    for secret in ["AWS_SECRET_ACCESS_KEY", "LINKERD2_PROXY_PASSWORD", "PATH"] {
        environment.insert(secret.to_owned(), "secret".to_owned());
    }
    let shown = Config::read(environment).expect("valid").admin.environment;
    assert!(shown.contains_key(name::LOG) && !shown.values().any(|value| value == "secret"));
}
