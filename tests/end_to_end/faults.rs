//! Dispatchers that are killed, frozen and restarted in a seeded random order, while events are posted all the time; a
//! checker that reads nothing but the history says what came of it.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use tests::traffic::Traffic;
use tests::{Mer, Nats};

use crate::{LONG, MER};

const ROUNDS: u32 = 20;
const SEED: u64 = 20_261_122;
const URLS: usize = 300;
const TYPES: usize = 10;
const LEASE_SECS: u64 = 3;
/// How many events of one URL come again, at most, when a dispatcher is killed or frozen: the one that was being pushed,
/// and those before it whose acknowledgement had not left the process.
const UNDER_WAY: usize = 4;
/// The longest that a frozen dispatcher stays so: well beyond its lease.
const LONGEST_FREEZE: Duration = Duration::from_secs(2 * LEASE_SECS);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_out_of_order_whatever_becomes_of_dispatchers() {
    let mut random = StdRng::seed_from_u64(SEED);
    let nats = Nats::start();
    let front = Mer::new(MER).set("MER_NATS_URL", nats.url()).roles("receiver,registrar").start().await;
    let mut traffic = Traffic::start(front.api(), URLS, TYPES, LONG).await;
    let mut dispatchers = Vec::new();
    for _ in 0..3 {
        let mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).roles("dispatcher").set("MER_LEASE_SECS", LEASE_SECS);
        dispatchers.push(mer.start().await);
    }
    traffic.reach_all().await;
    traffic.begin();
    for _ in 0..ROUNDS {
        let mer = &mut dispatchers[random.random_range(0..3)];
        match random.random_range(0..3) {
            0 => {
                traffic.disturb(UNDER_WAY);
                mer.kill();
                traffic.reach_all_in_spite().await;
                mer.launch();
            }
            1 => {
                traffic.disturb(UNDER_WAY);
                mer.signal(Signal::STOP);
                tokio::time::sleep(LONGEST_FREEZE.mul_f64(random.random())).await;
                mer.signal(Signal::CONT);
                traffic.reach_all_in_spite().await;
            }
            _ => {
                assert!(mer.stop().await);
                traffic.reach_all_in_spite().await;
                mer.launch();
            }
        }
        mer.until_ready().await;
    }
    let outcome = traffic.end().await;
    println!("seed {SEED}, {outcome}");
    assert_eq!(outcome.report.faults, []);
}
