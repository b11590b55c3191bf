//! `kill -9` in the middle of things: nothing that was acknowledged is lost, and order holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tests::target::first_deliveries;
use tests::{Api, Mer, Nats, Posted, Target, eventually, eventually_async};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::{LONG, MER, SOON, mer_on};

/// Senders that post without a pause until told to stop, and remember what was acknowledged.
struct Burst {
    stop: Arc<AtomicBool>,
    senders: JoinSet<Vec<Posted>>,
}

impl Burst {
    fn start(api: &Api) -> Self {
        Self::of(4, api)
    }

    fn of(count: usize, api: &Api) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut senders = JoinSet::new();
        for sender in 0..count {
            let (api, stop) = (api.clone(), stop.clone());
            senders.spawn(async move {
                let mut acknowledged = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match api.try_post_event(["a", "b"][sender % 2], &json!({"sender": sender})).await {
                        Some(posted) => acknowledged.push(posted),
                        None => sleep(Duration::from_millis(5)).await,
                    }
                }
                acknowledged
            });
        }
        Self { stop, senders }
    }

    async fn stop(self) -> BTreeMap<u64, Posted> {
        self.stop.store(true, Ordering::Relaxed);
        self.senders.join_all().await.into_iter().flatten().map(|posted| (posted.sequence, posted)).collect()
    }
}

async fn two_targets(api: &Api) -> [Target; 2] {
    let targets = [Target::start().await, Target::start().await];
    for target in &targets {
        api.register(&target.url("/"), &["a", "b"], &json!({})).await;
    }
    targets
}

/// Every acknowledged event is at the target, first deliveries are in order, and a repetition is the same event.
fn check(target: &Target, acknowledged: &BTreeMap<u64, Posted>) {
    let taken = target.taken();
    let arrived: BTreeSet<u64> = taken.iter().copied().collect();
    let lost: Vec<&u64> = acknowledged.keys().filter(|sequence| !arrived.contains(sequence)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(first_deliveries(&taken).is_sorted(), "first deliveries out of order");
    let mut ids: BTreeMap<u64, String> = BTreeMap::new();
    for received in target.received() {
        let id = &received.headers["ce-id"];
        assert_eq!(ids.entry(received.sequence).or_insert_with(|| id.clone()), id, "a repetition with another id");
        if let Some(posted) = acknowledged.get(&received.sequence) {
            assert_eq!(&posted.id, id);
        }
    }
}

async fn all_arrive(targets: &[Target; 2], acknowledged: &BTreeMap<u64, Posted>) {
    let last = *acknowledged.keys().next_back().expect("an acknowledged event");
    for target in targets {
        eventually("the last acknowledged event arrives", LONG, || target.taken().contains(&last)).await;
        check(target, acknowledged);
    }
}

/// Where in the log events are, by id.
async fn stored(api: &Api) -> BTreeMap<String, u64> {
    let mut stored = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = api.get(&format!("/v1/events?limit=1000&after_sequence={after}")).await;
        let events = page["events"].as_array().unwrap();
        if events.is_empty() {
            return stored;
        }
        for event in events {
            after = event["sequence"].as_u64().unwrap();
            stored.insert(event["id"].as_str().unwrap().to_owned(), after);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mer_that_is_killed_in_a_burst_loses_nothing_that_it_acknowledged() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let targets = two_targets(&api).await;
    let burst = Burst::start(&api);
    for round in 1..=3 {
        eventually("events flow", SOON, || targets.iter().all(|t| t.taken_count() > round * 200)).await;
        mer.kill();
        mer.launch();
        mer.until_ready().await;
    }
    all_arrive(&targets, &burst.stop().await).await;
}

#[tokio::test]
async fn a_change_that_was_written_and_not_carried_out_is_carried_out_after_a_crash() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let mut posted = Vec::new();
    for _ in 0..20 {
        posted.push(api.post_event("a", &json!({})).await.sequence);
    }
    eventually("all have arrived", SOON, || target.taken_count() == 20).await;
    assert!(mer.stop().await);

    // What a dispatcher leaves that was killed right after it wrote that the lane goes back to the fifth event.
    let mut lane = nats.value("LANES", &target.url("/")).await;
    assert_eq!(lane["position"], posted[19], "an orderly stop writes the position");
    (lane["position"], lane["epoch"]) = (json!(posted[4]), json!("another epoch"));
    nats.put_value("LANES", &target.url("/"), lane).await;

    mer.launch();
    mer.until_ready().await;
    posted.push(api.post_event("a", &json!({})).await.sequence);
    eventually("the last has arrived", SOON, || target.taken().last() == posted.last()).await;
    let expected: Vec<u64> = posted[..20].iter().chain(&posted[5..]).copied().collect();
    assert_eq!(target.taken(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_server_that_is_killed_in_a_burst_makes_a_living_dispatcher_repeat_nothing() {
    let mut nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let targets = two_targets(&api).await;
    let burst = Burst::start(&api);
    for round in 1..=3 {
        eventually("events flow", SOON, || targets.iter().all(|t| t.taken_count() > round * 200)).await;
        nats.kill();
        nats.restart();
    }
    all_arrive(&targets, &burst.stop().await).await;
    for target in &targets {
        let taken = target.taken();
        assert!(taken.is_sorted_by(|a, b| a < b), "something was pushed again that had been pushed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mer_with_its_embedded_server_that_is_killed_in_a_burst_loses_nothing_that_it_acknowledged() {
    let mut mer = Mer::new(MER).start().await;
    let api = mer.api();
    let targets = two_targets(&api).await;
    let burst = Burst::start(&api);
    for round in 1..=3 {
        eventually("events flow", SOON, || targets.iter().all(|t| t.taken_count() > round * 200)).await;
        mer.kill();
        mer.launch();
        mer.until_ready().await;
    }
    all_arrive(&targets, &burst.stop().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_server_that_is_killed_while_events_are_stored_together_has_all_that_was_acknowledged() {
    const FREEZE: Duration = Duration::from_secs(1);
    let mut nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let burst = Burst::of(256, &api);
    let mut after = 0;
    for _ in 0..3 {
        // What piles up while it does nothing is stored together.
        eventually_async("events are stored together", LONG, async || {
            nats.freeze();
            sleep(FREEZE).await;
            nats.thaw();
            nats.stored_in_batches().await.range(after + 1..).next().is_some()
        })
        .await;
        nats.kill();
        nats.restart();
        eventually_async("mer is ready again", SOON, async || api.status("/readyz").await == Some(200)).await;
        after = stored(&api).await.into_values().max().unwrap();
    }
    let acknowledged = burst.stop().await;
    let stored = stored(&api).await;
    for (sequence, posted) in &acknowledged {
        assert_eq!(stored.get(&posted.id), Some(sequence), "acknowledged, and not where it was said to be");
    }
}
