//! Programs of the suite, and one of them with everything that it needs.

use std::{
    any::Any,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    good::Good,
    limited::Limiter,
    target::{Listener, Target},
};

/// Paths of the programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Starts each under its limits.
    pub limiter: Limiter,
    /// The sidecar's.
    pub proxy: PathBuf,
    /// Folder of the others.
    pub folder: PathBuf,
}

impl Programs {
    /// Path of a program of the control plane.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Program that has the listener.
    pub fn program(&self, listener: Listener) -> PathBuf {
        match listener {
            Listener::Destination | Listener::Policy => self.path("mesh-destination"),
            Listener::Identity => self.path("mesh-identity"),
            Listener::Injector => self.path("mesh-injector"),
            Listener::TapApi => self.path("mesh-viz"),
            _ => self.proxy.clone(),
        }
    }

    /// Returns whether that program has been built.
    pub fn has(&self, listener: Listener) -> bool {
        Path::exists(&self.program(listener))
    }
}

/// Running program with everything that it needs; ended when dropped.
pub struct World {
    /// Attacked listener.
    pub target: Target,
    /// Attacked process.
    pub pid: u32,
    /// Its admin server.
    pub admin: SocketAddr,
    /// Good clients.
    pub good: Vec<Good>,
    /// Parts that end with it.
    pub parts: Box<dyn Any>,
}
