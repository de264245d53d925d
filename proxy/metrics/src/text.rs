//! The text of a family and its series, in both of Linkerd's forms.

use std::{fmt::Write as _, time::Duration};

use crate::{
    names::{Family, Kind, Part},
    registry::Series,
};

/// Bytes of a bound, a number and what is around them.
const NUMBER: usize = 32;

/// Bytes of the text of a series, by and large: its lines, each with the name, the labels and a number.
pub(crate) fn bytes(family: &Family, labels: &str) -> usize {
    let lines = if family.is_histogram() {
        family.bounds().len() + 3
    } else {
        1
    };
    lines * (family.name.len() + labels.len() + NUMBER)
}

pub(crate) fn head(out: &mut String, family: &Family) {
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Age | Kind::Timestamp => "gauge",
        Kind::LatencyMs | Kind::Seconds(_) | Kind::Bytes(_) => "histogram",
    };
    let dot = if family.part == Part::Registry { "." } else { "" };
    put(
        out,
        format_args!(
            "# HELP {} {}{dot}\n# TYPE {} {kind}\n",
            family.name, family.help, family.name
        ),
    );
}

pub(crate) fn sample(out: &mut String, family: &Family, labels: &str, series: &Series, since_start: Duration) {
    match family.kind {
        Kind::Counter => {
            let suffix = if family.part == Part::Registry { "_total" } else { "" };
            line(out, &[family.name, suffix], labels, format_args!("{}", series.sum(0)));
        }
        Kind::Gauge => line(out, &[family.name], labels, format_args!("{}", series.sum(0) as i64)),
        Kind::Timestamp => line(out, &[family.name], labels, format_args!("{}", series.sum(0))),
        Kind::Age => {
            let age = since_start.saturating_sub(Duration::from_micros(series.sum(0)));
            line(out, &[family.name], labels, format_args!("{:.3}", age.as_secs_f64()));
        }
        Kind::LatencyMs | Kind::Seconds(_) | Kind::Bytes(_) => histogram(out, family, labels, series),
    }
}

fn histogram(out: &mut String, family: &Family, labels: &str, series: &Series) {
    let bounds = family.bounds();
    let comma = if labels.is_empty() { "" } else { "," };
    let mut count = 0;
    for index in 0..=bounds.len() {
        count += series.sum(index);
        put(out, format_args!("{}_bucket{{", family.name));
        let le = Bound(family.kind, bounds.get(index).copied());
        match family.part {
            Part::Legacy => put(out, format_args!("{labels}{comma}le=\"{le}\"}} {count}\n")),
            Part::Registry => put(out, format_args!("le=\"{le}\"{comma}{labels}}} {count}\n")),
        }
    }
    line(out, &[family.name, "_count"], labels, format_args!("{count}"));
    let sum = series.sum(bounds.len() + 1);
    match family.kind {
        Kind::LatencyMs => line(
            out,
            &[family.name, "_sum"],
            labels,
            format_args!("{}", sum as f64 / 1e3),
        ),
        Kind::Seconds(_) => line(
            out,
            &[family.name, "_sum"],
            labels,
            format_args!("{:?}", sum as f64 / 1e6),
        ),
        _ => line(out, &[family.name, "_sum"], labels, format_args!("{sum}")),
    }
}

/// Formats an upper bound.
struct Bound(Kind, Option<u64>);

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0, self.1) {
            (_, None) => f.write_str("+Inf"),
            (Kind::LatencyMs, Some(us)) => write!(f, "{}", us / 1000),
            (Kind::Seconds(_), Some(us)) => write!(f, "{:?}", us as f64 / 1e6),
            (_, Some(bytes)) => write!(f, "{bytes}"),
        }
    }
}

fn line(out: &mut String, name: &[&str], labels: &str, value: std::fmt::Arguments<'_>) {
    for part in name {
        out.push_str(part);
    }
    if !labels.is_empty() {
        put(out, format_args!("{{{labels}}}"));
    }
    put(out, format_args!(" {value}\n"));
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes any text");
}
