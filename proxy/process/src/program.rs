//! The outermost of a program: a runtime, and one line on stderr if it fails.

use std::{fmt::Display, future::Future, io, process::ExitCode};

use tokio::runtime::Runtime;

/// Runs `program` on `runtime` to its end. An error is told with all that caused it, after the program's name.
pub fn run<E: Display>(
    name: &str,
    runtime: io::Result<Runtime>,
    program: impl Future<Output = Result<(), E>>,
) -> ExitCode {
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(program).map_err(|error| format!("{error:#}")),
        Err(error) => Err(format!("cannot start the runtime: {error}")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_tells_how_it_ended() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build();
        let ended = |result: Result<(), &'static str>| run("test", runtime(), async move { result });
        assert_eq!(ended(Ok(())), ExitCode::SUCCESS);
        assert_eq!(ended(Err("broken")), ExitCode::FAILURE);
        let none = Err(io::Error::other("no threads"));
        assert_eq!(run("test", none, async { Ok::<_, String>(()) }), ExitCode::FAILURE);
    }
}
