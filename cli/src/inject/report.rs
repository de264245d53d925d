//! Report on stderr: warnings first, then a line for each object.

use std::fmt::Write;

use injector_patch::{Reason, Report};

/// Result for one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectResult {
    pub(crate) report: Report,
    pub(crate) injected: bool,
    pub(crate) annotated: bool,
    pub(crate) uninjected: bool,
}

const WARN: &str = "‼";
const OK: &str = "√";

/// Report of `mesh inject`. Begins and ends with a blank line, to set it apart from the output of `kubectl`.
pub(crate) fn injected(lines: &[ObjectResult], verbose: bool) -> String {
    let mut text = warnings(lines, verbose);
    if !text.is_empty() {
        text.push('\n');
    }
    for line in lines {
        if line.annotated {
            row(&mut text, line, "annotated");
        }
        if line.injected {
            row(&mut text, line, "injected");
        }
        if !line.annotated && !line.injected {
            row(&mut text, line, "skipped");
        }
    }
    format!("\n{text}\n")
}

/// Report of `mesh uninject`.
pub(crate) fn uninjected(lines: &[ObjectResult]) -> String {
    let mut text = String::new();
    for line in lines {
        row(&mut text, line, if line.uninjected { "uninjected" } else { "skipped" });
    }
    format!("\n{text}\n")
}

fn warnings(lines: &[ObjectResult], verbose: bool) -> String {
    let with = |reason: &Reason| {
        let found = lines.iter().filter(|line| line.report.reasons.contains(reason));
        found.map(|line| line.report.resource()).collect::<Vec<_>>().join(", ")
    };
    let udp: Vec<_> = lines
        .iter()
        .filter(|line| line.report.udp)
        .map(|line| line.report.resource())
        .collect();
    let verb = if udp.len() > 1 { "use" } else { "uses" };
    let nothing = !lines.iter().any(|line| line.injected || line.annotated);
    let warn_if = |names: &str, text: String| (!names.is_empty()).then_some(text);
    let (host, sidecar) = (with(&Reason::HostNetwork), with(&Reason::SidecarExists));
    let (off, token) = (with(&Reason::Disabled), with(&Reason::NoToken));
    let udp = udp.join(", ");
    let rules = [
        (
            warn_if(&host, format!("\"hostNetwork: true\" detected in {host}")),
            "pods do not use host networking",
        ),
        (
            warn_if(&sidecar, format!("known 3rd party sidecar detected in {sidecar}")),
            "pods do not have a 3rd party proxy or initContainer already injected",
        ),
        (
            warn_if(&off, format!("\"linkerd.io/inject: disabled\" annotation set on {off}")),
            "pods are not annotated to disable injection",
        ),
        (
            nothing.then(|| "no supported objects found".to_owned()),
            "at least one resource can be injected or annotated",
        ),
        (
            warn_if(&udp, format!("{udp} {verb} \"protocol: UDP\"")),
            "pod specs do not include UDP ports",
        ),
        (
            warn_if(
                &token,
                format!("\"automountServiceAccountToken: false\" set on {token}"),
            ),
            "pods do not have automountServiceAccountToken set to \"false\" or service account token projection is enabled",
        ),
    ];
    let mut text = String::new();
    for (warning, right) in rules {
        // Writing to a string cannot fail.
        let _ = match warning {
            Some(warning) => writeln!(text, "{WARN} {warning}"),
            None if verbose => writeln!(text, "{OK} {right}"),
            None => Ok(()),
        };
    }
    text
}

fn row(text: &mut String, line: &ObjectResult, what: &str) {
    let Report { kind, name, .. } = &line.report;
    let _ = if kind.is_empty() {
        writeln!(text, "document missing \"kind\" field, {what}")
    } else {
        writeln!(text, "{} \"{name}\" {what}", kind.to_lowercase())
    };
}
