//! One release, step by step.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use cargo_metadata::MetadataCommand;

use crate::{
    VERSION, architecture,
    archive::Archive,
    images, krew,
    linked::{Graph, Linked},
    program,
    sbom::{self, Platform},
    sha256,
};

/// The command line's program, which is also in an archive of its own.
const CLI: &str = "mesh";
/// Packages with the programs that ship.
const PACKAGES: [&str; 8] = [
    "mesh",
    "mesh-cni",
    "mesh-destination",
    "mesh-identity",
    "mesh-init",
    "mesh-injector",
    "mesh-proxy",
    "mesh-viz",
];
/// Shells with a completion script.
const SHELLS: [&str; 3] = ["bash", "fish", "zsh"];
/// Charts, each a package of its own.
const CHARTS: [&str; 4] = ["mesh-crds", "mesh-control-plane", "mesh-viz", "mesh-cni"];

/// Settings of a release.
#[derive(Debug)]
pub struct Release {
    /// Root of the tree.
    pub root: PathBuf,
    /// Folder for everything that is made.
    pub out: PathBuf,
    /// Folder of programs that are built already; none builds them.
    pub programs: Option<PathBuf>,
    /// Prefix of the images' names.
    pub registry: String,
    /// Address that the artifacts will be downloaded from; none leaves out the krew manifest.
    pub url: Option<String>,
}

impl Release {
    /// Makes everything, and returns the files in the order of `SHA256SUMS`.
    pub fn make(&self) -> anyhow::Result<Vec<PathBuf>> {
        if self.out.exists() {
            let is_empty = fs::read_dir(&self.out)
                .with_context(|| self.out.display().to_string())?
                .next()
                .is_none();
            ensure!(is_empty, "{} is not empty", self.out.display());
        }
        fs::create_dir_all(&self.out).with_context(|| format!("cannot create {}", self.out.display()))?;
        let built = match &self.programs {
            Some(folder) => folder.clone(),
            None => self.build()?,
        };
        let programs = self.out.join("programs");
        self.seal(&built, &programs)?;
        self.archive(&programs)?;
        self.images(&programs)?;
        fs::remove_dir_all(&programs).with_context(|| format!("cannot remove {}", programs.display()))?;
        self.charts()?;
        self.sums()
    }

    /// Builds the static programs; returns their folder.
    fn build(&self) -> anyhow::Result<PathBuf> {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&self.root).args(["dist", "--locked"]);
        for package in PACKAGES {
            cargo.args(["-p", package]);
        }
        let status = cargo.status().context("cannot run cargo")?;
        ensure!(status.success(), "cargo dist failed: {status}");
        let host = rustc("host")?;
        let target = self.metadata()?.target_directory;
        Ok(target.join(host).join("dist").into_std_path_buf())
    }

    fn metadata(&self) -> anyhow::Result<cargo_metadata::Metadata> {
        let mut command = MetadataCommand::new();
        command.current_dir(&self.root).other_options(["--locked".to_owned()]);
        command.exec().context("cannot read the workspace's metadata")
    }

    /// Archive of the command line with its completions and man pages.
    fn archive(&self, programs: &Path) -> anyhow::Result<()> {
        let name = format!("mesh-{VERSION}-linux-{}", architecture());
        let program = programs.join(CLI);
        let mut archive = Archive::default();
        let mut add = |path: &str, mode: u32, data: &[u8]| archive.add(&format!("{name}/{path}"), mode, data);
        add(CLI, 0o755, &read(&program)?)?;
        for file in ["LICENSE", "README.md", "CHANGELOG.md"] {
            add(file, 0o644, &read(&self.root.join(file))?)?;
        }
        for shell in SHELLS {
            add(
                &format!("completions/mesh.{shell}"),
                0o644,
                &run(&program, &["completion", shell])?,
            )?;
        }
        let pages = self.out.join("man");
        run(&program, &["man-pages", &pages.display().to_string()])?;
        archive.add_folder(&pages, &format!("{name}/man/man1"))?;
        fs::remove_dir_all(&pages).with_context(|| pages.display().to_string())?;
        let bytes = archive.finish()?;
        let file = format!("{name}.tar.gz");
        if let Some(url) = &self.url {
            let manifest = krew::manifest(&format!("{}/{file}", url.trim_end_matches('/')), &sha256(&bytes));
            self.write(&format!("krew-{}.yaml", architecture()), manifest.as_bytes())?;
        }
        self.write(&file, &bytes)
    }

    fn images(&self, programs: &Path) -> anyhow::Result<()> {
        let folder = self.out.join("images");
        let request = images::Request {
            programs,
            out: &folder,
            registry: &self.registry,
            released_only: true,
        };
        for archive in images::make(&request).map_err(anyhow::Error::msg)? {
            let stem = archive.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let name = format!("image-{stem}-{VERSION}-linux-{}.tar", architecture());
            fs::rename(&archive, self.out.join(&name)).with_context(|| name.clone())?;
        }
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())
    }

    fn charts(&self) -> anyhow::Result<()> {
        for chart in CHARTS {
            let folder = self.root.join("charts").join(chart);
            let text = String::from_utf8(read(&folder.join("Chart.yaml"))?)?;
            if !text.lines().any(|line| line == format!("version: {VERSION}")) {
                bail!("charts/{chart}/Chart.yaml is not of version {VERSION}");
            }
            let mut archive = Archive::default();
            archive.add_folder(&folder, chart)?;
            self.write(&format!("{chart}-{VERSION}.tgz"), &archive.finish()?)?;
        }
        Ok(())
    }

    /// Checks the programs, and writes each to `to` with its crates inside, and its bill of materials.
    fn seal(&self, built: &Path, to: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
        let metadata = self.metadata()?;
        let graph = Graph::read(&self.root, &PACKAGES)?;
        let platform = platform()?;
        for program in images::released_programs() {
            let linked = linked(&graph, &metadata, program)?;
            program::seal(&built.join(program), &to.join(program), &linked)?;
            let document = sbom::document(program, &linked, &platform);
            let text = serde_json::to_vec_pretty(&document)?;
            self.write(&format!("sbom-{program}-{VERSION}.cdx.json"), &text)?;
        }
        Ok(())
    }

    /// Writes `SHA256SUMS` over everything that was made.
    fn sums(&self) -> anyhow::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.out)?.collect::<Result<Vec<_>, _>>()?;
        let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        files.sort();
        let mut lines = String::new();
        for file in &files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            lines.push_str(&format!("{}  {name}\n", sha256(&read(file)?)));
        }
        self.write("SHA256SUMS", lines.as_bytes())?;
        files.push(self.out.join("SHA256SUMS"));
        Ok(files)
    }

    fn write(&self, name: &str, data: &[u8]) -> anyhow::Result<()> {
        let path = self.out.join(name);
        fs::write(&path, data).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Crates of a program, which one of the packages makes.
fn linked(graph: &Graph, metadata: &cargo_metadata::Metadata, program: &str) -> anyhow::Result<Linked> {
    let packages = metadata.workspace_packages();
    let package = packages.iter().find(|package| {
        let mut targets = package.targets.iter();
        targets.any(|target| target.is_bin() && target.name == program)
    });
    let package = package.with_context(|| format!("no package of the workspace makes the program {program}"))?;
    graph.linked(&package.name)
}

/// Value of a field of `rustc -vV`.
fn rustc(field: &str) -> anyhow::Result<String> {
    let text = run(Path::new("rustc"), &["-vV"])?;
    let text = String::from_utf8_lossy(&text);
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
    value
        .map(str::to_owned)
        .with_context(|| format!("rustc -vV has no {field}"))
}

/// Libraries of this machine that are linked into every program.
fn platform() -> anyhow::Result<Platform> {
    // On other C libraries the variable is unknown.
    let glibc = run(Path::new("getconf"), &["GNU_LIBC_VERSION"]).ok();
    let glibc = glibc.and_then(|text| String::from_utf8(text).ok());
    Ok(Platform {
        rust: rustc("release")?,
        glibc: glibc.and_then(|text| Some(text.trim().strip_prefix("glibc ")?.to_owned())),
    })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Output of a program that must succeed.
fn run(program: &Path, args: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new(program).args(args).output();
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} {args:?} failed: {}",
        program.display(),
        stderr.trim()
    );
    Ok(output.stdout)
}
