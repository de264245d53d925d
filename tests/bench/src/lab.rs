//! Both ends of a measurement in network namespaces of their own, with their sidecars.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use tests_harness::{Pki, process::Silent};

use crate::{
    bare::Speaks,
    child::Child,
    orders::{Answer, Counted, Load, Loaded, Order},
    proxy::{self, Sidecar},
    wire,
};

/// Core of the sidecars; load and backend are on the first.
const SIDECAR_CORE: usize = 1;

/// Pair of sidecars.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Pair {
    /// Address that requests are sent to.
    pub(crate) entry: SocketAddr,
    /// Process id of the client's sidecar.
    pub(crate) outbound: u32,
    /// Process id of the server's sidecar.
    pub(crate) inbound: u32,
}

impl Pair {
    /// Pair of the mesh, for bytes.
    pub(crate) fn for_bytes(self) -> Self {
        let entry = proxy::tcp_addr();
        Self { entry, ..self }
    }
}

/// Options of a mesh.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Program of the sidecar.
    pub(crate) program: PathBuf,
    /// Threads of the sidecar.
    pub(crate) workers: usize,
    /// Pins it to one core.
    pub(crate) is_pinned: bool,
    /// Additional variables.
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl Wanted {
    /// Returns a mesh of one worker on one core.
    pub(crate) fn new(program: PathBuf) -> Self {
        Self {
            program,
            workers: 1,
            is_pinned: true,
            variables: Vec::new(),
        }
    }
}

/// Threads of a bare side.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Threads {
    /// Number.
    pub(crate) workers: usize,
    /// Pins them to one core.
    pub(crate) is_pinned: bool,
}

impl Threads {
    const ONE: Self = Self {
        workers: 1,
        is_pinned: true,
    };
}

/// Both ends with their processes, which are killed when dropped.
pub(crate) struct Lab {
    folder: tempfile::TempDir,
    pki: Pki,
    pub(crate) client: Child,
    pub(crate) server: Child,
    has_namespaces: bool,
    bare: Vec<Child>,
    mesh: Vec<Silent>,
}

impl Lab {
    /// Sets up both ends. The namespaces must already be private.
    pub(crate) fn start(has_namespaces: bool) -> Result<Self> {
        let (folder, pki) = (tempfile::tempdir()?, Pki::new());
        pki.save(folder.path())?;
        // It is not checked, but mesh-proxy requires one.
        std::fs::write(folder.path().join("token"), "token")?;
        let start = |name, role: &str| -> Result<Child> {
            let mut command = myself()?;
            command.args(["side", "--role", role, "--pki"]).arg(folder.path());
            if !has_namespaces {
                command.arg("--loopback");
            }
            let mut child = Child::start(name, &mut command)?;
            let entered = child.answer()?;
            ensure!(matches!(entered, Answer::Entered), "{name} says {entered:?}");
            Ok(child)
        };
        let (mut client, mut server) = (start("the client side", "client")?, start("the server side", "server")?);
        if has_namespaces {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(wire::lay([client.pid(), server.pid()]))?;
        }
        client.order(&Order::Start)?;
        server.order(&Order::Start)?;
        Ok(Self {
            folder,
            pki,
            client,
            server,
            has_namespaces,
            bare: Vec::new(),
            mesh: Vec::new(),
        })
    }

    /// Command in the namespace of `side`, on the core of the sidecars if pinned.
    fn beside(&self, side: &Child, is_pinned: bool) -> Result<Command> {
        let pid = if self.has_namespaces { side.pid() } else { 0 };
        let mut command = myself()?;
        command.args(["enter", "--pid", &pid.to_string()]);
        if is_pinned {
            command.args(["--core", &SIDECAR_CORE.to_string()]);
        }
        command.arg("--");
        Ok(command)
    }

    /// Starts a bare pair of one thread on one core.
    pub(crate) fn bare(&mut self, speaks: Speaks) -> Result<Pair> {
        self.bare_with(speaks, Threads::ONE)
    }

    /// Starts a bare pair.
    pub(crate) fn bare_with(&mut self, speaks: Speaks, threads: Threads) -> Result<Pair> {
        let here = |port| (Ipv4Addr::LOCALHOST, port).into();
        let listen = if self.has_namespaces {
            (wire::SERVER, proxy::bare_port(speaks)).into()
        } else {
            here(proxy::bare_port(speaks))
        };
        let backend = here(match speaks {
            Speaks::Http1 | Speaks::Http2 => proxy::BACKEND_PORT,
            Speaks::Tcp => proxy::ECHO_PORT,
        });
        let (addr, inbound) = self.bare_side("bare-inbound", (speaks, threads), (listen, backend))?;
        let (entry, outbound) = self.bare_side("bare-outbound", (speaks, threads), (here(0), addr))?;
        Ok(Pair {
            entry,
            outbound,
            inbound,
        })
    }

    fn bare_side(
        &mut self,
        part: &'static str,
        (speaks, threads): (Speaks, Threads),
        (listen, target): (SocketAddr, SocketAddr),
    ) -> Result<(SocketAddr, u32)> {
        let side = if part == "bare-inbound" {
            &self.server
        } else {
            &self.client
        };
        let mut command = self.beside(side, threads.is_pinned)?;
        command
            .arg(std::env::current_exe()?)
            .args([part, "--listen", &listen.to_string(), "--target", &target.to_string()])
            .args(["--speaks", speaks.as_str()])
            .args(["--workers", &threads.workers.to_string(), "--pki"])
            .arg(self.folder.path());
        let mut child = Child::start(part, &mut command)?;
        let addr = match child.answer()? {
            Answer::Listening(addr) => addr,
            other => bail!("it should listen, but says {other:?}"),
        };
        let pid = child.pid();
        self.bare.push(child);
        Ok((addr, pid))
    }

    /// Starts the pair of the mesh; only one can run at a time.
    pub(crate) fn mesh(&mut self, wanted: &Wanted) -> Result<Pair> {
        let Wanted { program, workers, .. } = wanted;
        ensure!(
            program.is_file(),
            "there is no sidecar at {}: build mesh-proxy, or say where it is",
            program.display()
        );
        self.mesh.clear();
        let (anchors, workers) = (self.pki.anchors_pem(), *workers);
        let mut pids = Vec::new();
        for (account, address) in [("client", wire::CLIENT), ("server", wire::SERVER)] {
            let side = if account == "client" {
                &self.client
            } else {
                &self.server
            };
            std::fs::create_dir_all(self.folder.path().join(account))?;
            let mut command = self.beside(side, wanted.is_pinned)?;
            let sidecar = Sidecar {
                account,
                address,
                workers,
            };
            command.arg(program).env_clear();
            command.envs(proxy::environment(&sidecar, self.folder.path(), &anchors));
            command.envs(wanted.variables.iter().cloned());
            let sidecar = Silent::start("the sidecar", &mut command)?;
            pids.push(sidecar.pid());
            self.mesh.push(sidecar);
        }
        self.client.order(&Order::Await(proxy::admin_addr()))?;
        self.server.order(&Order::Await(proxy::admin_addr()))?;
        Ok(Pair {
            entry: proxy::service_addr(),
            outbound: pids[0],
            inbound: pids[1],
        })
    }

    /// Runs a load.
    pub(crate) fn load(&mut self, load: Load) -> Result<Loaded> {
        match self.client.order(&Order::Load(vec![load]))?.loaded()?.pop() {
            Some(loaded) => Ok(loaded),
            None => bail!("the load says nothing"),
        }
    }

    /// Fails if a sidecar has counted errors, or nothing over mutual TLS: measuring anything but a working mesh is
    /// worse than not measuring.
    pub(crate) fn check(&mut self) -> Result<()> {
        for side in [&mut self.client, &mut self.server] {
            let Counted { is_meshed, errors } = side.order(&Order::Count(proxy::admin_addr()))?.counted()?;
            ensure!(is_meshed, "a sidecar has counted no request over mutual TLS");
            ensure!(
                errors.is_empty(),
                "a sidecar has counted errors:\n{}",
                errors.join("\n")
            );
        }
        Ok(())
    }
}

fn myself() -> Result<Command> {
    Ok(Command::new(
        std::env::current_exe().context("cannot find this program")?,
    ))
}

/// Path of the mesh-proxy beside this program.
pub(crate) fn beside_myself() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().unwrap_or(Path::new(".")).join("mesh-proxy"))
}
