//! The program `mesh-images`: images of the programs beside it, to load into a cluster by hand.

use std::{path::PathBuf, process::ExitCode};

use charts_release::{
    images::{self, LOCAL_REGISTRY, Request},
    print,
};
use clap::Parser;

/// Make an image archive of each program of the mesh, for `kind load image-archive` and its like.
#[derive(Debug, Parser)]
#[command(name = "mesh-images", version)]
struct Args {
    /// Folder for the archives [default: `images` beside the programs].
    out: Option<PathBuf>,
    /// Folder of the programs [default: this program's].
    #[arg(long, env = "MESH_PROGRAMS")]
    programs: Option<PathBuf>,
    /// Prefix of the images' names, such as registry.example.org/mesh.
    #[arg(long, default_value = LOCAL_REGISTRY)]
    registry: String,
}

fn make(args: Args) -> Result<Vec<PathBuf>, String> {
    let programs = args.programs.map_or_else(images::programs, Ok)?;
    let out = args.out.unwrap_or_else(|| programs.join("images"));
    images::make(&Request {
        programs: &programs,
        out: &out,
        registry: &args.registry,
        released_only: false,
    })
}

fn main() -> ExitCode {
    match make(Args::parse()) {
        Ok(archives) => {
            for archive in archives {
                print(&archive.display().to_string());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("mesh-images: {error}");
            ExitCode::FAILURE
        }
    }
}
