//! Rewrites the command line before clap parses it. Named `kubectl-mesh`, the program is a kubectl plugin.

use std::{ffi::OsString, path::PathBuf};

/// Program name that kubectl looks for.
const PLUGIN: &str = "kubectl-mesh";

/// Returns the rewritten command line, and the program name to show in help.
///
/// Cluster flags may also precede the command, as in Linkerd's CLI: they are moved behind it.
pub(crate) fn command_line(args: impl IntoIterator<Item = OsString>) -> (Vec<OsString>, &'static str) {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let program = args.first().map(PathBuf::from);
    let is_plugin = program.is_some_and(|path| path.file_name().is_some_and(|name| name == PLUGIN));
    let leading = leading_flags(&args);
    // Nothing after `--` is a flag of ours.
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    if leading > 1 && leading < end {
        args[1..end].rotate_left(leading - 1);
    }
    (args, if is_plugin { "kubectl mesh" } else { "mesh" })
}

/// Number of leading words, including the program name, that belong to [`crate::kube::ClusterFlags`].
fn leading_flags(args: &[OsString]) -> usize {
    const FLAGS: [&str; 6] = [
        "--kubeconfig",
        "--context",
        "--as",
        "--as-group",
        "--linkerd-namespace",
        "-L",
    ];
    let mut at = 1;
    while let Some(word) = args.get(at).and_then(|word| word.to_str()) {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let glued = word.starts_with("-L") && word.len() > 2;
        if !FLAGS.contains(&name) && !glued {
            break;
        }
        at += if value.is_some() || glued { 1 } else { 2 };
    }
    at.min(args.len().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> (String, &'static str) {
        let (args, name) = command_line(text.split(' ').map(OsString::from));
        let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        (args.join(" "), name)
    }

    #[test]
    fn moves_leading_cluster_flags_behind_the_command() {
        for (typed, read) in [
            ("mesh check --proxy", "mesh check --proxy"),
            ("mesh --context a check", "mesh check --context a"),
            (
                "mesh --context=a -L m viz stat deploy",
                "mesh viz stat deploy --context=a -L m",
            ),
            ("mesh -L m local exec x -- -L y", "mesh local exec x -L m -- -L y"),
            ("mesh --version", "mesh --version"),
            ("mesh --context", "mesh --context"),
            ("mesh", "mesh"),
        ] {
            assert_eq!(rewritten(typed).0, read, "{typed}");
        }
    }

    #[test]
    fn recognizes_the_kubectl_plugin_name() {
        assert_eq!(rewritten("/usr/bin/kubectl-mesh check").1, "kubectl mesh");
        assert_eq!(rewritten("target/release/mesh check").1, "mesh");
    }
}
