//! Child processes, which end with the benchmark.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::orders::{Answer, Order};

/// Process that takes commands and answers them.
pub(crate) struct Child {
    name: &'static str,
    process: Process,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Child {
    /// Starts it.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let (Some(orders), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("{name} has no pipes");
        };
        Ok(Self {
            name,
            process,
            orders,
            answers: BufReader::new(answers),
        })
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Reads the next answer.
    pub(crate) fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            bail!("{} has ended", self.name);
        }
        match serde_json::from_str(&line).with_context(|| format!("{} says {line:?}", self.name))? {
            Answer::Failed(reason) => bail!("{}: {reason}", self.name),
            answer => Ok(answer),
        }
    }

    /// Sends a command and waits for the answer.
    pub(crate) fn order(&mut self, order: &Order) -> Result<Answer> {
        let line = serde_json::to_string(order)?;
        writeln!(self.orders, "{line}").with_context(|| format!("{} has ended", self.name))?;
        self.answer()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
