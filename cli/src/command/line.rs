//! The command line before clap reads it. Under the name `kubectl-mesh` the program is kubectl's plugin: `kubectl mesh check`.

use std::{ffi::OsString, path::PathBuf};

/// The name that kubectl looks for.
const PLUGIN: &str = "kubectl-mesh";

/// The command line, and the name that help calls the program by.
///
/// Flags that say which cluster may stand before the command too, as Linkerd's do: they are moved behind it.
pub(crate) fn command_line(args: impl IntoIterator<Item = OsString>) -> (Vec<OsString>, &'static str) {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let program = args.first().map(PathBuf::from);
    let is_plugin = program.is_some_and(|path| path.file_name().is_some_and(|name| name == PLUGIN));
    let leading = leading_flags(&args);
    // Behind `--` nothing is a flag of ours.
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    if leading > 1 && leading < end {
        args[1..end].rotate_left(leading - 1);
    }
    (args, if is_plugin { "kubectl mesh" } else { "mesh" })
}

/// How many words at the beginning, the program's name counted, are flags of [`crate::kube::Flags`].
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
    fn flags_before_the_command_count_as_well() {
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
    fn kubectl_finds_its_plugin() {
        assert_eq!(rewritten("/usr/bin/kubectl-mesh check").1, "kubectl mesh");
        assert_eq!(rewritten("target/release/mesh check").1, "mesh");
    }
}
