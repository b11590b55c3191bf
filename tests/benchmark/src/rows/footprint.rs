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
    bench.say(format!("registering {count} URLs"));
    let urls = bench.target.measure(count);
    house.register(&urls.urls(0..count), TYPE, &json!({})).await?;
    let mut expected = house.fill(TYPE, 1).await?.sequences;
    urls.arrivals.until(&expected).await?;
    let (mut to_live, mut per_url) = (Vec::new(), Vec::new());
    for _ in bench.rounds() {
        house.mer.stop();
        expected.extend(house.fill(TYPE, 1).await?.sequences);
        let began = Instant::now();
        house.mer.launch();
        urls.arrivals.until(&expected).await?;
        to_live.push(began.elapsed().as_secs_f64());
        tokio::time::sleep(REST).await;
        per_url.push((memory_of(house.mer.id())? as f64 - base) / count as f64 / BYTES_PER_KIB);
    }
    // Pulls that wait are renewed every 30 seconds: a window has to be longer to see all of them.
    let window = Duration::from_secs(bench.pick(6, 31));
    let (mut idle, mut nats_idle) = (Vec::new(), Vec::new());
    for _ in bench.rounds() {
        let (before, nats_before) = (cpu_seconds_of(house.mer.id())?, cpu_seconds_of(house.nats.id())?);
        tokio::time::sleep(window).await;
        let percent = |seconds: f64| seconds / window.as_secs_f64() * 100.0;
        let nats = percent(cpu_seconds_of(house.nats.id())? - nats_before);
        idle.push(percent(cpu_seconds_of(house.mer.id())? - before) + nats);
        nats_idle.push(nats);
    }
    urls.arrivals.until(&expected).await?;
    let nats_memory = memory_of(house.nats.id())? as f64 / BYTES_PER_MIB;
    let nats_median = Spread::of(&nats_idle).map_or(0.0, |spread| spread.median);
    Ok(vec![
        Figure::new(format!("memory per registered URL, {count} URLs"), Unit::Kibibytes, per_url)
            .aims(Aim::AtMost(MOST_PER_URL_KIB))
            .note(format!("nats-server as a whole: {nats_memory:.0} MiB")),
        Figure::new(format!("idle CPU of mer and nats-server, {count} URLs"), Unit::PercentOfACore, idle)
            .aims(Aim::AtMost(most_cpu))
            .note(format!("nats-server alone: {nats_median:.1} %")),
        Figure::new(format!("from start until {count} URLs have what waited for them"), Unit::Seconds, to_live),
    ])
}
