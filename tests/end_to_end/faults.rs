//! Dispatchers that are killed, frozen and restarted in a seeded random order, while events are posted all the time; a
//! checker that reads nothing but the history says what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serde_json::json;
use tests::history::{History, Line, Targets, check};
use tests::{Api, Mer, Nats, eventually};
use tokio::task::JoinSet;

use crate::{LONG, MER};

const ROUNDS: u32 = 20;
const SEED: u64 = 20_261_122;
const URLS: usize = 300;
const TYPES: usize = 10;
const LEASE_SECS: u64 = 2;
/// Between one event and the next.
const POSTING_INTERVAL: Duration = Duration::from_millis(40);
/// The longest that a frozen dispatcher stays so: well beyond its lease.
const LONGEST_FREEZE: Duration = Duration::from_secs(2 * LEASE_SECS);

async fn post(api: Api, history: Arc<History>, stop: Arc<AtomicBool>) {
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let event_type = format!("fault.{}", n % TYPES);
        match api.try_post_event(&event_type, &json!({})).await {
            Some(posted) => history.add(&Line::Posted { event_type, sequence: posted.sequence }),
            None => history.add(&Line::Unknown),
        }
        tokio::time::sleep(POSTING_INTERVAL).await;
    }
}

/// Posts one event of each type, and waits until every target has had its own. Answers how long that took.
async fn reach_all(api: &Api, history: &History, targets: &Targets) -> Duration {
    let began = Instant::now();
    let mut first = u64::MAX;
    for n in 0..TYPES {
        let event_type = format!("fault.{n}");
        let posted = api.post_event(&event_type, &json!({})).await;
        history.add(&Line::Posted { event_type, sequence: posted.sequence });
        first = first.min(posted.sequence);
    }
    eventually("every target is reached", LONG, || targets.reached(first) == URLS).await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_out_of_order_whatever_becomes_of_dispatchers() {
    let mut random = StdRng::seed_from_u64(SEED);
    let nats = Nats::start();
    let front = Mer::new(MER).set("MER_NATS_URL", nats.url()).roles("receiver,registrar").start().await;
    let api = front.api();
    let history = History::start();
    let targets = Targets::start(history.clone()).await;
    for n in 0..URLS {
        let (target, event_type) = (format!("/{n}"), format!("fault.{}", n % TYPES));
        api.register(&targets.url(&target), &[&event_type], &json!({})).await;
        history.add(&Line::Registered { target, event_type });
    }
    let mut dispatchers = Vec::new();
    for _ in 0..3 {
        let mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).roles("dispatcher").set("MER_LEASE_SECS", LEASE_SECS);
        dispatchers.push(mer.start().await);
    }
    reach_all(&api, &history, &targets).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut posting = JoinSet::new();
    posting.spawn(post(api.clone(), history.clone(), stop.clone()));
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let mer = &mut dispatchers[random.random_range(0..3)];
        match random.random_range(0..3) {
            0 => {
                mer.kill();
                took.push(reach_all(&api, &history, &targets).await);
                mer.launch();
            }
            1 => {
                mer.signal(Signal::STOP);
                tokio::time::sleep(LONGEST_FREEZE.mul_f64(random.random())).await;
                mer.signal(Signal::CONT);
                took.push(reach_all(&api, &history, &targets).await);
            }
            _ => {
                assert!(mer.stop());
                took.push(reach_all(&api, &history, &targets).await);
                mer.launch();
            }
        }
        mer.until_ready().await;
    }
    stop.store(true, Ordering::Relaxed);
    posting.join_all().await;
    reach_all(&api, &history, &targets).await;
    let report = check(&history.path());
    took.sort();
    println!(
        "{ROUNDS} rounds, seed {SEED}: {} events, {} arrivals, {} duplicates; after a fault all {URLS} URLs were reached within {:?} (median), {:?} (longest)",
        report.posted,
        report.arrived,
        report.duplicates,
        took[took.len() / 2],
        took[took.len() - 1],
    );
    assert_eq!(report.faults, []);
    let under_way = URLS * usize::try_from(ROUNDS).unwrap();
    assert!(report.duplicates <= under_way, "at most what was under way at each fault: {}", report.duplicates);
}
