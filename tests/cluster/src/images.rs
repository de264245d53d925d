//! The images that a cluster of the tests runs, made from the programs that cargo built, without a daemon and without a registry.
//!
//! ```text
//! target/release/mesh-proxy ─[ldd]─▶ the few libraries it loads ─[oci]─▶ target/release/images/mesh-proxy.tar ─▶ node
//! ```
//!
//! What ships is built by the Dockerfiles instead: one static program each. Names, entry points and users are the same.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::UNIX_EPOCH,
};

use crate::{
    Cluster,
    oci::{self, Spec},
};

/// The tag of every image: the version that the charts name.
pub const TAG: &str = env!("CARGO_PKG_VERSION");
/// The control plane, the init programs, and applications.
const NOBODY: u32 = 65534;
/// What installs the CNI plugin.
const ROOT: u32 = 0;
/// The sidecar's own user, whose traffic is not redirected.
const PROXY: u32 = 2102;

/// The capability to change a network namespace's rules, as a bit.
const NET_ADMIN: u64 = 1 << 12;

/// One image: one program.
#[derive(Debug)]
struct Image {
    /// `localhost/NAME`.
    name: &'static str,
    program: &'static str,
    user: u32,
    /// What the program's file may, however little its user may.
    capabilities: u64,
}

const fn image(name: &'static str, program: &'static str) -> Image {
    Image {
        name,
        program,
        user: NOBODY,
        capabilities: 0,
    }
}

/// All of them.
const IMAGES: [Image; 10] = [
    Image {
        // It writes root's folders on the node.
        user: ROOT,
        ..image("mesh-cni", "mesh-cni")
    },
    image("mesh-destination", "mesh-destination"),
    image("mesh-identity", "mesh-identity"),
    image("mesh-injector", "mesh-injector"),
    Image {
        user: PROXY,
        ..image("mesh-proxy", "mesh-proxy")
    },
    Image {
        capabilities: NET_ADMIN,
        ..image("mesh-init", "mesh-init")
    },
    image("mesh-validator", "mesh-validator"),
    image("mesh-viz", "mesh-viz"),
    image("mesh-app", "mesh"),
    image("mesh-test-app", "mesh-test-app"),
];

/// The folder of the programs: what `MESH_PROGRAMS` says, or the one this program is in, or that of `deps` for a test.
pub fn programs() -> Result<PathBuf, String> {
    if let Some(dir) = env::var_os("MESH_PROGRAMS").filter(|dir| !dir.is_empty()) {
        return Ok(dir.into());
    }
    let own = env::current_exe().map_err(|error| format!("this program does not know where it is: {error}"))?;
    let dir = own.parent().ok_or("this program is in no folder")?;
    let is_test = dir.file_name().is_some_and(|name| name == "deps");
    let dir = if is_test { dir.parent().unwrap_or(dir) } else { dir };
    Ok(dir.to_owned())
}

/// Makes the images that are not there or older than their program, and gives their archives.
pub fn make(programs: &Path, out: &Path) -> Result<Vec<PathBuf>, String> {
    fs::create_dir_all(out).map_err(|error| format!("{} cannot be made: {error}", out.display()))?;
    IMAGES.iter().map(|image| image.make(programs, out)).collect()
}

/// Puts all images into a cluster's nodes.
pub fn load(cluster: &Cluster) -> Result<(), String> {
    let programs = programs()?;
    let archives = make(&programs, &programs.join("images"))?;
    cluster.load(&archives)
}

impl Image {
    fn make(&self, programs: &Path, out: &Path) -> Result<PathBuf, String> {
        let program = programs.join(self.program);
        let archive = out.join(format!("{}.tar", self.name));
        let stamp = out.join(format!("{}.stamp", self.name));
        let state = state(&program)?;
        if archive.exists() && fs::read_to_string(&stamp).is_ok_and(|made| made == state) {
            return Ok(archive);
        }
        let _ = fs::remove_file(&stamp);
        let inside = format!("/{}", self.program);
        let libraries = libraries(&program)?.into_iter().map(|path| (path.clone().into(), path));
        let spec = Spec {
            name: format!("localhost/{}:{TAG}", self.name),
            entrypoint: inside.clone(),
            user: self.user,
            capabilities: self.capabilities,
            files: [(program, inside)].into_iter().chain(libraries).collect(),
        };
        oci::write(&spec, &archive).map_err(|error| format!("{}: {error}", archive.display()))?;
        fs::write(&stamp, state).map_err(|error| format!("{}: {error}", stamp.display()))?;
        Ok(archive)
    }
}

/// What tells one build of a program from another.
fn state(program: &Path) -> Result<String, String> {
    let metadata = fs::metadata(program).map_err(|_| {
        let program = program.display();
        format!("{program} is not built: run `cargo build --release --workspace` first")
    })?;
    let modified = metadata.modified().ok();
    let age = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(format!("{} bytes, {:?}", metadata.len(), age.unwrap_or_default()))
}

/// The libraries that a program loads, the loader among them; none for a static program.
fn libraries(program: &Path) -> Result<BTreeSet<String>, String> {
    let output = Command::new("ldd").arg(program).output();
    let output = output.map_err(|error| format!("ldd: {error}"))?;
    Ok(files_of(&String::from_utf8_lossy(&output.stdout)))
}

/// The files in what `ldd` prints: `libc.so.6 => /lib/libc.so.6 (0x7f..)` or `/lib64/ld-linux.so.2 (0x7f..)`.
fn files_of(ldd: &str) -> BTreeSet<String> {
    let words = ldd.lines().flat_map(str::split_whitespace);
    words.filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_of_a_program_are_read_from_ldd() {
        let printed = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7)\n";
        let files: Vec<_> = files_of(printed).into_iter().collect();
        assert_eq!(files, ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert!(files_of("\tstatically linked\n").is_empty());
    }

    #[test]
    fn a_program_that_is_not_built_is_named() {
        let error = make(Path::new("/nowhere"), &env::temp_dir()).expect_err("no programs");
        assert!(error.starts_with("/nowhere/mesh-cni is not built"), "{error}");
    }
}
