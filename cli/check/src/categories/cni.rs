//! `linkerd-cni-plugin`: where a CNI plugin redirects, is it there, and ready on every node. Nothing is said where init
//! containers redirect.

use super::control_plane::has;
use crate::{Category, Check, Facts, Mode, Outcome, What, facts::text};

/// The plugin's ServiceAccount, ClusterRole, ClusterRoleBinding and DaemonSet.
const NAME: &str = "linkerd-cni";
const CONFIG: &str = "linkerd-cni-config";
const INSTALL: &str = "run `mesh install-cni | kubectl apply -f -`, or name the plugin's namespace by --cni-namespace";

pub(super) fn category() -> Category {
    let exists = |what: What, kind: &str, name: &'static str| {
        let check = Check::new(format!("cni plugin {kind} exists"), move |facts| {
            has(facts, what, &[name])
        });
        check.hint(INSTALL)
    };
    let checks = vec![
        exists(What::CniConfigMaps, "ConfigMap", CONFIG),
        exists(What::ClusterRoles, "ClusterRole", NAME),
        exists(What::ClusterRoleBindings, "ClusterRoleBinding", NAME),
        exists(What::CniServiceAccounts, "ServiceAccount", NAME),
        exists(What::CniDaemonSets, "DaemonSet", NAME),
        Check::new("cni plugin pod is running on all nodes", on_all_nodes)
            .hint("`kubectl -n linkerd-cni get pods -o wide` and `kubectl -n linkerd-cni logs ds/linkerd-cni` say why not")
            .is_waited_for(),
    ];
    let guarded = checks.into_iter().map(|check| check.only_if(is_wanted));
    Category::new("linkerd-cni-plugin", guarded.collect())
}

/// Whether the mesh has, or shall have, a plugin that redirects.
fn is_wanted(facts: &Facts) -> bool {
    if facts.ask.mode == Mode::Pre {
        return facts.ask.cni_enabled;
    }
    let Ok(Some(config)) = facts.named(What::ConfigMaps, "linkerd-config") else {
        return false;
    };
    text(config, "/data/values")
        .lines()
        .any(|line| line.trim_end() == "cniEnabled: true")
}

fn on_all_nodes(facts: &Facts) -> Outcome {
    let set = match facts.named(What::CniDaemonSets, NAME) {
        Ok(Some(set)) => set,
        // Said already.
        Ok(None) => return Outcome::Skip,
        Err(error) => return Outcome::Unknown(error),
    };
    let number = |key: &str| set["status"][key].as_u64().unwrap_or(0);
    let (wanted, ready) = (number("desiredNumberScheduled"), number("numberReady"));
    if wanted > 0 && ready >= wanted {
        return Outcome::Pass;
    }
    Outcome::Fail(format!("{ready} of {wanted} nodes have the plugin"))
}
