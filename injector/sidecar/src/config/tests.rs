//! Tests of the configuration.

use super::*;

#[test]
fn values_override_defaults_under_linkerds_names() {
    let values = serde_json::json!({
        "clusterDomain": "example.org", "identityTrustAnchorsPEM": "PEM", "controllerReplicas": 3,
        "proxy": {"image": {"version": 1.2, "name": null}, "opaquePorts": 25, "resources": {"cpu": {"limit": 2}},
            "additionalEnv": [{"name": "A", "value": "b"}], "await": false},
        "proxyInit": {"kubeAPIServerPorts": "443", "skipSubnets": null},
    });
    let config = Config::from_values(&values).expect("valid");
    assert_eq!(config.trust_domain(), "example.org");
    assert_eq!(
        (config.proxy.image.version.as_str(), config.proxy.opaque_ports.as_str()),
        ("1.2", "25")
    );
    assert_eq!(config.proxy.image.name, "mesh-proxy");
    assert_eq!(
        (config.proxy.resources.cpu.limit.as_str(), config.proxy.r#await),
        ("2", false)
    );
    assert_eq!(
        (config.proxy.uid, config.proxy_init.ignore_inbound_ports.as_str()),
        (2102, "4567,4568")
    );
    config.validate().expect("usable");
}

#[test]
fn rejects_values_no_pod_could_start_with() {
    let error = Config::default().validate().expect_err("no anchors").to_string();
    assert_eq!(error, "invalid value identityTrustAnchorsPEM: no trust anchors");
    let values = serde_json::json!({"proxyInit": {"ignoreInboundPorts": "x"}, "identityTrustAnchorsPEM": "PEM"});
    let error = Config::from_values(&values)
        .expect("read")
        .validate()
        .expect_err("no port")
        .to_string();
    assert!(
        error.starts_with("invalid value proxyInit.ignoreInboundPorts: \"x\""),
        "{error}"
    );
    let values = serde_json::json!({"proxy": {"outboundConnectTimeout": "soon"}, "identityTrustAnchorsPEM": "PEM"});
    let error = Config::from_values(&values)
        .expect("read")
        .validate()
        .expect_err("not a duration")
        .to_string();
    assert!(
        error.starts_with("invalid value proxy.outboundConnectTimeout: \"soon\" is not a duration"),
        "{error}"
    );
    let error = Config::from_values(&serde_json::json!({"proxy": {"uid": "x"}})).expect_err("no number");
    assert!(error.to_string().contains("invalid type"), "{error}");
}
