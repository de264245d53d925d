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
