//! What the program does when nobody reads what it prints: `| head` ends it quietly, a full disk is told in a sentence.

use std::{
    fs::File,
    process::{Command, Output, Stdio},
};

fn mesh(args: &[&str], out: impl Into<Stdio>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh"));
    let child = command.args(args).stdout(out).stderr(Stdio::piped()).spawn();
    child
        .expect("the program starts")
        .wait_with_output()
        .expect("the program ends")
}

#[test]
fn a_reader_that_went_away_is_no_fault() {
    for args in [&["completion", "zsh"][..], &["version", "--client"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = mesh(args, writer);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), told.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_told_in_one_sentence() {
    for args in [&["completion", "bash"][..], &["version", "--client"]] {
        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        let output = mesh(args, full);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {told}");
        assert_eq!(
            told, "mesh: cannot write to standard output: No space left on device (os error 28)\n",
            "{args:?}"
        );
    }
}

#[test]
fn nobody_hears_an_error_and_the_code_is_still_one() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh"));
    let status = command
        .args(["local", "status", "--name", "nobody-has-this"])
        .stderr(writer)
        .status();
    assert_eq!(status.expect("the program runs").code(), Some(1));
}
