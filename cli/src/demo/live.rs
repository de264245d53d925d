//! Live table of the demo.

use std::{
    io::IsTerminal,
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use anyhow::Result;
use cli_local::{Ended, Progress, Running};
use viz_api::{Answer, Kind, Resource, StatRequest, StatRow};

use super::{NAMESPACE, manifests::Manifests};
use crate::{
    output::{self, Align, Table, milliseconds, percent, requests_per_second},
    viz::Api,
};

/// Time window of the figures: long enough to be steady, short enough to follow a change.
const WINDOW: Duration = Duration::from_secs(10);
/// Interval of updates on a terminal.
const REDRAW: Duration = Duration::from_secs(1);
/// Interval of updates elsewhere.
const PRINT: Duration = Duration::from_secs(5);

/// Shows the table until Ctrl-C.
pub(super) fn run(running: &Running, manifests: &Manifests, interrupts: &Receiver<()>) -> Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let api = Api::new(&running.state().viz_url())?;
    output::print(&introduction(running, manifests))?;
    let terminal = std::io::stdout().is_terminal();
    let period = if terminal { REDRAW } else { PRINT };
    let mut drawn = 0;
    loop {
        let text = match runtime.block_on(table(&api)) {
            Ok(text) => text,
            Err(error) => format!("{error:#}\n"),
        };
        let back = if terminal && drawn > 0 {
            format!("\x1b[{drawn}A\x1b[J")
        } else {
            String::new()
        };
        drawn = text.lines().count() + 1;
        if !output::try_print(&format!("{back}{text}\n"))? {
            return Ok(Ended::Interrupted);
        }
        if let Some(ended) = wait(running, interrupts, period) {
            return Ok(ended);
        }
    }
}

/// Waits for the next update; returns early if the demo has ended.
fn wait(running: &Running, interrupts: &Receiver<()>, time: Duration) -> Option<Ended> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if interrupts.try_recv().is_ok() {
            return Some(Ended::Interrupted);
        }
        match running.next(Duration::from_millis(50)) {
            Ok(Some(Progress::Note(text))) => cli_local::notify(&format!("{text}\n")),
            Ok(_) => {}
            Err(_) => return Some(Ended::ByItself),
        }
    }
    None
}

fn introduction(running: &Running, manifests: &Manifests) -> String {
    let mesh = std::env::args().next().unwrap_or_else(|| "mesh".to_owned());
    let name = &running.state().name;
    // A single mesh is found without its name.
    let name = if cli_local::state::State::running().len() > 1 {
        format!(" --name {name}")
    } else {
        String::new()
    };
    format!(
        "
The mesh is up, and the traffic generator votes. In another terminal, try:

  {mesh} viz stat{name} deploy -n {NAMESPACE}
  {mesh} viz edges{name} deploy -n {NAMESPACE} -o wide
  {mesh} viz tap{name} deploy/web -n {NAMESPACE} --path /api/vote

voting is split 90/10, and its second version fails every fourth vote: change the weights in
{} and watch. Press Ctrl-C to stop.

",
        manifests.split_file().display()
    )
}

async fn table(api: &Api) -> Result<String> {
    let request = |resource: Resource| StatRequest {
        namespace: Some(NAMESPACE.to_owned()),
        window_ms: WINDOW.as_millis() as u64,
        ..StatRequest::of(resource)
    };
    let deployments: Answer<StatRow> = api
        .get(viz_api::STAT, &request(Resource::all(Kind::Deployment)))
        .await?;
    let voting = Resource::named(Kind::Service, "voting");
    let split: Answer<StatRow> = api.get(viz_api::STAT, &request(voting)).await?;
    Ok(render(&deployments.rows, &split.rows))
}

fn render(deployments: &[StatRow], split: &[StatRow]) -> String {
    let names = [("NAME", Align::Left), ("SPLIT", Align::Right), ("MESHED", Align::Right)];
    let figures = ["SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99", "MTLS"];
    let columns: Vec<_> = names
        .into_iter()
        .chain(figures.map(|name| (name, Align::Right)))
        .collect();
    let mut table = Table::new(&columns);
    let all: f64 = split.iter().filter_map(|row| row.rps).sum();
    // The traffic generator serves nothing.
    for row in deployments.iter().filter(|row| row.name != "traffic") {
        let leaf = split.iter().find(|leaf| leaf.leaf.as_deref() == Some(&row.name));
        let share = leaf
            .and_then(|leaf| leaf.rps)
            .filter(|_| all > 0.0)
            .map(|rps| rps / all);
        table.row(vec![
            row.name.clone(),
            share.map_or_else(String::new, |share| format!("{:.1}%", share * 100.0)),
            row.meshed
                .map_or_else(String::new, |m| format!("{}/{}", m.meshed, m.running)),
            percent(row.success),
            requests_per_second(row.rps),
            milliseconds(row.latency_ms_p50),
            milliseconds(row.latency_ms_p95),
            milliseconds(row.latency_ms_p99),
            percent(row.secured),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_each_server_and_its_share_of_the_split() {
        let row = |name: &str, rps: f64| StatRow {
            name: name.into(),
            rps: Some(rps),
            ..StatRow::default()
        };
        let leaf = |name: &str, rps: f64| StatRow {
            leaf: Some(name.into()),
            ..row("voting", rps)
        };
        let deployments = [row("traffic", 0.0), row("voting-v1", 20.0), row("web", 25.0)];
        let text = render(&deployments, &[leaf("voting-v1", 18.0), leaf("voting-v2", 2.0)]);
        assert!(
            text.contains("voting-v1   90.0%") && !text.contains("traffic"),
            "{text}"
        );
    }
}
