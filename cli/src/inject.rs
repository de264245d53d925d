//! `mesh inject` and `mesh uninject`: transform manifests, with a report on stderr.
//!
//! ```text
//! FILE | DIR | - ──[input]──▶ documents ──[transform]──▶ [yaml] ──▶ stdout
//!                                             └──────────[report]──▶ stderr
//! ```

mod flags;
mod input;
mod report;
mod transform;

#[cfg(test)]
mod tests;

use std::{io::Write, process::ExitCode};

use serde_json::Value;

pub(crate) use flags::{InjectArgs, UninjectArgs};
use input::Document;
use report::ObjectResult;

use crate::output::{self, DocumentFormat};

/// `mesh inject`
pub(crate) fn inject(args: InjectArgs) -> anyhow::Result<ExitCode> {
    let documents = input::read(&args.resource)?;
    let transform = args.transform()?;
    let (text, lines) = rewrite(&documents, args.output, &|value| transform.object(value))?;
    write(&text, &report::injected(&lines, args.verbose))
}

/// `mesh uninject`
pub(crate) fn uninject(args: UninjectArgs) -> anyhow::Result<ExitCode> {
    let documents = input::read(&args.resource)?;
    let (text, lines) = rewrite(&documents, args.output, &|value| Ok(transform::uninject(value)))?;
    write(&text, &report::uninjected(&lines))
}

fn write(text: &str, report: &str) -> anyhow::Result<ExitCode> {
    output::print_manifests(text)?;
    // A closed stderr is not an error.
    let _ = std::io::stderr().write_all(report.as_bytes());
    Ok(ExitCode::SUCCESS)
}

type Change<'a> = &'a dyn Fn(&mut Value) -> anyhow::Result<ObjectResult>;

/// Changes all objects of all documents. Unchanged documents are copied verbatim, with their comments.
fn rewrite(
    documents: &[Document],
    output: DocumentFormat,
    change: Change<'_>,
) -> anyhow::Result<(String, Vec<ObjectResult>)> {
    let (mut text, mut lines) = (String::new(), vec![]);
    for document in documents {
        let mut value = document.value.clone();
        let objects: Vec<&mut Value> = match value.get("kind").and_then(Value::as_str) {
            Some(kind) if kind.ends_with("List") && document.value["items"].is_array() => {
                value["items"].as_array_mut().into_iter().flatten().collect()
            }
            _ => vec![&mut value],
        };
        for object in objects {
            let line = change(object).map_err(|error| input::locate(document, &error))?;
            lines.push(line);
        }
        match output {
            DocumentFormat::Json => text.push_str(&format!("{value}\n")),
            DocumentFormat::Yaml if value == document.value => text.push_str(&verbatim(&document.text)),
            DocumentFormat::Yaml => text.push_str(&format!("{}---\n", destination_yaml::write(&value))),
        }
    }
    Ok((text, lines))
}

fn verbatim(document: &str) -> String {
    format!("{}\n---\n", document.trim_start_matches('\n').trim_end())
}
