//! Whether a long log costs more than a short one.

use super::SYNC;
use super::deliveries::{Account, replay};
use crate::bench::Bench;
use crate::house::{House, TYPE};
use crate::measure::{Aim, Figure, Unit};

const SHORT: u64 = 10_000;

pub(super) async fn of_the_log(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let long = bench.pick(100_000, 1_000_000);
    let houses = [bench.house(SYNC).await?, bench.house(SYNC).await?];
    for (house, count) in houses.iter().zip([SHORT, long]) {
        bench.say(format!("storing {count} events"));
        house.fill(TYPE, count).await?;
    }
    let (mut accepted, mut delivered): ([Vec<f64>; 2], [Vec<f64>; 2]) = Default::default();
    let mut accounts: [Account; 2] = Default::default();
    for round in bench.rounds() {
        for (i, house) in houses.iter().enumerate() {
            // Of another type, so that only the log as a whole is longer.
            let event_type = format!("benchmark.grown.{round}");
            accepted[i].push(house.accept(&House::post_of("benchmark.accepted"), 64, bench.time()).await?.rate());
            let stored = house.fill(&event_type, bench.pick(5_000, 20_000)).await?;
            delivered[i].push(replay(bench, house, &event_type, &stored, 1, &mut accounts[i]).await?);
        }
    }
    let figure = |what: &str, [short, grown]: [Vec<f64>; 2]| {
        let figure = Figure::new(format!("{what}, {long} events stored"), Unit::PerSecond, grown);
        figure.against(format!("the same with {SHORT}"), short).aims(Aim::WithinOfLimit(0.1))
    };
    Ok(vec![figure("accepted, c = 64", accepted), figure("deliveries to one URL", delivered)])
}
