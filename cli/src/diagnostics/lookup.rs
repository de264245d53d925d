//! Discovery answers of the control plane (endpoints, policies, profiles), requested as a proxy does.

use std::{collections::BTreeMap, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use destination_source::cluster::{Client, Forwarded, Resource};
use futures_util::StreamExt as _;
use proxy_api::{client as api, encode};
use proxy_model::{Endpoint, EndpointUpdate, Hint, OutboundTarget, defaults::CLUSTER_DOMAIN, ports};
use serde::Serialize;

use super::{TargetFlags, dump};
use crate::{
    kube::{self, ClusterFlags, http2::Connection, pods},
    output::{self, Align, DocumentFormat, Table},
};

/// Deployment that serves discovery.
const DEPLOYMENT: &str = "linkerd-destination";
/// Its ports for discovery and for policies.
const PORTS: (u16, u16) = (ports::DESTINATION, ports::POLICY);
/// Time limit for the first answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A set of endpoints is complete after this time without updates.
const QUIET: Duration = Duration::from_millis(300);

/// Output format of tables.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TableFormat {
    /// Table
    #[default]
    Table,
    /// JSON
    Json,
}

/// Arguments of `mesh diagnostics endpoints`.
#[derive(Debug, clap::Args)]
pub(crate) struct EndpointsArgs {
    /// Authorities (for example web.vote.svc.cluster.local:80, or web.vote:80).
    #[arg(required = true, value_name = "AUTHORITY")]
    authorities: Vec<String>,

    /// Output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: TableFormat,

    /// Context token of the proxy to act as, in JSON.
    #[arg(long, value_name = "TOKEN", default_value = "")]
    token: String,

    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Arguments of `mesh diagnostics policy`.
#[derive(Debug, clap::Args)]
pub(crate) struct PolicyArgs {
    /// po/NAME for the inbound policy of a pod, svc/NAME for the outbound policy of a Service's clients.
    #[arg(value_name = "RESOURCE")]
    resource: String,

    /// Port number.
    #[arg(value_name = "PORT")]
    port: u16,

    /// Output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: DocumentFormat,

    /// Client workload for a Service's policy, NAMESPACE:NAME.
    #[arg(long, value_name = "TOKEN", default_value = "default:diagnostics")]
    token: String,

    #[command(flatten)]
    at: TargetFlags,
}

/// Arguments of `mesh diagnostics profile`.
#[derive(Debug, clap::Args)]
pub(crate) struct ProfileLookupArgs {
    /// Authority or address (for example web.vote:80, or 10.0.0.7:80).
    #[arg(value_name = "ADDRESS")]
    address: String,

    /// Context token of the proxy to act as, in JSON.
    #[arg(long, value_name = "TOKEN", default_value = "")]
    token: String,

    #[command(flatten)]
    cluster: ClusterFlags,
}

async fn destination(client: &Client, flags: &ClusterFlags, port: u16) -> Result<Forwarded> {
    kube::deployment(client, &flags.linkerd_namespace, DEPLOYMENT, port).await
}

/// Endpoint, as printed by `-o json`.
#[derive(Debug, Serialize)]
struct Row {
    namespace: String,
    ip: String,
    port: u16,
    pod: String,
    service: String,
    weight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    http2: bool,
    opaque: bool,
    labels: BTreeMap<String, String>,
}

pub(super) async fn endpoints(args: &EndpointsArgs) -> Result<ExitCode> {
    let client = args.cluster.connect().await?;
    let mut rows = Vec::new();
    let mut failed = false;
    let domain = domain(&client, &args.cluster).await;
    for authority in &args.authorities {
        let authority = &complete(authority, client.namespace(), &domain)?;
        let stream = destination(&client, &args.cluster, PORTS.0).await?;
        let query = endpoints_of(stream, authority, &args.token);
        match output::patiently(&format!("looking up {authority}"), query).await? {
            Some(found) => rows.extend(found),
            None => {
                eprintln!("mesh: no Service found for {authority}");
                failed = true;
            }
        }
    }
    rows.sort_by(|a, b| (&a.service, &a.ip, a.port).cmp(&(&b.service, &b.ip, b.port)));
    match args.output {
        TableFormat::Json => output::print(&format!("{}\n", serde_json::to_string_pretty(&rows)?))?,
        TableFormat::Table if rows.is_empty() => eprintln!("No endpoints found."),
        TableFormat::Table => output::print(&render(&rows))?,
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn domain(client: &Client, flags: &ClusterFlags) -> String {
    let domain = kube::cluster_domain(client, &flags.linkerd_namespace).await;
    domain.unwrap_or_else(|_| CLUSTER_DOMAIN.to_owned())
}

/// Completes the short name of a Service, `NAME[.NAMESPACE[.svc]]:PORT`. Other names are kept.
fn complete(authority: &str, namespace: &str, domain: &str) -> Result<String> {
    let parts = authority.rsplit_once(':');
    let port = parts.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let (host, port) = port.with_context(|| format!("invalid authority {authority:?}: expected HOST:PORT"))?;
    if host.parse::<std::net::Ipv4Addr>().is_ok() || host.contains(':') {
        return Ok(authority.to_owned());
    }
    let labels: Vec<&str> = host.split('.').collect();
    Ok(match labels[..] {
        [name] => format!("{name}.{namespace}.svc.{domain}:{port}"),
        [name, namespace] | [name, namespace, "svc"] => format!("{name}.{namespace}.svc.{domain}:{port}"),
        _ => authority.to_owned(),
    })
}

/// Fetches the endpoints of an authority; none if no Service has it.
async fn endpoints_of(stream: Forwarded, authority: &str, token: &str) -> Result<Option<Vec<Row>>> {
    let service = Connection::over(stream).await?;
    let updates = tokio::time::timeout(PATIENCE, api::get(service, authority, token)).await;
    let mut updates = match updates.map_err(|_| timed_out())? {
        Err(proxy_api::Error::Status {
            kind: proxy_api::Kind::NotFound,
            ..
        }) => return Ok(None),
        updates => updates.with_context(|| authority.to_owned())?,
    };
    let mut found: BTreeMap<SocketAddr, Row> = BTreeMap::new();
    let mut patience = PATIENCE;
    let service = service_of(authority);
    while let Ok(Some(update)) = tokio::time::timeout(patience, updates.next()).await {
        match update.with_context(|| authority.to_owned())? {
            EndpointUpdate::Add { labels, endpoints } => {
                let labels: BTreeMap<String, String> =
                    labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                found.extend(
                    endpoints
                        .into_iter()
                        .map(|endpoint| (endpoint.addr, row(endpoint, &labels, &service))),
                );
            }
            EndpointUpdate::Remove(addrs) => found.retain(|addr, _| !addrs.contains(addr)),
            EndpointUpdate::NoEndpoints { exists: true } => found.clear(),
            EndpointUpdate::NoEndpoints { exists: false } => return Ok(None),
        }
        patience = QUIET;
    }
    Ok(Some(found.into_values().collect()))
}

fn timed_out() -> anyhow::Error {
    anyhow!("timed out waiting for the control plane ({} s)", PATIENCE.as_secs())
}

/// Shortens `web.vote.svc.cluster.local:80` to `web.vote`.
fn service_of(authority: &str) -> String {
    let mut parts = authority.split([':', '.']);
    match (parts.next(), parts.next()) {
        (Some(name), Some(namespace)) => format!("{name}.{namespace}"),
        _ => authority.to_owned(),
    }
}

fn row(endpoint: Endpoint, shared: &BTreeMap<String, String>, service: &str) -> Row {
    let mut labels = shared.clone();
    let own = endpoint.labels.iter().map(|(key, value)| (key.clone(), value.clone()));
    labels.extend(own);
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
    Row {
        namespace: label("namespace"),
        ip: endpoint.addr.ip().to_string(),
        port: endpoint.addr.port(),
        pod: label("pod"),
        service: service.to_owned(),
        weight: endpoint.weight,
        identity: endpoint.identity.map(|identity| identity.server_id.to_string()),
        http2: endpoint.hint == Hint::Http2,
        opaque: endpoint.hint == Hint::Opaque,
        labels,
    }
}

fn render(rows: &[Row]) -> String {
    let columns = ["NAMESPACE", "IP", "PORT", "POD", "SERVICE"];
    let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
    for row in rows {
        let port = row.port.to_string();
        table.row(
            [&row.namespace, &row.ip, &port, &row.pod, &row.service]
                .map(Clone::clone)
                .into(),
        );
    }
    table.render()
}

pub(super) async fn policy(args: &PolicyArgs) -> Result<ExitCode> {
    let named = pods::parse(std::slice::from_ref(&args.resource))?;
    let client = args.at.cluster.connect().await?;
    let namespace = args.at.namespace.on(&client);
    let object = Resource::new(named.api_version, named.plural).within(&namespace);
    let object = object.get(&client, &named.name).await?;
    let connection = Connection::over(destination(&client, &args.at.cluster, PORTS.1).await?).await?;
    let policy = match named.plural {
        "pods" => {
            let workload = serde_json::json!({"ns": namespace, "pod": named.name}).to_string();
            let policy = first(api::watch_inbound(connection, &workload, args.port)).await?;
            dump::value(&encode::server_policy(&policy))?
        }
        "services" => {
            let ip = object["spec"]["clusterIP"].as_str().unwrap_or_default();
            let ip = ip
                .parse()
                .map_err(|_| anyhow!("the Service {namespace}/{} has no ClusterIP", named.name))?;
            let target = OutboundTarget::Addr(SocketAddr::new(ip, args.port));
            let policy = first(api::watch_outbound(connection, &args.token, &target)).await?;
            dump::value(&encode::client_policy(&policy))?
        }
        plural => bail!("{plural} have no policy of their own: use po/POD or svc/SERVICE"),
    };
    output::print(&match args.output {
        DocumentFormat::Yaml => destination_yaml::write(&policy),
        DocumentFormat::Json => format!("{}\n", serde_json::to_string_pretty(&policy)?),
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn profile(args: &ProfileLookupArgs) -> Result<ExitCode> {
    let client = args.cluster.connect().await?;
    let connection = Connection::over(destination(&client, &args.cluster, PORTS.0).await?).await?;
    let domain = domain(&client, &args.cluster).await;
    let address = complete(&args.address, client.namespace(), &domain).unwrap_or_else(|_| args.address.clone());
    let profile = first(api::get_profile(connection, &address, &args.token)).await?;
    let profile = dump::value(&encode::profile(&profile))?;
    output::print(&format!("{}\n", serde_json::to_string_pretty(&profile)?))?;
    Ok(ExitCode::SUCCESS)
}

/// Awaits the first value of a stream.
async fn first<M>(call: impl Future<Output = proxy_api::Result<api::Updates<M>>>) -> Result<M> {
    let query = async {
        let mut updates = call.await?;
        let first = updates.next().await;
        Ok(first.ok_or_else(|| anyhow!("the control plane closed the stream"))??)
    };
    tokio::time::timeout(PATIENCE, query).await.map_err(|_| timed_out())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completes_short_service_names() {
        let complete = |text: &str| complete(text, "vote", "cluster.local").map_err(|error| error.to_string());
        let full = Ok("web.vote.svc.cluster.local:80".to_owned());
        for short in [
            "web:80",
            "web.vote:80",
            "web.vote.svc:80",
            "web.vote.svc.cluster.local:80",
        ] {
            assert_eq!(complete(short), full, "{short}");
        }
        for kept in ["10.0.0.7:80", "[fd00::1]:80", "www.example.org:80"] {
            assert_eq!(complete(kept), Ok(kept.to_owned()));
        }
        assert!(complete("web").is_err_and(|error| error.contains("expected HOST:PORT")));
    }

    #[test]
    fn renders_endpoints_as_linkerd_does() {
        let mut endpoint = Endpoint::bare(SocketAddr::from(([1, 2, 3, 4], 8080)));
        endpoint.hint = Hint::Http2;
        let labels = BTreeMap::from([("namespace", "emojivoto"), ("pod", "emoji-6bf9f47bd5-jjcrl")]);
        let labels = labels
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let rows = [row(
            endpoint,
            &labels,
            &service_of("emoji-svc.emojivoto.svc.cluster.local:8080"),
        )];
        let expected = "\
NAMESPACE   IP        PORT   POD                      SERVICE
emojivoto   1.2.3.4   8080   emoji-6bf9f47bd5-jjcrl   emoji-svc.emojivoto
";
        assert_eq!(render(&rows), expected);
        assert!(serde_json::to_string(&rows).expect("JSON").contains("\"http2\":true"));
    }
}
