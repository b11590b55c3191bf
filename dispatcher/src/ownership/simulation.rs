//! Ten dispatchers on a simulated bucket: what they plan is carried out, while answers get lost, come late or twice, while
//! dispatchers stand still, die, come and leave, and while the bucket does not answer.
//!
//! At no time may two of them work on one shard. No shard may be without one that works on it for longer than a lease and
//! a second after the last fault has ended. One that leaves in good order hands over without waiting for a lease.
//!
//! `MER_SIMULATED_RUNS` says how many runs to make, `MER_SIMULATION_SEED` with which seed to begin.

use std::time::{Duration, Instant};

mod actions;
mod bucket;
mod faults;
mod network;
mod participant;
mod promises;
mod random;
mod world;

use faults::Weather;
use promises::Broken;
use world::World;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |value| value.parse().expect(name))
}

/// Makes runs from a seed on, and fails with the first one that breaks a promise.
fn simulate(weather: Weather, runs: u64) {
    let first = setting("MER_SIMULATION_SEED", 1);
    let runs = setting("MER_SIMULATED_RUNS", runs);
    let (began, mut overlaps_checked, mut longest) = (Instant::now(), 0, 0);
    for seed in first..first + runs {
        match World::new(seed, weather).run() {
            Ok(run) => {
                overlaps_checked += run.events;
                longest = longest.max(run.longest_silence);
            }
            Err(Broken { promise, at, shard, log }) => {
                panic!("seed {seed}, {weather:?}, {at} ms, shard {shard}: {promise}\n{}", log.join("\n"))
            }
        }
    }
    let took: Duration = began.elapsed();
    println!("{runs} runs, {overlaps_checked} events, {took:?}; longest silence {longest} ms");
}

#[test]
fn no_two_dispatchers_work_on_a_shard_and_none_is_left_whatever_goes_wrong() {
    simulate(Weather::Foul, 100);
}

#[test]
fn dispatchers_that_come_and_leave_in_good_order_hand_over_at_once() {
    simulate(Weather::Fair, 30);
}
