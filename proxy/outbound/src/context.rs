//! Handles that everything on one worker uses.

use std::{cell::RefCell, rc::Rc};

use proxy_metrics::Recorder;

use crate::{Breakers, Budgets, Config, Deps, copies::Copies};

/// Handles of one worker, shared by its targets, endpoints and connections.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) discovery: proxy_discovery::Discovery,
    pub(crate) tls: proxy_tls::Tls,
    pub(crate) metrics: Recorder,
    pub(crate) tap: proxy_http::tap::Registry,
    pub(crate) budgets: Budgets,
    pub(crate) breakers: Breakers,
    pub(crate) config: Config,
    pub(crate) rng: RefCell<fastrand::Rng>,
    pub(crate) copies: Rc<Copies>,
}

impl Context {
    pub(crate) fn new(deps: Deps) -> Self {
        let Deps {
            discovery,
            tls,
            metrics,
            tap,
            budgets,
            breakers,
            config,
        } = deps;
        Self {
            discovery,
            tls,
            metrics,
            tap,
            budgets,
            breakers,
            config,
            rng: RefCell::new(fastrand::Rng::new()),
            copies: Rc::default(),
        }
    }
}
