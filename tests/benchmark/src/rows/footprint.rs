//! What mer takes while nothing happens, and how long it takes to be at work again.

use std::time::{Duration, Instant};

use serde_json::json;

use super::SYNC;
use crate::bench::Bench;
use crate::house::TYPE;
use crate::machine::{cpu_seconds_of, memory_of};
use crate::measure::{Aim, Figure, Spread, Unit};

const BYTES_PER_KIB: f64 = 1024.0;
const BYTES_PER_MIB: f64 = 1024.0 * 1024.0;
/// How long it is left alone before it is looked at.
const REST: Duration = Duration::from_secs(2);
/// How long after an event nothing is left to be done: connections are closed after 4 seconds, what they took goes back to
/// the system within some more, and where lanes are is shown and written within 15 seconds.
const SETTLES: Duration = Duration::from_secs(17);
const MOST_AT_REST_MIB: f64 = 30.0;
const MOST_PER_URL_KIB: f64 = 40.0;

pub(super) async fn of_urls(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut at_rest = Vec::new();
    for _ in bench.rounds() {
        let house = bench.house(SYNC).await?;
        tokio::time::sleep(REST).await;
        at_rest.push(memory_of(house.mer.id())? as f64);
    }
    let base = Spread::of(&at_rest).map_or(0.0, |spread| spread.median);
    let in_mib = at_rest.iter().map(|bytes| bytes / BYTES_PER_MIB).collect();
    let mut figures =
        vec![Figure::new("memory of mer at rest", Unit::Mebibytes, in_mib).aims(Aim::AtMost(MOST_AT_REST_MIB))];
    figures.extend(with_urls(bench, base, 1000, 1.0).await?);
    if bench.is_quick {
        let left_out = Figure::new("the same with 10000 URLs", Unit::Kibibytes, Vec::new());
        figures.push(left_out.note("not measured in a quick run"));
    } else {
        figures.extend(with_urls(bench, base, 10_000, 5.0).await?);
    }
    Ok(figures)
}

/// With so many URLs: starts mer again and again, then lets it idle.
async fn with_urls(bench: &Bench, base: f64, count: usize, most_cpu: f64) -> anyhow::Result<Vec<Figure>> {
    let mut house = bench.house(SYNC).await?;
    // Pulls that wait are renewed every 30 seconds: a window has to be longer to see all of them.
    let window = Duration::from_secs(bench.pick(5, 31));
    // What nats-server takes anyway: it looks at its streams every `sync_interval`.
    tokio::time::sleep(REST).await;
    let nats_without = idle_percent(house.nats.id(), window).await?;
    bench.say(format!("registering {count} URLs"));
    let urls = bench.target.measure(count);
    house.register(&urls.urls(0..count), TYPE, &json!({})).await?;
    let mut expected = house.fill(TYPE, 1).await?.sequences;
    urls.arrivals.until(&expected).await?;
    let (mut to_live, mut per_url, mut per_connected) = (Vec::new(), Vec::new(), Vec::new());
    let each = |bytes: u64| (bytes as f64 - base) / count as f64 / BYTES_PER_KIB;
    for _ in bench.rounds() {
        house.mer.stop().await;
        expected.extend(house.fill(TYPE, 1).await?.sequences);
        let began = Instant::now();
        house.mer.launch();
        urls.arrivals.until(&expected).await?;
        to_live.push(began.elapsed().as_secs_f64());
        per_connected.push(each(memory_of(house.mer.id())?));
    }
    tokio::time::sleep(SETTLES).await;
    let (mut idle, mut nats_idle) = (Vec::new(), Vec::new());
    for _ in bench.rounds() {
        let (mer, nats) =
            tokio::try_join!(idle_percent(house.mer.id(), window), idle_percent(house.nats.id(), window))?;
        idle.push(mer + (nats - nats_without).max(0.0));
        nats_idle.push(nats);
        per_url.push(each(memory_of(house.mer.id())?));
    }
    urls.arrivals.until(&expected).await?;
    let nats_memory = memory_of(house.nats.id())? as f64 / BYTES_PER_MIB;
    let connected = Spread::of(&per_connected).map_or(0.0, |spread| spread.median);
    let nats_median = Spread::of(&nats_idle).map_or(0.0, |spread| spread.median);
    Ok(vec![
        Figure::new(format!("memory per registered URL, {count} URLs"), Unit::Kibibytes, per_url)
            .aims(Aim::AtMost(MOST_PER_URL_KIB))
            .note(format!(
                "{connected:.0} KiB while connections of an event are kept; nats-server as a whole: {nats_memory:.0} MiB"
            )),
        Figure::new(format!("idle CPU of mer, and what {count} URLs add to nats-server's"), Unit::PercentOfACore, idle)
            .aims(Aim::AtMost(most_cpu))
            .note(format!("nats-server: {nats_without:.1} % without them, {nats_median:.1} % with them")),
        Figure::new(format!("from start until {count} URLs have what waited for them"), Unit::Seconds, to_live),
    ])
}

/// How much of a core a process takes while it is left alone for so long.
async fn idle_percent(process: u32, window: Duration) -> anyhow::Result<f64> {
    let before = cpu_seconds_of(process)?;
    tokio::time::sleep(window).await;
    Ok((cpu_seconds_of(process)? - before) / window.as_secs_f64() * 100.0)
}
