//! Open discovery streams of the control plane: client, target, messages, ages.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use destination_source::cluster::{self as source, Filter, Resource};
use serde::Deserialize;

use super::metrics::admin_ports;
use crate::{
    kube::{ClusterFlags, http1},
    output::{self, Align, Table},
};

/// Upper bound on a response: a hundred thousand streams.
const ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// Arguments of `mesh diagnostics streams`.
#[derive(Debug, clap::Args)]
pub(crate) struct StreamsArgs {
    /// Output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: super::lookup::TableFormat,

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
    let client = args.cluster.connect().await?;
    let namespace = &args.cluster.linkerd_namespace;
    let filter = Filter {
        labels: "linkerd.io/control-plane-component=destination",
        fields: "",
    };
    let pods = Resource::new("v1", "pods")
        .within(namespace)
        .list(&client, filter)
        .await?;
    let mut found = Vec::new();
    for pod in pods.iter().filter(|pod| source::is_ready(pod)) {
        for (_, port) in admin_ports(pod) {
            let stream = source::forward(&client, &port).await?;
            let text = http1::text(stream, "/streams", ANSWER_BYTES).await?;
            found.push((port.pod, text));
        }
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
