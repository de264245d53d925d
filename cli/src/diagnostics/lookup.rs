//! Discovery answers of the control plane (endpoints, policies, profiles), requested as a proxy does.

use std::{collections::BTreeMap, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::StreamExt as _;
use proxy_api::{client as api, encode};
use proxy_model::{Endpoint, EndpointUpdate, Hint, OutboundTarget, ports};
use serde::Serialize;

use super::{TargetFlags, dump};
use crate::{
    kube::{ClusterFlags, http2::Connection, pods},
    local::Stream,
    output::{self, Align, DocumentFormat, Table},
    target::{MeshFlag, Target},
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
    mesh: MeshFlag,

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
    mesh: MeshFlag,

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
    mesh: MeshFlag,

    #[command(flatten)]
    cluster: ClusterFlags,
}

async fn destination(target: &Target, flags: &ClusterFlags, port: u16) -> Result<Stream> {
    target.deployment(&flags.linkerd_namespace, DEPLOYMENT, port).await
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
    let target = Target::open(&args.cluster, &args.mesh).await?;
    let mut rows = Vec::new();
    let mut failed = false;
    let domain = target.domain(&args.cluster.linkerd_namespace).await;
    for authority in &args.authorities {
        let authority = &complete(authority, target.namespace(), &domain)?;
        let stream = destination(&target, &args.cluster, PORTS.0).await?;
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
async fn endpoints_of(stream: Stream, authority: &str, token: &str) -> Result<Option<Vec<Row>>> {
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
    let target = Target::open(&args.at.cluster, &args.mesh).await?;
    let namespace = args.at.namespace.namespace.as_deref().unwrap_or(target.namespace());
    let connection = || async {
        let stream = destination(&target, &args.at.cluster, PORTS.1).await?;
        Connection::over(stream).await
    };
    let policy = match named.plural {
        "pods" => {
            let workload = serde_json::json!({"ns": namespace, "pod": named.name}).to_string();
            let policy = first(api::watch_inbound(connection().await?, &workload, args.port)).await?;
            dump::value(&encode::server_policy(&policy))?
        }
        "services" => {
            let ip = target.cluster_ip(namespace, &named.name).await?;
            let service = OutboundTarget::Addr(SocketAddr::new(ip, args.port));
            let policy = first(api::watch_outbound(connection().await?, &args.token, &service)).await?;
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
    let target = Target::open(&args.cluster, &args.mesh).await?;
    let connection = Connection::over(destination(&target, &args.cluster, PORTS.0).await?).await?;
    let domain = target.domain(&args.cluster.linkerd_namespace).await;
    let address = complete(&args.address, target.namespace(), &domain).unwrap_or_else(|_| args.address.clone());
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
