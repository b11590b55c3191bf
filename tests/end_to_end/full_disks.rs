//! NATS without room, and a nats-server that does not start. What needs a file system of its own is in tests/campaign.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::TryStreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Mer, Nats, eventually, eventually_async};

use crate::{LONG, MER, SOON, mer_on};

/// A script in the place of nats-server, which says the right version.
fn in_place_of_nats_server(mer: &Mer, script: &str) -> PathBuf {
    let path = mer.data_dir().with_file_name("no-nats-server");
    let server = tests::nats::binary().display().to_string();
    let text = format!("#!/bin/sh\n[ \"$1\" = --version ] && exec {server} --version\n{script}\n");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// How `/readyz` answers: the status, and the detail.
async fn readiness(mer: &Mer) -> (u16, String) {
    match mer.api().send(Method::GET, "/readyz", &[], "").await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            let body: Value = answer.json().await.unwrap_or_default();
            (status, body["detail"].as_str().unwrap_or_default().to_owned())
        }
        Err(_) => (0, String::new()),
    }
}

#[tokio::test]
async fn a_nats_server_that_names_no_port_is_not_waited_for_for_ever() {
    let mer = Mer::new(MER);
    let script = format!(": >'{}/x.ports'\nexec sleep 600", mer.data_dir().display());
    let script = in_place_of_nats_server(&mer, &script);
    let mut mer = mer.set("MER_NATS_SERVER", script.display());
    mer.launch();
    eventually("mer says why it ends", LONG, || mer.log().contains("wrote no port into its file of ports")).await;
    eventually("it has tried again", LONG, || mer.log().contains("nats_server.start_failed")).await;
    eventually("and it ends", LONG, || !crate::embedded::is_alive(mer.id())).await;
}

#[tokio::test]
async fn a_nats_server_that_does_not_listen_is_given_up_at_the_deadline() {
    let mer = Mer::new(MER);
    let script = in_place_of_nats_server(&mer, "exec sleep 600");
    let mut mer = mer.set("MER_NATS_SERVER", script.display()).set("MER_NATS_START_SECS", 1);
    mer.launch();
    eventually("mer ends", SOON, || !crate::embedded::is_alive(mer.id())).await;
    assert!(mer.log().contains("did not listen within 1 s"), "{}", mer.log());
}

#[tokio::test]
async fn the_embedded_server_may_use_the_whole_disk_and_a_reserve_is_kept() {
    let mer = Mer::new(MER).start().await;
    let config = std::fs::read_to_string(mer.data_dir().join("nats-server.conf")).unwrap();
    let (_, max_store) = config.split_once("max_file_store: ").unwrap();
    let max_store: u64 = max_store.split_whitespace().next().unwrap().parse().unwrap();
    let space = rustix::fs::statvfs(mer.data_dir()).unwrap();
    assert_eq!(max_store, space.f_blocks * space.f_frsize);
    let reserve = mer.data_dir().join("mer.reserve");
    eventually("there is a reserve", SOON, || std::fs::metadata(&reserve).is_ok_and(|file| file.len() >= 1 << 20))
        .await;
}

/// How often the log tells of something.
fn told(mer: &Mer, name: &str) -> usize {
    mer.log().lines().filter(|line| line.contains(name)).count()
}

#[tokio::test]
async fn a_reserve_that_cannot_be_made_is_told_once() {
    let mer = Mer::new(MER);
    // In the place of the file there is a folder.
    std::fs::create_dir_all(mer.data_dir().join("mer.reserve/folder")).unwrap();
    let mer = mer.start().await;
    eventually("it is told", SOON, || told(&mer, "disk.reserve_not_changed") > 0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(told(&mer, "disk.reserve_not_changed"), 1, "{}", mer.log());
}

#[tokio::test]
async fn a_nats_server_that_dies_again_and_again_is_not_started_in_a_tight_loop() {
    let mer = Mer::new(MER);
    let (server, tries) = (tests::nats::binary(), mer.data_dir().with_file_name("tries"));
    let script = format!(
        "echo x >>'{tries}'\n'{server}' \"$@\" & child=$!\nsleep 0.5; kill -9 $child; wait $child; exit 3",
        tries = tries.display(),
        server = server.display()
    );
    let script = in_place_of_nats_server(&mer, &script);
    let mut mer = mer.set("MER_NATS_SERVER", script.display());
    mer.launch();
    let tries = || std::fs::read_to_string(&tries).map_or(0, |tries| tries.lines().count());
    eventually("it is started again", SOON, || tries() >= 3).await;
    let before = tries();
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(tries() - before <= 4, "{} starts in 8 s: {}", tries() - before, mer.log());
    assert_eq!(told(&mer, "nats_server.died"), 1, "{}", mer.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_that_is_used_up_is_said_to_senders_and_to_whoever_asks_for_readiness_until_there_is_room() {
    let account = "M: { jetstream: { max_store: 96MB }, users: [{ user: m, password: m }] }";
    let nats = Nats::start_with(&format!("accounts {{ {account} }}\nno_auth_user: m"));
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let body = json!({"padding": "x".repeat(1_000_000)}).to_string();
    let json_body = [("content-type", "application/json")];
    let mut refused = None;
    for _ in 0..150 {
        let answer = api.send(Method::POST, "/receive_event/a", &json_body, body.clone()).await.unwrap();
        if answer.status() == 503 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status(), 200);
    }
    let refused = refused.expect("the storage has an end");
    assert!(refused.headers().contains_key("retry-after"));
    let detail = refused.json::<Value>().await.unwrap()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("disk full") && detail.contains("was not stored"), "{detail}");
    eventually_async("it is not ready, and says why", SOON, async || {
        let (status, detail) = readiness(&mer).await;
        status == 503 && detail.contains("disk full")
    })
    .await;

    let context = async_nats::jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    context.get_stream("EVENTS").await.unwrap().purge().await.unwrap();
    eventually_async("posts are stored again", SOON, async || api.try_post_event("a", &json!({})).await.is_some())
        .await;
    eventually_async("and it is ready again", SOON, async || readiness(&mer).await.0 == 200).await;
}

#[tokio::test]
async fn a_log_that_is_at_its_own_limit_is_ready() {
    let nats = Nats::start();
    let mer = Mer::new(MER).set("MER_NATS_URL", nats.url());
    let mer = mer.set("MER_EVENTS_MAX_COUNT", 1).set("MER_EVENTS_DISCARD", "new").start().await;
    mer.api().post_event("a", &json!({})).await;
    let answer = mer.api().send(Method::POST, "/receive_event/a", &[("content-type", "application/json")], "{}").await;
    assert_eq!(answer.unwrap().status(), 503);
    assert_eq!(readiness(&mer).await.0, 200, "it is as somebody wanted it");
}

#[tokio::test]
async fn each_process_writes_a_probe_of_its_own_that_goes_by_itself() {
    let nats = Nats::start();
    let (_first, _second) = (mer_on(&nats).await, mer_on(&nats).await);
    let context = async_nats::jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let bucket = context.get_key_value("LEASES").await.unwrap();
    let probes = async || {
        let keys: Vec<String> = bucket.keys().await.unwrap().try_collect().await.unwrap();
        keys.into_iter().filter(|key| key.starts_with("probe.")).collect::<Vec<_>>()
    };
    eventually_async("there are two", SOON, async || probes().await.len() == 2).await;
    let subject = format!("$KV.LEASES.{}", probes().await[0]);
    let message = bucket.stream.get_last_raw_message_by_subject(&subject).await.unwrap();
    let lives = message.headers.get("Nats-TTL").expect("a time to live").to_string();
    assert!(Duration::from_secs(lives.trim_end_matches('s').parse().unwrap()) <= Duration::from_secs(60), "{lives}");
}
