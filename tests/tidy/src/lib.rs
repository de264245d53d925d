//! Rules of the tree as tests: dependencies between crates, sizes, documentation, names.
//!
//! `cargo tidy` runs them alone. Exceptions are listed in [`exceptions`], each with its reason.

#[cfg(test)]
mod arrows;
#[cfg(test)]
mod english;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod exceptions;
#[cfg(test)]
mod items;
#[cfg(test)]
mod loops;
#[cfg(test)]
mod sizes;
#[cfg(test)]
mod source;
#[cfg(test)]
mod supply;
#[cfg(test)]
mod texts;
#[cfg(test)]
mod workspace;

/// Fails with the rule and its violations, one on a line.
#[cfg(test)]
fn assert_none(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{rule}\n  {}\n", violations.join("\n  "));
}
