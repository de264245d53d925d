//! The table of commands: what `mesh` understands, and who does it. One line per command in [`Command`] and in [`run`].

mod line;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches as _, Parser, Subcommand};

use crate::{
    authz, check, demo, diagnostics, identity, inject, install, man, output, profile, uninstall, version, viz,
};

/// A service mesh: mutual TLS, traffic splits and golden metrics for what runs on this machine or in a cluster.
#[derive(Debug, Parser)]
#[command(name = "mesh", version, propagate_version = true, arg_required_else_help = true)]
struct Mesh {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a mesh on this machine, without a cluster.
    Local(cli_local::Args),
    /// Run a demo on this machine: an application of ours behind real sidecars.
    Demo(demo::Args),
    /// Show success rates, latencies, edges and live requests.
    #[command(subcommand)]
    Viz(viz::Command),
    /// Print the manifests of the control plane, for `kubectl apply -f -`.
    Install(Box<install::InstallArgs>),
    /// Print the manifests of the CNI plugin, for `kubectl apply -f -`; the same, for `kubectl delete -f -`, take it away.
    InstallCni(Box<install::cni::InstallCniArgs>),
    /// Print the manifests of this version for the mesh that is there, for `kubectl apply -f -`.
    Upgrade(Box<install::upgrade::UpgradeArgs>),
    /// Print everything of the mesh, for `kubectl delete -f -`.
    Uninstall(uninstall::UninstallArgs),
    /// Print what former versions of the mesh left behind, for `kubectl delete -f -`.
    Prune(uninstall::PruneArgs),
    /// Check that the mesh is installed, whole and healthy.
    Check(check::CheckArgs),
    /// Show the versions of this program, of the control plane and of the sidecars.
    Version(version::VersionArgs),
    /// Show the certificates of pods' sidecars.
    Identity(identity::IdentityArgs),
    /// Show which authorizations there are for a workload.
    Authz(authz::AuthzArgs),
    /// Print a ServiceProfile to begin with.
    Profile(profile::ProfileArgs),
    /// Show what the control plane and the sidecars say of themselves.
    #[command(subcommand, visible_alias = "dg")]
    Diagnostics(diagnostics::Command),
    /// Add the sidecar to manifests, or the annotation that lets the cluster add it.
    Inject(Box<inject::InjectArgs>),
    /// Take the sidecar out of manifests.
    Uninject(inject::UninjectArgs),
    /// The demo's application.
    #[command(subcommand, hide = true)]
    DemoApp(cli_demo_app::Command),
    /// Write the manual pages.
    #[command(hide = true)]
    ManPages(man::ManArgs),
    /// Print the completion script of a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Runs what the command line says. An error is one sentence on stderr and the exit code 1.
pub(crate) fn run() -> ExitCode {
    let result = match parse().command {
        Command::Local(args) => cli_local::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Viz(command) => viz::run(command),
        Command::Install(args) => install::install(&args),
        Command::InstallCni(args) => install::cni::install(&args),
        Command::Upgrade(args) => install::upgrade::upgrade(&args),
        Command::Uninstall(args) => uninstall::uninstall(&args),
        Command::Prune(args) => uninstall::prune(&args),
        Command::Check(args) => check::check(args),
        Command::Version(args) => version::version(&args),
        Command::Identity(args) => identity::identity(&args),
        Command::Authz(args) => authz::authz(&args),
        Command::Profile(args) => profile::profile(&args),
        Command::Diagnostics(command) => diagnostics::run(command),
        Command::Inject(args) => inject::inject(*args),
        Command::Uninject(args) => inject::uninject(args),
        Command::DemoApp(role) => cli_demo_app::run(role),
        Command::ManPages(args) => man::pages(&args, Mesh::command()),
        Command::Completion { shell } => {
            // Into memory first: clap panics where a reader goes away (`| head`).
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Mesh::command(), "mesh", &mut script);
            output::print(&String::from_utf8_lossy(&script)).map(|()| ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        cli_local::notify(&format!("mesh: {error:#}"));
        ExitCode::FAILURE
    })
}

/// Reads the command line; what is wrong with it is clap's to say.
fn parse() -> Mesh {
    let (args, name) = line::command_line(std::env::args_os());
    let command = Mesh::command().bin_name(name);
    let read = command
        .try_get_matches_from(args)
        .and_then(|matches| Mesh::from_arg_matches(&matches));
    read.unwrap_or_else(|error| error.exit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_consistent() {
        Mesh::command().debug_assert();
    }
}
