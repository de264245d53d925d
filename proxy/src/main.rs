//! The program `mesh-proxy`: the sidecar. Configured by the environment; see `env.rs`.

mod accept;
mod admin;
mod control;
mod env;
mod memory;
mod run;
mod tap;
mod wait;
mod worker;

use std::process::ExitCode;

/// Exit status of a bad configuration, as upstream's.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("await") {
        return wait::run(std::env::args().skip(2));
    }
    let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let config = match env::Config::read(environment.collect()) {
        Ok(config) => config,
        Err(errors) => {
            run::report(&errors);
            return ExitCode::from(EX_USAGE);
        }
    };
    match run::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
