//! Single keys where terminals are not POSIX: none are read, and Ctrl-C ends the program.

use std::convert::Infallible;

/// Reader of single keys; there is none on this system.
pub(crate) struct Keys(Infallible);

impl Keys {
    /// Starts reading keys: never.
    pub(crate) fn open() -> Option<Self> {
        None
    }

    /// Waits until `key` is typed.
    pub(crate) async fn wait_for(&mut self, _key: u8) {
        match self.0 {}
    }
}
