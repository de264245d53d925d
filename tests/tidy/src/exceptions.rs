//! Exceptions to the rules, each with its reason. One that is not needed any more is itself a violation.

/// Something that may be larger than the rule says.
pub(crate) struct Size {
    /// `path` of a file, or `path::function`.
    pub(crate) what: &'static str,
    pub(crate) lines: usize,
    #[expect(dead_code, reason = "read by people")]
    pub(crate) reason: &'static str,
}

/// Functions and files.
pub(crate) const SIZES: &[Size] = &[];

/// Something that breaks a rule.
pub(crate) struct Exception {
    pub(crate) what: &'static str,
    #[expect(dead_code, reason = "read by people")]
    pub(crate) reason: &'static str,
}

/// Files and directories that the rules of language, names and loops do not apply to yet.
pub(crate) const NOT_YET: &[Exception] = &[];

/// Files and directories with texts that must stay as they are.
pub(crate) const LANGUAGE: &[Exception] = &[Exception {
    what: "tests/tidy/src/english.rs",
    reason: "it lists the words that are banned",
}];

/// Types that share their name in one crate, as `package: name`.
pub(crate) const NAMES: &[Exception] = &[];

/// Loops of modules, as `package: parent::{a, b}` with the members sorted.
pub(crate) const LOOPS: &[Exception] = &[];

impl Exception {
    /// Returns whether it applies to a violation, which begins with a path.
    pub(crate) fn covers(&self, violation: &str) -> bool {
        violation
            .strip_prefix(self.what)
            .is_some_and(|rest| rest.starts_with(['/', ':']))
    }
}

/// Returns whether all rules apply to the place of a violation.
pub(crate) fn is_checked(violation: &str) -> bool {
    !NOT_YET.iter().any(|exception| exception.covers(violation))
}

/// The exceptions as lines of a failure.
pub(crate) fn list<'a>(exceptions: impl Iterator<Item = &'a Exception>) -> Vec<String> {
    exceptions.map(|exception| exception.what.to_owned()).collect()
}
