//! The log becomes another one: restored from an older copy, removed and made again, its end lost. What is accepted afterwards
//! reaches every URL, wherever that stood, and whatever was posted before a dispatcher looked.

use std::path::{Path, PathBuf};
use std::process::Command;

use domain::Stamp;
use domain::log_epoch::Mark;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Api, Mer, Nats, Target, eventually, eventually_async};

use crate::embedded::{children, is_alive};
use crate::{LONG, MER, SOON};

const ALL_ROLES: &str = "receiver,registrar,dispatcher";

/// The ids of so many events that are posted now.
async fn post(api: &Api, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(api.post_event("a", &json!({"n": n})).await.id);
    }
    ids
}

/// The ids of what a target took.
fn ids(target: &Target) -> Vec<String> {
    target.received().into_iter().filter(|r| r.was_taken).map(|r| r.headers["ce-id"].clone()).collect()
}

/// The log's name in each delivery that a target took.
fn epochs(target: &Target) -> Vec<String> {
    target.received().into_iter().filter(|r| r.was_taken).map(|r| r.headers["ce-logepoch"].clone()).collect()
}

fn mer_on(nats: &Nats, roles: &str) -> Mer {
    Mer::new(MER).roles(roles).set("MER_NATS_URL", nats.url())
}

/// The folder of the stream `EVENTS` below another one.
pub(crate) fn folder_of_events(below: &Path) -> PathBuf {
    folder_of(below, "EVENTS")
}

/// The folder of a stream below another one.
pub(crate) fn folder_of(below: &Path, stream: &str) -> PathBuf {
    let found = Command::new("find").arg(below).args(["-type", "d", "-name", stream]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    PathBuf::from(found.lines().next().expect("the stream's folder"))
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// Has a server go on with an older copy of `EVENTS`, made when `after` events were posted, of which `more` were lost.
async fn with_an_older_log(nats: &mut Nats, mer: &mut Mer, target: &Target, after: usize, more: usize) -> Vec<String> {
    let mut log = post(&mer.api(), after).await;
    eventually("all have arrived", SOON, || target.taken().len() == after).await;
    assert!(mer.stop().await);
    nats.kill();
    let events = folder_of_events(&nats.store_dir());
    let kept = nats.store_dir().join("kept");
    copy(&events, &kept);
    nats.restart();
    mer.launch();
    mer.until_ready().await;
    log.extend(post(&mer.api(), more).await);
    eventually("all have arrived", SOON, || target.taken().len() == after + more).await;
    assert!(mer.stop().await);
    nats.kill();
    copy(&kept, &events);
    std::fs::remove_dir_all(&kept).unwrap();
    nats.restart();
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_that_has_grown_beyond_a_position_is_noticed_and_all_that_is_new_arrives() {
    let mut nats = Nats::start();
    let mut mer = mer_on(&nats, ALL_ROLES).start().await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    with_an_older_log(&mut nats, &mut mer, &target, 200, 100).await;
    // More is posted than was lost, before any dispatcher looks.
    let receiver = mer_on(&nats, "receiver,registrar").start().await;
    let new = post(&receiver.api(), 150).await;
    let had = ids(&target).len();
    mer.launch();
    mer.until_ready().await;
    eventually("all that is new arrives", LONG, || ids(&target)[had..].ends_with(&new)).await;
    eventually("it is said", SOON, || mer.log().contains("log.forked")).await;
    let epochs = epochs(&target);
    assert!(epochs[..had].iter().all(|epoch| *epoch == epochs[0]));
    assert!(epochs[epochs.len() - new.len()..].iter().all(|epoch| *epoch != epochs[0]), "the target is told");
    let log = receiver.api().get("/v1/log").await;
    assert_eq!(log["epochs"].as_array().unwrap().len(), 2, "{log}");
    assert_eq!((&log["epoch"], &log["last_sequence"]), (&json!(epochs.last().unwrap()), &json!(350)));
    assert!(log["epochs"][1]["from_sequence"].as_u64() <= Some(201), "no later than where it forked: {log}");
    // Nothing more is found, and what comes goes on.
    let next = post(&receiver.api(), 5).await;
    eventually("it goes on", SOON, || ids(&target).ends_with(&next)).await;
    assert_eq!(receiver.api().get("/v1/log").await["epochs"].as_array().unwrap().len(), 2);
}

/// A dispatcher that did not know of the fork has recorded an event from behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_behind_a_fork_is_not_taken_for_shared_though_it_is_recorded() {
    let mut nats = Nats::start();
    let mut mer = mer_on(&nats, ALL_ROLES).start().await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    with_an_older_log(&mut nats, &mut mer, &target, 60, 40).await;
    let receiver = mer_on(&nats, "receiver,registrar").start().await;
    let new = post(&receiver.api(), 25).await;
    let last_time = receiver.api().get("/v1/log").await["last_time"].as_str().unwrap().to_owned();
    let recorded = Mark::new(85, new.last().unwrap(), Stamp::parse(&last_time).unwrap());
    let bucket = async_nats::jetstream::new(nats.client().await).get_key_value("LOG").await.unwrap();
    let record = bucket.get("record").await.unwrap().unwrap();
    let mut record: Value = serde_json::from_slice(&record).unwrap();
    record["checkpoints"] = json!([recorded]);
    bucket.put("record", record.to_string().into()).await.unwrap();
    let had = ids(&target).len();
    mer.launch();
    mer.until_ready().await;
    eventually("all that is new arrives", LONG, || ids(&target)[had..].ends_with(&new)).await;
    let log = receiver.api().get("/v1/log").await;
    assert_eq!(log["epochs"][1]["from_sequence"], 61, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_removed_and_made_again_brings_all_that_is_in_it() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats, ALL_ROLES).start().await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    post(&mer.api(), 100).await;
    eventually("all have arrived", SOON, || target.taken().len() == 100).await;
    assert!(mer.stop().await);
    async_nats::jetstream::new(nats.client().await).delete_stream("EVENTS").await.unwrap();
    let mut maker = mer_on(&nats, "dispatcher").set("MER_LEASE_SECS", 3).start().await;
    assert!(maker.stop().await, "it has made the streams");
    let receiver = mer_on(&nats, "receiver,registrar").start().await;
    let new = post(&receiver.api(), 150).await;
    mer.launch();
    mer.until_ready().await;
    eventually("all that is new arrives", LONG, || ids(&target)[100..] == new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_removed_under_a_running_mer_brings_all_that_is_posted_then() {
    let nats = Nats::start();
    let mer = mer_on(&nats, ALL_ROLES).start().await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    post(&mer.api(), 100).await;
    eventually("all have arrived", SOON, || target.taken().len() == 100).await;
    let context = async_nats::jetstream::new(nats.client().await);
    context.delete_stream("EVENTS").await.unwrap();
    eventually_async("mer has made it again", LONG, async || context.get_stream("EVENTS").await.is_ok()).await;
    let new = post(&mer.api(), 150).await;
    eventually("all that is new arrives", LONG, || ids(&target)[100..].ends_with(&new)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_that_is_to_wait_waits_in_state_forked_until_it_is_resumed() {
    let mut nats = Nats::start();
    let mut mer = mer_on(&nats, ALL_ROLES).start().await;
    let target = Target::start().await;
    let body = json!({"url": target.url("/"), "events": [{"type": "a"}], "delivery": {"on_fork": "wait"}});
    let response = mer.api().send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap();
    assert_eq!(response.status(), 201);
    let id = response.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    with_an_older_log(&mut nats, &mut mer, &target, 60, 40).await;
    let receiver = mer_on(&nats, "receiver,registrar").start().await;
    let new = post(&receiver.api(), 50).await;
    mer.launch();
    mer.until_ready().await;
    let status = async || receiver.api().subscription(&target.url("/")).await["status"].clone();
    eventually_async("it says so", SOON, async || status().await["state"] == "forked").await;
    let fork = status().await["fork"].clone();
    assert!(fork["shared_to"].as_u64() <= Some(60) && fork["was_at"] == 100, "{fork}");
    let metrics = mer.api().send(Method::GET, "/metrics", &[], "").await.unwrap().text().await.unwrap();
    assert!(metrics.contains("mer_lanes{group=\"(none)\",state=\"forked\"} 1"), "{metrics}");
    assert!(!metrics.contains("mer_log_forked_timestamp_seconds 0"), "{metrics}");
    // Over a restart too.
    assert!(mer.stop().await);
    mer.launch();
    mer.until_ready().await;
    eventually_async("it still waits", SOON, async || status().await["state"] == "forked").await;
    assert_eq!(target.taken().len(), 100);
    assert_eq!(receiver.api().post(&format!("/v1/subscriptions/{id}/resume"), &json!({})).await.status(), 200);
    eventually("all that is new arrives", SOON, || ids(&target)[100..].ends_with(&new)).await;
    eventually_async("it is active", SOON, async || status().await["state"] == "active").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_embedded_server_nothing_is_stored_before_the_log_was_looked_at() {
    let mut mer = Mer::new(MER).start().await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    post(&mer.api(), 60).await;
    eventually("they arrive", SOON, || target.taken().len() == 60).await;
    assert!(mer.stop().await);
    let (events, kept) = (folder_of_events(mer.data_dir()), mer.data_dir().with_extension("copy"));
    copy(&events, &kept);
    mer.launch();
    mer.until_ready().await;
    post(&mer.api(), 40).await;
    eventually("they arrive", SOON, || target.taken().len() == 100).await;
    let server = children(mer.id())[0];
    mer.kill();
    eventually("its nats-server has ended", SOON, || !is_alive(server)).await;
    copy(&kept, &events);
    mer.launch();
    // As soon as anything is taken.
    let api = mer.api();
    let mut new = Vec::new();
    eventually_async("an event is taken", LONG, async || {
        match api.send(Method::POST, "/receive_event/a", &[("content-type", "application/json")], "{}").await {
            Ok(response) if response.status() == 200 => {
                let id = response.headers()["event-id"].to_str().unwrap().to_owned();
                new.push(id);
                true
            }
            _ => false,
        }
    })
    .await;
    let log = api.get("/v1/log").await;
    assert_eq!(log["epochs"].as_array().unwrap().len(), 2, "it was seen before that: {log}");
    new.extend(post(&api, 80).await);
    eventually("all that is new arrives", LONG, || ids(&target)[100..].ends_with(&new)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_can_be_declared_by_hand_and_deliveries_name_it() {
    let nats = Nats::start();
    let mer = mer_on(&nats, ALL_ROLES).start().await;
    let (api, one, many) = (mer.api(), Target::start().await, Target::start().await);
    api.register(&one.url("/"), &["a"], &json!({})).await;
    let body = json!({"url": many.url("/"), "events": [{"type": "a"}], "delivery": {"mode": "batched"}});
    assert_eq!(api.send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap().status(), 201);
    post(&api, 3).await;
    eventually("they arrive", SOON, || one.taken().len() == 3).await;
    let log = |arguments: &[&str]| {
        let output = Command::new(MER).arg("log").args(arguments).env("MER_URL", mer.url()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let first = epochs(&one)[0].clone();
    assert!(log(&["status"]).contains(&format!("epoch   {first}")), "{}", log(&["status"]));
    let declared = log(&["new-epoch", "--reason", "a test"]);
    assert!(declared.contains("from 4") && declared.contains("a test"), "{declared}");
    let second = declared.split(' ').next().unwrap().to_owned();
    assert_eq!(log(&["epochs"]).lines().count(), 2);
    eventually_async("deliveries name it", SOON, async || {
        api.post_event("a", &json!({})).await;
        epochs(&one).last() == Some(&second)
    })
    .await;
    eventually("a batch names it", SOON, || {
        many.received().last().is_some_and(|last| {
            let batch: Value = serde_json::from_str(&last.body).unwrap_or_default();
            batch[0]["logepoch"] == second
        })
    })
    .await;
    let taken = one.taken();
    assert!(taken.is_sorted() && taken.windows(2).all(|two| two[0] < two[1]), "nothing comes again: {taken:?}");
    let empty = [("content-type", "application/json")];
    assert_eq!(api.send(Method::POST, "/v1/log/epochs", &empty, r#"{"reason":""}"#).await.unwrap().status(), 422);
    assert_eq!(api.send(Method::POST, "/v1/log/epochs", &empty, "x").await.unwrap().status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_bucket_log_mer_works_and_says_what_it_does_not_do() {
    let users = "authorization { users: [ {user: mer, password: mer, permissions: {\n\
                 publish: {deny: [\"$KV.LOG.>\", \"$JS.API.STREAM.CREATE.KV_LOG\"]} } } ] }";
    let nats = Nats::start_with(users);
    let mut mer = mer_on(&nats, ALL_ROLES).set("MER_NATS_USER", "mer").set("MER_NATS_PASSWORD", "mer").start().await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    post(&mer.api(), 5).await;
    eventually("they arrive", SOON, || target.taken() == [1, 2, 3, 4, 5]).await;
    assert!(mer.log().contains("nats.bucket_missing"));
    assert!(target.received().iter().all(|r| !r.headers.contains_key("ce-logepoch")));
    let log = mer.api().get("/v1/log").await;
    assert_eq!((&log["epoch"], &log["epochs"], &log["events"]), (&Value::Null, &json!([]), &json!(5)));
    mer.kill();
    mer.launch();
    mer.until_ready().await;
    post(&mer.api(), 5).await;
    eventually("they arrive", SOON, || target.taken().ends_with(&[6, 7, 8, 9, 10])).await;
}

/// Has `EVENTS` go back to an older copy of 60 events behind 40 that are lost, and answers a receiver on it.
async fn forked_behind_60(nats: &mut Nats, mer: &mut Mer, targets: &[Target]) -> Mer {
    for target in targets {
        mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    }
    let all_have = |count: usize| targets.iter().all(|target| target.taken().len() == count);
    post(&mer.api(), 60).await;
    eventually("all have arrived", LONG, || all_have(60)).await;
    assert!(mer.stop().await);
    nats.kill();
    let (events, kept) = (folder_of_events(&nats.store_dir()), nats.store_dir().join("kept"));
    copy(&events, &kept);
    nats.restart();
    mer.launch();
    mer.until_ready().await;
    post(&mer.api(), 40).await;
    eventually("all have arrived", LONG, || all_have(100)).await;
    // What was noted of positions comes to the server; the lanes' states of before are what is written.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    mer.kill();
    nats.kill();
    copy(&kept, &events);
    std::fs::remove_dir_all(&kept).unwrap();
    nats.restart();
    mer_on(nats, "receiver,registrar").start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_after_a_kill_is_declared_once_however_many_urls_were_further() {
    let mut nats = Nats::start();
    let mut mer = mer_on(&nats, ALL_ROLES).set("MER_LEASE_SECS", 3).start().await;
    let mut targets = Vec::new();
    for _ in 0..6 {
        targets.push(Target::start().await);
    }
    let receiver = forked_behind_60(&mut nats, &mut mer, &targets).await;
    let new = post(&receiver.api(), 90).await;
    mer.launch();
    mer.until_ready().await;
    let all_have_it = || targets.iter().all(|target| ids(target)[100..].ends_with(&new));
    eventually("all that is new arrives everywhere", LONG, all_have_it).await;
    let log = receiver.api().get("/v1/log").await;
    assert_eq!(log["epochs"].as_array().unwrap().len(), 2, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dispatchers_that_find_a_fork_at_the_same_moment_declare_it_once() {
    let mut nats = Nats::start();
    let mut mer = mer_on(&nats, ALL_ROLES).set("MER_LEASE_SECS", 3).start().await;
    let targets = [Target::start().await];
    let receiver = forked_behind_60(&mut nats, &mut mer, &targets).await;
    let mut others: Vec<Mer> = (0..3).map(|_| mer_on(&nats, "dispatcher").set("MER_LEASE_SECS", 3)).collect();
    others.iter_mut().for_each(Mer::launch);
    for other in &mut others {
        other.until_ready().await;
    }
    let new = post(&receiver.api(), 20).await;
    eventually("all that is new arrives", LONG, || ids(&targets[0])[100..].ends_with(&new)).await;
    let log = receiver.api().get("/v1/log").await;
    assert_eq!(log["epochs"].as_array().unwrap().len(), 2, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_the_log_that_cannot_be_read_is_made_anew() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats, ALL_ROLES).start().await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    post(&mer.api(), 5).await;
    eventually("they arrive", SOON, || target.taken() == [1, 2, 3, 4, 5]).await;
    let first = mer.api().get("/v1/log").await["epoch"].clone();
    assert!(mer.stop().await);
    let context = async_nats::jetstream::new(nats.client().await);
    context.get_key_value("LOG").await.unwrap().put("record", "{".into()).await.unwrap();
    mer.launch();
    mer.until_ready().await;
    post(&mer.api(), 5).await;
    eventually("they arrive, and nothing comes again", SOON, || target.taken() == (1..=10).collect::<Vec<_>>()).await;
    eventually("it is said", SOON, || mer.log().contains("log.record_unreadable")).await;
    let log = mer.api().get("/v1/log").await;
    assert!(log["epoch"].is_string() && log["epoch"] != first, "{log}");
}
