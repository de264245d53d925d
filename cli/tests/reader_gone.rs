//! Output that cannot be written: `| head` ends the program quietly, a full disk is an error in one sentence.

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
fn a_closed_reader_is_not_an_error() {
    for args in [&["completion", "zsh"][..], &["version", "--client"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = mesh(args, writer);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn reports_a_full_disk_in_one_sentence() {
    for args in [&["completion", "bash"][..], &["version", "--client"]] {
        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        let output = mesh(args, full);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert_eq!(
            stderr, "mesh: cannot write to standard output: No space left on device (os error 28)\n",
            "{args:?}"
        );
    }
}

#[test]
fn exits_with_one_even_if_stderr_is_closed() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh"));
    let status = command
        .args(["local", "status", "--name", "no-such-mesh"])
        .stderr(writer)
        .status();
    assert_eq!(status.expect("the program runs").code(), Some(1));
}
