//! One event to many URLs, healthy ones and sick ones.

use std::time::Duration;

use serde_json::json;

use super::SYNC;
use crate::bench::Bench;
use crate::clock;
use crate::generator::closed;
use crate::house::{House, TYPE};
use crate::machine::Spent;
use crate::measure::{Aim, Figure, Unit, percentile};
use crate::request::Request;
use crate::target::Urls;

const URLS: usize = 1000;
const HEALTHY: usize = 600;
/// Of each kind: those that hang, and those that refuse.
const SICK: usize = 200;
/// Events a second while some are sick.
const SICK_RATE: f64 = 2.0;
const MICROS_PER_MILLI: f64 = 1000.0;
const MILLIS_PER_SECOND: f64 = 1000.0;

pub(super) async fn of_one_event(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let house = bench.house(SYNC).await?;
    let mut crowd = Crowd::register(bench, &house, URLS).await?;
    let (mut last, mut limit, mut spent) = (Vec::new(), Vec::new(), Spent::default());
    for _ in bench.rounds() {
        let http = closed(bench.target.address(), &Request::event("/"), 64, bench.time()).await?.rate();
        limit.push(URLS as f64 / http * MILLIS_PER_SECOND);
        let mut slowest = Vec::new();
        for _ in 0..bench.pick(3, 9) {
            let before = house.spent()?;
            let latencies = crowd.post(1.0, Duration::from_secs(1)).await?;
            spent.add(before, house.spent()?, latencies.len());
            slowest.extend(latencies.into_iter().max());
        }
        last.push(percentile(&mut slowest, 0.5) / MICROS_PER_MILLI);
    }
    let figure = Figure::new(format!("one event to {URLS} URLs, last arrival"), Unit::Millis, last);
    Ok(vec![figure.against("1,000 / http(64)", limit).aims(Aim::AtMostOfLimit(3.0)).note(spent.to_string())])
}

pub(super) async fn beside_sick_targets(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let house = bench.house(SYNC).await?;
    let mut crowd = Crowd::register(bench, &house, HEALTHY).await?;
    let mut sick: Vec<String> = (0..SICK).map(|i| bench.target.hanging_url(i)).collect();
    for i in 0..SICK {
        sick.push(bench.target.refusing_url(i)?);
    }
    let time = Duration::from_secs(bench.pick(3, 10));
    let (mut medians, mut p99s): ([Vec<f64>; 2], [Vec<f64>; 2]) = Default::default();
    for _ in bench.rounds() {
        for (i, is_with_sick) in [false, true].into_iter().enumerate() {
            if is_with_sick {
                house.register(&sick, TYPE, &json!({})).await?;
                // The first event finds them sick.
                crowd.post(1.0, Duration::from_secs(1)).await?;
            }
            let mut latencies = crowd.post(SICK_RATE, time).await?;
            medians[i].push(percentile(&mut latencies, 0.5) / MICROS_PER_MILLI);
            p99s[i].push(percentile(&mut latencies, 0.99) / MICROS_PER_MILLI);
        }
        house.unregister(&sick, TYPE).await?;
    }
    let ([median_alone, median], [p99_alone, p99]) = (medians, p99s);
    let what = format!("{HEALTHY} healthy URLs, beside {SICK} that hang and {SICK} that refuse");
    let figure = |part: &str, values, alone| {
        let figure =
            Figure::new(format!("{what}, {part}"), Unit::Millis, values).against("without the sick ones", alone);
        figure.aims(Aim::AtMostOfLimit(1.5))
    };
    Ok(vec![figure("median", median, median_alone), figure("p99", p99, p99_alone)])
}

/// URLs that are live, and all that was posted for them.
struct Crowd<'a> {
    house: &'a House,
    urls: Urls,
    expected: Vec<u64>,
}

impl<'a> Crowd<'a> {
    async fn register(bench: &Bench, house: &'a House, count: usize) -> anyhow::Result<Self> {
        bench.say(format!("registering {count} URLs"));
        let urls = bench.target.measure(count);
        house.register(&urls.urls(0..count), TYPE, &json!({})).await?;
        let expected = house.fill(TYPE, 1).await?.sequences;
        urls.arrivals.until(&expected).await?;
        Ok(Self { house, urls, expected })
    }

    /// Posts so many events a second and waits until all have come everywhere, in order. Answers with the latencies, in
    /// microseconds.
    async fn post(&mut self, rate: f64, time: Duration) -> anyhow::Result<Vec<u64>> {
        let since = clock::micros();
        let load = self.house.accept_paced(&House::post_of(TYPE), 1, rate, time).await?;
        self.expected.extend(load.sequences);
        self.urls.arrivals.until(&self.expected).await?;
        Ok(self.urls.arrivals.latencies_since(since))
    }
}
