//! Pages about constants: environment, limits, ports, reasons, metrics, chart values.

mod values;

use proxy_model::{
    env,
    limits::{self, Limit, Value},
    ports,
    reason::Reason,
};
use proxy_process::serve;
use tests_reference::{check, code, table};

#[test]
fn reference_of_the_environment() {
    let rows = env::ALL
        .iter()
        .chain(env::OURS)
        .map(|(name, doc)| vec![code(name), doc.trim().to_owned()]);
    let body = format!(
        "Variables of `mesh-proxy`. The injector and `mesh local` set them; the names are Linkerd's, except those that begin with \
         `MESH_`. A value that does not parse stops the proxy with exit code 64 and names the variable.\n\n{}",
        table(&["variable", "meaning"], rows)
    );
    check("environment.md", "Environment of the proxy", &body);
}

#[test]
fn reference_of_limits() {
    let limits = |all: &[Limit<Value>]| {
        let rows = all
            .iter()
            .map(|limit| vec![code(limit.name), limit.value.to_string(), limit.reason.to_owned()]);
        table(&["limit", "value", "reason"], rows)
    };
    let body = format!(
        "What a limit refuses is counted in `mesh_limit_refused_total{{limit}}`.\n\n## Data plane\n\n{}\n## mesh-destination\n\n{}\n## Servers of all \
         programs\n\n{}",
        limits(limits::ALL),
        limits(&[destination_grpc::limits::ALL, destination_index::limits::ALL].concat()),
        limits(serve::limits::ALL)
    );
    check("limits.md", "Limits", &body);
}

#[test]
fn reference_of_ports() {
    let rows = ports::ALL
        .iter()
        .map(|(port, program, purpose)| vec![port.to_string(), code(program), (*purpose).to_owned()]);
    check("ports.md", "Ports", &table(&["port", "program", "purpose"], rows));
}

#[test]
fn reference_of_reasons() {
    let number = |number: Option<u16>| number.map(|number| number.to_string()).unwrap_or_default();
    let rows = Reason::ALL.iter().map(|reason| {
        let row = reason.row();
        vec![
            code(row.code),
            row.sentence.to_owned(),
            row.blame.as_str().to_owned(),
            number(row.status),
            number(row.grpc),
            if row.may_retry { "yes" } else { "" }.to_owned(),
            code(row.label.unwrap_or_default()),
        ]
    });
    let head = [
        "code",
        "meaning",
        "at fault",
        "HTTP",
        "gRPC",
        "may retry",
        "metric label",
    ];
    let body = format!(
        "Why the mesh refused, failed or broke off something. The code stands in logs (`reason=`); the header `l5d-proxy-error` carries the \
         particulars.\n\n{}",
        table(&head, rows)
    );
    check("reasons.md", "Reasons", &body);
}

#[test]
fn reference_of_metrics() {
    let rows = proxy_metrics::names::ALL.iter().map(|family| {
        vec![
            code(family.name),
            format!("{:?}", family.kind)
                .split('(')
                .next()
                .unwrap_or_default()
                .to_lowercase(),
            family.help.to_owned(),
        ]
    });
    let body = format!(
        "Families of `mesh-proxy` at `/metrics` on port 4191. Names are Linkerd's, except those that begin with `mesh_`. Counters of the second \
         part are printed with `_total`.\n\n{}",
        table(&["family", "kind", "help"], rows)
    );
    check("metrics.md", "Metrics of the proxy", &body);
}

#[test]
fn reference_of_chart_values() {
    let body: String = values::CHARTS.iter().map(|chart| values::section(chart)).collect();
    check("values.md", "Chart values", &body);
}
