//! Events in: posted, stored and answered.

use std::time::Duration;

use super::SYNC;
use crate::bench::Bench;
use crate::generator::closed;
use crate::house::{House, TYPE};
use crate::limits::{Message, Until, publish, publish_batches};
use crate::machine::Spent;
use crate::measure::{Aim, Figure, Unit, harmonic};
use crate::request::Request;

const BATCH: usize = 100;
/// How many batches are under way at once.
const BATCHES_IN_FLIGHT: usize = 8;

pub(super) async fn one_by_one(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (house, time) = (bench.house(SYNC).await?, bench.time());
    let (mut accepted, mut limit, mut spent) = (Vec::new(), Vec::new(), Spent::default());
    for _ in bench.rounds() {
        let http = closed(bench.target.address(), &Request::event("/"), 64, time).await?.rate();
        let published = publish(&house.jetstream, &Message::new(TYPE), 64, Until::Time(time)).await?;
        limit.push(harmonic(http, published));
        accepted.push(accept(&house, &House::post_of(TYPE), 64, time, &mut spent).await?);
    }
    let what = format!("accepted, c = 64, sync_interval {SYNC}");
    let figure = Figure::new(what, Unit::PerSecond, accepted).against("harmonic(http(64), publish(64))", limit);
    Ok(vec![figure.aims(Aim::AtLeastOfLimit(0.8)).note(spent.to_string())])
}

pub(super) async fn on_disk(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (house, time) = (bench.house("always").await?, bench.time());
    let mut levels = [
        Level::new(1, "publish(1) and http(1) in a row", 1.0),
        Level::new(64, "publish(64), always", 2.0),
        Level::new(512, "publish(512), always", 5.0),
    ];
    for _ in bench.rounds() {
        for level in &mut levels {
            let c = level.connections;
            let published = publish(&house.jetstream, &Message::new(TYPE), c, Until::Time(time)).await?;
            level.limit.push(match c {
                1 => harmonic(closed(bench.target.address(), &Request::event("/"), 1, time).await?.rate(), published),
                _ => published,
            });
            level.accepted.push(accept(&house, &House::post_of(TYPE), c, time, &mut level.spent).await?);
        }
    }
    Ok(levels.into_iter().map(Level::figure).collect())
}

/// What is measured at so many connections.
struct Level {
    connections: usize,
    against: &'static str,
    least: f64,
    accepted: Vec<f64>,
    limit: Vec<f64>,
    spent: Spent,
}

impl Level {
    fn new(connections: usize, against: &'static str, least: f64) -> Self {
        Self { connections, against, least, accepted: Vec::new(), limit: Vec::new(), spent: Spent::default() }
    }

    fn figure(self) -> Figure {
        let what = format!("accepted, c = {}, sync_interval always", self.connections);
        let figure = Figure::new(what, Unit::PerSecond, self.accepted).against(self.against, self.limit);
        figure.aims(Aim::AtLeastOfLimit(self.least)).note(self.spent.to_string())
    }
}

pub(super) async fn in_batches(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (house, time) = (bench.house(SYNC).await?, bench.time());
    let (mut accepted, mut limit, mut spent) = (Vec::new(), Vec::new(), Spent::default());
    for _ in bench.rounds() {
        let until = Until::Time(time);
        let message = Message::new(TYPE);
        limit.push(publish_batches(&house.jetstream, &message, BATCH as u64, BATCHES_IN_FLIGHT, until).await?);
        accepted.push(accept(&house, &Request::batch(TYPE, BATCH), BATCHES_IN_FLIGHT, time, &mut spent).await?);
    }
    let what = format!("accepted in batches of {BATCH}, c = {BATCHES_IN_FLIGHT}");
    let figure = Figure::new(what, Unit::PerSecond, accepted).against("publish in atomic batches of 100", limit);
    Ok(vec![figure.aims(Aim::AtLeastOfLimit(0.7)).note(spent.to_string())])
}

/// Events accepted a second; adds what that took.
async fn accept(
    house: &House,
    request: &Request,
    connections: usize,
    time: Duration,
    spent: &mut Spent,
) -> anyhow::Result<f64> {
    let before = house.spent()?;
    let load = house.accept(request, connections, time).await?;
    spent.add(before, house.spent()?, load.events);
    Ok(load.rate())
}
