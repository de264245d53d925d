//! Targets of a profile that decides alone, which another control plane's does, compiled.

use std::sync::Arc;

use proxy_core::balance;
use proxy_model::{Meta, outbound::Load, profile};

use super::{Backend, BackendParams, Compiler, Dispatch, Distribution};
use crate::endpoints::BalancerKind;

impl Compiler<'_> {
    /// Destination of a profile: its targets by weight, else its single endpoint, else the service itself.
    pub(super) fn profile_targets(&self, profile: &profile::Profile, kind: BalancerKind) -> Distribution {
        let params = BackendParams {
            kind,
            accrual: None,
            route: None,
        };
        let balance = |path: Arc<str>, meta: &Meta| Backend {
            dispatch: self.balance(&path, Load::PeakEwma(balance::DEFAULT), meta, params),
            filters: Vec::new(),
            slot: None,
        };
        let targets: Vec<_> = profile.targets.iter().filter(|target| target.weight > 0).collect();
        let (backends, weights) = if !profile.targets.is_empty() {
            let backend = |target: &&profile::Target| {
                let meta = target.backend.as_ref().unwrap_or(self.parent);
                balance(target.authority.to_string().into(), meta)
            };
            (
                targets.iter().map(backend).collect(),
                Some(targets.iter().map(|target| target.weight).collect()),
            )
        } else if let Some(endpoint) = &profile.endpoint {
            let dispatch = Dispatch::Forward(self.endpoints.forward(endpoint, self.parent, params.accrual));
            (
                vec![Backend {
                    dispatch,
                    filters: Vec::new(),
                    slot: None,
                }],
                None,
            )
        } else {
            let path = format!("{}:{}", profile.fully_qualified_name, self.addr.0.port());
            (vec![balance(path.into(), self.parent)], None)
        };
        self.compiled(backends, weights, kind)
    }
}
