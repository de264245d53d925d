//! The Helm charts, embedded, and what renders them: `mesh install` gives the objects that `helm template` gives.
//!
//! ```text
//! defaults ◀─ values files ◀─ --set ──[values]──▶ values ──[schema]──▶ [functions] + templates ──▶ manifests
//! ```

mod chart;
mod functions;
mod schema;
mod values;

use gotmpl::Template;
use serde_json::{Value, json};

pub use chart::Chart;
pub use values::{merge, parse, set, set_string, set_text};

/// Who the chart is rendered for.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What renders: `Helm`, or `CLI`, which makes the namespace too.
    pub service: String,
}

/// Why a chart cannot be rendered, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A values file, or a `--set`, is not what it should be.
    #[error("{0}")]
    Values(String),
    /// A value is not one the chart knows.
    #[error("the value {field}: {reason}")]
    Value {
        /// Its path, such as `proxy.uid`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A template refuses.
    #[error("{0}")]
    Template(String),
}

/// Renders a chart with `values` over its defaults; a file of the chart and its text each, those that are empty left out.
pub fn render(chart: Chart, release: &Release, values: &Value) -> Result<Vec<(&'static str, String)>, Error> {
    let wrong = |error: gotmpl::TemplateError| Error::Template(functions::sentence(&error));
    let values = chart.values(values)?;
    let data = json!({
        "Values": values,
        "Release": {"Name": release.name, "Namespace": release.namespace, "Service": release.service},
        "Chart": {"Name": chart.name(), "Version": chart.version(), "AppVersion": chart.version()},
    });
    let data = functions::cell(&data);
    let functions = functions::all(chart.templates()).map_err(wrong)?;
    let mut rendered = Vec::new();
    for (file, text) in chart.templates().iter().filter(|(file, _)| !file.starts_with('_')) {
        let template = Template::new(file)
            .funcs(functions.table())
            .parse(text)
            .map_err(wrong)?;
        // As Helm does: what is not there is nothing.
        let output = template
            .execute_to_string(&data)
            .map_err(wrong)?
            .replace("<no value>", "");
        if !output.trim().is_empty() {
            rendered.push((*file, output));
        }
    }
    Ok(rendered)
}

#[cfg(test)]
mod tests;
