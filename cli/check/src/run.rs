//! The runner: one check after the other, and those that may come true again and again until there is no time left.

use crate::{
    Category, Facts, Outcome, Severity,
    report::{CategoryReport, CheckReport, Report, Result},
};

/// What helps when something cannot be found out.
const RIGHTS: &str = "`kubectl auth can-i --list` says what we may; ask whoever runs the cluster for more";

/// Where facts come from, and how long is waited.
#[expect(async_fn_in_trait, reason = "there is one runner, and it needs no Send")]
pub trait Source {
    /// The facts of this moment.
    async fn load(&mut self) -> Facts;
    /// Waits a little before the facts are asked for again; false when there is no time left.
    async fn pause(&mut self) -> bool;
}

/// What happens while the checks run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A category begins.
    Category(&'a str),
    /// A check is not true yet: which one, and why.
    Waiting(&'a str, &'a str),
    /// A check is decided.
    Decided(&'a CheckReport),
}

/// Runs the checks.
pub async fn run<S: Source>(source: &mut S, categories: &[Category], mut tell: impl FnMut(Event<'_>)) -> Report {
    let mut facts = source.load().await;
    let mut report = Report::default();
    for category in categories {
        let mut done = CategoryReport {
            name: category.name.to_owned(),
            checks: Vec::new(),
        };
        let mut is_told = false;
        for check in &category.checks {
            let mut outcome = check.decide(&facts);
            while let Outcome::Fail(why) = &outcome {
                if !check.retry {
                    break;
                }
                tell(Event::Waiting(&check.description, why));
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
                Outcome::Pass => (Result::Success, None),
                Outcome::Fail(why) | Outcome::Unknown(why) if check.severity == Severity::Warning => {
                    (Result::Warning, Some(why))
                }
                Outcome::Fail(why) | Outcome::Unknown(why) => (Result::Error, Some(why)),
            };
            if !std::mem::replace(&mut is_told, true) {
                tell(Event::Category(category.name));
            }
            let decided = CheckReport {
                description: check.description.clone(),
                hint: error.is_some().then(|| hint.to_owned()).filter(|hint| !hint.is_empty()),
                error,
                result,
            };
            tell(Event::Decided(&decided));
            done.checks.push(decided);
            if result == Result::Error && check.severity == Severity::Fatal {
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

    /// Facts whose version says how often they were loaded.
    struct Script {
        loads: u32,
        pauses: u32,
    }

    impl Source for Script {
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

    fn at_version(wanted: &'static str) -> Check {
        Check::new(format!("is {wanted}"), move |facts| match &facts.version {
            Ok(version) if version == wanted => Outcome::Pass,
            Ok(version) => Outcome::Fail(format!("it is {version}")),
            Err(error) => Outcome::Fail(error.clone()),
        })
        .hint("wait")
    }

    async fn run_all(checks: Vec<Check>, pauses: u32) -> (Report, Vec<String>) {
        let mut told = Vec::new();
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
        let report = run(&mut script, &categories, |event| told.push(format!("{event:?}"))).await;
        (report, told)
    }

    #[tokio::test]
    async fn what_may_come_true_is_waited_for_with_new_facts() {
        let (report, told) = run_all(vec![at_version("v3").is_waited_for()], 10).await;
        assert!(report.is_success(), "{report:?}");
        assert_eq!(told[0], r#"Waiting("is v3", "it is v1")"#);
        assert_eq!(told[1], r#"Waiting("is v3", "it is v2")"#);
        assert_eq!(told[2], r#"Category("one")"#);
        assert_eq!(report.categories.len(), 2);
        assert_eq!(report.categories[1].checks.len(), 1, "what is skipped is not shown");
    }

    #[tokio::test]
    async fn without_time_or_without_hope_a_failure_stands() {
        let (report, _) = run_all(vec![at_version("v9").is_waited_for()], 3).await;
        assert_eq!(report.categories[0].checks[0].error.as_deref(), Some("it is v3"));
        let (report, told) = run_all(vec![at_version("v9")], 10).await;
        assert_eq!(report.categories[0].checks[0].error.as_deref(), Some("it is v1"));
        assert!(!told.iter().any(|event| event.starts_with("Waiting")));
        assert!(!report.is_success());
    }

    #[tokio::test]
    async fn what_cannot_be_found_out_is_not_waited_for() {
        let unknown = Check::new("is there", |_| Outcome::Unknown("we have no right".to_owned())).is_waited_for();
        let (report, told) = run_all(vec![unknown], 10).await;
        assert!(!told.iter().any(|event| event.starts_with("Waiting")));
        assert_eq!(report.categories[0].checks[0].hint.as_deref(), Some(RIGHTS));
        assert!(!report.is_success());
    }

    #[tokio::test]
    async fn a_warning_is_no_failure_and_a_fatal_one_is_the_end() {
        let (report, _) = run_all(vec![at_version("v9").warns()], 1).await;
        assert!(report.is_success());
        assert_eq!(report.categories[0].checks[0].result, Result::Warning);
        let (report, _) = run_all(vec![at_version("v9").is_fatal(), at_version("v1")], 1).await;
        assert!(!report.is_success());
        assert_eq!((report.categories.len(), report.categories[0].checks.len()), (1, 1));
    }
}
