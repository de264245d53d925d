//! Laws of the tree as tests: who may depend on whom, how large a thing may be, what every file says first.
//!
//! `cargo tidy` runs them alone. A law that must bend somewhere bends in [`exceptions`], with its reason.

#[cfg(test)]
mod arrows;
#[cfg(test)]
mod exceptions;
#[cfg(test)]
mod sizes;
#[cfg(test)]
mod source;
#[cfg(test)]
mod texts;
#[cfg(test)]
mod workspace;

/// Fails with all that is wrong, one on a line, after what the law is.
#[cfg(test)]
fn assert_none(law: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{law}\n  {}\n", violations.join("\n  "));
}
