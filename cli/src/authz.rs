//! `mesh authz`: the authorizations that apply to a workload's ports.

mod local;

use std::process::ExitCode;

use anyhow::Result;
use cli_check::view_pod;
use destination_source::cluster::{Client, Filter, Resource};
use serde_json::Value;

use crate::{
    kube::{
        self, ClusterFlags, NamespaceFlag,
        pods::{self, object_name},
    },
    output::{self, Align, Table},
    target::MeshFlag,
};

/// Arguments of `mesh authz`.
#[derive(Debug, clap::Args)]
pub(crate) struct AuthzArgs {
    /// KIND/NAME or KIND NAME.
    #[arg(required = true, value_name = "RESOURCE")]
    resource: Vec<String>,

    #[command(flatten)]
    mesh: MeshFlag,

    #[command(flatten)]
    namespace: NamespaceFlag,

    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Policy objects of one namespace.
#[derive(Debug, Default)]
struct Policies {
    servers: Vec<Value>,
    server_authorizations: Vec<Value>,
    authorization_policies: Vec<Value>,
    routes: Vec<Value>,
}

/// `mesh authz`
pub(crate) fn authz(args: &AuthzArgs) -> Result<ExitCode> {
    let named = pods::parse(&args.resource)?;
    let (namespace, pods, policies) = if let Some(mesh) = args.cluster.local(args.mesh.name.as_deref())? {
        let namespace = match named.plural {
            "namespaces" => named.name.clone(),
            _ => args.namespace.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        };
        kube::note_local(&mesh);
        let (pods, policies) = local::read(&mesh, &named, &namespace)?;
        (namespace, pods, policies)
    } else {
        kube::block_on(async {
            let client = args.cluster.connect().await?;
            let namespace = args.namespace.on(&client);
            let pods = named.pods(&client, &namespace).await?;
            let policies = output::patiently("reading policies", read(&client, &namespace)).await?;
            Ok((namespace, pods, policies))
        })?
    };
    let rows = rows(&pods, &policies, &namespace);
    if rows.is_empty() {
        eprintln!("No Server in the namespace {namespace} selects these pods: the default policy applies.");
        return Ok(ExitCode::SUCCESS);
    }
    let columns = ["ROUTE", "SERVER", "AUTHORIZATION_POLICY", "SERVER_AUTHORIZATION"];
    let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
    for row in rows {
        table.row(row.into());
    }
    output::print(&table.render())?;
    Ok(ExitCode::SUCCESS)
}

async fn read(client: &Client, namespace: &str) -> Result<Policies> {
    let list = async |version: &str, plural: &str| {
        let all = Resource::new(version, plural).within(namespace);
        all.list(client, Filter::default()).await
    };
    let mut routes = list("policy.linkerd.io/v1beta3", "httproutes").await?;
    // The Gateway API is not installed everywhere.
    routes.extend(
        list("gateway.networking.k8s.io/v1", "httproutes")
            .await
            .unwrap_or_default(),
    );
    Ok(Policies {
        servers: list("policy.linkerd.io/v1beta3", "servers").await?,
        server_authorizations: list("policy.linkerd.io/v1beta1", "serverauthorizations").await?,
        authorization_policies: list("policy.linkerd.io/v1alpha1", "authorizationpolicies").await?,
        routes,
    })
}

/// Row of the table: route, Server, AuthorizationPolicy, ServerAuthorization.
type Row = [String; 4];

/// Marks a Server without any authorization: it denies all clients.
const UNAUTHORIZED: &str = "(none: all clients denied)";

fn rows(pods: &[Value], policies: &Policies, namespace: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let servers = policies.servers.iter();
    for server in servers.filter(|server| pods.iter().any(|pod| selects_pod(server, pod))) {
        let name = object_name(server);
        let first = rows.len();
        for policy in &policies.authorization_policies {
            let target = &policy["spec"]["targetRef"];
            let is = |kind: &str, name: &str| target["kind"] == kind && target["name"] == name;
            if is("Server", name) || is("Namespace", namespace) {
                rows.push(row("*", name, object_name(policy), ""));
            }
            for route in policies.routes.iter().filter(|route| has_parent(route, name)) {
                if target["kind"] == "HTTPRoute" && target["name"] == object_name(route) {
                    rows.push(row(object_name(route), name, object_name(policy), ""));
                }
            }
        }
        for authorization in &policies.server_authorizations {
            let of = &authorization["spec"]["server"];
            let selected = !of["selector"].is_null() && selects(&of["selector"], &server["metadata"]["labels"]);
            if of["name"] == name || selected {
                rows.push(row("*", name, "", object_name(authorization)));
            }
        }
        if rows.len() == first {
            rows.push(match server["spec"]["accessPolicy"].as_str() {
                None | Some("deny") => row("*", name, UNAUTHORIZED, ""),
                Some(access) => row("*", name, &format!("accessPolicy {access}"), ""),
            });
        }
    }
    rows.sort_by(|a, b| (&a[1], &a[0], &a[2], &a[3]).cmp(&(&b[1], &b[0], &b[2], &b[3])));
    rows
}

fn row(route: &str, server: &str, policy: &str, authorization: &str) -> Row {
    [route, server, policy, authorization].map(str::to_owned)
}

/// Returns true if a Server selects one of the pod's ports.
fn selects_pod(server: &Value, pod: &Value) -> bool {
    let spec = &server["spec"];
    if spec["podSelector"].is_null() || !selects(&spec["podSelector"], &pod["metadata"]["labels"]) {
        return false;
    }
    // A container may listen on a port that it does not list.
    spec["port"].is_u64() || view_pod(pod, |pod| pod.ports().any(|(_, name)| name == spec["port"].as_str()))
}

fn has_parent(route: &Value, server: &str) -> bool {
    let parents = route["spec"]["parentRefs"].as_array().into_iter().flatten();
    parents
        .into_iter()
        .any(|parent| parent["kind"] == "Server" && parent["name"] == server)
}

/// Evaluates a label selector.
fn selects(selector: &Value, labels: &Value) -> bool {
    let mut pairs = selector["matchLabels"].as_object().into_iter().flatten();
    let mut terms = selector["matchExpressions"].as_array().into_iter().flatten();
    pairs.all(|(key, value)| labels[key] == *value)
        && terms.all(|term| {
            let has = &labels[term["key"].as_str().unwrap_or_default()];
            let listed = term["values"].as_array().is_some_and(|values| values.contains(has));
            match term["operator"].as_str() {
                Some("In") => listed,
                Some("NotIn") => !listed,
                Some("Exists") => !has.is_null(),
                Some("DoesNotExist") => has.is_null(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_each_authorization_of_a_server() {
        let pod = json!({"metadata": {"name": "web-1", "labels": {"app": "web"}},
            "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 80}]}]}});
        let object =
            |name: &str, spec: Value| json!({"metadata": {"name": name, "labels": {"tier": "a"}}, "spec": spec});
        let target = |kind: &str, name: &str| json!({"targetRef": {"kind": kind, "name": name}});
        let policies = Policies {
            servers: vec![
                object(
                    "web-http",
                    json!({"podSelector": {"matchLabels": {"app": "web"}}, "port": "http"}),
                ),
                object(
                    "other",
                    json!({"podSelector": {"matchLabels": {"app": "db"}}, "port": 80}),
                ),
            ],
            server_authorizations: vec![object(
                "old",
                json!({"server": {"selector": {"matchLabels": {"tier": "a"}}}}),
            )],
            authorization_policies: vec![
                object("clients", target("Server", "web-http")),
                object("everywhere", target("Namespace", "vote")),
                object("readers", target("HTTPRoute", "read")),
                object("elsewhere", target("Server", "other")),
            ],
            routes: vec![object(
                "read",
                json!({"parentRefs": [{"kind": "Server", "name": "web-http"}]}),
            )],
        };
        let found = rows(std::slice::from_ref(&pod), &policies, "vote");
        let expected = [
            row("*", "web-http", "", "old"),
            row("*", "web-http", "clients", ""),
            row("*", "web-http", "everywhere", ""),
            row("read", "web-http", "readers", ""),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn shows_that_a_server_without_authorization_denies_all() {
        let pod = json!({"metadata": {"name": "api-1", "labels": {"app": "api"}}, "spec": {"containers": []}});
        let server = |access: Value| {
            json!({"metadata": {"name": "api"}, "spec": {"podSelector": {"matchLabels": {"app": "api"}}, "port": 80,
                "accessPolicy": access}})
        };
        let found = |access: Value| {
            let policies = Policies {
                servers: vec![server(access)],
                ..Policies::default()
            };
            rows(std::slice::from_ref(&pod), &policies, "vote")
        };
        assert_eq!(found(Value::Null), [row("*", "api", UNAUTHORIZED, "")]);
        assert_eq!(found(json!("deny")), [row("*", "api", UNAUTHORIZED, "")]);
        assert_eq!(found(json!("audit")), [row("*", "api", "accessPolicy audit", "")]);
    }
}
