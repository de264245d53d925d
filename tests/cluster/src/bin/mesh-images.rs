//! The program `mesh-images`: makes the images of the tests without running tests, to load them into a cluster by hand.
//!
//! `mesh-images [DIR]` takes the programs beside itself, and writes into DIR or into `images` beside itself.

use std::{env, path::PathBuf, process::ExitCode};

use tests_cluster::{images, say};

fn main() -> ExitCode {
    let made = images::programs().and_then(|programs| {
        let out = env::args_os()
            .nth(1)
            .map_or_else(|| programs.join("images"), PathBuf::from);
        images::make(&programs, &out)
    });
    match made {
        Ok(archives) => {
            for archive in archives {
                say(&archive.display().to_string());
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            say(&format!("mesh-images: {why}"));
            ExitCode::FAILURE
        }
    }
}
