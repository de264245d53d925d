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
    kube,
    output::{self, Align, Table, milliseconds, percent, requests_per_second, terminal},
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
    let api = Api::local(running.state())?;
    output::print(&introduction(running, manifests))?;
    let is_terminal = std::io::stdout().is_terminal();
    let period = if is_terminal { REDRAW } else { PRINT };
    let mut picture = Picture::default();
    loop {
        let text = match runtime.block_on(table(&api)) {
            Ok(text) => text,
            Err(error) => format!("{error:#}\n"),
        };
        let columns = terminal::columns().filter(|_| is_terminal);
        if !output::try_print(&picture.draw(&format!("{text}\n"), columns))? {
            return Ok(Ended::Interrupted);
        }
        if let Some(ended) = wait(running, interrupts, period, &mut picture) {
            return Ok(ended);
        }
    }
}

/// Table on a terminal, redrawn in place. Everything printed above it stays.
#[derive(Default)]
struct Picture {
    /// Rows between the beginning of the table and the cursor.
    rows: usize,
}

impl Picture {
    /// Returns the text that replaces the previous table. Without a terminal, nothing is replaced.
    fn draw(&mut self, text: &str, columns: Option<usize>) -> String {
        let clear = self.clear();
        self.rows = columns.map_or(0, |columns| terminal::rows_of(text, columns));
        clear + text
    }

    /// Returns the text that erases the table, so that something else can be printed in its place.
    fn clear(&mut self) -> String {
        match std::mem::take(&mut self.rows) {
            0 => String::new(),
            rows => format!("\x1b[{rows}A\x1b[J"),
        }
    }
}

/// Waits for the next update, and prints messages above the table. Returns early if the demo has ended.
fn wait(running: &Running, interrupts: &Receiver<()>, time: Duration, picture: &mut Picture) -> Option<Ended> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if interrupts.try_recv().is_ok() {
            return Some(Ended::Interrupted);
        }
        match running.next(Duration::from_millis(50)) {
            Ok(Some(Progress::Note(text))) => {
                // The next table is drawn below the message, which therefore stays.
                let _ = output::try_print(&picture.clear());
                cli_local::notify(&format!("{text}\n"));
            }
            Ok(_) => {}
            Err(_) => return Some(Ended::ByItself),
        }
    }
    None
}

fn introduction(running: &Running, manifests: &Manifests) -> String {
    let mesh = std::env::args().next().unwrap_or_else(|| "mesh".to_owned());
    let name = name_flag(
        &running.state().name,
        cli_local::state::State::running().len(),
        kube::has_kubeconfig(),
    );
    format!(
        "
The mesh is up, and the traffic generator votes. In another terminal, try:

  {mesh} viz stat{name} deploy -n {NAMESPACE}
  {mesh} viz edges{name} deploy -n {NAMESPACE}
  {mesh} viz tap{name} deploy/web -n {NAMESPACE}

voting is split 90/10, and its second version fails every fourth vote: change the weights in
{} and watch. Press Ctrl-C to stop.

",
        manifests.split_file().display()
    )
}

/// Returns the flag that selects this mesh. A single mesh is found without, unless `KUBECONFIG` selects a cluster.
fn name_flag(name: &str, running: usize, has_kubeconfig: bool) -> String {
    if running > 1 || has_kubeconfig {
        format!(" --name {name}")
    } else {
        String::new()
    }
}

async fn table(api: &Api) -> Result<String> {
    let request = |resource: Resource| StatRequest {
        namespace: Some(NAMESPACE.to_owned()),
        window_ms: WINDOW.as_millis() as u64,
        ..StatRequest::new(resource)
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
    let figures = ["SUCCESS", "RPS", "P50", "P95", "P99", "MTLS"];
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
    fn messages_stay_above_the_table() {
        let mut picture = Picture::default();
        assert_eq!(picture.draw("a\nb\n\n", Some(80)), "a\nb\n\n");
        assert_eq!(picture.draw("c\nd\n\n", Some(80)), "\x1b[3A\x1b[Jc\nd\n\n");
        assert_eq!(picture.clear(), "\x1b[3A\x1b[J");
        assert_eq!(
            picture.draw("e\n", Some(80)),
            "e\n",
            "nothing below a message is erased"
        );
        assert_eq!(Picture { rows: 0 }.draw("a\n", None), "a\n");
    }

    #[test]
    fn hints_name_the_mesh_if_kubeconfig_is_set() {
        assert_eq!(name_flag("demo", 1, false), "");
        assert_eq!(name_flag("demo", 1, true), " --name demo");
        assert_eq!(name_flag("demo", 2, false), " --name demo");
    }

    #[test]
    fn fits_a_terminal_of_80_columns() {
        let row = StatRow {
            name: "voting-v1".into(),
            rps: Some(1234.5),
            success: Some(1.0),
            secured: Some(1.0),
            latency_ms_p50: Some(1234),
            latency_ms_p95: Some(1234),
            latency_ms_p99: Some(1234),
            meshed: Some(viz_api::Meshed { meshed: 1, running: 1 }),
            ..StatRow::default()
        };
        let leaf = StatRow {
            leaf: Some("voting-v1".into()),
            ..row.clone()
        };
        let text = render(std::slice::from_ref(&row), std::slice::from_ref(&leaf));
        let wide = text.lines().map(|line| line.len()).max().unwrap_or(0);
        assert!(
            wide - 8 <= 80,
            "{text}\n{wide} columns, of which the gaps give up to 16"
        );
    }

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
