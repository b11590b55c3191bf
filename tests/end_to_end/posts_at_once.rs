//! Many posts at the same time while nats-server is slow: they are stored together, and each is answered as if it were alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tests::{Api, Nats, eventually_async};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::{LONG, mer_on};

/// How many post at once.
const MANY: usize = 128;
/// How long nats-server does nothing while they do. Storing an event may take longer.
const FREEZE: Duration = Duration::from_millis(500);

/// Of which four are in a batch.
const LARGE_BYTES: usize = 250_000;

/// What is posted.
#[derive(Default)]
struct Post {
    /// Stands in the event's data; the same for those which are one event.
    name: String,
    key: Option<String>,
    expected_last: Option<u64>,
}

/// What came of it.
struct Answer {
    name: String,
    status: u16,
    /// 0 where there is none.
    sequence: u64,
    body: String,
}

impl Post {
    fn plain(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    fn with_key(key: String) -> Self {
        Self { name: key.clone(), key: Some(key), expected_last: None }
    }

    async fn send(self, api: Api) -> Answer {
        let Self { name, key, expected_last } = self;
        let expected_last = expected_last.map(|sequence| sequence.to_string());
        let path = if expected_last.is_some() { "/v1/events/a" } else { "/receive_event/a" };
        let headers = [("idempotency-key", key.as_deref()), ("expected-last-sequence", expected_last.as_deref())];
        let headers: Vec<_> = headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let response = api.send(Method::POST, path, &headers, json!({"name": name}).to_string()).await.unwrap();
        let sequence = response.headers().get("event-sequence").map_or(0, |s| s.to_str().unwrap().parse().unwrap());
        Answer { name, status: response.status().as_u16(), sequence, body: response.text().await.unwrap() }
    }
}

/// Posts all of it while nats-server does nothing for a moment, so that it piles up.
async fn pile_up(nats: &Nats, api: &Api, posts: impl IntoIterator<Item = Post>) -> Vec<Answer> {
    nats.freeze();
    let answers: JoinSet<Answer> = posts.into_iter().map(|post| post.send(api.clone())).collect();
    sleep(FREEZE).await;
    nats.thaw();
    answers.join_all().await
}

/// Posts again and again until something is stored together with others.
async fn pile_up_until_together(nats: &Nats, api: &Api) -> Vec<Answer> {
    let (began, mut answers) = (Instant::now(), Vec::new());
    for round in 0.. {
        let posts = (0..MANY).map(|n| Post::plain(format!("plain {n} of round {round}")));
        answers.extend(pile_up(nats, api, posts).await);
        if !nats.stored_in_batches().await.is_empty() {
            break;
        }
        assert!(began.elapsed() < LONG, "not within {LONG:?}: something is stored together");
    }
    answers
}

/// Everything that was accepted is in the log once, where its senders were told; what a slow disk has kept from being
/// acknowledged in time may be there once; and nothing else is.
async fn check_log(api: &Api, answers: &[Answer]) {
    let (mut told, mut unknown) = (BTreeMap::new(), BTreeSet::new());
    for Answer { name, status, sequence, body } in answers {
        if *status == 503 {
            unknown.insert(name);
            continue;
        }
        assert_eq!(*status, 200, "{body}");
        assert_eq!(told.entry(name).or_insert((sequence, body)), &(sequence, body), "{name}: two answers");
    }
    let (mut stored, mut after) = (BTreeSet::new(), 0);
    loop {
        let page = api.get(&format!("/v1/events?limit=1000&after_sequence={after}")).await;
        let events = page["events"].as_array().unwrap();
        let Some(last) = events.last() else { break };
        after = last["sequence"].as_u64().unwrap();
        for event in events {
            let (name, sequence) = (event["data"]["name"].as_str().unwrap(), event["sequence"].as_u64().unwrap());
            assert!(stored.insert(name.to_owned()), "{name} is stored twice");
            match told.remove(&name.to_owned()) {
                Some((at, _)) => assert_eq!(*at, sequence, "where {name} is"),
                None => assert!(unknown.contains(&name.to_owned()), "{name} is stored, and was refused"),
            }
        }
    }
    assert!(told.is_empty(), "accepted, and not stored: {told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posts_that_pile_up_are_stored_together_and_each_is_told_its_own_place() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let answers = pile_up_until_together(&nats, &api).await;
    check_log(&api, &answers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_many_use_at_once_is_stored_once_and_all_get_the_same_answer() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let mut answers = pile_up_until_together(&nats, &api).await;
    let post = |n: usize| match n % 5 {
        0 => Post::plain(format!("without key {n}")),
        1 => Post::with_key("used by many".to_owned()),
        2 => Post::with_key(format!("used by some {}", n % 20)),
        _ => Post::with_key(format!("used once {n}")),
    };
    answers.extend(pile_up(&nats, &api, (0..MANY).map(post)).await);
    check_log(&api, &answers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_long_ago_or_a_wrong_expectation_harms_no_post_that_comes_with_it() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let mut answers = vec![Post::with_key("old".to_owned()).send(api.clone()).await];
    answers.extend(pile_up_until_together(&nats, &api).await);
    let post = |n: usize| match n % 4 {
        0 => Post { expected_last: Some(4711), ..Post::plain(format!("never stored {n}")) },
        1 => Post::with_key("old".to_owned()),
        2 => Post::with_key(format!("new {n}")),
        _ => Post::plain(format!("without key {n}")),
    };
    let (refused, others) = pile_up(&nats, &api, (0..MANY).map(post))
        .await
        .into_iter()
        .partition::<Vec<_>, _>(|answer| answer.name.starts_with("never"));
    for Answer { status, body, .. } in refused {
        assert!(matches!(status, 412 | 503), "{body}");
    }
    answers.extend(others);
    check_log(&api, &answers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_runs_out_of_time_before_it_is_sent_is_told_that_it_is_not_stored() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let mut answers = pile_up_until_together(&nats, &api).await;
    // So large that a batch has room for few of them: the others wait behind it until their time is over.
    let padding = "x".repeat(LARGE_BYTES);
    let began = Instant::now();
    for round in 0.. {
        let post = |n: usize| Post::plain(format!("large {n} of round {round} {padding}")).send(api.clone());
        nats.freeze();
        let late = (0..MANY).map(post).collect::<JoinSet<Answer>>().join_all().await;
        nats.thaw();
        assert!(late.iter().all(|answer| answer.status == 503));
        let is_told = |answer: &Answer| answer.body.contains("It is safe to send it again");
        let (told, unknown): (Vec<_>, Vec<_>) = late.into_iter().partition(is_told);
        answers.extend(unknown);
        if !told.is_empty() {
            break;
        }
        assert!(began.elapsed() < LONG, "not within {LONG:?}: somebody runs out of time before it is sent");
    }
    // Whoever was told so is not there: the others are all that there may be.
    eventually_async("the log answers", LONG, async || api.status("/readyz").await == Some(200)).await;
    answers.push(Post::plain("after that".to_owned()).send(api.clone()).await);
    check_log(&api, &answers).await;
}
