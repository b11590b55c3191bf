//! NATS is lost with all that it stored, and a backup takes its place: nothing that the backup holds is lost, and what
//! is posted afterwards follows it. docs/operating.md says how an operator does the same.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Api, Backup, Cluster, Mer, Nats, Target, eventually, eventually_async};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::embedded::{children, is_alive};
use crate::{LONG, MER, SOON};

const ALL_ROLES: &str = "receiver,registrar,dispatcher";
const FROM_THE_BEGINNING: &str = "1970-01-01T00:00:00Z";
/// What is backed up, in this order: so no lane is further than the log, and no event given up without its dead letter.
const IN_ORDER: [&str; 5] = ["KV_LANES", "KV_LOG", "KV_SUBSCRIPTIONS", "DEAD_LETTERS", "EVENTS"];

/// Events that are posted until the test has what it needs.
struct Posting {
    stop: CancellationToken,
    task: JoinHandle<Vec<String>>,
}

impl Posting {
    fn begin(api: Api) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut ids = Vec::new();
            while !stopped.is_cancelled() {
                ids.push(api.post_event("a", &json!({"n": ids.len()})).await.id);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            ids
        });
        Self { stop, task }
    }

    /// The ids of all events, in the log's order.
    async fn end(self) -> Vec<String> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

/// The ids of so many events that are posted now.
async fn post(api: &Api, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(api.post_event("a", &json!({"n": n})).await.id);
    }
    ids
}

/// The ids of what a target took, as often as it came.
fn ids(target: &Target) -> Vec<String> {
    target.received().into_iter().filter(|r| r.was_taken).map(|r| r.headers["ce-id"].clone()).collect()
}

/// Subscribes a target that gives an event up after two attempts. Answers with the subscription's id.
async fn subscribe_giving_up(api: &Api, target: &Target) -> String {
    let delivery = json!({"max_attempts": 2, "on_exhausted": "dead_letter"});
    let body = json!({"url": target.url("/"), "events": [{"type": "a"}], "delivery": delivery});
    let response = api.send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap();
    assert_eq!(response.status(), 201);
    response.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
}

/// Where everything is stored.
enum Store {
    Single(Nats),
    Cluster(Cluster),
}

impl Store {
    /// Another one of the same kind, with nothing in it.
    async fn fresh(&self) -> Self {
        match self {
            Self::Single(_) => Self::Single(Nats::start()),
            Self::Cluster(_) => Self::Cluster(Cluster::start().await),
        }
    }

    /// Takes in what was backed up.
    async fn restored(self, backups: &[Backup]) -> Self {
        let client = self.client().await;
        for backup in backups {
            backup.restore(&client).await;
        }
        if let Self::Cluster(cluster) = &self {
            cluster.until_whole().await;
        }
        self
    }

    fn urls(&self) -> String {
        match self {
            Self::Single(nats) => nats.url(),
            Self::Cluster(cluster) => cluster.urls(),
        }
    }

    async fn client(&self) -> async_nats::Client {
        let urls: Vec<String> = self.urls().split(',').map(str::to_owned).collect();
        async_nats::connect(urls).await.unwrap()
    }

    /// A mer with these roles on it, which is not started yet.
    fn mer(&self, roles: &str) -> Mer {
        let replicas = if matches!(self, Self::Cluster(_)) { 3 } else { 1 };
        Mer::new(MER).roles(roles).set("MER_NATS_URL", self.urls()).set("MER_REPLICAS", replicas)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_catch_up_from_a_backup_that_was_taken_while_events_were_posted() {
    replicas_catch_up(Store::Single(Nats::start())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_catch_up_from_the_backup_of_a_cluster() {
    replicas_catch_up(Store::Cluster(Cluster::start().await)).await;
}

async fn replicas_catch_up(nats: Store) {
    let mut mer = nats.mer(ALL_ROLES).start().await;
    let api = mer.api();
    let (well, behind, picky) = (Target::start().await, Target::start().await, Target::start().await);
    for target in [&well, &behind] {
        api.register(&target.url("/"), &["a"], &json!({})).await;
    }
    picky.answer(Answer::StatusTo(vec![7], 500));
    let picky_id = subscribe_giving_up(&api, &picky).await;

    let posting = Posting::begin(api.clone());
    eventually("there is something to fall behind from", LONG, || behind.taken().len() >= 20).await;
    behind.answer(Answer::Status(500));
    eventually("there is something to back up", LONG, || picky.taken().len() >= 200).await;
    let client = nats.client().await;
    let mut backups = Vec::new();
    for stream in IN_ORDER {
        backups.push(Backup::take(&client, stream).await);
    }
    let events = backups.last().unwrap();
    let kept = events.last_sequence();
    assert!(events.chunks() > 2, "it comes in pieces: {}", events.chunks());
    eventually("it goes on meanwhile, and beyond the backup", LONG, || well.taken().last() > Some(&(kept + 50))).await;
    let posted = posting.end().await;

    // All is lost.
    mer.kill();
    let another = nats.fresh().await;
    drop((client, nats));
    let nats = another.restored(&backups).await;
    let (had, had_behind) = (ids(&well).len(), ids(&behind).len());
    behind.answer(Answer::Status(200));
    let mer = nats.mer(ALL_ROLES).start().await;
    let api = mer.api();
    let fresh = Target::start().await;
    api.register(&fresh.url("/"), &["a"], &json!({"datetime_start": FROM_THE_BEGINNING})).await;
    let first = api.post_event("a", &json!({})).await;
    assert_eq!(first.sequence, kept + 1, "the log goes on where the backup ends");
    let mut after = vec![first.id];
    after.extend(post(&api, 50).await);

    let kept = usize::try_from(kept).unwrap();
    let log = [&posted[..kept], &after].concat();
    eventually("a new replica gets the backup, and then what is new", LONG, || ids(&fresh) == log).await;
    eventually("one that was behind goes on where it was", LONG, || ids(&behind) == log).await;
    assert!(had_behind < kept, "it was behind");
    // One that had more than the backup knows gets what it had since then once more, as far as it is in the log.
    eventually("one that had all goes on", LONG, || ids(&well)[had..].ends_with(&after)).await;
    assert!(log.ends_with(&ids(&well)[had..]), "in the log's order");
    assert!(!mer.log().contains("log_was_rolled_back"), "no lane is further than the log");

    eventually("one that gives events up goes on", LONG, || ids(&picky).last() == after.last()).await;
    let letters = api.get("/v1/dead-letters").await;
    let letter = &letters["dead_letters"][0];
    assert_eq!((&letter["event"]["id"], &letter["subscription"]), (&json!(posted[6]), &json!(picky_id)), "{letters}");
    picky.answer(Answer::Status(200));
    let redrive = json!({"subscription": picky_id, "sequences": [1]});
    assert_eq!(api.post("/v1/dead-letters/redrive", &redrive).await.status(), 202);
    eventually("what was given up arrives", SOON, || ids(&picky).last() == Some(&posted[6])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_are_further_than_the_restored_log_lose_nothing_if_the_dispatcher_is_started_first() {
    let nats = Store::Single(Nats::start());
    let mut mer = nats.mer(ALL_ROLES).start().await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    let kept = post(&mer.api(), 20).await;
    let client = nats.client().await;
    // What is recorded of the log says that the 20 are of both logs.
    eventually_async("it is recorded what stands at 20", SOON, async || {
        let bucket = async_nats::jetstream::new(client.clone()).get_key_value("LOG").await.unwrap();
        let record = bucket.get("record").await.unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap());
        record.is_some_and(|record| record.contains("\"sequence\":20,"))
    })
    .await;
    let log = Backup::take(&client, "EVENTS").await;
    post(&mer.api(), 20).await;
    eventually("all have arrived", SOON, || target.taken().len() == 40).await;
    // In good order, so that what is in LANES is what has arrived.
    assert!(mer.stop().await);
    let mut backups = vec![log];
    for bucket in ["KV_LANES", "KV_LOG", "KV_SUBSCRIPTIONS"] {
        backups.push(Backup::take(&client, bucket).await);
    }
    let another = nats.fresh().await;
    drop((client, nats));

    let nats = another.restored(&backups).await;
    let dispatcher = nats.mer("dispatcher").start().await;
    eventually("it notices", SOON, || dispatcher.log().contains("lane.log_was_rolled_back")).await;
    let receiver = nats.mer("receiver,registrar").start().await;
    let after = post(&receiver.api(), 25).await;
    eventually("all that is new arrives", SOON, || ids(&target).len() == 40 + after.len()).await;
    assert_eq!(ids(&target)[..20], kept);
    assert_eq!(ids(&target)[40..], after);
}

#[tokio::test]
async fn a_copy_of_the_data_folder_takes_the_place_of_one_that_is_lost() {
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
        assert!(copied.success());
    };
    let mut mer = Mer::new(MER).start().await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    let mut log = post(&mer.api(), 20).await;
    eventually("they arrive", SOON, || target.taken().len() == 20).await;
    target.answer(Answer::Status(500));
    log.extend(post(&mer.api(), 10).await);
    assert!(mer.stop().await);
    let kept = mer.data_dir().with_extension("copy");
    copy(mer.data_dir(), &kept);
    mer.launch();
    mer.until_ready().await;
    post(&mer.api(), 10).await;
    let server = children(mer.id())[0];
    mer.kill();
    // It is told to end by the kernel, and writes what it has before it does.
    eventually("its nats-server has ended", SOON, || !is_alive(server)).await;
    std::fs::remove_dir_all(mer.data_dir()).unwrap();
    copy(&kept, mer.data_dir());
    target.answer(Answer::Status(200));

    mer.launch();
    mer.until_ready().await;
    let fresh = Target::start().await;
    mer.api().register(&fresh.url("/"), &["a"], &json!({"datetime_start": FROM_THE_BEGINNING})).await;
    log.extend(post(&mer.api(), 10).await);
    eventually("one that was behind goes on where it was, and nothing comes twice", LONG, || ids(&target) == log).await;
    eventually("a new replica gets all", LONG, || ids(&fresh) == log).await;
}
