//! Facts that stand in YAML as well equal their home in Rust: ports, policies, networks, identities, defaults.

use std::collections::BTreeSet;

use proxy_model::{defaults, limits, policy::DefaultPolicy, ports};
use serde_json::Value;

use super::{given, given_to, ours};
use crate::{Chart, values};

/// Ports of the application containers of a pod template.
fn container_ports(template: &Value) -> BTreeSet<u64> {
    let containers = template["spec"]["containers"].as_array().expect("containers").iter();
    containers
        .filter(|container| container["name"] != "linkerd-proxy")
        .flat_map(|container| container["ports"].as_array().into_iter().flatten())
        .map(|port| port["containerPort"].as_u64().expect("a number"))
        .collect()
}

fn ports_of(program: &str) -> BTreeSet<u64> {
    let all = ports::ALL.iter().filter(|(_, owner, _)| *owner == program);
    all.map(|(port, ..)| u64::from(*port)).collect()
}

fn defaults_of(chart: Chart) -> Value {
    values::parse(chart.default_values()).expect("YAML")
}

#[test]
fn containers_declare_the_ports_of_their_programs() {
    let control_plane = ours(Chart::ControlPlane, "Helm", &given(&[]));
    let viz = ours(Chart::Viz, "Helm", &given_to(Chart::Viz, &[]));
    for (objects, deployment, program) in [
        (&control_plane, "linkerd-identity", "mesh-identity"),
        (&control_plane, "linkerd-destination", "mesh-destination"),
        (&control_plane, "linkerd-proxy-injector", "mesh-injector"),
        (&viz, "mesh-viz", "mesh-viz"),
    ] {
        let template = &objects[&format!("\"Deployment\" \"{deployment}\"")]["spec"]["template"];
        assert_eq!(container_ports(template), ports_of(program), "{deployment}");
    }
}

#[test]
fn cni_values_equal_the_redirection_defaults() {
    let defaults = defaults_of(Chart::Cni);
    for (name, value) in [
        ("adminPort", Value::from(ports::CNI_ADMIN)),
        ("inboundProxyPort", ports::INBOUND.into()),
        ("outboundProxyPort", ports::OUTBOUND.into()),
        ("proxyControlPort", ports::TAP.into()),
        ("proxyAdminPort", ports::ADMIN.into()),
        ("proxyUID", defaults::PROXY_UID.into()),
        ("ignoreInboundPorts", ports::DEFAULT_SKIPPED.into()),
        ("ignoreOutboundPorts", ports::DEFAULT_SKIPPED.into()),
    ] {
        assert_eq!(defaults[name], value, "{name}");
    }
}

#[test]
fn schemas_list_the_default_policies() {
    let known: BTreeSet<&str> = DefaultPolicy::ALL.map(DefaultPolicy::as_str).into();
    let listed = |choices: &Value| {
        let choices = choices.as_array().expect("an enum").iter();
        choices
            .map(|choice| choice.as_str().expect("text").to_owned())
            .collect::<BTreeSet<_>>()
    };
    let schema = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let control_plane = schema(include_str!("../../mesh-control-plane/values.schema.json"));
    let policy = &control_plane["properties"]["proxy"]["properties"]["defaultInboundPolicy"];
    let viz = schema(include_str!("../../mesh-viz/values.schema.json"));
    let crds = ours(Chart::Crds, "Helm", &given_to(Chart::Crds, &[]));
    let server = &crds["\"CustomResourceDefinition\" \"servers.policy.linkerd.io\""]["spec"]["versions"];
    let version = server.as_array().expect("versions").last().expect("a version");
    let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    for (place, choices) in [
        ("the control plane's values", &policy["enum"]),
        ("mesh-viz's values", &viz["properties"]["apiAccessPolicy"]["enum"]),
        ("Server", &spec["accessPolicy"]["enum"]),
    ] {
        let listed = listed(choices);
        let listed: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
        assert_eq!(listed, known, "{place}");
    }
}

#[test]
fn names_and_networks_equal_the_models() {
    let (control_plane, viz) = (defaults_of(Chart::ControlPlane), defaults_of(Chart::Viz));
    assert_eq!(control_plane["clusterNetworks"], defaults::CLUSTER_NETWORKS);
    assert_eq!(control_plane["clusterDomain"], defaults::CLUSTER_DOMAIN);
    assert_eq!(viz["clusterDomain"], defaults::CLUSTER_DOMAIN);
    assert_eq!(viz["linkerdNamespace"], defaults::CONTROL_PLANE_NAMESPACE);
    let config = ours(Chart::ControlPlane, "Helm", &given(&[]));
    let config = &config["\"ConfigMap\" \"linkerd-config\""]["data"]["values"];
    let tap = defaults::MESH_NAMES.service_account("mesh-viz", defaults::VIZ_NAMESPACE);
    assert_eq!(config["proxy"]["tapIdentity"], tap);
}

#[test]
fn programs_read_their_log_filter_from_one_variable() {
    let program = include_str!("../../../proxy/process/src/program.rs");
    let (_, rest) = program.split_once("LOG_VARIABLE: &str = \"").expect("the variable");
    let (variable, _) = rest.split_once('"').expect("a string");
    let workloads = [(Chart::ControlPlane, 3), (Chart::Viz, 1), (Chart::Cni, 1)];
    for (chart, count) in workloads {
        let objects = ours(chart, "Helm", &given_to(chart, &[]));
        let templates = objects
            .values()
            .filter_map(|object| object.pointer("/spec/template/spec/containers"));
        let programs: Vec<_> = templates
            .flat_map(|containers| containers.as_array().into_iter().flatten())
            .filter(|container| container["name"] != "linkerd-proxy")
            .collect();
        assert_eq!(programs.len(), count, "{}", chart.name());
        for container in programs {
            let mut env = container["env"].as_array().into_iter().flatten();
            assert!(
                env.any(|entry| entry["name"] == variable),
                "{}: {container}",
                chart.name()
            );
        }
    }
}

/// Calls `visit` with each schema within a schema, and its path.
fn schemas(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        schemas(property, &format!("{path}.{name}"), visit);
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            schemas(&schema[key], &format!("{path}{suffix}"), visit);
        }
    }
}

/// Rejects what the API server calls a schema that is not structural: a type in a junctor, but for the one form that
/// `x-kubernetes-int-or-string` has.
fn assert_structural(schema: &Value, place: &str) {
    let is_int_or_string = schema["x-kubernetes-int-or-string"] == true;
    let parts = ["allOf", "anyOf", "oneOf"]
        .into_iter()
        .filter_map(|key| schema[key].as_array());
    for part in parts {
        let form = serde_json::json!([{"type": "integer"}, {"type": "string"}]);
        let has_no_type = part.iter().all(|part| part["type"].is_null());
        assert!(
            has_no_type || is_int_or_string && Value::Array(part.clone()) == form,
            "{place}"
        );
    }
}

#[test]
fn custom_resources_are_bounded_by_the_limits_of_objects() {
    let rendered = ours(Chart::Crds, "Helm", &given(&[]));
    let mut lists = BTreeSet::new();
    for (name, resource) in rendered
        .iter()
        .filter(|(_, object)| object["kind"] == "CustomResourceDefinition")
    {
        let group = resource["spec"]["group"].as_str().expect("a group");
        for version in resource["spec"]["versions"].as_array().expect("versions") {
            let schema = &version["schema"]["openAPIV3Schema"];
            // Early versions of SMI have their fields beside `spec`.
            let mut fields = schema.clone();
            for own in ["metadata", "apiVersion", "kind", "status"] {
                fields["properties"].as_object_mut().expect("properties").remove(own);
            }
            schemas(&fields, "", &mut |path, schema| {
                let path = path.trim_start_matches('.');
                let place = format!("{name}: {path}");
                assert_structural(schema, &place);
                let is_text = schema["type"] == "string" || schema["x-kubernetes-int-or-string"] == true;
                if schema["type"] == "array" {
                    let most = schema["maxItems"].as_u64().unwrap_or_else(|| panic!("{place}"));
                    lists.insert((group.to_owned(), path.to_owned(), most));
                } else if is_text && schema["enum"].is_null() {
                    let longest = schema["maxLength"].as_u64();
                    assert_eq!(longest, Some(limits::PATTERN_TEXT_BYTES.value as u64), "{place}");
                }
            });
        }
    }
    let limit_of = |group: &str, path: &str| match (group, path) {
        ("linkerd.io", "spec.routes") | ("policy.linkerd.io" | "access.smi-spec.io", "spec.rules") => {
            limits::OBJECT_ROUTES
        }
        ("access.smi-spec.io", "specs") => limits::OBJECT_ROUTES,
        ("access.smi-spec.io" | "specs.smi-spec.io", path) if path.ends_with("matches") => limits::OBJECT_MATCHES,
        ("policy.linkerd.io", "spec.parentRefs") => limits::OBJECT_PARENTS,
        ("policy.linkerd.io", "spec.rules[].matches") => limits::OBJECT_MATCHES,
        ("linkerd.io", path) if path.ends_with("responseClasses") || path.contains("condition") => {
            limits::OBJECT_MATCHES
        }
        _ => limits::OBJECT_PARTS,
    };
    for (group, path, most) in &lists {
        assert_eq!(*most, limit_of(group, path).value as u64, "{group}: {path}");
    }
    assert!(lists.len() > 30, "{lists:?}");
}
