//! All checks: one file per category (or a few related ones), with Linkerd's order and names.

mod cni;
mod control_plane;
mod data_plane;
mod identity;
mod kubernetes;
mod objects;
mod pre;
mod resources;
mod versions;
mod viz;
mod webhooks;

#[cfg(test)]
mod tests;

pub use versions::version_of;

use crate::{Category, ListRequest, Mode, ObjectKind, Permission, Scope};

/// Returns the categories for a scope.
pub fn categories(scope: &Scope) -> Vec<Category> {
    let mut all = vec![kubernetes::api(), kubernetes::version()];
    match scope.mode {
        Mode::Pre => all.extend([pre::category(scope), cni::category()]),
        Mode::Crds => all.push(resources::category(scope)),
        Mode::Installed => {
            all.push(resources::category(scope));
            all.extend(control_plane::categories(scope));
            all.push(cni::category());
            all.extend(identity::categories(scope));
            all.push(webhooks::category(scope));
            all.extend(versions::categories(scope));
            all.push(control_plane::proxies());
            if scope.proxy {
                all.extend(data_plane::categories(scope));
            }
            all.push(control_plane::high_availability());
            all.push(objects::category());
            all.push(viz::category(scope));
        }
    }
    all
}

impl Scope {
    /// Returns the lists that the checks read.
    pub fn lists_to_read(&self) -> Vec<ListRequest> {
        let everywhere = |what| ListRequest { what, namespace: None };
        let within = |what, namespace: &str| ListRequest {
            what,
            namespace: Some(namespace.to_owned()),
        };
        match self.mode {
            Mode::Crds => vec![everywhere(ObjectKind::Resources)],
            Mode::Pre => {
                let mut lists_to_read: Vec<ListRequest> =
                    [ObjectKind::Namespaces, ObjectKind::Nodes, ObjectKind::Resources]
                        .map(everywhere)
                        .into();
                if self.cni_enabled {
                    lists_to_read.extend([ObjectKind::ClusterRoles, ObjectKind::ClusterRoleBindings].map(everywhere));
                    lists_to_read.extend(CNI.map(|what| within(what, &self.cni)));
                }
                lists_to_read
            }
            Mode::Installed => {
                let mut lists_to_read: Vec<ListRequest> = EVERYWHERE.map(everywhere).into();
                lists_to_read.extend(CONTROL_PLANE.map(|what| within(what, &self.control_plane)));
                lists_to_read.extend(CNI.map(|what| within(what, &self.cni)));
                lists_to_read
                    .extend([ObjectKind::VizDeployments, ObjectKind::VizSecrets].map(|what| within(what, &self.viz)));
                lists_to_read
            }
        }
    }

    /// Returns the permissions that the checks query.
    pub fn permissions(&self) -> Vec<Permission> {
        if self.mode == Mode::Pre {
            pre::permissions(self)
        } else {
            Vec::new()
        }
    }
}

const EVERYWHERE: [ObjectKind; 25] = [
    ObjectKind::Namespaces,
    ObjectKind::Nodes,
    ObjectKind::Pods,
    ObjectKind::Services,
    ObjectKind::ClusterRoles,
    ObjectKind::ClusterRoleBindings,
    ObjectKind::Resources,
    ObjectKind::Mutating,
    ObjectKind::Validating,
    ObjectKind::ApiServices,
    ObjectKind::TrafficSplits,
    ObjectKind::TrafficTargets,
    ObjectKind::HttpRouteGroups,
    ObjectKind::SmiTcpRoutes,
    ObjectKind::UdpRoutes,
    ObjectKind::ServiceProfiles,
    ObjectKind::Servers,
    ObjectKind::ServerAuthorizations,
    ObjectKind::AuthorizationPolicies,
    ObjectKind::MeshTlsAuthentications,
    ObjectKind::NetworkAuthentications,
    ObjectKind::RateLimits,
    ObjectKind::PolicyHttpRoutes,
    ObjectKind::HttpRoutes,
    ObjectKind::GrpcRoutes,
];

const CONTROL_PLANE: [ObjectKind; 4] = [
    ObjectKind::ConfigMaps,
    ObjectKind::Secrets,
    ObjectKind::ServiceAccounts,
    ObjectKind::Deployments,
];

const CNI: [ObjectKind; 3] = [
    ObjectKind::CniConfigMaps,
    ObjectKind::CniServiceAccounts,
    ObjectKind::CniDaemonSets,
];
