//! Open discovery streams of the control plane: client, target, messages, ages.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::metrics::admin_endpoints;
use crate::{
    kube::ClusterFlags,
    output::{self, Align, Table},
    target::{MeshFlag, Target},
};

/// Arguments of `mesh diagnostics streams`.
#[derive(Debug, clap::Args)]
pub(crate) struct StreamsArgs {
    /// Output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: super::lookup::TableFormat,

    #[command(flatten)]
    mesh: MeshFlag,

    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Stream, as mesh-destination's `/streams` describes it.
#[derive(Debug, Deserialize)]
struct Row {
    rpc: String,
    target: String,
    client: String,
    messages: u64,
    age_seconds: f64,
    last_message_seconds: Option<f64>,
}

pub(super) async fn streams(args: &StreamsArgs) -> Result<ExitCode> {
    let target = Target::open(&args.cluster, &args.mesh).await?;
    let namespace = &args.cluster.linkerd_namespace;
    let mut found = Vec::new();
    for (_, port) in admin_endpoints(&target, namespace, Some("destination")).await? {
        let text = target.get(&port, "/streams").await?;
        found.push((port.pod, text));
    }
    if found.is_empty() {
        bail!("no linkerd-destination pod is ready in the namespace {namespace}: select another with -L");
    }
    for (pod, text) in found {
        if args.output == super::lookup::TableFormat::Json {
            output::print(&format!("{text}\n"))?;
            continue;
        }
        let rows: Vec<Row> = serde_json::from_str(&text).with_context(|| format!("invalid response from {pod}"))?;
        output::print(&render(&pod, &rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(pod: &str, rows: &[Row]) -> String {
    let mut table = Table::new(&[
        ("POD", Align::Left),
        ("RPC", Align::Left),
        ("TARGET", Align::Left),
        ("CLIENT", Align::Left),
        ("MESSAGES", Align::Right),
        ("AGE", Align::Right),
        ("LAST", Align::Right),
    ]);
    for row in rows {
        table.row(vec![
            pod.to_owned(),
            row.rpc.clone(),
            row.target.clone(),
            row.client.clone(),
            row.messages.to_string(),
            format!("{:.0}s", row.age_seconds),
            row.last_message_seconds
                .map_or("-".to_owned(), |last| format!("{last:.0}s")),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_age_of_a_stream_and_of_its_last_message() {
        let text = r#"[{"rpc":"Destination.Get","target":"web:80","client":"p","messages":2,"age_seconds":61.2,
            "last_message_seconds":3.4}]"#;
        let rows: Vec<Row> = serde_json::from_str(text).expect("rows");
        let table = render("d", &rows);
        assert!(
            table.contains("Destination.Get") && table.contains("61s") && table.contains("3s"),
            "{table}"
        );
    }
}
