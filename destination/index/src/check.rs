//! Check of one object by itself, before it enters the index: budgets, expressions, conditions, annotations. The
//! index and its views take the result, so that nothing is parsed under the index's lock, where one tenant's
//! expressions would delay the answers of all others.

use std::collections::HashMap;

use destination_k8s::{
    HttpRoute, HttpRouteGroup, Kind, Object, ServiceProfile,
    profile::{RequestMatchSpec, ResponseMatchSpec},
    route::{BackendRef, Filter, GrpcRoute, HeaderModifier, PathKind, TlsRoute, ValueKind, ValueMatch},
};
use proxy_model::{
    budget::{Exceeded, PatternFault, RouteBudget},
    pattern::{self, InvalidPattern},
};

use crate::{
    access,
    limits::{KNOWN_PATTERN_BYTES, KNOWN_PATTERNS},
    outbound::{self, annotations::Annotations},
    profile::{self, InvalidCondition},
    route::{AnyRoute, Unsupported},
    verdict::{Check, Checked, Faults},
};

impl Faults {
    /// Checks an object alone.
    pub fn from_object(object: &Object) -> Self {
        Checker::default().look_at(object).faults
    }
}

impl From<Object> for Checked {
    fn from(object: Object) -> Self {
        Checker::default().check(object)
    }
}

/// Checks objects; remembers the cost of expressions.
#[derive(Debug, Default)]
pub struct Checker {
    costs: HashMap<Box<str>, Result<usize, InvalidPattern>>,
}

impl Checker {
    /// Checks an object.
    pub fn check(&mut self, object: Object) -> Checked {
        let check = self.look_at(&object);
        Checked { object, check }
    }

    pub(crate) fn look_at(&mut self, object: &Object) -> Check {
        let mut check = Check::default();
        if is_annotated(object.kind()) {
            let annotations = Annotations::new(object.metadata().annotations.as_ref());
            let invalid = annotations.problems().map(|error| error.to_string());
            check.faults.annotations.extend(invalid);
        }
        if let Object::ServiceProfile(profile) = object {
            self.profile(profile, &mut check);
        }
        match object {
            Object::TrafficTarget(target) => refuse(&mut check, access::check_target(target).err().map(Into::into)),
            Object::HttpRouteGroup(group) => self.group(group, &mut check),
            _ => {}
        }
        if let Some(route) = AnyRoute::from_object(object) {
            let mut budget = RouteBudget::default();
            check.refusal = self.route(route, &mut budget).err();
            check.unsupported = check.refusal.clone().or_else(|| outbound::route_problem(route));
            let reason = check.unsupported.as_ref().map(ToString::to_string);
            check.faults.content.extend(reason);
        }
        check
    }

    fn profile(&mut self, profile: &ServiceProfile, check: &mut Check) {
        let mut budget = RouteBudget::default();
        if let Err(exceeded) = self.profile_routes(profile, &mut budget, check) {
            let refusal = Unsupported::Budget(exceeded);
            check.faults.content = vec![refusal.to_string()];
            check.refusal = Some(refusal);
        }
    }

    fn profile_routes(
        &mut self,
        profile: &ServiceProfile,
        budget: &mut RouteBudget,
        check: &mut Check,
    ) -> Result<(), Exceeded> {
        let spec = &profile.spec;
        budget.routes(spec.routes.len())?;
        budget.parts(spec.dst_overrides.len() + spec.opaque_ports.len())?;
        for (at, route) in spec.routes.iter().enumerate() {
            for class in &route.response_classes {
                response_conditions(&class.condition, budget)?;
            }
            let invalid = match self.request_conditions(&route.condition, budget) {
                Ok(()) => profile::invalid_condition(route),
                Err(PatternFault::Invalid(error)) => Some(InvalidCondition::from(error)),
                Err(PatternFault::Exceeded(exceeded)) => return Err(exceeded),
            };
            if let Some(error) = invalid {
                let name = &route.name;
                check
                    .faults
                    .content
                    .push(format!("invalid condition of the route {name:?}: {error}"));
                check.invalid_routes.push(at);
            }
        }
        Ok(())
    }

    fn request_conditions(&mut self, spec: &RequestMatchSpec, budget: &mut RouteBudget) -> Result<(), PatternFault> {
        budget.matches(1)?;
        if let Some(text) = &spec.path_regex {
            self.pattern(text, budget)?;
        }
        let several = spec.all.iter().flatten().chain(spec.any.iter().flatten());
        for part in several.chain(spec.not.as_deref()) {
            self.request_conditions(part, budget)?;
        }
        Ok(())
    }

    fn group(&mut self, group: &HttpRouteGroup, check: &mut Check) {
        let mut budget = RouteBudget::default();
        let counted = |text: &str, budget: &mut RouteBudget| Ok(self.pattern(text, budget)?);
        refuse(check, access::check_group(group, &mut budget, counted).err());
        check.budget = Some(budget).filter(RouteBudget::has_patterns);
    }

    fn route(&mut self, route: AnyRoute<'_>, budget: &mut RouteBudget) -> Result<(), Unsupported> {
        budget.parents(route.all_parents().len())?;
        match route {
            AnyRoute::Http(_, route) => self.http(route, budget),
            AnyRoute::Grpc(route) => self.grpc(route, budget),
            AnyRoute::Tls(route) | AnyRoute::Tcp(route) => opaque(route, budget),
        }
    }

    fn http(&mut self, route: &HttpRoute, budget: &mut RouteBudget) -> Result<(), Unsupported> {
        let spec = &route.spec;
        budget.routes(spec.rules.len())?;
        budget.parts(spec.hostnames.len())?;
        for rule in &spec.rules {
            budget.matches(rule.matches.len())?;
            filters(&rule.filters, budget)?;
            backends(&rule.backend_refs, budget)?;
            for found in &rule.matches {
                let path = found.path.as_ref();
                if let Some(path) = path.filter(|path| path.kind == PathKind::RegularExpression) {
                    self.pattern(&path.value, budget)?;
                }
                self.values(&found.headers, budget)?;
                self.values(&found.query_params, budget)?;
            }
        }
        Ok(())
    }

    fn grpc(&mut self, route: &GrpcRoute, budget: &mut RouteBudget) -> Result<(), Unsupported> {
        let spec = &route.spec;
        budget.routes(spec.rules.len())?;
        budget.parts(spec.hostnames.len())?;
        for rule in &spec.rules {
            budget.matches(rule.matches.len())?;
            filters(&rule.filters, budget)?;
            backends(&rule.backend_refs, budget)?;
            for found in &rule.matches {
                self.values(&found.headers, budget)?;
            }
        }
        Ok(())
    }

    fn values(&mut self, found: &[ValueMatch], budget: &mut RouteBudget) -> Result<(), Unsupported> {
        budget.parts(found.len())?;
        let expressions = found.iter().filter(|found| found.kind == ValueKind::RegularExpression);
        for found in expressions {
            self.pattern(&found.value, budget)?;
        }
        Ok(())
    }

    fn pattern(&mut self, text: &str, budget: &mut RouteBudget) -> Result<(), PatternFault> {
        budget.pattern_of(text, |text| self.cost(text))
    }

    fn cost(&mut self, text: &str) -> Result<usize, InvalidPattern> {
        if text.len() > KNOWN_PATTERN_BYTES.value {
            return pattern::cost(text);
        }
        if let Some(known) = self.costs.get(text) {
            return known.clone();
        }
        if self.costs.len() >= KNOWN_PATTERNS.value {
            self.costs.clear();
        }
        let cost = pattern::cost(text);
        self.costs.insert(text.into(), cost.clone());
        cost
    }
}

fn refuse(check: &mut Check, refusal: Option<Unsupported>) {
    check.faults.content.extend(refusal.as_ref().map(ToString::to_string));
    check.refusal = refusal;
}

fn response_conditions(spec: &ResponseMatchSpec, budget: &mut RouteBudget) -> Result<(), Exceeded> {
    budget.matches(1)?;
    let several = spec.all.iter().flatten().chain(spec.any.iter().flatten());
    several
        .chain(spec.not.as_deref())
        .try_for_each(|part| response_conditions(part, budget))
}

fn opaque(route: &TlsRoute, budget: &mut RouteBudget) -> Result<(), Unsupported> {
    budget.routes(route.spec.rules.len())?;
    budget.parts(route.spec.hostnames.len())?;
    let mut rules = route.spec.rules.iter();
    Ok(rules.try_for_each(|rule| backends(&rule.backend_refs, budget))?)
}

fn backends(found: &[BackendRef], budget: &mut RouteBudget) -> Result<(), Exceeded> {
    budget.parts(found.len())?;
    found.iter().try_for_each(|backend| filters(&backend.filters, budget))
}

fn filters(found: &[Filter], budget: &mut RouteBudget) -> Result<(), Exceeded> {
    let headers = |modifier: &Option<HeaderModifier>| {
        let modifier = modifier.as_ref();
        modifier.map_or(0, |headers| {
            headers.add.len() + headers.set.len() + headers.remove.len()
        })
    };
    let parts =
        |filter: &Filter| 1 + headers(&filter.request_header_modifier) + headers(&filter.response_header_modifier);
    budget.parts(found.iter().map(parts).sum())
}

/// Returns true if annotations of the kind configure clients.
fn is_annotated(kind: Kind) -> bool {
    ANNOTATED.contains(&kind)
}

const ANNOTATED: [Kind; 5] = [
    Kind::Service,
    Kind::HttpRoute,
    Kind::PolicyHttpRoute,
    Kind::GrpcRoute,
    Kind::EgressNetwork,
];

#[cfg(test)]
mod tests;
