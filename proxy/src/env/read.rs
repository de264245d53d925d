//! Reads single variables and keeps their errors.

use std::collections::BTreeMap;

use super::InvalidVariable;

/// The environment, and the errors found in it so far.
#[derive(Debug)]
pub(crate) struct Env<'a> {
    variables: &'a BTreeMap<String, String>,
    errors: Vec<InvalidVariable>,
}

impl<'a> Env<'a> {
    pub(crate) fn new(variables: &'a BTreeMap<String, String>) -> Self {
        Self {
            variables,
            errors: Vec::new(),
        }
    }

    /// The value, empty or not.
    pub(crate) fn raw(&self, variable: &str) -> Option<&'a str> {
        self.variables.get(variable).map(String::as_str)
    }

    /// The value, unless it is blank.
    pub(crate) fn text(&self, variable: &str) -> Option<&'a str> {
        self.raw(variable).filter(|text| !text.trim().is_empty())
    }

    /// An optional value.
    pub(crate) fn optional<T>(
        &mut self,
        variable: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(variable)?;
        parse(text).map_err(|reason| self.refuse(variable, &reason)).ok()
    }

    /// A value with a default, which also replaces an invalid value, so that the rest can be read.
    pub(crate) fn or<T>(
        &mut self,
        variable: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
        default: T,
    ) -> T {
        self.optional(variable, parse).unwrap_or(default)
    }

    /// A required value.
    pub(crate) fn required<T>(
        &mut self,
        variable: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.text(variable).is_none() {
            self.refuse(variable, "required, but missing or empty");
        }
        self.optional(variable, parse)
    }

    /// Keeps an error.
    pub(crate) fn refuse(&mut self, variable: &str, reason: &str) {
        self.errors.push(InvalidVariable {
            variable: variable.to_owned(),
            reason: reason.to_owned(),
        });
    }

    pub(crate) fn into_errors(self) -> Vec<InvalidVariable> {
        self.errors
    }
}
