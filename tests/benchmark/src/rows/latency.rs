//! From the moment at which an event is to be posted to its arrival.

use serde_json::json;

use super::SYNC;
use crate::bench::Bench;
use crate::clock;
use crate::generator::paced;
use crate::house::{House, TYPE};
use crate::limits::{Message, publish_paced};
use crate::measure::{Aim, Figure, Unit, percentile};
use crate::request::Request;

/// Events a second.
const RATE: f64 = 1000.0;
/// On how many connections they are posted.
const CONNECTIONS: usize = 16;
const MICROS_PER_MILLI: f64 = 1000.0;

pub(super) async fn end_to_end(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (house, time) = (bench.house(SYNC).await?, bench.time());
    let (mut medians, mut p99s, mut limit_medians, mut limit_p99s) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut p99s_of_ten = Vec::new();
    let mut medians_of_ten = Vec::new();
    for _ in bench.rounds() {
        let mut http = paced(bench.target.address(), &Request::event("/"), 1, RATE, time).await?.latencies;
        let mut published = publish_paced(&house.jetstream, &Message::new(TYPE), RATE, time).await?.latencies;
        limit_medians.push((percentile(&mut http, 0.5) + percentile(&mut published, 0.5)) / MICROS_PER_MILLI);
        limit_p99s.push((percentile(&mut http, 0.99) + percentile(&mut published, 0.99)) / MICROS_PER_MILLI);
        for (urls, medians, p99s) in [(1, &mut medians, &mut p99s), (10, &mut medians_of_ten, &mut p99s_of_ten)] {
            let mut latencies = to_urls(bench, &house, urls).await?;
            medians.push(percentile(&mut latencies, 0.5) / MICROS_PER_MILLI);
            p99s.push(percentile(&mut latencies, 0.99) / MICROS_PER_MILLI);
        }
    }
    let limit = "round trips http(1) + publish(1)";
    let figure = |what: &str, values| Figure::new(format!("end to end at {RATE}/s, {what}"), Unit::Millis, values);
    Ok(vec![
        figure("one URL, median", medians).against(limit, limit_medians).aims(Aim::AtMostOfLimit(2.0)),
        figure("one URL, p99", p99s).against(limit, limit_p99s).aims(Aim::AtMost(10.0)),
        figure("10 URLs, median", medians_of_ten),
        figure("10 URLs, p99", p99s_of_ten).aims(Aim::AtMost(25.0)),
    ])
}

/// The latencies of all arrivals at so many URLs, in microseconds.
async fn to_urls(bench: &Bench, house: &House, count: usize) -> anyhow::Result<Vec<u64>> {
    let urls = bench.target.measure(count);
    let all = urls.urls(0..count);
    house.register(&all, TYPE, &json!({})).await?;
    // One event first: it comes once all are live.
    let mut expected = house.fill(TYPE, 1).await?.sequences;
    urls.arrivals.until(&expected).await?;
    let since = clock::micros();
    let load = house.accept_paced(&House::post_of(TYPE), CONNECTIONS, RATE, bench.time()).await?;
    expected.extend(load.sequences);
    urls.arrivals.until(&expected).await?;
    house.unregister(&all, TYPE).await?;
    Ok(urls.arrivals.latencies_since(since))
}
