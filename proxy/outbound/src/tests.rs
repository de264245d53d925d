//! Tests of the outbound side in one process: real sockets on loopback, simulated sidecars and applications, a scripted
//! control plane.

mod bytes;
mod failures;
mod filters;
mod http;
mod outliers;
mod overlay;
mod profiles;
mod retries;
mod support;

use std::{rc::Rc, sync::Arc, time::Duration};

use proxy_metrics::Metrics;
use proxy_model::{ClientAddr, OrigDstAddr, limits, profile::RetryBudget};

use crate::Budgets;

/// Guards the size of a connection's task.
#[test]
fn connection_task_is_at_most_12_kib() {
    support::run(async || {
        let mesh = support::Mesh::new();
        let addr = support::WEB;
        let socket = mesh.connect().await;
        let task = Rc::clone(&mesh.worker).serve(socket, OrigDstAddr(addr), ClientAddr(addr), mesh.drain.clone());
        let size = size_of_val(&task);
        assert!(size <= 12 * 1024, "a connection's task has {size} bytes");
    });
}

#[test]
fn keeps_budgets_in_use_and_counts_further_ones() {
    let (budgets, metrics) = (Budgets::default(), Metrics::default());
    let (limit, recorder) = (limits::RETRY_BUDGETS.value, metrics.recorder());
    let params = RetryBudget {
        ratio: 0.2,
        min_per_second: 10,
        ttl: Some(Duration::from_secs(10)),
    };
    let get = |i: usize| budgets.get_or_create(&i.to_string(), &params, &recorder);
    let mut used: Vec<_> = (0..limit).map(|i| get(i).expect("room")).collect();
    assert!(get(limit).is_none(), "all are in use");
    assert!(
        metrics
            .render()
            .contains("mesh_limit_refused_total{limit=\"RETRY_BUDGETS\"} 1\n")
    );
    assert!(get(0).is_some_and(|budget| Arc::ptr_eq(&budget, &used[0])));
    drop(used.pop());
    assert!(get(limit).is_some(), "an unused one makes room");
}
