//! Runner: checks in order, pending ones repeatedly until they pass or time is up.

use crate::{
    Category, Facts, Outcome, Severity,
    report::{CategoryReport, CheckReport, CheckResult, Report},
};

/// Hint for checks that cannot be decided.
const RIGHTS: &str =
    "run `kubectl auth can-i --list` to see your permissions, and ask the cluster's administrator for more";

/// Source of facts, and of the time to wait.
#[expect(async_fn_in_trait, reason = "there is one runner, and it needs no Send")]
pub trait FactSource {
    /// Loads a snapshot of the facts.
    async fn load(&mut self) -> Facts;
    /// Waits before the next snapshot. Returns false when the time is up.
    async fn pause(&mut self) -> bool;
}

/// Progress of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// First check of a category, by name.
    Category(&'a str),
    /// Pending check: description and reason.
    Waiting(&'a str, &'a str),
    /// Decided check.
    Decided(&'a CheckReport),
}

/// Runs the checks, and reports progress to `observe`.
pub async fn run<S: FactSource>(source: &mut S, categories: &[Category], mut observe: impl FnMut(Event<'_>)) -> Report {
    let mut facts = source.load().await;
    let mut report = Report::default();
    for category in categories {
        let mut done = CategoryReport {
            name: category.name.to_owned(),
            checks: Vec::new(),
        };
        let mut is_announced = false;
        for check in &category.checks {
            let mut outcome = check.decide(&facts);
            while let Outcome::Fail(why) = &outcome {
                if !check.retry {
                    break;
                }
                observe(Event::Waiting(&check.description, why));
                if !source.pause().await {
                    break;
                }
                facts = source.load().await;
                outcome = check.decide(&facts);
            }
            let hint = match &outcome {
                Outcome::Unknown(_) => RIGHTS,
                _ => &check.hint,
            };
            let (result, error) = match outcome {
                Outcome::Skip => continue,
                Outcome::Pass => (CheckResult::Success, None),
                Outcome::Fail(why) | Outcome::Unknown(why) if check.severity == Severity::Warning => {
                    (CheckResult::Warning, Some(why))
                }
                Outcome::Fail(why) | Outcome::Unknown(why) => (CheckResult::Error, Some(why)),
            };
            if !std::mem::replace(&mut is_announced, true) {
                observe(Event::Category(category.name));
            }
            let decided = CheckReport {
                description: check.description.clone(),
                hint: error.is_some().then(|| hint.to_owned()).filter(|hint| !hint.is_empty()),
                error,
                result,
            };
            observe(Event::Decided(&decided));
            done.checks.push(decided);
            if result == CheckResult::Error && check.severity == Severity::Fatal {
                report.categories.push(done);
                return report;
            }
        }
        if !done.checks.is_empty() {
            report.categories.push(done);
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Check;

    /// Source whose version counts the loads.
    struct Script {
        loads: u32,
        pauses: u32,
    }

    impl FactSource for Script {
        async fn load(&mut self) -> Facts {
            self.loads += 1;
            Facts {
                version: Ok(format!("v{}", self.loads)),
                ..Facts::default()
            }
        }

        async fn pause(&mut self) -> bool {
            self.pauses = self.pauses.saturating_sub(1);
            self.pauses > 0
        }
    }

    fn at_version(expected: &'static str) -> Check {
        Check::new(format!("is {expected}"), move |facts| match &facts.version {
            Ok(version) if version == expected => Outcome::Pass,
            Ok(version) => Outcome::Fail(format!("it is {version}")),
            Err(error) => Outcome::Fail(error.clone()),
        })
        .hint("wait")
    }

    async fn run_all(checks: Vec<Check>, pauses: u32) -> (Report, Vec<String>) {
        let mut events = Vec::new();
        let mut script = Script { loads: 0, pauses };
        let categories = [
            Category::new("one", checks),
            Category::new(
                "two",
                vec![
                    Check::new("last", |_| Outcome::Pass),
                    Check::new("none", |_| Outcome::Skip),
                ],
            ),
        ];
        let report = run(&mut script, &categories, |event| events.push(format!("{event:?}"))).await;
        (report, events)
    }

    #[tokio::test]
    async fn retries_a_pending_check_with_new_facts() {
        let (report, events) = run_all(vec![at_version("v3").retried()], 10).await;
        assert!(report.is_success(), "{report:?}");
        assert_eq!(events[0], r#"Waiting("is v3", "it is v1")"#);
        assert_eq!(events[1], r#"Waiting("is v3", "it is v2")"#);
        assert_eq!(events[2], r#"Category("one")"#);
        assert_eq!(report.categories.len(), 2);
        assert_eq!(report.categories[1].checks.len(), 1, "skipped checks are not shown");
    }

    #[tokio::test]
    async fn fails_when_time_is_up_or_retrying_is_pointless() {
        let (report, _) = run_all(vec![at_version("v9").retried()], 3).await;
        assert_eq!(report.categories[0].checks[0].error.as_deref(), Some("it is v3"));
        let (report, events) = run_all(vec![at_version("v9")], 10).await;
        assert_eq!(report.categories[0].checks[0].error.as_deref(), Some("it is v1"));
        assert!(!events.iter().any(|event| event.starts_with("Waiting")));
        assert!(!report.is_success());
    }

    #[tokio::test]
    async fn does_not_retry_an_undecidable_check() {
        let unknown = Check::new("is there", |_| Outcome::Unknown("permission denied".to_owned())).retried();
        let (report, events) = run_all(vec![unknown], 10).await;
        assert!(!events.iter().any(|event| event.starts_with("Waiting")));
        assert_eq!(report.categories[0].checks[0].hint.as_deref(), Some(RIGHTS));
        assert!(!report.is_success());
    }

    #[tokio::test]
    async fn continues_after_a_warning_and_stops_after_a_fatal_failure() {
        let (report, _) = run_all(vec![at_version("v9").warning()], 1).await;
        assert!(report.is_success());
        assert_eq!(report.categories[0].checks[0].result, CheckResult::Warning);
        let (report, _) = run_all(vec![at_version("v9").fatal(), at_version("v1")], 1).await;
        assert!(!report.is_success());
        assert_eq!((report.categories.len(), report.categories[0].checks.len()), (1, 1));
    }
}
