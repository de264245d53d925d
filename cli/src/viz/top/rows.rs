//! Tap events counted by source, destination, method and path. Pure.

use std::collections::{BTreeMap, VecDeque};

use anyhow::Result;
use viz_api::{
    Problem, TapEvent,
    tap::{Peer, ResponseEnd, StreamId},
};

use crate::output::{Align, Table, percent};

/// Limit of open requests; the end of older ones was lost.
const OPEN: usize = 10_000;
/// Limit of rows; the least frequent is evicted.
const ROWS: usize = 2_000;

/// Grouping of the rows.
#[derive(Copy, Clone, Debug)]
pub(super) struct Grouping {
    /// Group by source, too.
    pub(super) sources: bool,
    /// Group by route instead of path.
    pub(super) routes: bool,
}

/// Source, destination, method and path (or route).
type Key = (String, String, String, String);

#[derive(Clone, Debug, Default)]
struct Row {
    count: u64,
    successes: u64,
    best: u64,
    worst: u64,
    last: u64,
}

/// Request whose end has not been seen yet.
struct Open {
    key: Key,
    status: u16,
}

/// Counts by row.
pub(super) struct Rows {
    grouping: Grouping,
    rows: BTreeMap<Key, Row>,
    open: BTreeMap<(String, u32, u64), Open>,
    order: VecDeque<(String, u32, u64)>,
    lost: u64,
}

impl Rows {
    pub(super) fn new(grouping: Grouping) -> Self {
        Self {
            grouping,
            rows: BTreeMap::new(),
            open: BTreeMap::new(),
            order: VecDeque::new(),
            lost: 0,
        }
    }

    /// Counts one line of the tap stream.
    pub(super) fn add(&mut self, line: &[u8]) -> Result<()> {
        if let Ok(problem) = serde_json::from_slice::<Problem>(line) {
            eprintln!("mesh: {}", problem.error);
            return Ok(());
        }
        let event: TapEvent = serde_json::from_slice(line)?;
        self.lost += event.dropped;
        let of = |id: StreamId| (event.pod.clone(), id.base, id.stream);
        if let Some(request) = &event.request_init_event {
            let what = match (self.grouping.routes, event.route_meta.get("route")) {
                (true, Some(route)) => route.clone(),
                (true, None) => "[DEFAULT]".to_owned(),
                (false, _) => request.path.clone(),
            };
            let source = if self.grouping.sources {
                name(event.source.as_ref())
            } else {
                String::new()
            };
            let key = (source, name(event.destination.as_ref()), request.method.clone(), what);
            self.begin(of(request.id), key);
        } else if let Some(response) = &event.response_init_event {
            if let Some(open) = self.open.get_mut(&of(response.id)) {
                open.status = response.http_status;
            }
        } else if let Some(end) = &event.response_end_event
            && let Some(open) = self.open.remove(&of(end.id))
        {
            self.end(open, end);
        }
        Ok(())
    }

    fn begin(&mut self, id: (String, u32, u64), key: Key) {
        self.order.push_back(id.clone());
        self.open.insert(id, Open { key, status: 0 });
        while self.order.len() > OPEN {
            if let Some(oldest) = self.order.pop_front() {
                self.open.remove(&oldest);
            }
        }
    }

    fn end(&mut self, open: Open, end: &ResponseEnd) {
        if self.rows.len() >= ROWS && !self.rows.contains_key(&open.key) {
            let rarest = self.rows.iter().min_by_key(|(_, row)| row.count);
            if let Some(key) = rarest.map(|(key, _)| key.clone()) {
                self.rows.remove(&key);
            }
        }
        let row = self.rows.entry(open.key).or_default();
        let time = end.since_request_init;
        row.best = if row.count == 0 { time } else { row.best.min(time) };
        row.worst = row.worst.max(time);
        row.last = time;
        row.count += 1;
        row.successes += u64::from(is_success(open.status, end));
    }

    /// Renders at most `most` rows, the most frequent first.
    pub(super) fn render(&self, most: usize) -> String {
        let mut columns = vec![];
        if self.grouping.sources {
            columns.push(("Source", Align::Left));
        }
        let what = if self.grouping.routes { "Route" } else { "Path" };
        columns.extend([
            ("Destination", Align::Left),
            ("Method", Align::Left),
            (what, Align::Left),
        ]);
        let figures = ["Count", "Best", "Worst", "Last", "Success Rate"];
        columns.extend(figures.map(|figure| (figure, Align::Right)));
        let mut table = Table::new(&columns);
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|(key, row)| (std::cmp::Reverse(row.count), *key));
        for ((source, destination, method, path), row) in rows.into_iter().take(most) {
            let mut cells = if self.grouping.sources {
                vec![source.clone()]
            } else {
                vec![]
            };
            cells.extend([destination, method, path].map(Clone::clone));
            cells.push(row.count.to_string());
            cells.extend([row.best, row.worst, row.last].map(time));
            cells.push(percent(Some(row.successes as f64 / row.count as f64)));
            table.row(cells);
        }
        let lost = match self.lost {
            0 => String::new(),
            lost => format!("({lost} events were dropped because they arrived faster than they could be counted)\n"),
        };
        table.render() + &lost
    }
}

/// Returns the peer's pod if known, else its address.
fn name(peer: Option<&Peer>) -> String {
    let Some(peer) = peer else { return String::new() };
    peer.metadata.get("pod").unwrap_or(&peer.ip).clone()
}

/// Classifies a response by Linkerd's rule.
fn is_success(status: u16, end: &ResponseEnd) -> bool {
    /// Unknown, DeadlineExceeded, Internal, Unavailable, DataLoss.
    const FAILURES: [u32; 5] = [2, 4, 13, 14, 15];
    status < 500 && end.reset_error_code.is_none() && end.grpc_status_code.is_none_or(|code| !FAILURES.contains(&code))
}

fn time(nanos: u64) -> String {
    match nanos {
        0..1_000_000 => format!("{}µs", nanos / 1_000),
        1_000_000..1_000_000_000 => format!("{:.0}ms", nanos as f64 / 1e6),
        _ => format!("{:.1}s", nanos as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(grouping: Grouping, requests: &[(&str, u16, u64)]) -> Rows {
        let mut rows = Rows::new(grouping);
        for (i, (source, status, millis)) in requests.iter().enumerate() {
            let event = |key: &str, mut what: serde_json::Value| {
                what["id"] = json!({"base": 1, "stream": i});
                let peer = |pod: &str| json!({"ip": "10.0.0.1", "port": 1, "metadata": {"pod": pod}});
                json!({"source": peer(source), "destination": peer("web-1"), "proxyDirection": "INBOUND", "pod": "a/web-1",
                    key: what})
                .to_string()
            };
            let request = json!({"method": "GET", "scheme": "", "authority": "web", "path": "/x", "headers": []});
            let response = json!({"sinceRequestInit": 1, "httpStatus": status, "headers": []});
            let end = json!({"sinceRequestInit": millis * 1_000_000, "sinceResponseInit": 0, "responseBytes": 0,
                "trailers": []});
            for line in [
                event("requestInitEvent", request),
                event("responseInitEvent", response),
                event("responseEndEvent", end),
            ] {
                rows.add(line.as_bytes()).expect("an event");
            }
        }
        rows
    }

    #[test]
    fn counts_requests_by_source_and_path() {
        let grouping = Grouping {
            sources: true,
            routes: false,
        };
        let found = rows(grouping, &[("a", 200, 3), ("b", 200, 1), ("a", 500, 5)]).render(10);
        let expected = "\
Source   Destination   Method   Path   Count   Best   Worst   Last   Success Rate
a        web-1         GET      /x         2    3ms     5ms    5ms         50.00%
b        web-1         GET      /x         1    1ms     1ms    1ms        100.00%
";
        assert_eq!(found, expected);
    }

    #[test]
    fn groups_without_sources() {
        let grouping = Grouping {
            sources: false,
            routes: true,
        };
        let found = rows(grouping, &[("a", 200, 3), ("b", 200, 1)]).render(1);
        assert!(
            found.starts_with("Destination   Method   Route") && found.contains("[DEFAULT]"),
            "{found}"
        );
        assert_eq!(found.lines().count(), 2);
    }
}
