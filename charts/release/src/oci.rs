//! Image as one file, in the form that `kind load image-archive`, `k3d image import` and `ctr images import` read: an
//! OCI layout in a tar, with one layer.
//!
//! ```text
//! oci-layout, index.json ─▶ manifest ─▶ config, layer (tar, gzip): the files, /etc/passwd, /tmp
//! ```

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::{architecture, sha256};

/// User database of an image: runtimes look a user's name up in it.
const PASSWD: &str = "root:x:0:0::/:/\nproxy:x:2102:2102::/:/\nnobody:x:65534:65534::/:/\n";
/// Extended attribute of a file with capabilities, as a PAX key.
const CAPABILITY: &str = "SCHILY.xattr.security.capability";
/// Version 2 of the attribute, with the effective bit.
const CAPABILITY_VERSION: u32 = 0x0200_0001;

/// Contents of an image.
#[derive(Debug)]
pub(crate) struct Spec {
    /// `localhost/mesh-proxy:0.1.0`
    pub(crate) name: String,
    /// The program's path in the image.
    pub(crate) entrypoint: String,
    pub(crate) user: u32,
    /// Capabilities of the program's file, as bits.
    pub(crate) capabilities: u64,
    /// Files and their paths in the image; the program comes first.
    pub(crate) files: Vec<(PathBuf, String)>,
}

/// Writes the archive, or leaves none.
pub(crate) fn write(spec: &Spec, archive: &Path) -> io::Result<()> {
    let whole = layer(spec)?;
    let mut packed = GzBuilder::new().write(Vec::new(), Compression::new(4));
    packed.write_all(&whole)?;
    let packed = packed.finish()?;
    let config = bytes(&json!({
        "architecture": architecture(), "os": "linux",
        "config": {"Entrypoint": [spec.entrypoint], "WorkingDir": "/", "User": format!("{0}:{0}", spec.user), "Env": ["PATH=/"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&whole)]},
    }));
    let described = |what: &str, blob: &[u8]| {
        let media = format!("application/vnd.oci.image.{what}");
        json!({"mediaType": media, "digest": digest(blob), "size": blob.len()})
    };
    let manifest = bytes(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("config.v1+json", &config), "layers": [described("layer.v1.tar+gzip", &packed)],
    }));
    let mut named = described("manifest.v1+json", &manifest);
    let tag = spec.name.rsplit(':').next().unwrap_or_default();
    named["platform"] = json!({"os": "linux", "architecture": architecture()});
    named["annotations"] = json!({"io.containerd.image.name": spec.name, "org.opencontainers.image.ref.name": tag});
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [named]});
    let unfinished = archive.with_extension("part");
    let mut tar = Builder::new(File::create(&unfinished)?);
    add(&mut tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add(&mut tar, "index.json", 0o644, &bytes(&index))?;
    for blob in [&config, &packed, &manifest] {
        add(&mut tar, &format!("blobs/sha256/{}", sha256(blob)), 0o644, blob)?;
    }
    tar.into_inner()?.sync_all()?;
    fs::rename(unfinished, archive)
}

fn layer(spec: &Spec) -> io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let mut made: Vec<PathBuf> = Vec::new();
    let inside = spec.files.iter().map(|(_, path)| path.as_str());
    for path in inside.chain(["/etc/passwd", "/tmp/any"]) {
        let mut parents: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
        parents.reverse();
        for parent in parents.into_iter().skip(1) {
            if !made.iter().any(|there| there == parent) {
                made.push(parent.to_owned());
                let mode = if parent == Path::new("/tmp") { 0o1777 } else { 0o755 };
                let mut header = header(mode, 0);
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, relative(parent), io::empty())?;
            }
        }
    }
    for (at, (file, path)) in spec.files.iter().enumerate() {
        if at == 0 && spec.capabilities != 0 {
            tar.append_pax_extensions([(CAPABILITY, attribute(spec.capabilities).as_slice())])?;
        }
        add(&mut tar, path, 0o755, &fs::read(file)?)?;
    }
    add(&mut tar, "/etc/passwd", 0o644, PASSWD.as_bytes())?;
    tar.into_inner()
}

fn add<W: io::Write>(tar: &mut Builder<W>, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
    tar.append_data(&mut header(mode, data.len()), relative(Path::new(path)), data)
}

/// Header without time and owner, so that the same files make the same image.
fn header(mode: u32, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(0);
    header
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Value of the attribute: permitted, nothing inheritable; the low 32 bits of both first, then the high ones.
fn attribute(capabilities: u64) -> Vec<u8> {
    let (low, high) = (capabilities as u32, (capabilities >> 32) as u32);
    let words = [CAPABILITY_VERSION, low, 0, high, 0];
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

fn digest(data: &[u8]) -> String {
    format!("sha256:{}", sha256(data))
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_holds_files_folders_and_capabilities() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let spec = Spec {
            name: "localhost/a:1".to_owned(),
            entrypoint: "/a".to_owned(),
            user: 1,
            capabilities: 1 << 12,
            files: vec![(here.clone(), "/a".to_owned()), (here, "/lib/x/b.so".to_owned())],
        };
        let layer = layer(&spec).expect("made");
        let mut archive = tar::Archive::new(layer.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().expect("a tar") {
            let mut entry = entry.expect("whole");
            let path = entry.path().expect("a path").display().to_string();
            let extensions = entry.pax_extensions().expect("readable");
            let extensions = extensions.map(|all| all.map(|one| one.expect("whole").value_bytes().to_vec()));
            seen.push((path, extensions.map(|all| all.collect::<Vec<_>>()).unwrap_or_default()));
        }
        let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["lib", "lib/x", "etc", "tmp", "a", "lib/x/b.so", "etc/passwd"]);
        // As `setcap cap_net_admin+ep` writes it.
        assert_eq!(
            seen[4].1,
            [[1, 0, 0, 2, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
        );
        assert!(seen[5].1.is_empty());
    }
}
