//! Refusals of a program's servers, counted for `/metrics`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard},
};

use proxy_model::limits::{Limit, Value};

/// Counters of refusals by limit; a shared handle.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Refusals {
    /// Counts a refusal.
    pub fn count(&self, limit: Limit<Value>) {
        *self.lock().entry(limit.name).or_default() += 1;
    }

    /// Adds the counters to a text in Prometheus' format.
    pub(crate) fn append(&self, text: &mut String) {
        let counts = self.lock();
        if counts.is_empty() {
            return;
        }
        let end = text.strip_suffix("# EOF\n").map(str::len);
        text.truncate(end.unwrap_or(text.len()));
        text.push_str("# HELP mesh_limit_refused Refusals by limits of the program's servers.\n");
        text.push_str("# TYPE mesh_limit_refused counter\n");
        for (name, count) in counts.iter() {
            let _ = writeln!(text, "mesh_limit_refused_total{{limit=\"{name}\"}} {count}");
        }
        if end.is_some() {
            text.push_str("# EOF\n");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::limits::SERVER_CONNECTIONS, *};

    #[test]
    fn counters_come_before_the_end_mark() {
        let refusals = Refusals::default();
        let mut text = "up 1\n# EOF\n".to_owned();
        refusals.append(&mut text);
        assert_eq!(text, "up 1\n# EOF\n");
        refusals.count(SERVER_CONNECTIONS.row());
        refusals.count(SERVER_CONNECTIONS.row());
        refusals.append(&mut text);
        assert!(text.starts_with("up 1\n# HELP"), "{text}");
        assert!(
            text.ends_with("mesh_limit_refused_total{limit=\"SERVER_CONNECTIONS\"} 2\n# EOF\n"),
            "{text}"
        );
    }
}
