//! Budget of the routes of one object: counted before anything is compiled, by the control plane when an object is
//! written or read, and by the proxy when a message arrives.

use crate::{
    limits::{self, Limit, Value},
    pattern::{self, InvalidPattern},
};

/// A limit of an object that is exceeded.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {} {what} (limit {})", limit.value, limit.name)]
pub struct Exceeded {
    /// Limit.
    pub limit: Limit<Value>,
    what: &'static str,
}

/// Reason for which an expression is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// The expression itself is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidPattern),
    /// The object has too many, or they are too large together.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
}

/// Quantities that one object has taken so far.
#[derive(Clone, Debug, Default)]
pub struct RouteBudget {
    routes: usize,
    matches: usize,
    parts: usize,
    patterns: usize,
    bytes: usize,
}

impl RouteBudget {
    /// Counts routes of a profile, or rules of a route.
    pub fn routes(&mut self, count: usize) -> Result<(), Exceeded> {
        take(&mut self.routes, count, limits::OBJECT_ROUTES, "routes or rules")
    }

    /// Checks the number of a route's parents.
    pub fn parents(&mut self, count: usize) -> Result<(), Exceeded> {
        take(&mut 0, count, limits::OBJECT_PARENTS, "parents")
    }

    /// Counts conditions on requests or responses.
    pub fn matches(&mut self, count: usize) -> Result<(), Exceeded> {
        take(&mut self.matches, count, limits::OBJECT_MATCHES, "conditions")
    }

    /// Counts items of other lists: hosts, headers, filters, backends, authorizations.
    pub fn parts(&mut self, count: usize) -> Result<(), Exceeded> {
        take(&mut self.parts, count, limits::OBJECT_PARTS, "items in its lists")
    }

    /// Counts a regular expression and the bytes that it takes compiled.
    pub fn pattern(&mut self, text: &str) -> Result<(), PatternFault> {
        self.pattern_of(text, pattern::cost)
    }

    /// Returns true if a regular expression has been counted.
    pub fn has_patterns(&self) -> bool {
        self.patterns > 0
    }

    /// Counts a regular expression whose cost the caller may know already.
    pub fn pattern_of(
        &mut self,
        text: &str,
        cost: impl FnOnce(&str) -> Result<usize, InvalidPattern>,
    ) -> Result<(), PatternFault> {
        take(&mut self.patterns, 1, limits::OBJECT_PATTERNS, "regular expressions")?;
        let what = "bytes of compiled regular expressions";
        Ok(take(&mut self.bytes, cost(text)?, limits::OBJECT_PATTERN_BYTES, what)?)
    }
}

/// Budget of the routes of one policy together, beside that of each.
#[derive(Clone, Debug, Default)]
pub struct RoutesBudget {
    routes: usize,
    bytes: usize,
}

impl RoutesBudget {
    /// Counts a route.
    pub fn add(&mut self, route: &RouteBudget) -> Result<(), Exceeded> {
        take(&mut self.routes, 1, limits::POLICY_ROUTES, "routes")?;
        let what = "bytes of compiled regular expressions";
        take(&mut self.bytes, route.bytes, limits::POLICY_PATTERN_BYTES, what)
    }
}

fn take(taken: &mut usize, more: usize, limit: Limit, what: &'static str) -> Result<(), Exceeded> {
    *taken = taken.saturating_add(more);
    if *taken > limit.value {
        let limit = limit.row();
        return Err(Exceeded { limit, what });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_limit_that_is_exceeded() {
        let mut budget = RouteBudget::default();
        budget.routes(limits::OBJECT_ROUTES.value).expect("as many as allowed");
        let exceeded = budget.routes(1).expect_err("one more");
        assert_eq!(
            exceeded.to_string(),
            "more than 256 routes or rules (limit OBJECT_ROUTES)"
        );
    }

    #[test]
    fn cheap_expressions_are_limited_by_number_and_dear_ones_by_size() {
        let taken = |text: &str| {
            let mut budget = RouteBudget::default();
            (0..)
                .find_map(|at| Some((at, budget.pattern(text).err()?)))
                .expect("a limit")
        };
        let exceeded = |fault| match fault {
            PatternFault::Exceeded(exceeded) => exceeded.limit.name,
            PatternFault::Invalid(error) => panic!("{error}"),
        };
        // A route as OpenAPI generators write them, with two parameters.
        let (count, fault) = taken("/shops/[^/]*/books/[^/]*");
        assert_eq!(
            (count, exceeded(fault)),
            (limits::OBJECT_PATTERNS.value, "OBJECT_PATTERNS")
        );
        let (count, fault) = taken(r"\w{8}");
        assert_eq!((count, exceeded(fault)), (2, "OBJECT_PATTERN_BYTES"));
    }
}
