//! Asserts that the proxies' counters agree with the load's own counts.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use proxy_metrics::names::{self, classification, label};
use viz_api::{Answer, Kind, Resource, StatRequest, StatRow};
use viz_query::parse;

use super::{Check, load::Load};
use crate::demo::NAMESPACE;

/// Time limit for the last response ends to be counted.
const SETTLE: Duration = Duration::from_secs(3);
/// Time limit for a scrape: the demo's interval is one second.
const SCRAPE: Duration = Duration::from_millis(2500);

/// Requests and failures counted by a proxy on one side of one edge.
type Counts = (u64, u64);

/// Set of series: a name, the deployment whose proxy counts, and the labels to match.
struct Series {
    name: &'static str,
    deployment: &'static str,
    labels: &'static [(&'static str, &'static str)],
    /// Deployment with the client's identity.
    client: Option<&'static str>,
}

const fn outbound(
    name: &'static str,
    deployment: &'static str,
    labels: &'static [(&'static str, &'static str)],
) -> Series {
    Series {
        name,
        deployment,
        labels,
        client: None,
    }
}

const fn inbound(name: &'static str, deployment: &'static str, client: &'static str) -> Series {
    Series {
        name,
        deployment,
        labels: &[("direction", "inbound"), ("tls", "true")],
        client: Some(client),
    }
}

const SERIES: [Series; 7] = [
    outbound(
        "traffic→web",
        "traffic",
        &[("direction", "outbound"), ("tls", "true"), ("dst_deployment", "web")],
    ),
    inbound("web", "web", "traffic"),
    outbound(
        "web→emoji",
        "web",
        &[("direction", "outbound"), ("tls", "true"), ("dst_deployment", "emoji")],
    ),
    outbound(
        "web→voting-v1",
        "web",
        &[
            ("direction", "outbound"),
            ("tls", "true"),
            ("dst_deployment", "voting-v1"),
        ],
    ),
    inbound("voting-v1", "voting-v1", "web"),
    outbound(
        "web→voting-v2",
        "web",
        &[
            ("direction", "outbound"),
            ("tls", "true"),
            ("dst_deployment", "voting-v2"),
        ],
    ),
    inbound("voting-v2", "voting-v2", "web"),
];

/// Snapshot of all counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counters(BTreeMap<&'static str, Counts>);

impl Counters {
    /// Scrapes the proxies.
    pub(super) fn scrape(check: &Check<'_>) -> Result<Self> {
        let mut texts: BTreeMap<&str, String> = BTreeMap::new();
        for Series { deployment, .. } in &SERIES {
            if !texts.contains_key(deployment) {
                texts.insert(deployment, check.metrics(deployment)?);
            }
        }
        Ok(Self(
            SERIES
                .iter()
                .map(|place| (place.name, count(&texts[place.deployment], place)))
                .collect(),
        ))
    }

    fn since(&self, before: &Self) -> BTreeMap<&'static str, Counts> {
        let gained = |(name, now): (&&'static str, &Counts)| {
            let then = before.0.get(name).copied().unwrap_or_default();
            (*name, (now.0.saturating_sub(then.0), now.1.saturating_sub(then.1)))
        };
        self.0.iter().map(gained).collect()
    }
}

fn count(text: &str, place: &Series) -> Counts {
    let mut counted = (0, 0);
    for line in parse::lines(text).filter(|line| line.name == names::RESPONSE_TOTAL.name) {
        let labels: BTreeMap<&str, String> = parse::labels(line.labels).into_iter().collect();
        let is = |key: &str, value: &str| labels.get(key).is_some_and(|v| v == value);
        let from = |client: &str| {
            let prefix = format!("{client}.{NAMESPACE}.");
            labels.get(label::CLIENT_ID).is_some_and(|id| id.starts_with(&prefix))
        };
        if place.labels.iter().all(|(key, value)| is(key, value)) && place.client.is_none_or(from) {
            counted.0 += line.value as u64;
            counted.1 += if is(label::CLASSIFICATION, classification::FAILURE) {
                line.value as u64
            } else {
                0
            };
        }
    }
    counted
}

/// Asserts that each counter rose by exactly the load's own counts.
pub(super) fn agree(check: &Check<'_>, load: &Load) -> Result<String> {
    let expected = expected(load);
    let until = Instant::now() + SETTLE;
    loop {
        let gained = Counters::scrape(check)?.since(&load.before);
        let wrong = expected.iter().find(|(name, counts)| gained.get(*name) != Some(counts));
        let Some((name, counts)) = wrong else { break };
        if Instant::now() > until {
            let (requests, failures) = gained.get(name).copied().unwrap_or_default();
            bail!(
                "{name} counted {requests} with {failures} failures instead of {} with {}",
                counts.0,
                counts.1
            );
        }
        thread::sleep(Duration::from_millis(200));
    }
    let texts: Vec<String> = expected
        .iter()
        .map(|(name, (requests, failures))| format!("{name} {requests}/{failures}"))
        .collect();
    Ok(format!("requests/failures {}", texts.join(", ")))
}

fn expected(load: &Load) -> BTreeMap<&'static str, Counts> {
    let total = (load.report.total.requests, load.report.total.failures);
    let version = |name: &str| {
        load.report
            .versions
            .get(name)
            .map_or((0, 0), |c| (c.requests, c.failures))
    };
    [
        ("traffic→web", total),
        ("web", total),
        ("web→emoji", (total.0, 0)),
        ("web→voting-v1", version("v1")),
        ("voting-v1", version("v1")),
        ("web→voting-v2", version("v2")),
        ("voting-v2", version("v2")),
    ]
    .into()
}

/// Returns successes and failures of traffic's requests to web, by `viz stat`.
pub(super) fn stat(check: &Check<'_>) -> Result<(u64, u64)> {
    let row = stat_row(check, 600_000)?;
    Ok(row.map_or((0, 0), |row| (row.successes, row.failures)))
}

fn stat_row(check: &Check<'_>, window_ms: u64) -> Result<Option<StatRow>> {
    let mut request = StatRequest::new(Resource::named(Kind::Deployment, "web"));
    request.namespace = Some(NAMESPACE.to_owned());
    request.window_ms = window_ms;
    request.from = Some(Resource::named(Kind::Deployment, "traffic"));
    let mut answer: Answer<StatRow> = check.get(viz_api::STAT, &request)?;
    Ok(answer.rows.pop())
}

/// Waits for a scrape until `viz stat` shows the expected counts.
pub(super) fn stat_after(check: &Check<'_>, due: Counts) -> Result<Counts> {
    let until = Instant::now() + SCRAPE;
    loop {
        let shown = stat(check)?;
        if shown == due {
            return Ok(shown);
        }
        if Instant::now() > until {
            bail!(
                "`viz stat` shows {} successes and {} failures instead of {} and {}",
                shown.0,
                shown.1,
                due.0,
                due.1
            );
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Asserts that `viz stat` shows the load's counts, and a rate that matches them over the time covered.
pub(super) fn stat_agrees(check: &Check<'_>, load: &Load) -> Result<String> {
    let total = &load.report.total;
    let due = (total.requests - total.failures, total.failures);
    stat_after(check, (load.stat_before.0 + due.0, load.stat_before.1 + due.1))?;
    let row = stat_row(check, 600_000)?.context("`viz stat` shows no row")?;
    let rate = row.rps.context("`viz stat` shows no rate")?;
    let counted = rate * row.covered_ms as f64 / 1000.0;
    let all = (row.successes + row.failures) as f64;
    ensure!(
        (counted - all).abs() < 1.0,
        "{rate:.1} requests per second over {} ms do not make {all}",
        row.covered_ms
    );
    let success = |good: u64, bad: u64| 100.0 * good as f64 / (good + bad) as f64;
    let text = format!(
        "{} successes and {} failures ({:.2}%)",
        due.0,
        due.1,
        success(due.0, due.1)
    );
    Ok(format!(
        "{text}, {rate:.1} requests per second over the {:.1}s covered",
        row.covered_ms as f64 / 1000.0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_series_by_edge() {
        let text = "\
response_total{direction=\"inbound\",tls=\"true\",client_id=\"web.vote.serviceaccount.x\",classification=\"success\"} 5
response_total{direction=\"inbound\",tls=\"true\",client_id=\"web.vote.serviceaccount.x\",classification=\"failure\"} 2
response_total{direction=\"inbound\",tls=\"true\",client_id=\"webber.vote.serviceaccount.x\",classification=\"failure\"} 9
response_total{direction=\"inbound\",tls=\"no_identity\",classification=\"success\"} 7
";
        assert_eq!(count(text, &inbound("voting-v1", "voting-v1", "web")), (7, 2));
    }
}
