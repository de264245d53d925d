//! Where a law bends, and why. An exception that nothing needs any more is itself a violation.

/// A thing that may be larger than the law says.
pub(crate) struct Size {
    /// `path` of a file, `path::function`, or a crate's name.
    pub(crate) what: &'static str,
    /// How large it may be.
    pub(crate) lines: usize,
    /// Why.
    #[expect(dead_code, reason = "read by people")]
    pub(crate) reason: &'static str,
}

/// Sizes.
pub(crate) const SIZES: &[Size] = &[Size {
    what: "mesh",
    lines: 8_000,
    reason: "the commands of one program: independent files that share flags and output, cut by nothing but their number",
}];
