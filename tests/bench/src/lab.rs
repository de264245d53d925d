//! Both ends of a measurement, in network namespaces of their own, and the sidecars that run there.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use tests_harness::Pki;

use crate::{
    bare::Speaks,
    child::{Child, Silent},
    orders::{Answer, Counted, Load, Loaded, Order},
    proxy::{self, Sidecar},
    wire,
};

/// Core of the sidecars; load and backend are on the first.
const SIDECAR_CORE: usize = 1;

/// Two sidecars, and where requests go in.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Pair {
    /// Where requests go in.
    pub(crate) entry: SocketAddr,
    /// Process of the client's sidecar.
    pub(crate) outbound: u32,
    /// Process of the server's sidecar.
    pub(crate) inbound: u32,
}

impl Pair {
    /// The mesh's pair, for bytes.
    pub(crate) fn for_bytes(self) -> Self {
        let entry = proxy::tcp_addr();
        Self { entry, ..self }
    }
}

/// A mesh as it is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The sidecar's program.
    pub(crate) program: PathBuf,
    /// Its threads.
    pub(crate) workers: usize,
    /// Whether it stays on one core.
    pub(crate) is_pinned: bool,
    /// Variables beside the usual ones.
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl Wanted {
    /// A mesh of one worker on one core.
    pub(crate) fn new(program: PathBuf) -> Self {
        Self {
            program,
            workers: 1,
            is_pinned: true,
            variables: Vec::new(),
        }
    }
}

/// The threads of a bare side.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Threads {
    /// How many.
    pub(crate) workers: usize,
    /// Whether they stay on one core.
    pub(crate) is_pinned: bool,
}

impl Threads {
    const ONE: Self = Self {
        workers: 1,
        is_pinned: true,
    };
}

/// Both ends, and what was started there. Whatever is dropped is killed.
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
    /// Lays out both ends. Namespaces must have been made private before.
    pub(crate) fn start(has_namespaces: bool) -> Result<Self> {
        let (folder, pki) = (tempfile::tempdir()?, Pki::new());
        pki.save(folder.path())?;
        // Nobody checks it; mesh-proxy wants one.
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

    /// A command that runs beside `side`; on the sidecars' core if it is to stay on one.
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

    /// Starts the mesh's pair; there can be one at a time.
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

    /// Runs load.
    pub(crate) fn load(&mut self, load: Load) -> Result<Loaded> {
        match self.client.order(&Order::Load(vec![load]))?.loaded()?.pop() {
            Some(loaded) => Ok(loaded),
            None => bail!("the load says nothing"),
        }
    }

    /// Fails if a sidecar has counted something wrong, or nothing over mutual TLS: a measurement of something else than
    /// a mesh that works would be worse than none.
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

/// The program mesh-proxy beside this one.
pub(crate) fn beside_myself() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().unwrap_or(Path::new(".")).join("mesh-proxy"))
}
