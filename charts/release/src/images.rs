//! Images made from built programs, without a daemon and without a registry.
//!
//! ```text
//! target/release/mesh-proxy ─[ldd]─▶ the few libraries it loads ─[oci]─▶ target/release/images/mesh-proxy.tar ─▶ node
//! ```
//!
//! A release has static programs in them, tests the programs of an ordinary build with the libraries they load. The
//! Dockerfiles of the components make the same images; a test compares names and users.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::UNIX_EPOCH,
};

use crate::{
    VERSION,
    oci::{self, Spec},
};

/// Prefix of image names while no registry is named.
pub const LOCAL_REGISTRY: &str = "localhost";
/// User of the control plane, the init programs and applications.
const UNPRIVILEGED: u32 = 65534;
/// User of mesh-cni, which writes root's folders on the node.
const ROOT: u32 = 0;
/// User of the sidecar, whose own traffic is not redirected.
const PROXY: u32 = 2102;

/// Capability to change the rules of a network namespace, as a bit.
const NET_ADMIN: u64 = 1 << 12;

/// Image of one program.
#[derive(Debug)]
struct Image {
    /// Name below the registry.
    name: &'static str,
    program: &'static str,
    user: u32,
    /// Capabilities of the program's file, independent of its user.
    capabilities: u64,
    /// Set if a release has it; the others are for tests.
    is_released: bool,
}

const fn image(name: &'static str, program: &'static str) -> Image {
    Image {
        name,
        program,
        user: UNPRIVILEGED,
        capabilities: 0,
        is_released: true,
    }
}

const IMAGES: [Image; 10] = [
    Image {
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
    Image {
        is_released: false,
        ..image("mesh-test-app", "mesh-test-app")
    },
];

/// Images to make, and their sources.
#[derive(Debug)]
pub struct Request<'a> {
    /// Folder of the programs.
    pub programs: &'a Path,
    /// Folder that gets one archive per image.
    pub out: &'a Path,
    /// Prefix of the images' names, such as `registry.example.org/mesh`.
    pub registry: &'a str,
    /// Leaves out the images that only tests use.
    pub released_only: bool,
}

/// Folder of the programs: `MESH_PROGRAMS`, or the folder of the running program (for a test, the one above `deps`).
pub fn programs() -> Result<PathBuf, String> {
    if let Some(dir) = env::var_os("MESH_PROGRAMS").filter(|dir| !dir.is_empty()) {
        return Ok(dir.into());
    }
    let own = env::current_exe().map_err(|error| format!("cannot find this program's path: {error}"))?;
    let dir = own.parent().ok_or("this program has no parent folder")?;
    let is_test = dir.file_name().is_some_and(|name| name == "deps");
    let dir = if is_test { dir.parent().unwrap_or(dir) } else { dir };
    Ok(dir.to_owned())
}

/// Programs that a release's images are made of.
pub fn released_programs() -> impl Iterator<Item = &'static str> {
    IMAGES
        .iter()
        .filter(|image| image.is_released)
        .map(|image| image.program)
}

/// Makes the images that are missing or older than their program, and returns all archives.
pub fn make(request: &Request<'_>) -> Result<Vec<PathBuf>, String> {
    let out = request.out;
    fs::create_dir_all(out).map_err(|error| format!("cannot create {}: {error}", out.display()))?;
    let images = IMAGES
        .iter()
        .filter(|image| image.is_released || !request.released_only);
    images.map(|image| image.make(request)).collect()
}

impl Image {
    fn make(&self, request: &Request<'_>) -> Result<PathBuf, String> {
        let program = request.programs.join(self.program);
        let archive = request.out.join(format!("{}.tar", self.name));
        let stamp = request.out.join(format!("{}.stamp", self.name));
        let name = format!("{}/{}:{VERSION}", request.registry.trim_end_matches('/'), self.name);
        let state = format!("{name}, {}", state(&program)?);
        if archive.exists() && fs::read_to_string(&stamp).is_ok_and(|made| made == state) {
            return Ok(archive);
        }
        let _ = fs::remove_file(&stamp);
        let inside = format!("/{}", self.program);
        let libraries = libraries(&program)?.into_iter().map(|path| (path.clone().into(), path));
        let spec = Spec {
            name,
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

/// Fingerprint of a build of a program: size and time.
fn state(program: &Path) -> Result<String, String> {
    let metadata = fs::metadata(program).map_err(|_| {
        let program = program.display();
        format!("{program} is not built: run `cargo build --release --workspace` first")
    })?;
    let modified = metadata.modified().ok();
    let age = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(format!("{} bytes, {:?}", metadata.len(), age.unwrap_or_default()))
}

/// Libraries that a program loads, the loader among them; none for a static program.
fn libraries(program: &Path) -> Result<BTreeSet<String>, String> {
    let output = Command::new("ldd").arg(program).output();
    let output = output.map_err(|error| format!("ldd: {error}"))?;
    Ok(files_of(&String::from_utf8_lossy(&output.stdout)))
}

/// Files in the output of `ldd`: `libc.so.6 => /lib/libc.so.6 (0x7f..)` or `/lib64/ld-linux.so.2 (0x7f..)`.
fn files_of(ldd: &str) -> BTreeSet<String> {
    let words = ldd.lines().flat_map(str::split_whitespace);
    words.filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_libraries_from_ldd() {
        let printed = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7)\n";
        let files: Vec<_> = files_of(printed).into_iter().collect();
        assert_eq!(files, ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert!(files_of("\tstatically linked\n").is_empty());
    }

    #[test]
    fn names_a_program_that_is_not_built() {
        let request = Request {
            programs: Path::new("/nowhere"),
            out: &env::temp_dir(),
            registry: LOCAL_REGISTRY,
            released_only: false,
        };
        let error = make(&request).expect_err("no programs");
        assert!(error.starts_with("/nowhere/mesh-cni is not built"), "{error}");
    }
}
