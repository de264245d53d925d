//! What the control plane would tell a proxy: endpoints, policies, profiles; asked as a proxy asks.

use std::{collections::BTreeMap, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use destination_source::cluster::{Client, Forwarded, Resource};
use futures_util::StreamExt as _;
use proxy_api::{client as api, encode};
use proxy_model::{Endpoint, EndpointUpdate, Hint, OutboundTarget};
use serde::Serialize;

use super::{Where, dump};
use crate::{
    kube::{self, Flags, http2::Connection, pods},
    output::{self, Align, Table},
};

/// The Deployment that answers.
const DEPLOYMENT: &str = "linkerd-destination";
/// Its port for discovery, and that for policies.
const PORTS: (u16, u16) = (8086, 8090);
/// How long the first answer, and a whole set of endpoints, is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// A set is whole when nothing came for so long.
const QUIET: Duration = Duration::from_millis(300);

/// In which form.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// Columns.
    #[default]
    Table,
    /// JSON.
    Json,
}

/// In which form a policy is shown.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Document {
    /// YAML.
    #[default]
    Yaml,
    /// JSON.
    Json,
}

/// What `endpoints` understands.
#[derive(Debug, clap::Args)]
pub(crate) struct EndpointsArgs {
    /// Authorities, such as web.vote.svc.cluster.local:80.
    #[arg(required = true, value_name = "AUTHORITY")]
    authorities: Vec<String>,

    /// Form of the output.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,

    /// The token that a proxy would show, as JSON.
    #[arg(long, value_name = "TOKEN", default_value = "")]
    token: String,

    #[command(flatten)]
    cluster: Flags,
}

/// What `policy` understands.
#[derive(Debug, clap::Args)]
pub(crate) struct PolicyArgs {
    /// po/NAME for what the pod's sidecar lets in, svc/NAME for what clients of the Service do.
    #[arg(value_name = "RESOURCE")]
    resource: String,

    /// The port.
    #[arg(value_name = "PORT")]
    port: u16,

    /// Form of the output: the message as the proxy API has it.
    #[arg(long, short, value_enum, default_value_t)]
    output: Document,

    /// The workload that asks for a Service's policy, NAMESPACE:NAME.
    #[arg(long, value_name = "TOKEN", default_value = "default:diagnostics")]
    token: String,

    #[command(flatten)]
    at: Where,
}

/// What `profile` understands.
#[derive(Debug, clap::Args)]
pub(crate) struct ProfileArgs {
    /// An authority, or an address such as 10.0.0.7:80.
    #[arg(value_name = "ADDRESS")]
    address: String,

    /// The token that a proxy would show, as JSON.
    #[arg(long, value_name = "TOKEN", default_value = "")]
    token: String,

    #[command(flatten)]
    cluster: Flags,
}

async fn destination(client: &Client, flags: &Flags, port: u16) -> Result<Forwarded> {
    kube::deployment(client, &flags.linkerd_namespace, DEPLOYMENT, port).await
}

/// One endpoint, as `-o json` has it.
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
    for authority in &args.authorities {
        let port = authority.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            bail!("{authority:?} has no port: write HOST:PORT");
        }
        let stream = destination(&client, &args.cluster, PORTS.0).await?;
        let asked = endpoints_of(stream, authority, &args.token);
        match output::patiently(&format!("asking for {authority}"), asked).await? {
            Some(found) => rows.extend(found),
            None => {
                eprintln!("mesh: there is no Service for {authority}");
                failed = true;
            }
        }
    }
    rows.sort_by(|a, b| (&a.service, &a.ip, a.port).cmp(&(&b.service, &b.ip, b.port)));
    match args.output {
        Output::Json => output::print(&format!("{}\n", serde_json::to_string_pretty(&rows)?))?,
        Output::Table if rows.is_empty() => eprintln!("No endpoints found."),
        Output::Table => output::print(&render(&rows))?,
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The endpoints of an authority; none if it is nobody's.
async fn endpoints_of(stream: Forwarded, authority: &str, token: &str) -> Result<Option<Vec<Row>>> {
    let service = Connection::over(stream).await?;
    let updates = tokio::time::timeout(PATIENCE, api::get(service, authority, token)).await;
    let mut updates = match updates.map_err(|_| late())? {
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

fn late() -> anyhow::Error {
    anyhow!("the control plane gave no answer in {} s", PATIENCE.as_secs())
}

/// `web.vote` of `web.vote.svc.cluster.local:80`.
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
        plural => bail!("{plural} have no policy of their own: name po/POD or svc/SERVICE"),
    };
    output::print(&match args.output {
        Document::Yaml => serde_yaml_ng::to_string(&policy)?,
        Document::Json => format!("{}\n", serde_json::to_string_pretty(&policy)?),
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn profile(args: &ProfileArgs) -> Result<ExitCode> {
    let client = args.cluster.connect().await?;
    let connection = Connection::over(destination(&client, &args.cluster, PORTS.0).await?).await?;
    let profile = first(api::get_profile(connection, &args.address, &args.token)).await?;
    let profile = dump::value(&encode::profile(&profile))?;
    output::print(&format!("{}\n", serde_json::to_string_pretty(&profile)?))?;
    Ok(ExitCode::SUCCESS)
}

/// The first value of a stream.
async fn first<M>(call: impl Future<Output = proxy_api::Result<api::Updates<M>>>) -> Result<M> {
    let asked = async {
        let mut updates = call.await?;
        let first = updates.next().await;
        Ok(first.ok_or_else(|| anyhow!("the control plane ended the stream"))??)
    };
    tokio::time::timeout(PATIENCE, asked).await.map_err(|_| late())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_look_as_linkerds() {
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
