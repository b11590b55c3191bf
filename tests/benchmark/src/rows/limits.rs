//! What the parts can do without mer.

use super::SYNC;
use crate::bench::Bench;
use crate::generator::closed;
use crate::house::TYPE;
use crate::limits::{Message, Until, publish, publish_batches, read};
use crate::measure::{Figure, Unit};
use crate::request::Request;

/// How many events there are to read.
const TO_READ: u64 = 50_000;

pub(super) async fn parts(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (house, time) = (bench.house(SYNC).await?, bench.time());
    let (jetstream, message, bare) = (&house.jetstream, Message::new(TYPE), Message::bare(TYPE));
    house.fill("benchmark.read", TO_READ).await?;
    let (mut http, mut published): ([Vec<f64>; 2], [Vec<f64>; 3]) = Default::default();
    let (mut without_headers, mut in_batches, mut reading) = (Vec::new(), Vec::new(), Vec::new());
    for _ in bench.rounds() {
        for (values, connections) in http.iter_mut().zip([1, 64]) {
            values.push(closed(bench.target.address(), &Request::event("/"), connections, time).await?.rate());
        }
        for (values, in_flight) in published.iter_mut().zip([1, 64, 512]) {
            values.push(publish(jetstream, &message, in_flight, Until::Time(time)).await?);
        }
        without_headers.push(publish(jetstream, &bare, 64, Until::Time(time)).await?);
        in_batches.push(publish_batches(jetstream, &message, 100, 8, Until::Time(time)).await?);
        reading.push(read(jetstream, "benchmark.read", time).await?);
    }
    let ([http_1, http_64], [publish_1, publish_64, publish_512]) = (http, published);
    let figure = |what: &str, values| Figure::new(what, Unit::PerSecond, values);
    Ok(vec![
        figure("http(1)", http_1),
        figure("http(64)", http_64),
        figure("publish(1)", publish_1),
        figure("publish(64)", publish_64),
        figure("publish(64), without headers", without_headers).note("for comparison: not what mer stores"),
        figure("publish(512)", publish_512),
        figure("publish in atomic batches of 100, 8 in flight", in_batches),
        figure("read", reading),
    ])
}
