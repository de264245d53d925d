//! Program as it ships: hardened, which is checked, and with the list of its crates inside, which `cargo audit bin`,
//! Trivy and Syft read.

use std::{fs, io::Write as _, path::Path, process::Command};

use anyhow::{Context as _, bail, ensure};
use flate2::{Compression, write::ZlibEncoder};
use object::{
    Endianness, elf,
    read::elf::{Dyn as _, ElfFile64, FileHeader as _, ProgramHeader as _},
};
use serde_json::{Value, json};

use crate::linked::Linked;

/// Section of `cargo auditable`.
const SECTION: &str = ".dep-v0";

/// Writes a program to `to` with its list of crates, after checking that it is hardened.
pub(crate) fn seal(from: &Path, to: &Path, linked: &Linked) -> anyhow::Result<()> {
    let data = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    hardened(&data).with_context(|| format!("{} must not ship", from.display()))?;
    let list = to.with_extension("crates");
    fs::write(&list, packed(&crates(linked))?).with_context(|| format!("cannot write {}", list.display()))?;
    let mut objcopy = Command::new("objcopy");
    objcopy.arg(format!("--add-section={SECTION}={}", list.display()));
    let output = objcopy.arg(from).arg(to).output().context("cannot run objcopy")?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cannot add the section {SECTION}: {}",
        why.trim()
    );
    fs::remove_file(&list).with_context(|| format!("cannot remove {}", list.display()))?;
    // As others will read it.
    let read = auditable_info::audit_info_from_file(to, auditable_info::Limits::default())
        .with_context(|| format!("cannot read the crates in {}", to.display()))?;
    ensure!(
        read.packages.len() == linked.packages.len(),
        "{} does not list all of its crates",
        to.display()
    );
    Ok(())
}

/// Crates in the format of `cargo auditable`.
fn crates(linked: &Linked) -> Value {
    let one = |(place, package): (usize, &crate::linked::Package)| {
        let source = package.checksum.as_ref().map_or("local", |_| "crates.io");
        let mut entry = json!({"name": package.name, "version": package.version, "source": source});
        if !package.uses.is_empty() {
            entry["dependencies"] = package.uses.iter().copied().collect();
        }
        if place == 0 {
            entry["root"] = true.into();
        }
        entry
    };
    let packages: Vec<Value> = linked.packages.iter().enumerate().map(one).collect();
    json!({ "packages": packages })
}

fn packed(list: &Value) -> anyhow::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(list.to_string().as_bytes())?;
    Ok(encoder.finish()?)
}

/// Checks that a program is static and position-independent, relocates before it runs, and has no executable stack.
pub(crate) fn hardened(program: &[u8]) -> anyhow::Result<()> {
    let file = ElfFile64::<Endianness>::parse(program).context("it is not a 64-bit ELF file")?;
    let order = file.endian();
    ensure!(
        file.elf_header().e_type(order) == elf::ET_DYN,
        "it is at fixed addresses"
    );
    let (mut relro, mut stack, mut flags, mut flags_1) = (false, false, 0, 0);
    for header in file.elf_program_headers() {
        let is_executable = header.p_flags(order) & elf::PF_X != 0;
        let is_writable = header.p_flags(order) & elf::PF_W != 0;
        match header.p_type(order) {
            elf::PT_INTERP => bail!("it loads libraries"),
            elf::PT_GNU_RELRO => relro = true,
            elf::PT_GNU_STACK => stack = !is_executable,
            elf::PT_LOAD => ensure!(
                !(is_executable && is_writable),
                "it has a segment both writable and executable"
            ),
            elf::PT_DYNAMIC => {
                for entry in header.dynamic(order, program)?.unwrap_or_default() {
                    let value = entry.d_val(order);
                    match entry.d_tag(order) {
                        elf::DT_FLAGS => flags = value,
                        elf::DT_FLAGS_1 => flags_1 = value,
                        elf::DT_NEEDED => bail!("it loads libraries"),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    ensure!(relro, "its relocated data stay writable (no GNU_RELRO)");
    ensure!(stack, "its stack is executable");
    ensure!(
        flags_1 & u64::from(elf::DF_1_PIE) != 0,
        "it is a library, not a program"
    );
    let binds_now = flags & u64::from(elf::DF_BIND_NOW) != 0 || flags_1 & u64::from(elf::DF_1_NOW) != 0;
    ensure!(binds_now, "it binds functions late");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linked::tests::example;

    /// Compiles `int main` with flags of the C compiler.
    fn compiled(folder: &Path, flags: &[&str]) -> std::path::PathBuf {
        let source = folder.join("main.c");
        fs::write(&source, "int main(void) { return 0; }\n").expect("written");
        let program = folder.join("program");
        let status = Command::new("cc")
            .args(flags)
            .arg("-o")
            .args([&program, &source])
            .status();
        assert!(status.expect("cc runs").success(), "{flags:?}");
        program
    }

    const GOOD: [&str; 3] = ["-static-pie", "-fPIE", "-Wl,-z,relro,-z,now,-z,noexecstack"];

    #[test]
    fn programs_that_are_not_hardened_do_not_ship() {
        let folder = tempfile::tempdir().expect("a folder");
        let check = |flags: &[&str]| hardened(&fs::read(compiled(folder.path(), flags)).expect("read"));
        check(&GOOD).expect("hardened");
        for (flags, reason) in [
            (&["-static", "-no-pie"][..], "it is at fixed addresses"),
            (&["-pie", "-fPIE", "-Wl,-z,now"], "it loads libraries"),
            (
                &["-static-pie", "-fPIE", "-Wl,-z,norelro,-z,now"],
                "its relocated data stay writable (no GNU_RELRO)",
            ),
            (
                &["-static-pie", "-fPIE", "-Wl,-z,relro,-z,lazy"],
                "it binds functions late",
            ),
            (
                &["-static-pie", "-fPIE", "-Wl,-z,relro,-z,now,-z,execstack"],
                "its stack is executable",
            ),
        ] {
            let error = check(flags).expect_err(reason);
            assert_eq!(error.to_string(), reason, "{flags:?}");
        }
        assert!(hardened(b"#!/bin/sh\n").is_err());
    }

    #[test]
    fn others_read_the_crates_in_a_program() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (compiled(folder.path(), &GOOD), folder.path().join("sealed"));
        seal(&from, &to, &example()).expect("sealed");
        assert!(Command::new(&to).status().expect("it runs").success());
        let limits = auditable_info::Limits::default();
        let read = auditable_info::audit_info_from_file(&to, limits).expect("a list");
        let names: Vec<_> = read.packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["mesh-viz", "axum", "bytes", "hyper"]);
        assert!(read.packages[0].root && !read.packages[1].root);
        assert_eq!(read.packages[1].dependencies, [3]);
    }
}
