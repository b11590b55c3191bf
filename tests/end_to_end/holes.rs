//! The log has lost events in its middle: a damaged store, or somebody who removed them. It is told by name within a minute, and
//! no URL passes it in silence.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Api, Nats, Target, eventually, eventually_async};

use crate::forks::folder_of_events;
use crate::{LONG, MER, SOON, mer_on};

/// How soon damage is told after a start.
const TOLD: Duration = Duration::from_secs(60);

async fn status(api: &Api, target: &Target) -> Value {
    api.subscription(&target.url("/")).await["status"].clone()
}

async fn resume(api: &Api, target: &Target) {
    let id = api.subscription(&target.url("/")).await["id"].as_str().unwrap().to_owned();
    assert_eq!(api.post(&format!("/v1/subscriptions/{id}/resume"), &json!({})).await.status(), 200);
}

/// Registers a URL for types, with settings of its deliveries.
async fn subscribe(api: &Api, target: &Target, types: &[&str], delivery: Value) {
    let events: Vec<Value> = types.iter().map(|event_type| json!({"type": event_type})).collect();
    let body = json!({"url": target.url("/"), "events": events, "delivery": delivery});
    let answer = api.send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap();
    assert_eq!(answer.status(), 201);
}

/// Removes single events, as `nats stream rmm` does.
async fn remove(nats: &Nats, sequences: impl IntoIterator<Item = u64>) {
    let events = async_nats::jetstream::new(nats.client().await).get_stream("EVENTS").await.unwrap();
    for sequence in sequences {
        assert!(events.delete_message(sequence).await.unwrap());
    }
}

/// What a command shows.
fn shown(arguments: &[&str], settings: &[(&str, &str)]) -> String {
    let mut command = Command::new(MER);
    command.args(arguments).env_clear().envs(settings.iter().copied()).stdin(Stdio::null());
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

async fn waits_at(api: &Api, target: &Target, from: u64, to: u64) -> bool {
    let status = status(api, target).await;
    status["state"] == "gap"
        && (&status["hole"]["from_sequence"], &status["hole"]["to_sequence"]) == (&json!(from), &json!(to))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_stops_those_who_have_not_had_it_until_they_are_resumed() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let [live, all, filtered, careless, batched] = [
        Target::start().await,
        Target::start().await,
        Target::start().await,
        Target::start().await,
        Target::start().await,
    ];
    subscribe(&api, &live, &[">"], json!({})).await;
    subscribe(&api, &all, &[">"], json!({})).await;
    subscribe(&api, &filtered, &["b"], json!({})).await;
    subscribe(&api, &careless, &["a", "b"], json!({"on_hole": "continue"})).await;
    subscribe(&api, &batched, &["a", "b"], json!({"mode": "batched", "batch_max_events": 100})).await;
    let lagging = [&all, &filtered, &careless, &batched];
    lagging.iter().for_each(|target| target.answer(Answer::Status(500)));
    for n in 1..=20u64 {
        api.post_event(if n % 5 == 0 { "b" } else { "a" }, &json!({ "n": n })).await;
    }
    eventually("the live one has all", SOON, || live.taken().len() == 20).await;
    // 11 to 13 are of type `a`: of what the filtered one wants, nothing is missing, and nobody can know that.
    // They are not in anybody's memory.
    assert!(mer.stop().await);
    remove(&nats, 11..=13).await;
    mer.launch();
    mer.until_ready().await;
    eventually("it is told", SOON, || mer.log().contains("log.hole ")).await;

    let log = api.get("/v1/log").await;
    assert_eq!((&log["missing"], log["holes"].as_array().unwrap().len()), (&json!(3), 1), "{log}");
    let hole = &log["holes"][0];
    assert_eq!(
        (&hole["from_sequence"], &hole["to_sequence"], &hole["reason"]),
        (&json!(11), &json!(13), &json!("lost"))
    );
    let ready = api.get("/readyz").await;
    assert!(ready["detail"].as_str().unwrap().contains("11 to 13"), "{ready}");
    let metrics = api.metrics().await;
    assert_eq!(metrics.sum("mer_log_missing_events", &[("kind", "lost")]), Some(3.0));
    assert_eq!(metrics.sum("mer_log_holes_found_total", &[]), Some(1.0));
    assert!(shown(&["log", "status"], &[("MER_URL", &mer.url())]).contains("hole    11 to 13  3 missing  lost"));
    let checked = shown(&["check"], &[("MER_NATS_URL", &nats.url()), ("MER_LISTEN", "127.0.0.1:0")]);
    assert!(checked.contains("holes: the log has lost 3 event(s): the sequences 11 to 13"), "{checked}");

    lagging.iter().for_each(|target| target.answer(Answer::Status(200)));
    let around: Vec<u64> = (1..=10).chain(14..=20).collect();
    eventually("who goes on goes on", LONG, || careless.taken() == around).await;
    for target in [&all, &filtered, &batched] {
        eventually_async("it waits", LONG, async || waits_at(&api, target, 11, 13).await).await;
    }
    let had: Vec<u64> = (1..=10).collect();
    assert_eq!((all.taken(), batched.taken(), filtered.taken()), (had.clone(), had, vec![5, 10]));
    assert!(status(&api, &careless).await["hole"].is_object() && status(&api, &careless).await["state"] == "active");
    assert_eq!(status(&api, &live).await["state"], "active");
    let list = shown(&["subs", "ls"], &[("MER_URL", &mer.url())]);
    assert!(list.contains("the log has lost 11 to 13") && list.contains("mer subs resume"), "{list}");

    // Over a restart too, of all of it.
    assert!(mer.stop().await);
    mer.launch();
    mer.until_ready().await;
    api.post_event("b", &json!({})).await;
    eventually("the live one goes on", LONG, || live.taken().last() == Some(&21)).await;
    for target in [&all, &filtered, &batched] {
        assert!(waits_at(&api, target, 11, 13).await, "{}", status(&api, target).await);
        resume(&api, target).await;
    }
    let rest: Vec<u64> = (1..=10).chain(14..=21).collect();
    eventually("all of it arrives", LONG, || all.taken() == rest && batched.taken() == rest).await;
    eventually("all of it arrives", LONG, || filtered.taken() == [5, 10, 15, 20, 21]).await;
    let previous =
        |r: &tests::Received| (r.sequence, r.headers["ce-previoussequence"].trim_start_matches('0').to_owned());
    assert!(all.received().iter().any(|r| previous(r) == (14, "10".to_owned())));
    assert!(status(&api, &all).await["hole"].is_object(), "it is still told");
    // A replica that begins with the past comes to it, too.
    let late = Target::start().await;
    api.register(&late.url("/"), &["a", "b"], &json!({"datetime_start": "20200101000000.000000"})).await;
    eventually_async("the late one waits", LONG, async || waits_at(&api, &late, 11, 13).await).await;
    resume(&api, &late).await;
    eventually("all of it arrives", LONG, || late.taken() == rest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_that_are_there_when_mer_first_looks_are_reported_and_stop_nobody() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    for _ in 0..9 {
        mer.api().post_event("a", &json!({})).await;
    }
    assert!(!mer.log().contains("log.hole"), "there are none in a new log");
    assert!(mer.stop().await);
    // As a build before has left it.
    let log = async_nats::jetstream::new(nats.client().await).get_key_value("LOG").await.unwrap();
    log.purge("holes").await.unwrap();
    remove(&nats, [4, 5]).await;
    mer.launch();
    mer.until_ready().await;
    eventually("it is reported", SOON, || mer.log().contains("log.hole_reported")).await;
    let late = Target::start().await;
    mer.api().register(&late.url("/"), &["a"], &json!({"datetime_start": "20200101000000.000000"})).await;
    eventually("all that is left arrives", LONG, || late.taken() == [1, 2, 3, 6, 7, 8, 9]).await;
    assert_eq!(status(&mer.api(), &late).await["hole"]["reason"], "earlier");
    assert!(mer.api().get("/readyz").await["detail"].is_null());
    // One that comes later is a loss.
    remove(&nats, [7]).await;
    eventually("it is told", SOON, || mer.log().contains("log.hole ")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_that_cannot_be_recorded_is_told_and_passed_by_nobody_all_the_same() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let (live, lagging) = (Target::start().await, Target::start().await);
    subscribe(&api, &live, &[">"], json!({})).await;
    subscribe(&api, &lagging, &["a"], json!({})).await;
    lagging.answer(Answer::Status(500));
    for _ in 0..9 {
        api.post_event("a", &json!({})).await;
    }
    eventually("the live one has all", SOON, || live.taken().len() == 9).await;
    // They are not in anybody's memory.
    assert!(mer.stop().await);
    // As where the disk is full.
    let context = async_nats::jetstream::new(nats.client().await);
    let mut config = context.get_stream("KV_LOG").await.unwrap().cached_info().config.clone();
    config.max_bytes = 1;
    config.discard = async_nats::jetstream::stream::DiscardPolicy::New;
    context.update_stream(&config).await.unwrap();
    remove(&nats, [4, 5]).await;
    mer.launch();
    mer.until_ready().await;
    eventually("it is told", SOON, || mer.log().contains("log.hole ")).await;
    assert!(mer.log().contains("log.holes_not_recorded"));
    lagging.answer(Answer::Status(200));
    eventually_async("the lagging one waits", LONG, async || waits_at(&api, &lagging, 4, 5).await).await;
    api.post_event("a", &json!({})).await;
    eventually("the live one goes on", LONG, || live.taken().last() == Some(&10)).await;
    assert_eq!(api.get("/v1/log").await["holes"], json!([]));
    // It is recorded when there is room again, and told once.
    config.max_bytes = -1;
    context.update_stream(&config).await.unwrap();
    let recorded = async || api.get("/v1/log").await["holes"][0]["from_sequence"] == json!(4);
    eventually_async("it is recorded", LONG, recorded).await;
    assert_eq!((mer.log().matches("log.hole ").count(), lagging.taken()), (1, vec![1, 2, 3]));
}

/// The largest file of `EVENTS` but the last one, in which what is written last is.
fn block_in_the_middle(nats: &Nats) -> PathBuf {
    let messages = folder_of_events(&nats.store_dir()).join("msgs");
    let number = |path: &Path| path.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let mut blocks: Vec<PathBuf> = std::fs::read_dir(messages).unwrap().map(|entry| entry.unwrap().path()).collect();
    blocks.retain(|path| path.extension().is_some_and(|extension| extension == "blk"));
    blocks.sort_by_key(|path| number(path));
    assert!(blocks.len() >= 3, "{blocks:?}");
    blocks[1].clone()
}

/// Stores events of a size that fill several files.
async fn fill(nats: &Nats) {
    let context = async_nats::jetstream::new(nats.client().await);
    let data = format!("\"{}\"", "x".repeat(400_000));
    for _ in 0..50 {
        context.publish("events.a", data.clone().into()).await.unwrap().await.unwrap();
    }
}

/// Damages a block while everything is stopped. What was live stays so, what comes is delivered, and a late replica waits.
async fn with_a_damaged_block(damage: impl FnOnce(&Path)) {
    let mut nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let (live, lagging) = (Target::start().await, Target::start().await);
    subscribe(&api, &live, &["a"], json!({})).await;
    lagging.answer(Answer::Status(500));
    subscribe(&api, &lagging, &["a"], json!({})).await;
    fill(&nats).await;
    eventually("the live one has all", LONG, || live.taken().len() == 50).await;
    assert!(mer.stop().await);
    nats.kill();
    damage(&block_in_the_middle(&nats));
    nats.restart();
    mer.launch();
    mer.until_ready().await;
    eventually("it is told", TOLD, || mer.log().contains("log.hole ")).await;
    let hole = api.get("/v1/log").await["holes"][0].clone();
    let (from, to) = (hole["from_sequence"].as_u64().unwrap(), hole["to_sequence"].as_u64().unwrap());
    assert!(1 < from && from <= to && to < 50, "{hole}");
    let last = api.post_event("a", &json!({})).await.sequence;
    eventually("the live one goes on", LONG, || live.taken().last() == Some(&last)).await;
    assert_eq!(status(&api, &live).await["state"], "active");
    lagging.answer(Answer::Status(200));
    eventually_async("the lagging one waits", LONG, async || waits_at(&api, &lagging, from, to).await).await;
    assert_eq!(lagging.taken(), (1..from).collect::<Vec<_>>());
    resume(&api, &lagging).await;
    let rest: Vec<u64> = (1..from).chain(to + 1..=last).collect();
    eventually("all that is left arrives", LONG, || lagging.taken() == rest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_gone_is_told() {
    with_a_damaged_block(|block| std::fs::remove_file(block).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_cut_is_told() {
    with_a_damaged_block(cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_of_zeros_is_told() {
    with_a_damaged_block(zero).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_that_is_flipped_is_told() {
    with_a_damaged_block(flip).await;
}

fn cut(block: &Path) {
    let file = std::fs::OpenOptions::new().write(true).open(block).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn zero(block: &Path) {
    let length = usize::try_from(block.metadata().unwrap().len()).unwrap();
    std::fs::write(block, vec![0; length]).unwrap();
}

fn flip(block: &Path) {
    let mut bytes = std::fs::read(block).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(block, bytes).unwrap();
}

/// Damages a block after everything was stopped in good order, in a log that nobody reads: nats-server believes what it noted when
/// it stopped, and counts what is lost (`is_counted`). It is told all the same, and is not forgotten.
async fn with_a_block_that_nobody_reads(damage: impl FnOnce(&Path), is_counted: bool) {
    let mut nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    fill(&nats).await;
    assert!(mer.stop().await);
    // What is younger than this window nats-server reads when it starts.
    let context = async_nats::jetstream::new(nats.client().await);
    let mut config = context.get_stream("EVENTS").await.unwrap().cached_info().config.clone();
    config.duplicate_window = Duration::from_millis(100);
    context.update_stream(&config).await.unwrap();
    nats.stop();
    let block = block_in_the_middle(&nats);
    let written = std::fs::metadata(&block).unwrap().modified().unwrap();
    damage(&block);
    if let Ok(file) = std::fs::File::options().write(true).open(&block) {
        // As a disk that forgets: nats-server takes note of when its files were written.
        file.set_modified(written).unwrap();
    }
    nats.restart();
    let state = context.get_stream("EVENTS").await.unwrap().cached_info().state.clone();
    assert_eq!(state.messages == 50, is_counted, "{state:?}");
    mer.launch();
    mer.until_ready().await;
    eventually("it is told", TOLD, || mer.log().contains("log.hole ")).await;
    let hole = api.get("/v1/log").await["holes"][0].clone();
    let (from, to) = (hole["from_sequence"].as_u64().unwrap(), hole["to_sequence"].as_u64().unwrap());
    assert!(1 < from && from <= to && to < 50 && hole["reason"] == "lost", "{hole}");

    assert!(mer.stop().await);
    let scanned = mer.log().matches("log.scanned").count();
    mer.launch();
    mer.until_ready().await;
    let late = Target::start().await;
    api.register(&late.url("/"), &["a"], &json!({"datetime_start": "20200101000000.000000"})).await;
    eventually_async("the late one waits", LONG, async || waits_at(&api, &late, from, to).await).await;
    eventually("it is read again", TOLD, || mer.log().matches("log.scanned").count() > scanned).await;
    assert_eq!((late.taken(), mer.log().matches("log.hole ").count()), ((1..from).collect(), 1));
    assert!(!mer.log().contains("log.hole_closed"), "it is still one");
    resume(&api, &late).await;
    let rest: Vec<u64> = (1..from).chain(to + 1..=50).collect();
    eventually("all that is left arrives", LONG, || late.taken() == rest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_that_is_flipped_after_an_orderly_stop_is_told_though_nobody_reads_it() {
    with_a_block_that_nobody_reads(flip, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_of_zeros_after_an_orderly_stop_is_told_though_nobody_reads_it() {
    with_a_block_that_nobody_reads(zero, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_cut_after_an_orderly_stop_is_told_though_nobody_reads_it() {
    with_a_block_that_nobody_reads(cut, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_gone_after_an_orderly_stop_is_told_though_nobody_reads_it() {
    with_a_block_that_nobody_reads(|block| std::fs::remove_file(block).unwrap(), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_again_is_delivered_to_those_who_waited_for_it() {
    let mut nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    fill(&nats).await;
    assert!(mer.stop().await);
    nats.stop();
    let block = block_in_the_middle(&nats);
    let bytes = std::fs::read(&block).unwrap();
    std::fs::remove_file(&block).unwrap();
    nats.restart();
    mer.launch();
    mer.until_ready().await;
    let late = Target::start().await;
    api.register(&late.url("/"), &["a"], &json!({"datetime_start": "20200101000000.000000"})).await;
    eventually_async("it waits", LONG, async || waits_at(&api, &late, 21, 40).await).await;
    assert!(mer.stop().await);
    nats.stop();
    std::fs::write(&block, bytes).unwrap();
    std::fs::remove_file(block.with_file_name("index.db")).unwrap();
    nats.restart();
    mer.launch();
    mer.until_ready().await;
    eventually("it is told", LONG, || mer.log().contains("log.hole_closed")).await;
    eventually("all arrives", LONG, || late.taken() == (1..=50).collect::<Vec<u64>>()).await;
    assert_eq!(status(&api, &late).await["state"], "active");
}
