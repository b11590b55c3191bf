//! Processes of mer that are replaced one after the other, an old build by this one and back again, while events are posted
//! all the time; a checker that reads nothing but the history says what came of it.
//!
//! `MER_OLD_BIN` is the old build, `./tests/upgrade` builds one. Without it this build takes its own place: a rolling
//! restart.

use rustix::process::Signal;
use serde_json::json;
use tests::traffic::Traffic;
use tests::{Mer, Nats, eventually, eventually_async};

use crate::dispatchers::holdings;
use crate::{LONG, MER};

const URLS: usize = 48;
const TYPES: usize = 6;
const POSTERS: usize = 4;
const APIS: usize = 2;
const DISPATCHERS: usize = 3;
const LEASE_SECS: u64 = 3;
/// How many events of each type pile up before a dispatcher is frozen: many times what may come twice.
const BURST: usize = 50;
/// How many events of one URL come again, at most, when a dispatcher is killed and one of this build takes over.
const UNDER_WAY: usize = 8;
/// The same where an old one takes over, which may know no more than what is in `LANES`, written every five seconds.
const SINCE_IT_WAS_WRITTEN: usize = 200;

/// The build that there was before this one.
fn old() -> String {
    std::env::var("MER_OLD_BIN").unwrap_or_else(|_| MER.to_owned())
}

/// Both ways: the build that was there before, the one that takes over, and how many events of one URL come again, at most,
/// when it takes over from one that was killed or frozen.
fn ways() -> [(String, String, usize); 2] {
    let repeats = if old() == MER { UNDER_WAY } else { SINCE_IT_WAS_WRITTEN };
    [(old(), MER.to_owned(), UNDER_WAY), (MER.to_owned(), old(), repeats)]
}

/// Events that are posted all the time to processes of one build, and then of another one too.
struct Stage {
    nats: Nats,
    apis: Vec<Mer>,
    dispatchers: Vec<Mer>,
    traffic: Traffic,
}

impl Stage {
    async fn start(binary: &str) -> Self {
        let nats = Nats::start();
        let (mut apis, mut dispatchers) = (Vec::new(), Vec::new());
        for _ in 0..DISPATCHERS {
            dispatchers.push(process(&nats, binary, "dispatcher").start().await);
        }
        for _ in 0..APIS {
            apis.push(process(&nats, binary, "receiver,registrar").start().await);
        }
        let mut traffic = Traffic::prepare(apis[0].api(), URLS, TYPES, LONG).await;
        for api in &apis[1..] {
            traffic = traffic.also_through(api.api());
        }
        traffic.register(&json!({})).await;
        traffic.reach_all().await;
        traffic.begin_by(POSTERS);
        Self { nats, apis, dispatchers, traffic }
    }

    /// Replaces every process by one of another build, one at a time. Every second one goes while no target takes anything, so
    /// that what it leaves behind is more than where it has come.
    async fn roll_to(&mut self, binary: &str) {
        for (n, mer) in self.apis.iter_mut().chain(&mut self.dispatchers).enumerate() {
            self.traffic.targets().refuse(n % 2 == 0);
            self.traffic.post(5).await;
            assert!(mer.stop().await, "it ends well");
            self.traffic.targets().refuse(false);
            self.traffic.reach_all_in_spite().await;
            go_on_as(mer, binary).await;
            until_shared(&self.nats).await;
            self.traffic.reach_all().await;
        }
    }

    /// Kills a dispatcher, so that the others take over from it, and starts it as one of another build.
    async fn kill(&mut self, n: usize, binary: &str, may_repeat: usize) {
        until_shared(&self.nats).await;
        self.traffic.disturb(may_repeat);
        self.dispatchers[n].kill();
        self.traffic.reach_all_in_spite().await;
        go_on_as(&mut self.dispatchers[n], binary).await;
        self.traffic.reach_all().await;
    }

    /// Freezes a dispatcher until the others have taken over from it, and have delivered what it had still before it.
    async fn freeze(&mut self, n: usize, may_repeat: usize) {
        until_shared(&self.nats).await;
        let frozen = &self.dispatchers[n];
        // The first is what an earlier build writes.
        let times_lost = || {
            let log = frozen.log();
            ["tenure.lost", "ownership.lost"].iter().map(|event| log.matches(event).count()).sum::<usize>()
        };
        self.traffic.targets().refuse(true);
        self.traffic.post(BURST).await;
        eventually("every target refuses", LONG, || self.traffic.targets().refusing() == URLS).await;
        let lost_before = times_lost();
        self.traffic.disturb(may_repeat);
        frozen.signal(Signal::STOP);
        self.traffic.targets().refuse(false);
        self.traffic.reach_all_in_spite().await;
        frozen.signal(Signal::CONT);
        eventually("it sees that its lease is over", LONG, || times_lost() > lost_before).await;
        self.traffic.reach_all().await;
    }

    /// Replaces a dispatcher.
    async fn replace(&mut self, n: usize, binary: &str) {
        assert!(self.dispatchers[n].stop().await, "it ends well");
        go_on_as(&mut self.dispatchers[n], binary).await;
    }
}

async fn go_on_as(mer: &mut Mer, binary: &str) {
    mer.replace(binary);
    mer.launch();
    mer.until_ready().await;
}

/// Waits until each dispatcher has something to do.
async fn until_shared(nats: &Nats) {
    eventually_async("three share", LONG, async || {
        let shares = holdings(nats).await;
        shares.len() == DISPATCHERS && shares.iter().sum::<usize>() == 64
    })
    .await;
}

fn process(nats: &Nats, binary: &str, roles: &str) -> Mer {
    let mer = Mer::new(binary).set("MER_NATS_URL", nats.url()).roles(roles).set("MER_LEASE_SECS", LEASE_SECS);
    // What times out comes twice, and no target here lets anybody wait: only a busy machine does.
    mer.set("MER_DELIVERY_TIMEOUT_MS", 15_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_repeated_or_out_of_order_while_processes_are_replaced_and_back() {
    let mut stage = Stage::start(&old()).await;
    stage.roll_to(MER).await;
    stage.roll_to(&old()).await;
    let outcome = stage.traffic.end().await;
    println!("from {} to this build and back, {outcome}", old());
    assert_eq!(outcome.report.faults, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_dispatcher_leaves_the_other_build_goes_on_with() {
    for (before, after, may_repeat) in ways() {
        let mut stage = Stage::start(&before).await;
        for n in 0..DISPATCHERS {
            stage.kill(n, &after, may_repeat).await;
        }
        let outcome = stage.traffic.end().await;
        println!("from {before} to {after} by kill -9, {outcome}");
        assert_eq!(outcome.report.faults, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_dispatcher_pushes_nothing_new_once_the_other_build_has_taken_over() {
    for (before, after, may_repeat) in ways() {
        let mut stage = Stage::start(&before).await;
        for n in 1..DISPATCHERS {
            stage.replace(n, &after).await;
        }
        stage.freeze(0, may_repeat).await;
        let outcome = stage.traffic.end().await;
        println!("from {before}, frozen, to {after}, {outcome}");
        assert_eq!(outcome.report.faults, []);
    }
}
