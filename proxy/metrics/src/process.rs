//! Metrics of the process itself, read for each scrape.

use std::{
    fmt::Write as _,
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use nix::unistd::{SysconfVar, sysconf};

use crate::{names, registry::BuildInfo};

/// Writes `process_*`. Values that the system does not report are left out.
pub(crate) fn write(out: &mut String, started_at: SystemTime) {
    clocks(out, started_at);
    if let Some(stat) = Stat::read() {
        counter(
            out,
            "process_cpu_seconds_total",
            "CPU time, user and system",
            stat.cpu_seconds,
        );
        gauge(
            out,
            "process_virtual_memory_bytes",
            "Virtual memory",
            stat.virtual_bytes,
        );
        gauge(
            out,
            "process_resident_memory_bytes",
            "Resident memory",
            stat.resident_bytes,
        );
        gauge(out, "process_threads", "Threads", stat.threads);
    }
    if let Ok(fds) = fs::read_dir("/proc/self/fd") {
        let open = fds.count().saturating_sub(1) as f64;
        gauge(out, "process_open_fds", "Open file descriptors", open);
    }
    if let Some(limit) = max_fds() {
        gauge(out, "process_max_fds", "Limit of open file descriptors", limit);
    }
    if let Some((received, sent)) = network() {
        let (receive, transmit) = (
            "process_network_receive_bytes_total",
            "process_network_transmit_bytes_total",
        );
        counter(out, receive, "Bytes received in the network namespace", received);
        counter(out, transmit, "Bytes sent in the network namespace", sent);
    }
}

fn clocks(out: &mut String, started_at: SystemTime) {
    let unix = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .map(|d| d.as_secs_f64())
            .unwrap_or_default()
    };
    let uptime = started_at.elapsed().map(|d| d.as_secs_f64()).unwrap_or_default();
    let started = unix(started_at);
    gauge(
        out,
        names::PROCESS_START_TIME,
        "When the process began, as Unix time",
        started,
    );
    gauge(
        out,
        "process_clock_time_seconds",
        "The process's clock, as Unix time",
        unix(SystemTime::now()),
    );
    counter(
        out,
        "process_uptime_seconds_total",
        "Time since the process began",
        uptime,
    );
}

fn counter(out: &mut String, name: &str, help: &str, value: f64) {
    let family = name.strip_suffix("_total").unwrap_or(name);
    put(
        out,
        format_args!("# HELP {family} {help}.\n# TYPE {family} counter\n{name} {value}\n"),
    );
}

fn gauge(out: &mut String, name: &str, help: &str, value: f64) {
    put(
        out,
        format_args!("# HELP {name} {help}.\n# TYPE {name} gauge\n{name} {value}\n"),
    );
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes any text");
}

/// Writes `proxy_build_info`.
pub(crate) fn build_info(out: &mut String, build: &BuildInfo) {
    let BuildInfo {
        version,
        git_sha,
        profile,
        vendor,
        date,
    } = build;
    writeln!(
        out,
        "# HELP proxy_build_info Build of the proxy.\n# TYPE proxy_build_info gauge\nproxy_build_info{{date=\"{date}\",\
         git_sha=\"{git_sha}\",profile=\"{profile}\",vendor=\"{vendor}\",version=\"{version}\"}} 1"
    )
    .expect("a String takes any text");
}

struct Stat {
    cpu_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
    threads: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The program's name is in parentheses and may hold anything, so fields are counted from its end.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
        let ticks = sysconf(SysconfVar::CLK_TCK).ok()?? as f64;
        let page = sysconf(SysconfVar::PAGE_SIZE).ok()?? as f64;
        Some(Self {
            cpu_seconds: (number(11)? + number(12)?) / ticks,
            threads: number(17)?,
            virtual_bytes: number(20)?,
            resident_bytes: number(21)? * page,
        })
    }
}

fn max_fds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Bytes received and sent by all interfaces but loopback.
fn network() -> Option<(f64, f64)> {
    let text = fs::read_to_string("/proc/self/net/dev").ok()?;
    let mut sums = (0.0, 0.0);
    for line in text.lines().skip(2) {
        let (name, figures) = line.split_once(':')?;
        if name.trim() == "lo" {
            continue;
        }
        let figures: Vec<f64> = figures.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        sums.0 += figures.first()?;
        sums.1 += figures.get(8)?;
    }
    Some(sums)
}
