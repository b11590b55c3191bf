//! Events in: posted, stored and answered.

use super::SYNC;
use crate::bench::Bench;
use crate::generator::closed;
use crate::house::{House, TYPE};
use crate::limits::{Message, Until, publish, publish_batches};
use crate::measure::{Aim, Figure, Unit, harmonic};
use crate::request::Request;

const BATCH: usize = 100;
/// How many batches are under way at once.
const BATCHES_IN_FLIGHT: usize = 8;

pub(super) async fn one_by_one(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (house, time) = (bench.house(SYNC).await?, bench.time());
    let (mut accepted, mut limit) = (Vec::new(), Vec::new());
    for _ in bench.rounds() {
        let http = closed(bench.target.address(), &Request::event("/"), 64, time).await?.rate();
        let published = publish(&house.jetstream, &Message::new(TYPE), 64, Until::Time(time)).await?;
        limit.push(harmonic(http, published));
        accepted.push(house.accept(&House::post_of(TYPE), 64, time).await?.rate());
    }
    let what = format!("accepted, c = 64, sync_interval {SYNC}");
    let figure = Figure::new(what, Unit::PerSecond, accepted).against("harmonic(http(64), publish(64))", limit);
    Ok(vec![figure.aims(Aim::AtLeastOfLimit(0.8))])
}

pub(super) async fn on_disk(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (house, time) = (bench.house("always").await?, bench.time());
    let (mut accepted, mut limits): ([Vec<f64>; 3], [Vec<f64>; 3]) = Default::default();
    for _ in bench.rounds() {
        for ((accepted, limit), c) in accepted.iter_mut().zip(&mut limits).zip([1, 64, 512]) {
            let published = publish(&house.jetstream, &Message::new(TYPE), c, Until::Time(time)).await?;
            limit.push(match c {
                1 => harmonic(closed(bench.target.address(), &Request::event("/"), 1, time).await?.rate(), published),
                _ => published,
            });
            accepted.push(house.accept(&House::post_of(TYPE), c, time).await?.rate());
        }
    }
    let aims = [("publish(1) and http(1) in a row", 1.0), ("publish(64), always", 2.0), ("publish(512), always", 5.0)];
    let figures = accepted.into_iter().zip(limits).zip([1, 64, 512]).zip(aims);
    let figure = |(((accepted, limit), c), (of, aim))| {
        let figure = Figure::new(format!("accepted, c = {c}, sync_interval always"), Unit::PerSecond, accepted);
        figure.against(of, limit).aims(Aim::AtLeastOfLimit(aim))
    };
    Ok(figures.map(figure).collect())
}

pub(super) async fn in_batches(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (house, time) = (bench.house(SYNC).await?, bench.time());
    let (mut accepted, mut limit) = (Vec::new(), Vec::new());
    for _ in bench.rounds() {
        let until = Until::Time(time);
        let message = Message::new(TYPE);
        limit.push(publish_batches(&house.jetstream, &message, BATCH as u64, BATCHES_IN_FLIGHT, until).await?);
        accepted.push(house.accept(&Request::batch(TYPE, BATCH), BATCHES_IN_FLIGHT, time).await?.rate());
    }
    let what = format!("accepted in batches of {BATCH}, c = {BATCHES_IN_FLIGHT}");
    let figure = Figure::new(what, Unit::PerSecond, accepted).against("publish in atomic batches of 100", limit);
    Ok(vec![figure.aims(Aim::AtLeastOfLimit(0.7))])
}
