//! The embedded Helm charts and their renderer: `mesh install` prints the objects that `helm template` prints. It knows
//! no cluster.
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

/// Release that a chart is rendered for.
#[derive(Clone, Debug)]
pub struct Release {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Renderer: `Helm`, or `CLI`, which creates the namespace as well.
    pub service: String,
}

/// Error of a chart that cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A malformed values file or `--set`.
    #[error("{0}")]
    Values(String),
    /// A value that the chart's schema rejects.
    #[error("invalid value {field}: {reason}")]
    Value {
        /// Path, such as `proxy.uid`.
        field: String,
        /// Reason.
        reason: String,
    },
    /// An error raised by a template.
    #[error("{0}")]
    Template(String),
}

/// Renders a chart with `values` merged into its defaults. Returns file names and texts without the empty ones.
pub fn render(chart: Chart, release: &Release, values: &Value) -> Result<Vec<(&'static str, String)>, Error> {
    let failed = |error: gotmpl::TemplateError| Error::Template(functions::sentence(&error));
    let values = chart.values(values)?;
    let data = json!({
        "Values": values,
        "Release": {"Name": release.name, "Namespace": release.namespace, "Service": release.service},
        "Chart": {"Name": chart.name(), "Version": chart.version(), "AppVersion": chart.version()},
    });
    let data = functions::cell(&data);
    let functions = functions::all(chart.templates()).map_err(failed)?;
    let mut rendered = Vec::new();
    for (file, text) in chart.templates().iter().filter(|(file, _)| !file.starts_with('_')) {
        let template = Template::new(file)
            .funcs(functions.table())
            .parse(text)
            .map_err(failed)?;
        // As in Helm, a missing value renders as nothing.
        let output = template
            .execute_to_string(&data)
            .map_err(failed)?
            .replace("<no value>", "");
        if !output.trim().is_empty() {
            rendered.push((*file, output));
        }
    }
    Ok(rendered)
}

#[cfg(test)]
mod tests;
