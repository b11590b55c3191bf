//! The bucket `SUBSCRIPTIONS` has lost what was asked for: it is told by name, and the lane stays. What a user removes is not told.

use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tests::{Api, Mer, Nats, Target, eventually, eventually_async};

use crate::forks::folder_of;
use crate::{LONG, MER, SOON};

/// How soon damage is told after a start.
const TOLD: Duration = Duration::from_secs(60);

fn mer_on(nats: &Nats, roles: &str) -> Mer {
    Mer::new(MER).roles(roles).set("MER_NATS_URL", nats.url()).set("MER_LEASE_SECS", 3)
}

fn id_of(target: &Target) -> String {
    domain::TargetUrl::parse(&target.url("/")).unwrap().subscription_id().to_string()
}

fn told(id: &str) -> String {
    format!("subscription.lost id={id}")
}

async fn delete(api: &Api, target: &Target) -> u16 {
    let path = format!("/v1/subscriptions/{}", id_of(target));
    api.send(Method::DELETE, &path, &[], "").await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_damaged_bucket_has_lost_is_told_and_what_was_removed_is_not() {
    let mut nats = Nats::start();
    let mut mer = mer_on(&nats, "receiver,registrar,dispatcher").start().await;
    let api = mer.api();
    let mut targets = Vec::new();
    for _ in 0..4 {
        let target = Target::start().await;
        api.register(&target.url("/"), &["a"], &json!({})).await;
        targets.push(target);
    }
    api.post_event("a", &json!({})).await;
    for target in &targets {
        eventually("it arrives", SOON, || target.taken() == [1]).await;
        eventually_async("it is written", SOON, async || nats.value("LANES", &target.url("/")).await["position"] == 1)
            .await;
    }
    // One is removed while no dispatcher is there.
    assert!(mer.stop().await);
    let mut others = mer_on(&nats, "receiver,registrar").start().await;
    assert_eq!(delete(&others.api(), &targets[0]).await, 204);
    assert!(others.stop().await);
    // The bucket loses its end: the mark of that removal is the last thing in it, so one that is registered comes behind it.
    let lost = Target::start().await;
    others.launch();
    others.until_ready().await;
    others.api().register(&lost.url("/"), &["a"], &json!({})).await;
    mer.launch();
    mer.until_ready().await;
    eventually_async("its lane is there", SOON, async || !nats.value("LANES", &lost.url("/")).await.is_null()).await;
    let removed = id_of(&targets[0]);
    eventually("the removed one is cleared away", LONG, || {
        mer.log().contains(&format!("lane.cleared_away id={removed}"))
    })
    .await;
    assert!(mer.stop().await && others.stop().await);
    nats.kill();
    let messages = folder_of(&nats.store_dir(), "KV_SUBSCRIPTIONS").join("msgs");
    let newest = |extension: &str| {
        let files = std::fs::read_dir(&messages).unwrap().map(|entry| entry.unwrap().path());
        let block = |path: &std::path::PathBuf| path.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap_or(0);
        files.filter(|path| path.extension().is_some_and(|found| found == extension)).max_by_key(block).unwrap()
    };
    let file = std::fs::OpenOptions::new().write(true).open(newest("blk")).unwrap();
    file.set_len(file.metadata().unwrap().len() - 50).unwrap();
    nats.restart();
    mer.launch();
    mer.until_ready().await;

    let id = id_of(&lost);
    eventually("it is told", TOLD, || mer.log().contains(&told(&id))).await;
    assert!(!mer.log().contains(&told(&removed)));
    assert_eq!(mer.log().matches("subscription.lost").count(), 1);
    assert_eq!(mer.api().metrics().await.sum("mer_subscriptions_lost", &[]), Some(1.0));
    let mut check = Command::new(MER);
    check.arg("check").env_clear().envs([("MER_NATS_URL", &*nats.url()), ("MER_LISTEN", "127.0.0.1:0")]);
    let checked = String::from_utf8(check.stdin(Stdio::null()).output().unwrap().stdout).unwrap();
    assert!(checked.contains(&format!("it has lost what was registered for {id}: ")), "{checked}");
    assert!(!nats.value("LANES", &lost.url("/")).await.is_null(), "its lane stays");
    let api = mer.api();
    api.post_event("a", &json!({})).await;
    for target in &targets[1..] {
        eventually("the others go on", LONG, || target.taken() == [1, 2]).await;
    }
    // Registered again, it goes on.
    api.register(&lost.url("/"), &["a"], &json!({})).await;
    api.post_event("a", &json!({})).await;
    eventually("it goes on", LONG, || lost.taken() == [3]).await;
    eventually_async("it is not lost any more", LONG, async || {
        api.metrics().await.sum("mer_subscriptions_lost", &[]) == Some(0.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_lost_while_mer_runs_goes_on_until_it_is_removed() {
    let nats = Nats::start();
    let mer = mer_on(&nats, "receiver,registrar,dispatcher").start().await;
    let (api, target, removed) = (mer.api(), Target::start().await, Target::start().await);
    for target in [&target, &removed] {
        api.register(&target.url("/"), &["a"], &json!({})).await;
    }
    api.post_event("a", &json!({})).await;
    eventually("it arrives", SOON, || target.taken() == [1] && removed.taken() == [1]).await;
    assert_eq!(delete(&api, &removed).await, 204);
    let bucket = async_nats::jetstream::new(nats.client().await).get_stream("KV_SUBSCRIPTIONS").await.unwrap();
    let id = id_of(&target);
    bucket.purge().filter(format!("$KV.SUBSCRIPTIONS.{id}")).await.unwrap();
    eventually("it is told", TOLD, || mer.log().contains(&told(&id))).await;
    api.post_event("a", &json!({})).await;
    eventually("it goes on", SOON, || target.taken() == [1, 2]).await;
    assert_eq!(delete(&api, &target).await, 204);
    eventually_async("its lane is cleared away", LONG, async || nats.value("LANES", &target.url("/")).await.is_null())
        .await;
    assert_eq!((delete(&api, &target).await, delete(&api, &removed).await), (404, 404));
    assert!(!mer.log().contains(&told(&id_of(&removed))));
    eventually_async("nothing is lost", LONG, async || {
        api.metrics().await.sum("mer_subscriptions_lost", &[]) == Some(0.0)
    })
    .await;
}
