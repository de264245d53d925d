//! Init containers of a pod: `mesh-init` ([`rules`]) installs the redirection rules, `mesh-validator` ([`validate`])
//! checks that a CNI plugin did. They know no Kubernetes: flags in, rules in the kernel out.

pub mod rules;
pub mod validate;
