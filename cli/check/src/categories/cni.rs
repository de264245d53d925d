//! `linkerd-cni-plugin`: the CNI plugin is installed, and ready on every node. Skipped where init containers redirect.

use super::control_plane::has;
use crate::{Category, Check, Facts, Mode, ObjectKind, Outcome, facts::text};

/// Name of the plugin's ServiceAccount, ClusterRole, ClusterRoleBinding and DaemonSet.
const NAME: &str = "linkerd-cni";
const CONFIG: &str = "linkerd-cni-config";
const INSTALL: &str =
    "run `mesh install-cni | kubectl apply -f -`, or select the plugin's namespace with --cni-namespace";

pub(super) fn category() -> Category {
    let exists = |what: ObjectKind, kind: &str, name: &'static str| {
        let check = Check::new(format!("cni plugin {kind} exists"), move |facts| {
            has(facts, what, &[name])
        });
        check.hint(INSTALL)
    };
    let checks = vec![
        exists(ObjectKind::CniConfigMaps, "ConfigMap", CONFIG),
        exists(ObjectKind::ClusterRoles, "ClusterRole", NAME),
        exists(ObjectKind::ClusterRoleBindings, "ClusterRoleBinding", NAME),
        exists(ObjectKind::CniServiceAccounts, "ServiceAccount", NAME),
        exists(ObjectKind::CniDaemonSets, "DaemonSet", NAME),
        Check::new("cni plugin pod is running on all nodes", on_all_nodes)
            .hint("run `kubectl -n linkerd-cni get pods -o wide` and `kubectl -n linkerd-cni logs ds/linkerd-cni`")
            .retried(),
    ];
    let guarded = checks.into_iter().map(|check| check.only_if(is_enabled));
    Category::new("linkerd-cni-plugin", guarded.collect())
}

/// Returns true if the mesh uses, or is to use, the plugin.
fn is_enabled(facts: &Facts) -> bool {
    if facts.scope.mode == Mode::Pre {
        return facts.scope.cni_enabled;
    }
    let Ok(Some(config)) = facts.named(ObjectKind::ConfigMaps, "linkerd-config") else {
        return false;
    };
    text(config, "/data/values")
        .lines()
        .any(|line| line.trim_end() == "cniEnabled: true")
}

fn on_all_nodes(facts: &Facts) -> Outcome {
    let set = match facts.named(ObjectKind::CniDaemonSets, NAME) {
        Ok(Some(set)) => set,
        // Reported by another check.
        Ok(None) => return Outcome::Skip,
        Err(error) => return Outcome::Unknown(error),
    };
    let number = |key: &str| set["status"][key].as_u64().unwrap_or(0);
    let (expected, ready) = (number("desiredNumberScheduled"), number("numberReady"));
    if expected > 0 && ready >= expected {
        return Outcome::Pass;
    }
    Outcome::Fail(format!("the plugin is ready on {ready} of {expected} nodes"))
}
