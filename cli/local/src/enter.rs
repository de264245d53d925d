//! `internal enter`: creates the private namespaces and starts the supervisor in them as process 1.
//!
//! Runs before any thread exists. It stays between the outer process and the supervisor only because a process
//! namespace begins with a child: it passes on standard input and output, reports the supervisor's PID, and waits.

use std::{
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
};

/// Creates the namespaces and runs the supervisor with `spec`.
pub(super) fn run(spec: &str) -> Result<ExitCode> {
    namespaces()?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("mesh")
        .args(["local", "internal", "supervisor", spec])
        .spawn()
        .context("cannot start the supervisor")?;
    // The outer process reads the supervisor's reports from standard output; the PID is the first line.
    let mut out = std::io::stdout();
    writeln!(out, "{}", child.id())?;
    out.flush()?;
    let status = child.wait().context("cannot wait for the supervisor")?;
    Ok(status
        .code()
        .map_or(ExitCode::FAILURE, |code| ExitCode::from(code as u8)))
}

fn namespaces() -> Result<()> {
    let private = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    if nix::unistd::geteuid().is_root() {
        match unshare(private) {
            Ok(()) => return Ok(()),
            // For example root in a container without CAP_SYS_ADMIN: continue like an ordinary user.
            Err(Errno::EPERM) => {}
            Err(error) => bail!("cannot create network namespaces: {error}"),
        }
    }
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if let Err(error) = unshare(CloneFlags::CLONE_NEWUSER) {
        bail!("{}", forbidden(error));
    }
    // Ubuntu's AppArmor allows the namespace but grants no capabilities in it: then one of these fails.
    let mapped = fs::write("/proc/self/setgroups", "deny")
        .and_then(|()| fs::write("/proc/self/uid_map", format!("0 {uid} 1")))
        .and_then(|()| fs::write("/proc/self/gid_map", format!("0 {gid} 1")));
    if mapped.is_err() {
        bail!("{}", forbidden(Errno::EACCES));
    }
    unshare(private).map_err(|error| anyhow::anyhow!("{}", forbidden(error)))
}

/// Explains which setting forbids user namespaces and the way to allow them.
fn forbidden(error: Errno) -> String {
    let setting = |path: &str| {
        fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    explain(
        error,
        &setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        &setting("/proc/sys/kernel/unprivileged_userns_clone"),
        &setting("/proc/sys/user/max_user_namespaces"),
    )
}

fn explain(error: Errno, apparmor: &str, clone: &str, most: &str) -> String {
    let (what, how) = if clone == "0" {
        (
            "kernel.unprivileged_userns_clone=0 forbids",
            "sudo sysctl kernel.unprivileged_userns_clone=1",
        )
    } else if most == "0" {
        (
            "user.max_user_namespaces=0 forbids",
            "sudo sysctl user.max_user_namespaces=10000",
        )
    } else if apparmor == "1" {
        (
            "AppArmor (kernel.apparmor_restrict_unprivileged_userns=1) forbids",
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        )
    } else if error == Errno::ENOSPC || error == Errno::EUSERS {
        return format!(
            "all user namespaces are in use ({most} at most): allow more with `sudo sysctl user.max_user_namespaces=10000`"
        );
    } else {
        return format!(
            "this system forbids user namespaces ({error}): run it as root, and in a container with the capability SYS_ADMIN"
        );
    };
    format!("{what} user namespaces for ordinary users: allow them with `{how}`, or run it as root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_setting_that_forbids_namespaces_and_the_remedy() {
        let cases = [
            (
                explain(Errno::EPERM, "1", "", "100"),
                "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
            ),
            (
                explain(Errno::EPERM, "", "0", "100"),
                "sysctl kernel.unprivileged_userns_clone=1",
            ),
            (
                explain(Errno::ENOSPC, "", "1", "0"),
                "sysctl user.max_user_namespaces=10000",
            ),
            (explain(Errno::ENOSPC, "0", "1", "5"), "5 at most"),
            (explain(Errno::EPERM, "0", "1", "5"), "SYS_ADMIN"),
        ];
        for (sentence, part) in cases {
            assert!(sentence.contains(part), "{sentence}");
        }
    }
}
