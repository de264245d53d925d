//! A check: what it is called, what helps when it fails, and the function that decides.

use crate::Facts;

/// What a check finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// It does not apply here, and is not shown.
    Skip,
    /// Something is wrong: what, in one sentence.
    Fail(String),
    /// It could not be found out: why, in one sentence. Waiting would not help.
    Unknown(String),
}

impl Outcome {
    /// A failure that names what is wrong, or a pass if nothing is.
    pub fn none_of(wrong: &[String], sentence: impl FnOnce(&str) -> String) -> Self {
        if wrong.is_empty() {
            return Self::Pass;
        }
        Self::Fail(sentence(&names(wrong)))
    }
}

/// A few names, and how many more there are.
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

/// How bad it is when a check fails.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It should be looked at; the mesh works.
    Warning,
    /// The mesh, or a part of it, does not work.
    Error,
    /// Nothing can be found out after this.
    Fatal,
}

type Decide = Box<dyn Fn(&Facts) -> Outcome + Send + Sync>;

/// One check.
pub struct Check {
    pub(crate) description: String,
    pub(crate) hint: String,
    pub(crate) severity: Severity,
    pub(crate) retry: bool,
    decide: Decide,
}

impl Check {
    /// A check whose failure is an error.
    pub fn new(description: impl Into<String>, decide: impl Fn(&Facts) -> Outcome + Send + Sync + 'static) -> Self {
        Self {
            description: description.into(),
            hint: String::new(),
            severity: Severity::Error,
            retry: false,
            decide: Box::new(decide),
        }
    }

    /// What helps when it fails: one sentence, or a command.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// A failure is a warning.
    #[must_use]
    pub fn warns(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Nothing can be found out after a failure.
    #[must_use]
    pub fn is_fatal(mut self) -> Self {
        self.severity = Severity::Fatal;
        self
    }

    /// It may come true by itself, so it is waited for.
    #[must_use]
    pub fn is_waited_for(mut self) -> Self {
        self.retry = true;
        self
    }

    /// It is skipped where it does not apply.
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

/// Checks of one subject.
pub struct Category {
    pub(crate) name: &'static str,
    pub(crate) checks: Vec<Check>,
}

impl Category {
    /// A category under Linkerd's name.
    pub fn new(name: &'static str, checks: Vec<Check>) -> Self {
        Self { name, checks }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}
