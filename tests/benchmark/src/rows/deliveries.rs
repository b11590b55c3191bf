//! Events out: a backlog, delivered as fast as it goes.

use std::fmt;

use anyhow::bail;
use reqwest::Method;
use serde_json::{Value, json};

use super::SYNC;
use crate::bench::Bench;
use crate::generator::closed;
use crate::house::{House, Stored, TYPE};
use crate::limits::read;
use crate::machine::Spent;
use crate::measure::{Aim, Figure, Unit, harmonic};
use crate::request::Request;

/// How many events go into one request.
const BATCH: usize = 256;
/// The type of what `read` reads, and how much of it there is.
const READ: &str = "benchmark.read";
const TO_READ: u64 = 50_000;

pub(super) async fn to_one_url(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let house = bench.house(SYNC).await?;
    let stored = house.fill(TYPE, bench.pick(10_000, 100_000)).await?;
    let (mut delivered, mut limit, mut account) = (Vec::new(), Vec::new(), Account::default());
    for _ in bench.rounds() {
        limit.push(closed(bench.target.address(), &Request::event("/"), 1, bench.time()).await?.rate());
        delivered.push(replay(bench, &house, TYPE, &stored, 1, &mut account).await?);
    }
    let what = format!("deliveries to one URL, ordered, backlog of {}", stored.sequences.len());
    let figure = Figure::new(what, Unit::PerSecond, delivered).against("http(1)", limit);
    Ok(vec![figure.aims(Aim::AtLeastOfLimit(0.8)).note(account.to_string())])
}

pub(super) async fn to_many_urls(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (house, time) = (bench.house(SYNC).await?, bench.time());
    house.fill(READ, TO_READ).await?;
    let mut figures = Vec::new();
    for (urls, event_type, count) in
        [(10, "benchmark.ten", bench.pick(2_000, 20_000)), (100, "benchmark.hundred", bench.pick(200, 2_000))]
    {
        let stored = house.fill(event_type, count).await?;
        let (mut delivered, mut limit, mut account) = (Vec::new(), Vec::new(), Account::default());
        for _ in bench.rounds() {
            let http = closed(bench.target.address(), &Request::event("/"), 64, time).await?.rate();
            limit.push(harmonic(http, read(&house.jetstream, READ, time).await?));
            delivered.push(replay(bench, &house, event_type, &stored, urls, &mut account).await?);
        }
        let what = format!("deliveries to {urls} URLs, ordered, {count} events each");
        let figure = Figure::new(what, Unit::PerSecond, delivered).against("harmonic(http(64), read)", limit);
        figures.push(figure.aims(Aim::AtLeastOfLimit(0.7)).note(account.to_string()));
    }
    Ok(figures)
}

pub(super) async fn in_batches(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (house, time) = (bench.house(SYNC).await?, bench.time());
    let stored = house.fill(TYPE, bench.pick(100_000, 1_000_000)).await?;
    let what = format!("batched deliveries to one URL, {BATCH} a request, {} replayed", stored.sequences.len());
    let (mut delivered, mut limit, mut account, mut fill) = (Vec::new(), Vec::new(), Account::default(), 0.0);
    for _ in bench.rounds() {
        let before = house.spent()?;
        let urls = bench.target.measure(1);
        let events = json!([{"type": TYPE, "datetime_start": stored.since}]);
        let delivery = json!({"mode": "batched", "batch_max_events": BATCH});
        let body = json!({"url": urls.url(0), "events": events, "delivery": delivery}).to_string();
        let answer = house.api.send(Method::PUT, "/v1/subscriptions", &[], body).await?;
        match answer.status().as_u16() {
            200 | 201 => {}
            422 => {
                return Ok(vec![Figure::new(what, Unit::PerSecond, Vec::new()).note("not available: mode `batched`")]);
            }
            status => bail!("registering answered {status}: {}", answer.text().await?),
        }
        account.duplicates += urls.arrivals.until(&stored.sequences).await?;
        account.spent.add(before, house.spent()?, stored.sequences.len());
        delivered.push(urls.arrivals.rate());
        fill = urls.arrivals.events_per_request();
        house.unregister(&[urls.url(0)], TYPE).await?;
        limit.push(read(&house.jetstream, TYPE, time).await?);
    }
    let figure = Figure::new(what, Unit::PerSecond, delivered).against("read", limit).aims(Aim::AtLeastOfLimit(0.6));
    Ok(vec![figure.note(format!("{fill:.0} events a request; {account}"))])
}

/// The stream of attempts is taken away for it: what remains is what mer itself does for it.
pub(super) async fn without_attempt_log(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let house = bench.house(SYNC).await?;
    let stored = house.fill(TYPE, bench.pick(10_000, 50_000)).await?;
    let (mut with, mut without, mut account) = (Vec::new(), Vec::new(), Account::default());
    for _ in bench.rounds() {
        with.push(replay(bench, &house, TYPE, &stored, 1, &mut account).await?);
        let attempts = house.jetstream.get_stream("ATTEMPTS").await?.cached_info().config.clone();
        house.jetstream.delete_stream("ATTEMPTS").await?;
        without.push(replay(bench, &house, TYPE, &stored, 1, &mut account).await?);
        house.jetstream.create_stream(attempts).await?;
    }
    let figure = Figure::new("deliveries to one URL, with the attempt log", Unit::PerSecond, with);
    Ok(vec![figure.against("the same without the stream ATTEMPTS", without).aims(Aim::WithinOfLimit(0.05))])
}

/// What deliveries took, and how many came again.
#[derive(Default)]
pub(super) struct Account {
    spent: Spent,
    duplicates: usize,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "none missing, all in order, {} twice; {}", self.duplicates, self.spent)
    }
}

/// Has all that is stored of a type delivered to so many URLs. Answers deliveries a second, from the first to the last.
pub(super) async fn replay(
    bench: &Bench,
    house: &House,
    event_type: &str,
    stored: &Stored,
    count: usize,
    account: &mut Account,
) -> anyhow::Result<f64> {
    let before = house.spent()?;
    let urls = bench.target.measure(count);
    let all = urls.urls(0..count);
    let attributes: Value = json!({"datetime_start": stored.since});
    house.register(&all, event_type, &attributes).await?;
    account.duplicates += urls.arrivals.until(&stored.sequences).await?;
    account.spent.add(before, house.spent()?, count * stored.sequences.len());
    house.unregister(&all, event_type).await?;
    Ok(urls.arrivals.rate())
}
