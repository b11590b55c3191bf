//! The rows: each starts what it needs, measures a figure and its limit round by round, and checks what came.

mod accepted;
mod deliveries;
mod fan_out;
mod footprint;
mod growth;
mod latency;
mod limits;

use std::time::Duration;

use anyhow::{anyhow, bail};

use crate::bench::Bench;
use crate::measure::Figure;

/// How often nats-server syncs where a row does not say.
const SYNC: &str = "100ms";
/// How long a row may take.
const DEADLINE: Duration = Duration::from_secs(420);

/// The rows by name, in order.
pub(crate) const ALL: [(&str, &str); 13] = [
    ("limits", "what the parts can do without mer"),
    ("accepted", "accepted events/s"),
    ("accepted-always", "accepted events/s, each on disk"),
    ("accepted-batches", "accepted events/s in batches"),
    ("one-url", "ordered deliveries/s to one URL"),
    ("many-urls", "ordered deliveries/s to 10 and to 100 URLs"),
    ("batched", "batched deliveries/s to one URL"),
    ("latency", "end to end, to one URL and to 10"),
    ("fan-out", "one event to 1,000 URLs"),
    ("footprint", "memory, idle CPU and start with 1,000 and 10,000 URLs"),
    ("growth", "cost as the log grows"),
    ("sick", "healthy URLs beside hanging and refusing ones"),
    ("attempts", "what the attempt log costs"),
];

/// Measures a row.
pub(crate) async fn run(name: &str, bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let row = async {
        match name {
            "limits" => limits::parts(bench).await,
            "accepted" => accepted::one_by_one(bench).await,
            "accepted-always" => accepted::on_disk(bench).await,
            "accepted-batches" => accepted::in_batches(bench).await,
            "one-url" => deliveries::to_one_url(bench).await,
            "many-urls" => deliveries::to_many_urls(bench).await,
            "batched" => deliveries::in_batches(bench).await,
            "latency" => latency::end_to_end(bench).await,
            "fan-out" => fan_out::of_one_event(bench).await,
            "footprint" => footprint::of_urls(bench).await,
            "growth" => growth::of_the_log(bench).await,
            "sick" => fan_out::beside_sick_targets(bench).await,
            "attempts" => deliveries::without_attempt_log(bench).await,
            other => bail!("there is no row `{other}`; --list names them"),
        }
    };
    tokio::time::timeout(DEADLINE, row).await.map_err(|_| anyhow!("it took longer than {} s", DEADLINE.as_secs()))?
}
