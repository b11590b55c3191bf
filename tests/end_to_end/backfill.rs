//! Adding a past start to a live URL, with `kill -9` at any point of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tests::target::first_deliveries;
use tests::{Api, Nats, Target, eventually};
use tokio::task::JoinSet;

use crate::{LONG, SOON, mer_on};

const ROUNDS: u32 = 20;
const SEED: u64 = 20_260_131;
/// The kill comes somewhere in this time after the registration's answer: that is about what a backfill takes.
const LATEST_KILL: Duration = Duration::from_millis(120);

/// Posts events of the types `a` and `b` in turn until told to stop. Answers with the acknowledged sequences of each.
async fn post(api: Api, stop: Arc<AtomicBool>) -> [BTreeSet<u64>; 2] {
    let mut acknowledged = [BTreeSet::new(), BTreeSet::new()];
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        if let Some(posted) = api.try_post_event(["a", "b"][turn], &json!({})).await {
            acknowledged[turn].insert(posted.sequence);
            turn = 1 - turn;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_past_start_on_a_live_url_survives_a_kill_at_any_point_of_it() {
    let mut random = StdRng::seed_from_u64(SEED);
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let mut duplicates = 0;
    for round in 0..ROUNDS {
        let target = Target::start().await;
        api.register(&target.url("/"), &["a"], &json!({})).await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut posting = JoinSet::new();
        let first_of_round = api.post_event("b", &json!({})).await;
        posting.spawn(post(api.clone(), stop.clone()));
        eventually("the URL is live", SOON, || target.taken_count() >= 20).await;

        api.register(&target.url("/"), &["b"], &json!({"datetime_start": first_of_round.stamp})).await;
        tokio::time::sleep(LATEST_KILL.mul_f64(random.random())).await;
        mer.kill();
        mer.launch();
        mer.until_ready().await;
        stop.store(true, Ordering::Relaxed);
        let [a, mut b] = posting.join_next().await.unwrap().unwrap();
        b.insert(first_of_round.sequence);
        let acknowledged: BTreeSet<u64> = a.union(&b).copied().collect();
        let last = *acknowledged.last().unwrap();
        eventually("everything has arrived", LONG, || {
            let taken: BTreeSet<u64> = target.taken().into_iter().collect();
            taken.contains(&last) && acknowledged.is_subset(&taken)
        })
        .await;

        // What was live, then the past and on into the present, each in the log's order.
        let taken = target.taken();
        let first = first_deliveries(&taken);
        let of_b: BTreeSet<u64> =
            target.received().iter().filter(|r| r.headers["ce-type"] == "b").map(|r| r.sequence).collect();
        let turn = first.iter().position(|sequence| of_b.contains(sequence)).unwrap();
        assert!(first[..turn].is_sorted() && first[turn..].is_sorted(), "round {round}: out of order: {first:?}");
        assert_eq!(first[turn], first_of_round.sequence, "round {round}: the past begins where it was asked to");
        // Beyond what was acknowledged there may be only what was being posted at the kill.
        assert!(first.len() - acknowledged.len() <= 1, "round {round}: something came that was not asked for");
        let repeated = taken.len() - first.len();
        // Acknowledgements are not waited for: on a busy machine several have not left the process when it is killed.
        assert!(repeated <= 64, "round {round}: {repeated} came twice; only what was not acknowledged at the kill may");
        duplicates += repeated;
        api.unregister(&target.url("/"), "a").await;
        api.unregister(&target.url("/"), "b").await;
    }
    println!("{ROUNDS} rounds, {duplicates} duplicates of events under way at a kill");
}
