//! Tests that compare the documentation with the command line: the reference page of commands, and every `mesh` line
//! in the docs.

use std::{fmt::Write as _, fs, path::Path};

use clap::{Arg, Command};
use tests_reference::{check, code, table};

use crate::command;

/// Sections of a command and its visible subcommands.
fn section(command: &Command, text: &mut String) {
    let name = command
        .get_display_name()
        .unwrap_or(command.get_name())
        .replace('-', " ");
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = write!(text, "## {name}\n\n{about}\n\n");
    let shown = |arg: &&Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
    let rows: Vec<_> = command.get_arguments().filter(shown).map(row).collect();
    if !rows.is_empty() {
        let _ = writeln!(text, "{}", table(&["argument", "default", "meaning"], rows));
    }
    let shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    for command in command.get_subcommands().filter(shown) {
        section(command, text);
    }
}

fn row(arg: &Arg) -> Vec<String> {
    let value = arg
        .get_value_names()
        .map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    let takes_value = arg.get_action().takes_values();
    let value = value.filter(|_| takes_value).unwrap_or_default();
    let name = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long} {value}"),
        (None, Some(long)) => format!("--{long} {value}"),
        (Some(short), None) => format!("-{short} {value}"),
        (None, None) => value,
    };
    let default: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let is_flag = !takes_value;
    vec![
        code(name.trim()),
        if is_flag {
            String::new()
        } else {
            code(&default.join(","))
        },
        help,
    ]
}

#[test]
fn reference_of_the_command_line() {
    let mut command = command::definition();
    command.build();
    let mut text = String::new();
    section(&command, &mut text);
    check("cli.md", "Command line", &text);
}

/// Lines of `sh` blocks in a page that run `mesh`, without what pipes and comments add.
fn lines_of(page: &str) -> Vec<String> {
    let mut is_shell = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.starts_with("```") {
            is_shell = line == "```sh";
        } else if is_shell {
            let parts = line
                .split(" #")
                .next()
                .unwrap_or_default()
                .split(['|', ';'])
                .flat_map(|part| part.split("&&"));
            let words = parts.map(|part| part.trim().trim_start_matches("target/release/"));
            found.extend(words.filter(|part| part.starts_with("mesh ")).map(str::to_owned));
        } else {
            let spans = line.split('`').skip(1).step_by(2);
            let is_example = |span: &&str| span.starts_with("mesh ") && span.contains(' ') && !span.contains('…');
            found.extend(spans.filter(is_example).map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_command_in_the_docs_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pages = fs::read_dir(root.join("docs"))
        .expect("a folder of docs")
        .map(|entry| entry.expect("an entry").path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in pages.chain([root.join("README.md"), root.join("CONTRIBUTING.md")]) {
        let text = fs::read_to_string(&path).expect("a page");
        for line in lines_of(&text) {
            seen += 1;
            if let Err(error) = understood(&line) {
                wrong.push(format!("{}: `{line}`: {error}", path.display()));
            }
        }
    }
    assert!(seen > 40, "only {seen} commands found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Parses a line. A command that is only named (`mesh viz`, `mesh viz stat`) may lack what it requires, if it exists.
fn understood(line: &str) -> Result<(), String> {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion, MissingRequiredArgument,
        MissingSubcommand,
    };
    let allowed = [
        DisplayHelp,
        DisplayHelpOnMissingArgumentOrSubcommand,
        DisplayVersion,
        MissingRequiredArgument,
        MissingSubcommand,
    ];
    match command::definition().try_get_matches_from(line.split_whitespace()) {
        Err(error) if !allowed.contains(&error.kind()) => {
            Err(error.to_string().lines().next().unwrap_or_default().to_owned())
        }
        _ => Ok(()),
    }
}
