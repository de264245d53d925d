//! The benchmark: lays out both ends, starts both pairs, measures them in turns.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use tests_harness::Pki;

use crate::{
    args::Options,
    child::{Child, Silent},
    cpu::Cpu,
    namespaces,
    orders::{Answer, Load, Order},
    proxy,
    report::{Measured, Report},
    wire,
};

/// Before the first measurement: connections are made, discovery has answered, caches are warm.
const WARM_UP_MS: u64 = 1_000;
/// Core of the sidecars; load and backend are on the first.
const SIDECAR_CORE: usize = 1;

/// Two sidecars, and where requests go in.
struct Pair {
    entry: SocketAddr,
    outbound: u32,
    inbound: u32,
}

/// Both ends, and what was started there. Whatever is dropped is killed.
struct Lab {
    folder: tempfile::TempDir,
    pki: Pki,
    client: Child,
    server: Child,
    backend: SocketAddr,
    namespaces: bool,
}

/// Runs it.
pub(crate) fn run(options: Options) -> Result<()> {
    let mut lab = Lab::start(!options.loopback)?;
    let mut running: Vec<Child> = Vec::new();
    let mut proxies: Vec<Silent> = Vec::new();
    let bare = lab.bare(&mut running)?;
    let mesh = if options.bare_only {
        None
    } else {
        Some(lab.mesh(&options, &mut proxies)?)
    };
    let mut report = Report {
        connections: options.connections,
        seconds: options.seconds,
        mesh: vec![],
        bare: vec![],
    };
    for pair in mesh.iter().chain([&bare]) {
        lab.load(pair, options.connections, WARM_UP_MS)?;
    }
    if mesh.is_some() {
        lab.client.order(&Order::CheckMeshed(proxy::admin_addr()))?;
        lab.server.order(&Order::CheckMeshed(proxy::admin_addr()))?;
    }
    for round in 0..options.rounds {
        // Every second round begins with the other pair.
        let mut turns = [true, false];
        if round % 2 == 1 {
            turns.reverse();
        }
        for is_mesh in turns {
            match (&mesh, is_mesh) {
                (Some(mesh), true) => report.mesh.push(lab.measure(mesh, &options)?),
                (None, true) => {}
                (_, false) => report.bare.push(lab.measure(&bare, &options)?),
            }
        }
    }
    finish(&options, &report)
}

fn finish(options: &Options, report: &Report) -> Result<()> {
    let Options {
        connections,
        rounds,
        seconds,
        ..
    } = options;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{connections} connections, {rounds} rounds of {seconds} s\n{}",
        report.table()
    )?;
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&report.json())?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let (Some(most), Some(ratios)) = (options.max_ratio, report.ratios()) {
        let (outbound, inbound) = (ratios.outbound, ratios.inbound);
        ensure!(
            outbound <= most && inbound <= most,
            "the sidecars cost {outbound:.2} (outbound) and {inbound:.2} (inbound) times the bare pair, at most {most} is allowed"
        );
    }
    Ok(())
}

impl Lab {
    fn start(with_namespaces: bool) -> Result<Self> {
        if with_namespaces {
            namespaces::private()?;
        }
        let (folder, pki) = (tempfile::tempdir()?, Pki::new());
        pki.save(folder.path())?;
        // Nobody checks it; mesh-proxy wants one.
        std::fs::write(folder.path().join("token"), "token")?;
        let start = |name, role: &str| -> Result<Child> {
            let mut command = myself()?;
            command.args(["side", "--role", role, "--pki"]).arg(folder.path());
            if !with_namespaces {
                command.arg("--loopback");
            }
            let mut child = Child::start(name, &mut command)?;
            let entered = child.answer()?;
            ensure!(matches!(entered, Answer::Entered), "{name} says {entered:?}");
            Ok(child)
        };
        let (mut client, mut server) = (start("the client side", "client")?, start("the server side", "server")?);
        if with_namespaces {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(wire::lay([client.pid(), server.pid()]))?;
        }
        client.order(&Order::Start)?;
        let backend = listening(server.order(&Order::Start)?)?;
        Ok(Self {
            folder,
            pki,
            client,
            server,
            backend,
            namespaces: with_namespaces,
        })
    }

    /// A command that runs beside `side`, on the sidecars' core.
    fn beside(&self, side: &Child) -> Result<Command> {
        let pid = if self.namespaces { side.pid() } else { 0 };
        let mut command = myself()?;
        command.args([
            "enter",
            "--pid",
            &pid.to_string(),
            "--core",
            &SIDECAR_CORE.to_string(),
            "--",
        ]);
        Ok(command)
    }

    fn bare(&self, running: &mut Vec<Child>) -> Result<Pair> {
        let mut start = |name, side, part: &str, listen: SocketAddr, target: SocketAddr| -> Result<(SocketAddr, u32)> {
            let mut command = self.beside(side)?;
            command
                .arg(std::env::current_exe()?)
                .args([part, "--listen", &listen.to_string()]);
            command
                .args(["--target", &target.to_string(), "--pki"])
                .arg(self.folder.path());
            let mut child = Child::start(name, &mut command)?;
            let addr = listening(child.answer()?)?;
            let pid = child.pid();
            running.push(child);
            Ok((addr, pid))
        };
        let (ip, port) = if self.namespaces {
            (wire::SERVER, proxy::BARE_PORT)
        } else {
            (Ipv4Addr::LOCALHOST, 0)
        };
        let backend = (Ipv4Addr::LOCALHOST, self.backend.port()).into();
        let (addr, inbound) = start(
            "the bare server side",
            &self.server,
            "bare-inbound",
            (ip, port).into(),
            backend,
        )?;
        let here = (Ipv4Addr::LOCALHOST, 0).into();
        let (entry, outbound) = start("the bare client side", &self.client, "bare-outbound", here, addr)?;
        Ok(Pair {
            entry,
            outbound,
            inbound,
        })
    }

    fn mesh(&mut self, options: &Options, running: &mut Vec<Silent>) -> Result<Pair> {
        let program = options.proxy.clone().map_or_else(beside_myself, Ok)?;
        ensure!(
            program.is_file(),
            "there is no mesh-proxy at {}: build it, or say where it is by --proxy",
            program.display()
        );
        let anchors = self.pki.anchors_pem();
        let mut pids = Vec::new();
        for (account, address, side) in [
            ("client", wire::CLIENT, &self.client),
            ("server", wire::SERVER, &self.server),
        ] {
            std::fs::create_dir(self.folder.path().join(account))?;
            let mut command = self.beside(side)?;
            command.arg(&program).env_clear();
            command.envs(proxy::environment(account, address, self.folder.path(), &anchors));
            let sidecar = Silent::start("mesh-proxy", &mut command)?;
            pids.push(sidecar.pid());
            running.push(sidecar);
        }
        self.client.order(&Order::Await(proxy::admin_addr()))?;
        self.server.order(&Order::Await(proxy::admin_addr()))?;
        Ok(Pair {
            entry: proxy::service_addr(),
            outbound: pids[0],
            inbound: pids[1],
        })
    }

    fn measure(&mut self, pair: &Pair, options: &Options) -> Result<Measured> {
        let before = (Cpu::of(pair.outbound)?, Cpu::of(pair.inbound)?);
        let load = self.load(pair, options.connections, options.seconds * 1000)?;
        let (outbound, inbound) = (Cpu::of(pair.outbound)?, Cpu::of(pair.inbound)?);
        let each = |after: Cpu, before| after.each(before, load.requests);
        Ok(Measured {
            outbound: each(outbound, before.0),
            inbound: each(inbound, before.1),
            load,
        })
    }

    fn load(&mut self, pair: &Pair, connections: usize, ms: u64) -> Result<crate::orders::Loaded> {
        match self.client.order(&Order::Load(Load {
            addr: pair.entry,
            connections,
            ms,
        }))? {
            Answer::Loaded(loaded) => Ok(loaded),
            other => bail!("the load says {other:?}"),
        }
    }
}

fn listening(answer: Answer) -> Result<SocketAddr> {
    match answer {
        Answer::Listening(addr) => Ok(addr),
        other => bail!("it should listen, but says {other:?}"),
    }
}

fn myself() -> Result<Command> {
    Ok(Command::new(
        std::env::current_exe().context("cannot find this program")?,
    ))
}

fn beside_myself() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().unwrap_or(Path::new(".")).join("mesh-proxy"))
}
