//! Shards go from one dispatcher to another: whatever hangs, fails or lies about meanwhile, the URLs get their events.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::{Shard, TargetUrl};
use rustix::process::Signal;
use serde_json::json;
use tests::lossy::Lossy;
use tests::{Answer, Api, Mer, Nats, Target, eventually, eventually_async};

use crate::dispatchers::holdings;
use crate::{MER, SOON};

/// How many URLs answer.
const URLS: usize = 24;
/// How many hang.
const HANGING: usize = 6;
/// Less than requests under way may take when a dispatcher stops, and much less than a target that hangs takes.
const WITHOUT_WAITING: Duration = Duration::from_secs(6);

async fn front(nats: &Nats) -> Mer {
    Mer::new(MER).set("MER_NATS_URL", nats.url()).roles("receiver,registrar").start().await
}

/// One whose requests may take long.
fn dispatcher(nats_url: impl ToString) -> Mer {
    let mer = Mer::new(MER).set("MER_NATS_URL", nats_url.to_string()).roles("dispatcher").set("MER_LEASE_SECS", 3);
    mer.set("MER_DELIVERY_TIMEOUT_MS", 60_000)
}

fn shard_of(url: &str) -> Shard {
    Shard::of(&TargetUrl::parse(url).unwrap().subscription_id())
}

/// So many URLs of a target, each in another shard, and in none of those that are left out.
fn urls_of(target: &Target, count: usize, left_out: &[Shard]) -> Vec<String> {
    let mut taken: BTreeSet<Shard> = left_out.iter().copied().collect();
    let urls = (0..).map(|number| target.url(&format!("/{number}")));
    urls.filter(|url| taken.insert(shard_of(url))).take(count).collect()
}

async fn register(api: &Api, urls: &[String]) {
    for url in urls {
        api.register(url, &["a"], &json!({})).await;
    }
}

/// An event is posted, and comes to so many URLs of a target soon.
async fn arrives(api: &Api, target: &Target, urls: usize, within: Duration) {
    let sequence = api.post_event("a", &json!({})).await.sequence;
    let reached = || {
        let received =
            target.received().into_iter().filter(|received| received.sequence == sequence && received.was_taken);
        received.map(|received| received.path).collect::<BTreeSet<String>>()
    };
    eventually("every URL has it", within, || reached().len() == urls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_that_hang_keep_no_other_url_waiting_when_their_dispatcher_stops() {
    let nats = Nats::start();
    let front = front(&nats).await;
    let api = front.api();
    let (target, hanging) = (Target::start().await, Target::start().await);
    hanging.answer(Answer::Hang);
    let hang = urls_of(&hanging, HANGING, &[]);
    let shards: Vec<Shard> = hang.iter().map(|url| shard_of(url)).collect();
    register(&api, &hang).await;
    register(&api, &urls_of(&target, URLS, &shards)).await;
    let stopped = dispatcher(nats.url()).start().await;
    eventually_async("one holds all", SOON, async || holdings(&nats).await == [64]).await;
    arrives(&api, &target, URLS, SOON).await;
    let _other = dispatcher(nats.url()).start().await;
    // What hangs may stay where it is.
    eventually_async("two share", SOON, async || holdings(&nats).await.iter().filter(|share| **share > 8).count() == 2)
        .await;
    arrives(&api, &target, URLS, SOON).await;
    stopped.signal(Signal::TERM);
    arrives(&api, &target, URLS, WITHOUT_WAITING).await;
    eventually_async("the other one has it all", SOON, async || holdings(&nats).await == [64]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_that_hang_keep_no_url_of_their_shard_waiting_when_another_dispatcher_comes() {
    let nats = Nats::start();
    let front = front(&nats).await;
    let api = front.api();
    let (target, hanging) = (Target::start().await, Target::start().await);
    hanging.answer(Answer::Hang);
    let urls = urls_of(&target, URLS, &[]);
    // A neighbour of each.
    let beside = |url: &String| {
        let urls = (0..).map(|number| hanging.url(&format!("/{number}")));
        urls.into_iter().find(|hangs| shard_of(hangs) == shard_of(url)).unwrap()
    };
    let hang: Vec<String> = urls.iter().map(beside).collect();
    register(&api, &hang).await;
    register(&api, &urls).await;
    let _first = dispatcher(nats.url()).start().await;
    eventually_async("one holds all", SOON, async || holdings(&nats).await == [64]).await;
    arrives(&api, &target, URLS, SOON).await;
    let _second = dispatcher(nats.url()).start().await;
    eventually_async("two share", SOON, async || holdings(&nats).await.len() == 2).await;
    for _ in 0..10 {
        arrives(&api, &target, URLS, WITHOUT_WAITING).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatcher_that_cannot_read_the_subscriptions_hands_over_all_the_same() {
    let nats = Nats::start();
    let front = front(&nats).await;
    let api = front.api();
    let target = Target::start().await;
    register(&api, &urls_of(&target, URLS, &[])).await;
    let way = Lossy::to(nats.port()).await;
    let _first = dispatcher(way.url()).start().await;
    eventually_async("one holds all", SOON, async || holdings(&nats).await == [64]).await;
    arrives(&api, &target, URLS, SOON).await;
    way.lose_all("KV_SUBSCRIPTIONS");
    let _second = dispatcher(nats.url()).start().await;
    eventually_async("two share all", SOON, async || {
        let shares = holdings(&nats).await;
        shares.len() == 2 && shares.iter().sum::<usize>() == 64
    })
    .await;
    arrives(&api, &target, URLS, SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_position_log_is_read_of_a_dispatcher_that_has_died_alone() {
    const READS: &str = "DIRECT.GET.POSITIONS";
    let nats = Nats::start();
    let front = front(&nats).await;
    let api = front.api();
    let target = Target::start().await;
    register(&api, &urls_of(&target, URLS, &[])).await;
    let mut first = dispatcher(nats.url()).start().await;
    eventually_async("one holds all", SOON, async || holdings(&nats).await == [64]).await;
    for _ in 0..20 {
        arrives(&api, &target, URLS, SOON).await;
    }
    let way = Lossy::to(nats.port()).await;
    let _second = dispatcher(way.url()).start().await;
    eventually_async("two share", SOON, async || holdings(&nats).await.len() == 2).await;
    // On each connection, whether the log is the one that it was is looked at by the last message, too.
    const LOOKED: usize = 1;
    eventually("the log is looked at", SOON, || way.came(READS) == LOOKED).await;
    assert!(first.stop().await);
    eventually_async("the other one has it all", SOON, async || holdings(&nats).await == [64]).await;
    arrives(&api, &target, URLS, SOON).await;
    assert_eq!(way.came(READS), LOOKED, "all was given up in good order");
    assert_eq!(target.taken_count(), 21 * URLS, "and nothing comes twice");
    first.launch();
    eventually_async("two share again", SOON, async || holdings(&nats).await.len() == 2).await;
    arrives(&api, &target, URLS, SOON).await;
    first.kill();
    eventually_async("the other one has it all again", SOON, async || holdings(&nats).await == [64]).await;
    arrives(&api, &target, URLS, SOON).await;
    assert!((1..=8).contains(&(way.came(READS) - LOOKED)), "{}", way.came(READS));
    // Of what was taken in the last moment before the kill, one event of each URL comes again at most.
    assert!(target.taken_count() <= 24 * URLS, "{}", target.taken_count());
}
