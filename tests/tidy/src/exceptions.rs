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

/// Files, or folders, whose language is not checked yet.
pub(crate) const NOT_YET: &[Exception] = &[];

/// `path:line`, `path` or folder of texts that must stay as they are.
pub(crate) const LANGUAGE: &[Exception] = &[];

/// Types that share their name in one crate, as `package: name`.
pub(crate) const NAMES: &[Exception] = &[];

/// Loops of modules, as `package: parent::{a, b}` with the members sorted.
pub(crate) const LOOPS: &[Exception] = &[];

/// The exceptions as lines of a failure.
pub(crate) fn list<'a>(exceptions: impl Iterator<Item = &'a Exception>) -> Vec<String> {
    exceptions.map(|exception| exception.what.to_owned()).collect()
}
