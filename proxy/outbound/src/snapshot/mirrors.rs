//! Mirrors of a rule, compiled: each is a rule of its own for the copies, which shares the metrics of the first.

use std::rc::Rc;

use proxy_metrics::outbound::MirrorSlot;
use proxy_model::{
    limits, outbound,
    route::{Filter, Ratio, Timeouts},
};

use super::{BackendParams, Compiler, Rule};

/// Compiled mirror of a rule.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// Share of the requests that is copied.
    pub(crate) ratio: Ratio,
    /// Rule of the copies: one backend and a time limit.
    pub(crate) rule: Rc<Rule>,
    pub(crate) slot: Rc<MirrorSlot>,
}

impl Compiler<'_> {
    /// Compiles the mirrors of a rule. Of a copy only its backend is counted, as one of the route's.
    pub(super) fn mirrors(&self, filters: &[Filter], of: &Rule, params: BackendParams<'_>) -> Vec<Mirror> {
        let Some(route) = params.route else { return Vec::new() };
        let mirrors = filters.iter().filter_map(|filter| match filter {
            Filter::Mirror(mirror) => Some(mirror),
            _ => None,
        });
        let compile = |mirror: &proxy_model::route::Mirror| {
            let backend = outbound::RouteBackend {
                backend: mirror.backend.clone(),
                filters: Vec::new(),
            };
            let rule = Rule {
                distribution: self.compiled(vec![self.backend(&backend, params)], None, params.kind),
                response_filters: Vec::new(),
                needs_prefix: false,
                mirrors: Vec::new(),
                timeouts: Timeouts {
                    request: Some(limits::MIRRORED_TIME.value),
                    ..Timeouts::default()
                },
                retry: None,
                budget: None,
                allow_headers: false,
                kind: of.kind,
                slot: of.slot.clone(),
                retries: of.retries.clone(),
                labels: of.labels.clone(),
            };
            let metrics = &self.endpoints.context.metrics;
            Mirror {
                ratio: mirror.ratio,
                rule: Rc::new(rule),
                slot: metrics.outbound_mirror(self.parent, route.meta, &mirror.backend.meta),
            }
        };
        mirrors.map(compile).collect()
    }
}
