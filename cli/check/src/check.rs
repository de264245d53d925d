//! Definition of a check: description, hint and the deciding function.

use crate::Facts;

/// Outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Passed.
    Pass,
    /// Does not apply, and is not shown.
    Skip,
    /// Failed, with the reason in one sentence.
    Fail(String),
    /// Could not be decided, with the reason in one sentence. Waiting would not help.
    Unknown(String),
}

impl Outcome {
    /// Fails with a sentence about `wrong`, or passes if it is empty.
    pub fn fail_if_any(wrong: &[String], sentence: impl FnOnce(&str) -> String) -> Self {
        if wrong.is_empty() {
            return Self::Pass;
        }
        Self::Fail(sentence(&names(wrong)))
    }
}

/// Joins the first names, and counts the rest.
pub(crate) fn names(all: &[String]) -> String {
    let shown = all
        .iter()
        .take(crate::limits::NAMES)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match all.len().saturating_sub(crate::limits::NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Severity of a failure.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Needs attention, but the mesh works.
    Warning,
    /// The mesh, or part of it, does not work.
    Error,
    /// Later checks cannot be decided.
    Fatal,
}

type Decide = Box<dyn Fn(&Facts) -> Outcome + Send + Sync>;

/// Single check.
pub struct Check {
    pub(crate) description: String,
    pub(crate) hint: String,
    pub(crate) severity: Severity,
    pub(crate) retry: bool,
    decide: Decide,
}

impl Check {
    /// Creates a check whose failure is an error.
    pub fn new(description: impl Into<String>, decide: impl Fn(&Facts) -> Outcome + Send + Sync + 'static) -> Self {
        Self {
            description: description.into(),
            hint: String::new(),
            severity: Severity::Error,
            retry: false,
            decide: Box::new(decide),
        }
    }

    /// Sets the remedy: one sentence, or a command.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Makes a failure a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Makes a failure fatal: no later check runs.
    #[must_use]
    pub fn fatal(mut self) -> Self {
        self.severity = Severity::Fatal;
        self
    }

    /// Retries the check until it passes or the time is up.
    #[must_use]
    pub fn retried(mut self) -> Self {
        self.retry = true;
        self
    }

    /// Skips the check where it does not apply.
    #[must_use]
    pub fn only_if(self, applies: impl Fn(&Facts) -> bool + Send + Sync + 'static) -> Self {
        let decide = self.decide;
        Self {
            decide: Box::new(move |facts| if applies(facts) { decide(facts) } else { Outcome::Skip }),
            ..self
        }
    }

    pub(crate) fn decide(&self, facts: &Facts) -> Outcome {
        (self.decide)(facts)
    }
}

/// Group of checks on one subject.
pub struct Category {
    pub(crate) name: &'static str,
    pub(crate) checks: Vec<Check>,
}

impl Category {
    /// Creates a category, with Linkerd's name.
    pub fn new(name: &'static str, checks: Vec<Check>) -> Self {
        Self { name, checks }
    }

    /// Returns the name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}
