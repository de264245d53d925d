//! The program `mesh-release`: everything that a version consists of, for the architecture it runs on.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use charts_release::{VERSION, images::LOCAL_REGISTRY, print, release::Release};
use clap::Parser;

/// Make the artifacts of this version: static programs, images, chart packages, checksums, bills of materials.
#[derive(Debug, Parser)]
#[command(name = "mesh-release", version)]
struct Args {
    /// Folder for the artifacts; must be missing or empty [default: target/mesh-VERSION].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Folder of static programs that are built already.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Prefix of the images' names, such as registry.example.org/mesh.
    #[arg(long, default_value = LOCAL_REGISTRY)]
    registry: String,
    /// Address that the artifacts will be downloaded from, for the krew manifest.
    #[arg(long)]
    url: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let release = Release {
        out: args.out.unwrap_or_else(|| root.join(format!("target/mesh-{VERSION}"))),
        programs: args.programs,
        registry: args.registry,
        url: args.url,
        root,
    };
    match release.make() {
        Ok(files) => {
            for file in files {
                print(&file.display().to_string());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("mesh-release: {error:#}");
            ExitCode::FAILURE
        }
    }
}
