//! Table of commands: one line per command in [`Command`] and in [`run`].

mod line;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches as _, Parser, Subcommand};

#[cfg(feature = "local")]
use crate::demo;
use crate::{authz, check, diagnostics, identity, inject, install, man, output, profile, uninstall, version, viz};

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
    #[cfg(feature = "local")]
    Local(cli_local::Args),
    /// Run a demo on this machine: a sample application behind real sidecars.
    #[cfg(feature = "local")]
    Demo(demo::DemoArgs),
    /// Show success rates, latencies, edges and live requests.
    #[command(subcommand)]
    Viz(viz::VizCommand),
    /// Print the manifests of the control plane, for `kubectl apply -f -`.
    Install(Box<install::InstallArgs>),
    /// Print the manifests of the CNI plugin, for `kubectl apply -f -` (or `kubectl delete -f -` to remove it).
    InstallCni(Box<install::cni::InstallCniArgs>),
    /// Print the manifests that upgrade the installed mesh to this version, for `kubectl apply -f -`.
    Upgrade(Box<install::upgrade::UpgradeArgs>),
    /// Print all objects of the installed mesh, for `kubectl delete -f -`.
    Uninstall(uninstall::UninstallArgs),
    /// Print objects left behind by earlier versions, for `kubectl delete -f -`.
    Prune(uninstall::PruneArgs),
    /// Check that the mesh is installed correctly and healthy.
    Check(check::CheckArgs),
    /// Show the versions of this program, the control plane and the sidecars.
    Version(version::VersionArgs),
    /// Show the certificates that sidecars present.
    Identity(identity::IdentityArgs),
    /// List the authorizations that apply to a workload.
    Authz(authz::AuthzArgs),
    /// Generate a ServiceProfile.
    Profile(profile::ProfileArgs),
    /// Show the internal state of the control plane and the sidecars.
    #[command(subcommand, visible_alias = "dg")]
    Diagnostics(diagnostics::DiagnosticsCommand),
    /// Add the sidecar, or the annotation that requests it, to manifests.
    Inject(Box<inject::InjectArgs>),
    /// Remove the sidecar from manifests.
    Uninject(inject::UninjectArgs),
    /// Run one part of the demo application.
    #[cfg(feature = "local")]
    #[command(subcommand, hide = true)]
    DemoApp(cli_demo_app::Command),
    /// Write the manual pages.
    #[command(hide = true)]
    ManPages(man::ManArgs),
    /// Print a shell completion script.
    Completion {
        /// Shell to complete for.
        shell: clap_complete::Shell,
    },
}

/// Runs the command named on the command line. An error is one sentence on stderr and exit code 1.
pub(crate) fn run() -> ExitCode {
    let result = match parse().command {
        #[cfg(feature = "local")]
        Command::Local(args) => cli_local::run(args),
        #[cfg(feature = "local")]
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
        #[cfg(feature = "local")]
        Command::DemoApp(role) => cli_demo_app::run(role),
        Command::ManPages(args) => man::pages(&args, Mesh::command()),
        Command::Completion { shell } => {
            // Into memory first: clap panics when the reader closes the pipe (`| head`).
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Mesh::command(), "mesh", &mut script);
            output::print(&String::from_utf8_lossy(&script)).map(|()| ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "mesh: {error:#}");
        ExitCode::FAILURE
    })
}

/// Definition of the command line, for the tests of its documentation.
#[cfg(test)]
pub(crate) fn definition() -> clap::Command {
    Mesh::command()
}

/// Parses the command line; on a usage error clap prints it and exits.
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
    fn command_table_is_consistent() {
        Mesh::command().debug_assert();
    }

    #[test]
    fn cluster_flags_have_their_own_heading() {
        let mut mesh = Mesh::command();
        mesh.build();
        for command in ["install", "upgrade", "inject", "check"] {
            let command = mesh.find_subcommand(command).expect("a command");
            let mut flags = command.get_arguments().filter(|arg| arg.get_id() == "kubeconfig");
            let heading = flags.next().and_then(|flag| flag.get_help_heading());
            assert_eq!(heading, Some("Cluster"), "{}", command.get_name());
        }
    }
}
