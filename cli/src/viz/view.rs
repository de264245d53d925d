//! Views: one query per resource, shown as a table or as JSON. Common to `stat`, `edges`, `routes` and `authz`.

use std::time::Duration;

use anyhow::Result;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use viz_api::Answer;

use super::{Api, ApiFlags, NamespaceFlags};
use crate::output::{self, Align, Table};

/// Flags shared by all views.
#[derive(Debug, clap::Args)]
pub(super) struct ViewFlags {
    #[command(flatten)]
    pub(super) namespace: NamespaceFlags,
    /// Time window (for example 30s).
    #[arg(short, long, default_value = "1m", value_parser = window)]
    time_window: Duration,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: ViewFormat,
    #[command(flatten)]
    source: ApiFlags,
}

/// Output format of a view.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ViewFormat {
    /// Table
    #[default]
    Table,
    /// Table with additional columns
    Wide,
    /// JSON
    Json,
}

impl ViewFlags {
    /// Returns true if additional columns are requested.
    pub(super) fn wide(&self) -> bool {
        self.output == ViewFormat::Wide
    }

    fn scope(&self, api: &Api) -> ViewScope {
        ViewScope {
            namespace: self.namespace.get(api),
            window_ms: self.time_window.as_millis() as u64,
        }
    }
}

/// Namespace and time window of a query.
#[derive(Clone, Debug)]
pub(super) struct ViewScope {
    pub(super) namespace: Option<String>,
    pub(super) window_ms: u64,
}

/// View of rows of one type.
pub(super) struct View<'a, Row> {
    /// Path of the API.
    pub(super) path: &'static str,
    /// Message on stderr if there are no rows.
    pub(super) empty: &'static str,
    /// Renders the rows as a table.
    pub(super) table: &'a dyn Fn(&[Row]) -> String,
    /// Renders the rows as JSON.
    pub(super) json: fn(&[Row]) -> Value,
}

/// Renders rows as a JSON list.
pub(super) fn list<Row: Serialize>(rows: &[Row]) -> Value {
    json!(rows)
}

/// Sends the requests of a view, and shows all rows.
pub(super) async fn run<Row, Request>(
    flags: &ViewFlags,
    requests: impl FnOnce(ViewScope) -> Vec<Request>,
    view: View<'_, Row>,
) -> Result<()>
where
    Row: DeserializeOwned,
    Request: Serialize,
{
    let api = flags.source.api().await?;
    let mut rows: Vec<Row> = Vec::new();
    let mut source = None;
    for request in requests(flags.scope(&api)) {
        let answer: Answer<Row> = api.get(view.path, &request).await?;
        rows.extend(answer.rows);
        source = Some(answer.source);
    }
    if flags.output == ViewFormat::Json {
        return output::print(&format!("{}\n", serde_json::to_string_pretty(&(view.json)(&rows))?));
    }
    if rows.is_empty() {
        eprintln!("{}", view.empty);
    } else {
        output::print(&(view.table)(&rows))?;
    }
    if let Some(source) = source {
        note_source(&api, &source, flags.output);
    }
    Ok(())
}

/// Column of a view: its name, and the text of a row's cell.
pub(super) struct Column<Row> {
    name: &'static str,
    align: Align,
    cell: fn(&Row) -> String,
}

/// Creates a column for names.
pub(super) fn left<Row>(name: &'static str, cell: fn(&Row) -> String) -> Column<Row> {
    let align = Align::Left;
    Column { name, align, cell }
}

/// Creates a column for figures.
pub(super) fn right<Row>(name: &'static str, cell: fn(&Row) -> String) -> Column<Row> {
    let align = Align::Right;
    Column { name, align, cell }
}

/// Renders rows as a table.
pub(super) fn render<'a, Row: 'a>(columns: &[Column<Row>], rows: impl IntoIterator<Item = &'a Row>) -> String {
    let heading: Vec<_> = columns.iter().map(|column| (column.name, column.align)).collect();
    let mut table = Table::new(&heading);
    for row in rows {
        table.row(columns.iter().map(|column| (column.cell)(row)).collect());
    }
    table.render()
}

/// Parses a time window such as `90s` or `1m30s`; a rate needs two scrapes.
fn window(text: &str) -> Result<Duration, String> {
    let window = proxy_model::duration::go(text)
        .ok_or_else(|| format!("invalid duration {text:?}: expected for example 30s or 1m"))?;
    if window < Duration::from_secs(2) {
        return Err("the window must be at least 2s".to_owned());
    }
    Ok(window)
}

/// Notes on stderr which scrapes the rows are based on, always if they are old.
fn note_source(api: &Api, source: &viz_api::Source, format: ViewFormat) {
    let Some(age) = source.age_ms else { return };
    let interval = source.scrape_interval_ms.max(1000);
    let seconds = |ms: u64| ms as f64 / 1000.0;
    if format == ViewFormat::Wide || age > 5 * interval {
        eprintln!(
            "from {} of {} pods by {}, newest {:.1}s old, {:.1}s covered{}",
            source.kind,
            source.pods,
            api.place(),
            seconds(age),
            seconds(source.covered_ms.min(source.window_ms)),
            if source.pods_failing > 0 {
                format!(", {} pods failing", source.pods_failing)
            } else {
                String::new()
            }
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_windows_too_short_for_a_rate() {
        assert_eq!(window("1m30s"), Ok(Duration::from_secs(90)));
        assert!(window("1s").is_err_and(|error| error.contains("at least 2s")));
        assert!(window("soon").is_err_and(|error| error.contains("invalid duration")));
    }
}
