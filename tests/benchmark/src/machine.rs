//! What the system says of a process and of the machine (Linux: `/proc`).

use std::fmt;
use std::fs::read_to_string;
use std::process::Command;

use anyhow::Context;
use serde_json::{Value, json};

/// Bytes in a kibibyte.
const KIB: u64 = 1024;
const MICROS_PER_SECOND: f64 = 1e6;

/// The memory that a process has to itself, in bytes, and its part of what it shares (PSS).
pub(crate) fn memory_of(process: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = read_to_string(&path).with_context(|| format!("reading {path}"))?;
    kibibytes_in(&text, "Pss:").map(|kibibytes| kibibytes * KIB).with_context(|| format!("no Pss in {path}"))
}

/// The processor time that a process has used, in seconds.
pub(crate) fn cpu_seconds_of(process: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{process}/stat");
    let text = read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let ticks = ticks_in(&text).with_context(|| format!("no times in {path}"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The processor time of a measurement, part by part, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    mer: f64,
    nats: f64,
    bench: f64,
    events: usize,
}

impl Spent {
    /// Up to now, by these processes and this one.
    pub(crate) fn by(mer: u32, nats: u32) -> anyhow::Result<Self> {
        let bench = cpu_seconds_of(std::process::id())?;
        Ok(Self { mer: cpu_seconds_of(mer)?, nats: cpu_seconds_of(nats)?, bench, events: 0 })
    }

    /// With what was spent from one moment to another, on so many events.
    pub(crate) fn add(&mut self, from: Self, to: Self, events: usize) {
        self.mer += to.mer - from.mer;
        self.nats += to.nats - from.nats;
        self.bench += to.bench - from.bench;
        self.events += events;
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |seconds: f64| seconds * MICROS_PER_SECOND / self.events.max(1) as f64;
        let (mer, nats, bench) = (micros(self.mer), micros(self.nats), micros(self.bench));
        write!(f, "CPU per event: mer {mer:.0} µs, nats-server {nats:.0} µs, generator and target {bench:.0} µs")
    }
}

/// The time of all processors, in ticks since the machine was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Processors {
    all: u64,
    /// What this machine wanted and was not given, where it is a virtual one.
    stolen: u64,
}

impl Processors {
    pub(crate) fn now() -> anyhow::Result<Self> {
        let path = "/proc/stat";
        let text = read_to_string(path).with_context(|| format!("reading {path}"))?;
        Self::in_stat(&text).with_context(|| format!("no times in {path}"))
    }

    /// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal. What follows is in user.
    fn in_stat(stat: &str) -> Option<Self> {
        let times = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
        let times: Vec<u64> = times.map(|ticks| ticks.parse().ok()).collect::<Option<_>>()?;
        Some(Self { all: times.iter().sum(), stolen: *times.get(7)? })
    }

    /// Which part of the time from then until now was stolen, 0 to 1.
    pub(crate) fn stolen_since(self, then: Self) -> f64 {
        // A machine that was moved to another host may have had less stolen than before.
        self.stolen.saturating_sub(then.stolen) as f64 / self.all.saturating_sub(then.all).max(1) as f64
    }
}

/// `utime` and `stime` of `/proc/PID/stat`. The name before them may have anything in it, but it ends with the last
/// bracket.
fn ticks_in(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some(fields.nth(11)?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn kibibytes_in(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// What was measured on, and with which nats-server.
pub(crate) fn description() -> Value {
    let nats = Command::new(::tests::nats::binary()).arg("--version").output();
    let nats = nats.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu_info = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu_info.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
    let memory = kibibytes_in(&read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal:");
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "cpus": cpus,
        "model": model.unwrap_or("unknown"),
        "memory_gib": memory.map(|kibibytes| kibibytes / KIB / KIB),
        "nats": nats,
        "system": format!("{} {}", std::env::consts::OS, kernel.trim()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_whatever_the_process_is_called() {
        let stat = "42 (a) (b c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15";
        assert_eq!(ticks_in(stat), Some(11 + 12));
    }

    #[test]
    fn what_is_stolen_is_a_part_of_all() {
        let [then, now] = ["10 0 20 60 0 0 0 10 5 0", "20 0 40 120 0 0 0 20 10 0"]
            .map(|times| format!("cpu  {times}\ncpu0 {times}\n"));
        let [then, now] = [then, now].map(|stat| Processors::in_stat(&stat).unwrap());
        assert_eq!((then, now.stolen_since(then)), (Processors { all: 100, stolen: 10 }, 0.1));
        assert_eq!((now.stolen_since(now), then.stolen_since(now)), (0.0, 0.0));
        assert_eq!(Processors::in_stat("cpu  1 2 3 4\n"), None);
    }

    #[test]
    fn this_process_has_memory_and_has_used_time() {
        let process = std::process::id();
        assert!(memory_of(process).unwrap() > 100 * KIB);
        assert!(cpu_seconds_of(process).unwrap() >= 0.0);
    }
}
