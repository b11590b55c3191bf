//! The nats-server that mer starts itself.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;
use tests::{Mer, Target, eventually, eventually_async};

use crate::{MER, SOON};

/// The process ids of the nats-servers that were started by this process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let listed = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    listed.flat_map(|list| list.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>()).collect()
}

pub(crate) fn is_alive(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn events_and_registrations_survive_a_restart() {
    let mut mer = Mer::new(MER).start().await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    api.post_event("a", &json!({})).await;
    eventually("it arrives", SOON, || target.taken() == [1]).await;
    let server = children(mer.id());
    assert_eq!(server.len(), 1);
    assert!(mer.stop().await, "it ends well");
    assert!(!is_alive(server[0]), "the embedded server is stopped with it");

    mer.launch();
    mer.until_ready().await;
    api.post_event("a", &json!({})).await;
    eventually("the next arrives", SOON, || target.taken_count() >= 2).await;
    assert_eq!(target.taken(), [1, 2], "and nothing again after an orderly stop");
}

#[tokio::test]
async fn a_server_that_dies_is_reported_and_started_again() {
    let mer = Mer::new(MER).start().await;
    let api = mer.api();
    api.post_event("a", &json!({})).await;
    let server = children(mer.id())[0];
    let pid = rustix::process::Pid::from_raw(server.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually_async("another one serves", SOON, async || {
        children(mer.id()).iter().any(|id| *id != server) && api.try_post_event("a", &json!({})).await.is_some()
    })
    .await;
    assert!(mer.log().contains("nats_server.died"), "its death is told");
    assert!(api.post_event("a", &json!({})).await.sequence >= 3, "with what it had");
}

#[tokio::test]
async fn a_script_that_becomes_nats_server_does_for_it() {
    let mer = Mer::new(MER);
    let script = mer.data_dir().with_file_name("any-server");
    // As version managers make it.
    std::fs::write(&script, format!("#!/bin/sh\nexec {} \"$@\"\n", tests::nats::binary().display())).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let mut mer = mer.set("MER_NATS_SERVER", script.display()).start().await;
    assert_eq!(mer.api().post_event("a", &json!({})).await.sequence, 1);
    assert!(mer.stop().await);
}

#[tokio::test]
async fn a_killed_mer_leaves_no_server_and_two_cannot_share_a_folder() {
    let mut first = Mer::new(MER).start().await;
    let mut second = Mer::new(MER).set("MER_DATA_DIR", first.data_dir().display());
    second.launch();
    eventually("the second waits", SOON, || second.log().contains("waiting_for_data_folder")).await;
    let server = children(first.id())[0];
    first.kill();
    second.until_ready().await;
    assert!(!is_alive(server), "the killed one's server is gone");
}

#[tokio::test]
async fn a_slow_client_does_not_keep_mer_from_stopping() {
    let mut mer = Mer::new(MER).set("MER_SHUTDOWN_GRACE_MS", 300).start().await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    target.answer(tests::Answer::Hang);
    mer.api().post_event("a", &json!({})).await;
    let _idle = tokio::net::TcpStream::connect(mer.url().trim_start_matches("http://")).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(15), mer.stop()).await.unwrap(), "it ends well");
}
