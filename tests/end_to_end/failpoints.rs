//! Dispatchers with a fault on purpose: the checker of histories must find the fault. Each scenario runs first without the
//! fault, in the same binary, and then the checker must find nothing.
//!
//! `MER_FAILPOINTS_BIN` is a mer that was built with the feature `failpoints`, as `./tests/run` does.

use rustix::process::Signal;
use serde_json::json;
use tests::history::Fault;
use tests::traffic::Traffic;
use tests::{Mer, Nats, eventually, eventually_async};

use crate::dispatchers::holdings;
use crate::{LONG, SOON};

const URLS: usize = 24;
/// How many events are posted at once: many times what may come twice when a dispatcher is disturbed.
const BURST: usize = 50;
const LEASE_SECS: u64 = 4;
/// How often a scenario runs without a fault.
const SOUND_ROUNDS: usize = 2;
/// How often, at most, with a fault: nearly every round finds it.
const BROKEN_ROUNDS: usize = 10;

/// How many events of one target come again, at most, when a dispatcher is disturbed: the one that was being pushed, and
/// those before it whose acknowledgement had not left the process.
const UNDER_WAY: usize = 4;

/// The fault that is switched on, if any.
type Failpoint = Option<&'static str>;

fn mer_with_failpoints() -> String {
    std::env::var("MER_FAILPOINTS_BIN")
        .expect("MER_FAILPOINTS_BIN, a build with `--features server/failpoints`: ./tests/run makes it")
}

/// What dispatchers work on.
struct Stage {
    nats: Nats,
    traffic: Traffic,
    _front: Mer,
}

impl Stage {
    async fn start() -> Self {
        let nats = Nats::start();
        let front =
            Mer::new(&mer_with_failpoints()).set("MER_NATS_URL", nats.url()).roles("receiver,registrar").start().await;
        let traffic = Traffic::prepare(front.api(), URLS, 1, LONG).await;
        Self { nats, traffic, _front: front }
    }
}

async fn dispatcher(stage: &Stage, failpoint: Failpoint) -> Mer {
    let mer = Mer::new(&mer_with_failpoints())
        .set("MER_NATS_URL", stage.nats.url())
        .roles("dispatcher")
        .set("MER_LEASE_SECS", LEASE_SECS);
    // What times out comes twice, and no target here lets anybody wait: only a busy machine does.
    let mer = mer.set("MER_DELIVERY_TIMEOUT_MS", 15_000);
    let (mer, says) = match failpoint {
        Some(failpoint) => (mer.set("MER_FAILPOINT", failpoint), "dispatcher.failpoint_active"),
        None => (mer, "dispatcher.has_failpoints"),
    };
    let mer = mer.start().await;
    eventually("it says what it is", SOON, || mer.log().contains(says)).await;
    mer
}

/// Goes through a round again and again until the checker finds something, and answers with that.
async fn faults(stage: &Stage, failpoint: Failpoint, mut round: impl AsyncFnMut()) -> Vec<Fault> {
    for n in 1..=failpoint.map_or(SOUND_ROUNDS, |_| BROKEN_ROUNDS) {
        round().await;
        // With a fault, this may be lost as well: the checker will say so.
        stage.traffic.reaches_all().await;
        let report = stage.traffic.report();
        println!(
            "failpoint {failpoint:?}, round {n}: {} events, {} arrivals, {} duplicates, {} faults",
            report.posted,
            report.arrived,
            report.duplicates,
            report.faults.len()
        );
        if !report.faults.is_empty() {
            return report.faults;
        }
    }
    Vec::new()
}

/// Posts a burst while no target takes anything, until every target has refused some of it.
async fn pile_up(stage: &Stage) {
    stage.traffic.targets().refuse(true);
    stage.traffic.post(BURST).await;
    eventually("every target has refused something", LONG, || stage.traffic.targets().refusing() == URLS).await;
}

/// A dispatcher is killed while its targets refuse what it has for them.
async fn killed_while_targets_refuse(failpoint: Failpoint) -> Vec<Fault> {
    let stage = Stage::start().await;
    stage.traffic.register(&json!({})).await;
    let mut mer = dispatcher(&stage, failpoint).await;
    stage.traffic.reaches_all().await;
    faults(&stage, failpoint, async || {
        pile_up(&stage).await;
        stage.traffic.disturb(UNDER_WAY);
        mer.kill();
        stage.traffic.targets().refuse(false);
        mer.launch();
    })
    .await
}

/// One of two dispatchers is frozen until the other one has taken over and delivered what it had still before it.
async fn frozen_beyond_its_lease(failpoint: Failpoint) -> Vec<Fault> {
    let stage = Stage::start().await;
    stage.traffic.register(&json!({})).await;
    let (frozen, _other) = (dispatcher(&stage, failpoint).await, dispatcher(&stage, failpoint).await);
    let times_lost = || frozen.log().matches("ownership.lost").count();
    faults(&stage, failpoint, async || {
        eventually_async("two share", LONG, async || holdings(&stage.nats).await.len() == 2).await;
        stage.traffic.reaches_all().await;
        pile_up(&stage).await;
        let lost_before = times_lost();
        stage.traffic.disturb(UNDER_WAY);
        frozen.signal(Signal::STOP);
        stage.traffic.targets().refuse(false);
        stage.traffic.reaches_all().await;
        frozen.signal(Signal::CONT);
        eventually("it sees that its lease is over", LONG, || times_lost() > lost_before).await;
        stage.traffic.post(BURST).await;
    })
    .await
}

/// Targets are registered for what was posted before.
async fn registered_for_the_past(failpoint: Failpoint) -> Vec<Fault> {
    let stage = Stage::start().await;
    let _mer = dispatcher(&stage, failpoint).await;
    stage.traffic.post(BURST).await;
    stage.traffic.register(&json!({"datetime_start": "20200101000000.0"})).await;
    faults(&stage, failpoint, async || {}).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs a mer with failpoints: ./tests/run builds one"]
async fn acknowledging_what_no_target_has_is_found() {
    assert_eq!(killed_while_targets_refuse(None).await, []);
    let faults = killed_while_targets_refuse(Some("acknowledge_early")).await;
    assert!(faults.iter().any(|fault| matches!(fault, Fault::Lost { .. })), "{faults:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs a mer with failpoints: ./tests/run builds one"]
async fn going_on_without_a_lease_is_found() {
    assert_eq!(frozen_beyond_its_lease(None).await, []);
    let faults = frozen_beyond_its_lease(Some("no_fencing")).await;
    assert!(faults.iter().any(|fault| matches!(fault, Fault::Repeated { .. })), "{faults:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs a mer with failpoints: ./tests/run builds one"]
async fn beginning_one_too_late_in_the_past_is_found() {
    assert_eq!(registered_for_the_past(None).await, []);
    let faults = registered_for_the_past(Some("replay_off_by_one")).await;
    let first_at = |n| Fault::Lost { target: format!("/{n:03}"), sequence: 1 };
    assert_eq!(faults, (0..URLS).map(first_at).collect::<Vec<Fault>>());
}
