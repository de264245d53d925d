//! `mesh inject` and `mesh uninject`: manifests in, manifests out, a report on stderr.
//!
//! ```text
//! FILE | DIR | - ──[input]──▶ documents ──[transform]──▶ [yaml] ──▶ stdout
//!                                             └──────────[report]──▶ stderr
//! ```

mod flags;
mod input;
mod report;
mod transform;
mod yaml;

#[cfg(test)]
mod tests;

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use serde_json::Value;

pub(crate) use flags::{InjectArgs, UninjectArgs};
use input::Document;
use report::Line;

/// How manifests are written.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// Documents between lines of dashes.
    #[default]
    Yaml,
    /// One object a line.
    Json,
}

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

/// Everything is worked out before the first byte is written, so that `kubectl apply` never gets half of it.
fn write(text: &str, report: &str) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write the manifests")?;
    // Whoever reads no further has what he wanted.
    let _ = std::io::stderr().write_all(report.as_bytes());
    Ok(ExitCode::SUCCESS)
}

type Change<'a> = &'a dyn Fn(&mut Value) -> anyhow::Result<Line>;

/// Changes all objects of all documents. What is not changed comes out as it was written, comments and all.
fn rewrite(documents: &[Document], output: Output, change: Change<'_>) -> anyhow::Result<(String, Vec<Line>)> {
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
            let line = change(object).map_err(|error| input::blame(document, &error))?;
            lines.push(line);
        }
        match output {
            Output::Json => text.push_str(&format!("{value}\n")),
            Output::Yaml if value == document.value => text.push_str(&verbatim(&document.text)),
            Output::Yaml => text.push_str(&format!("{}---\n", yaml::emit(&value))),
        }
    }
    Ok((text, lines))
}

fn verbatim(document: &str) -> String {
    format!("{}\n---\n", document.trim_start_matches('\n').trim_end())
}
