//! Single keys typed at the terminal, without waiting for Enter.

use std::io::{IsTerminal as _, Read as _, stdin};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// Limit of keys typed ahead.
const PENDING: usize = 16;

/// Reads single keys from standard input. Restores the terminal on drop.
pub(crate) struct Keys {
    original: Termios,
    typed: mpsc::Receiver<u8>,
    interrupt: Signal,
}

impl Keys {
    /// Starts reading keys, if standard input is a terminal.
    pub(crate) fn open() -> Option<Self> {
        if !stdin().is_terminal() {
            return None;
        }
        // Handled here, so that the terminal is restored.
        let interrupt = signal(SignalKind::interrupt()).ok()?;
        let original = tcgetattr(stdin()).ok()?;
        let mut raw = original.clone();
        // Signals stay enabled: Ctrl-C is a signal, not a key.
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw).ok()?;
        let (sender, typed) = mpsc::channel(PENDING);
        // A thread of its own: it is blocked in a read when the program ends.
        std::thread::spawn(move || {
            let mut key = [0];
            while stdin().read_exact(&mut key).is_ok() && sender.blocking_send(key[0]).is_ok() {}
        });
        Some(Self {
            original,
            typed,
            interrupt,
        })
    }

    /// Waits until `key` or Ctrl-C is typed. Cancel-safe.
    pub(crate) async fn wait_for(&mut self, key: u8) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                Some(typed) = self.typed.recv() => if typed == key {
                    return;
                },
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, &self.original);
    }
}
