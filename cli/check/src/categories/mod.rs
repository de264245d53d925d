//! All checks: one file a category (or a few that belong together), in Linkerd's order and under its names.

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

use crate::{Ask, Category, Mode, Right, Want, What};

/// What is checked.
pub fn categories(ask: &Ask) -> Vec<Category> {
    let mut all = vec![kubernetes::api(), kubernetes::version()];
    match ask.mode {
        Mode::Pre => all.extend([pre::category(ask), cni::category()]),
        Mode::Crds => all.push(resources::category(ask)),
        Mode::Installed => {
            all.push(resources::category(ask));
            all.extend(control_plane::categories(ask));
            all.push(cni::category());
            all.extend(identity::categories(ask));
            all.push(webhooks::category(ask));
            all.extend(versions::categories(ask));
            all.push(control_plane::proxies());
            if ask.proxy {
                all.extend(data_plane::categories(ask));
            }
            all.push(control_plane::high_availability());
            all.push(objects::category());
            all.push(viz::category(ask));
        }
    }
    all
}

impl Ask {
    /// The lists that the checks look at.
    pub fn wants(&self) -> Vec<Want> {
        let everywhere = |what| Want { what, namespace: None };
        let within = |what, namespace: &str| Want {
            what,
            namespace: Some(namespace.to_owned()),
        };
        match self.mode {
            Mode::Crds => vec![everywhere(What::Resources)],
            Mode::Pre => {
                let mut wants: Vec<Want> = [What::Namespaces, What::Nodes, What::Resources].map(everywhere).into();
                if self.cni_enabled {
                    wants.extend([What::ClusterRoles, What::ClusterRoleBindings].map(everywhere));
                    wants.extend(CNI.map(|what| within(what, &self.cni)));
                }
                wants
            }
            Mode::Installed => {
                let mut wants: Vec<Want> = EVERYWHERE.map(everywhere).into();
                wants.extend(CONTROL_PLANE.map(|what| within(what, &self.control_plane)));
                wants.extend(CNI.map(|what| within(what, &self.cni)));
                wants.extend([What::VizDeployments, What::VizSecrets].map(|what| within(what, &self.viz)));
                wants
            }
        }
    }

    /// The rights that the checks ask for.
    pub fn rights(&self) -> Vec<Right> {
        if self.mode == Mode::Pre {
            pre::rights(self)
        } else {
            Vec::new()
        }
    }
}

const EVERYWHERE: [What; 21] = [
    What::Namespaces,
    What::Nodes,
    What::Pods,
    What::Services,
    What::ClusterRoles,
    What::ClusterRoleBindings,
    What::Resources,
    What::Mutating,
    What::Validating,
    What::ApiServices,
    What::TrafficSplits,
    What::ServiceProfiles,
    What::Servers,
    What::ServerAuthorizations,
    What::AuthorizationPolicies,
    What::MeshTlsAuthentications,
    What::NetworkAuthentications,
    What::RateLimits,
    What::PolicyHttpRoutes,
    What::HttpRoutes,
    What::GrpcRoutes,
];

const CONTROL_PLANE: [What; 4] = [
    What::ConfigMaps,
    What::Secrets,
    What::ServiceAccounts,
    What::Deployments,
];

const CNI: [What; 3] = [What::CniConfigMaps, What::CniServiceAccounts, What::CniDaemonSets];
