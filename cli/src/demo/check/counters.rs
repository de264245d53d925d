//! The proxies' counters against the load's own counts.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use proxy_metrics::names::{self, classification, label};
use viz_api::{Answer, Kind, Resource, StatRequest, StatRow};
use viz_query::parse;

use super::{Check, Proof, load::Load};
use crate::demo::NAMESPACE;

/// Time for the last responses' ends to be counted.
const SETTLE: Duration = Duration::from_secs(3);
/// Time for a scrape to come: the interval of the demo is a second.
const SCRAPE: Duration = Duration::from_millis(2500);

/// Requests and failures that a proxy counted on one side of one edge.
type Counted = (u64, u64);

/// What is looked at: a name, the deployment whose proxy counts, and the labels of its series.
struct Place {
    name: &'static str,
    deployment: &'static str,
    labels: &'static [(&'static str, &'static str)],
    /// Whose identity the series' client has.
    client: Option<&'static str>,
}

const fn outbound(
    name: &'static str,
    deployment: &'static str,
    labels: &'static [(&'static str, &'static str)],
) -> Place {
    Place {
        name,
        deployment,
        labels,
        client: None,
    }
}

const fn inbound(name: &'static str, deployment: &'static str, client: &'static str) -> Place {
    Place {
        name,
        deployment,
        labels: &[("direction", "inbound"), ("tls", "true")],
        client: Some(client),
    }
}

const PLACES: [Place; 7] = [
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

/// All counters at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counters(BTreeMap<&'static str, Counted>);

impl Counters {
    /// Scrapes the proxies now.
    pub(super) fn scrape(check: &Check<'_>) -> Result<Self> {
        let mut texts: BTreeMap<&str, String> = BTreeMap::new();
        for Place { deployment, .. } in &PLACES {
            if !texts.contains_key(deployment) {
                texts.insert(deployment, check.metrics(deployment)?);
            }
        }
        Ok(Self(
            PLACES
                .iter()
                .map(|place| (place.name, count(&texts[place.deployment], place)))
                .collect(),
        ))
    }

    fn since(&self, before: &Self) -> BTreeMap<&'static str, Counted> {
        let gained = |(name, now): (&&'static str, &Counted)| {
            let then = before.0.get(name).copied().unwrap_or_default();
            (*name, (now.0.saturating_sub(then.0), now.1.saturating_sub(then.1)))
        };
        self.0.iter().map(gained).collect()
    }
}

fn count(text: &str, place: &Place) -> Counted {
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

/// Each counter rose by exactly the load's own counts.
pub(super) fn agree(check: &Check<'_>, load: &Load) -> Proof {
    let due = due(load);
    let until = Instant::now() + SETTLE;
    loop {
        let gained = Counters::scrape(check)?.since(&load.before);
        let wrong = due.iter().find(|(name, counts)| gained.get(*name) != Some(counts));
        let Some((name, counts)) = wrong else { break };
        if Instant::now() > until {
            let (requests, failures) = gained.get(name).copied().unwrap_or_default();
            bail!(
                "{name} counts {requests} with {failures} failures instead of {} with {}",
                counts.0,
                counts.1
            );
        }
        thread::sleep(Duration::from_millis(200));
    }
    let texts: Vec<String> = due
        .iter()
        .map(|(name, (requests, failures))| format!("{name} {requests}/{failures}"))
        .collect();
    Ok(format!("requests/failures {}", texts.join(", ")))
}

fn due(load: &Load) -> BTreeMap<&'static str, Counted> {
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

/// Successes and failures that `viz stat` shows of what traffic sent to web.
pub(super) fn stat(check: &Check<'_>) -> Result<(u64, u64)> {
    let row = stat_row(check, 600_000)?;
    Ok(row.map_or((0, 0), |row| (row.successes, row.failures)))
}

fn stat_row(check: &Check<'_>, window_ms: u64) -> Result<Option<StatRow>> {
    let mut request = StatRequest::of(Resource::named(Kind::Deployment, "web"));
    request.namespace = Some(NAMESPACE.to_owned());
    request.window_ms = window_ms;
    request.from = Some(Resource::named(Kind::Deployment, "traffic"));
    let mut answer: Answer<StatRow> = check.get(viz_api::STAT, &request)?;
    Ok(answer.rows.pop())
}

/// What `viz stat` shows once a scrape has brought what is due.
pub(super) fn stat_after(check: &Check<'_>, due: Counted) -> Result<Counted> {
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

/// `viz stat` shows the load's counts, and a rate that is those counts over the time it says it covers.
pub(super) fn stat_agrees(check: &Check<'_>, load: &Load) -> Proof {
    let total = &load.report.total;
    let due = (total.requests - total.failures, total.failures);
    stat_after(check, (load.stat_before.0 + due.0, load.stat_before.1 + due.1))?;
    let row = stat_row(check, 600_000)?.context("`viz stat` shows nothing")?;
    let rate = row.rps.context("`viz stat` shows no rate")?;
    let counted = rate * row.covered_ms as f64 / 1000.0;
    let all = (row.successes + row.failures) as f64;
    ensure!(
        (counted - all).abs() < 1.0,
        "{rate:.1} requests a second over {} ms are not {all}",
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
        "{text}, {rate:.1} requests a second over the {:.1}s covered",
        row.covered_ms as f64 / 1000.0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_added_up_by_edge() {
        let text = "\
response_total{direction=\"inbound\",tls=\"true\",client_id=\"web.vote.serviceaccount.x\",classification=\"success\"} 5
response_total{direction=\"inbound\",tls=\"true\",client_id=\"web.vote.serviceaccount.x\",classification=\"failure\"} 2
response_total{direction=\"inbound\",tls=\"true\",client_id=\"webber.vote.serviceaccount.x\",classification=\"failure\"} 9
response_total{direction=\"inbound\",tls=\"no_identity\",classification=\"success\"} 7
";
        assert_eq!(count(text, &inbound("voting-v1", "voting-v1", "web")), (7, 2));
    }
}
