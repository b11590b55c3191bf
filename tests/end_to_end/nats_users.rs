//! Users of NATS that may do what their role does and nothing else: mer's roles as those of `deploy/nats/users.conf`.

use async_nats::{Client, ConnectOptions};
use domain::SubscriptionId;
use reqwest::Method;
use serde_json::json;
use tests::{Answer, Mer, Nats, Target, eventually, eventually_async};

use crate::{MER, SOON};

const USERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/nats/users.conf");
const ROLES: [(&str, &str); 4] =
    [("receiver", "receiver"), ("registrar", "registrar"), ("api", "receiver,registrar"), ("dispatcher", "dispatcher")];

/// A nats-server that knows these users.
fn nats_with_users() -> Nats {
    let passwords = ROLES.map(|(user, _)| format!("{}_PASSWORD: \"{}\"\n", user.to_uppercase(), password_of(user)));
    let users = std::fs::read_to_string(USERS).expect("the users");
    Nats::start_with(&format!("{}{users}", passwords.concat()))
}

fn password_of(user: &str) -> String {
    format!("password-of-{user}")
}

fn role_as(nats: &Nats, user: &str) -> Mer {
    let (_, roles) = ROLES.iter().find(|(name, _)| *name == user).expect("a user");
    let mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_NATS_USER", user);
    mer.set("MER_NATS_PASSWORD", password_of(user)).roles(roles)
}

async fn client_as(nats: &Nats, user: &str) -> Client {
    let options = ConnectOptions::new().user_and_password(user.to_owned(), password_of(user));
    options.connect(nats.url()).await.expect("a connection")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_does_its_work_with_its_own_user() {
    let nats = nats_with_users();
    let mut dispatcher = role_as(&nats, "dispatcher").start().await;
    let receiver = role_as(&nats, "receiver").set("MER_CHECK", "true").start().await;
    let registrar = role_as(&nats, "registrar").set("MER_CHECK", "true").start().await;
    let (events, subscriptions) = (receiver.api(), registrar.api());
    let (well, poisoned) = (Target::start().await, Target::start().await);

    // From the past on, and live.
    events.post_event("a", &json!({"n": 1})).await;
    let from = json!({"datetime_start": "20200101000000.0"});
    subscriptions.register(&well.url("/"), &["a", "b.*"], &from).await;
    eventually("the past arrives", SOON, || well.taken() == [1]).await;
    for n in 2..=20 {
        assert_eq!(events.post_event("b.c", &json!({})).await.sequence, n);
    }
    eventually("and what is new", SOON, || well.taken() == (1..=20).collect::<Vec<u64>>()).await;

    // A batch, a duplicate of it, an expectation, and reading the log.
    let event = |id: u32| json!({"specversion": "1.0", "id": id.to_string(), "source": "/s", "type": "c", "data": {}});
    let batch = [("content-type", "application/cloudevents-batch+json")];
    for _ in 0..2 {
        let body = json!([event(1), event(2)]).to_string();
        assert_eq!(events.send(Method::POST, "/v1/events", &batch, body).await.unwrap().status(), 201);
    }
    let expected = [("expected-last-sequence", "1")];
    assert_eq!(events.send(Method::POST, "/v1/events/a", &expected, "{}").await.unwrap().status(), 201);
    assert_eq!(events.send(Method::POST, "/v1/events/a", &expected, "{}").await.unwrap().status(), 412);
    assert_eq!(events.get("/v1/events?type=b.*&limit=5").await["events"].as_array().unwrap().len(), 5);
    assert_eq!(events.get("/v1/events/3").await["type"], "b.c");

    // Status, attempts, a test, replay, pause and resume.
    let id = domain::TargetUrl::parse(&well.url("/")).unwrap().subscription_id();
    eventually_async("the status is the dispatcher's", SOON, async || {
        subscriptions.subscription(&well.url("/")).await["status"]["position"].as_u64() >= Some(23)
    })
    .await;
    eventually_async("attempts are told", SOON, async || {
        let attempts = subscriptions.get(&format!("/v1/subscriptions/{id}/attempts")).await;
        attempts["attempts"].as_array().is_some_and(|attempts| !attempts.is_empty())
    })
    .await;
    assert_eq!(subscriptions.get("/v1/subscriptions").await["subscriptions"].as_array().unwrap().len(), 1);
    for (call, body) in [("test", json!({})), ("pause", json!({})), ("resume", json!({}))] {
        let status = subscriptions.post(&format!("/v1/subscriptions/{id}/{call}"), &body).await.status();
        assert!(status.is_success(), "{call}: {status}");
    }
    let before = well.taken_count();
    let replay = json!({"from": "20200101000000.0"});
    assert!(subscriptions.post(&format!("/v1/subscriptions/{id}/replay"), &replay).await.status().is_success());
    eventually("the past arrives again", SOON, || well.taken_count() >= before + 20).await;

    // A dead letter, and its redrive.
    poisoned.answer(Answer::Status(500));
    let delivery = json!({"max_attempts": 1, "on_exhausted": "dead_letter"});
    let body = json!({"url": poisoned.url("/"), "events": [{"type": "d"}], "delivery": delivery}).to_string();
    let put = subscriptions.send(Method::PUT, "/v1/subscriptions", &[], body).await.unwrap();
    assert!(put.status().is_success(), "{}", put.status());
    let dead = events.post_event("d", &json!({})).await.sequence;
    let letters = async || subscriptions.get("/v1/dead-letters").await["dead_letters"].clone();
    eventually_async("it becomes a dead letter", SOON, async || letters().await[0]["event"]["sequence"] == dead).await;
    poisoned.answer(Answer::Status(200));
    let letter = &letters().await[0];
    let redrive = json!({"subscription": letter["subscription"], "sequences": [letter["sequence"]]});
    assert_eq!(subscriptions.post("/v1/dead-letters/redrive", &redrive).await.status(), 202);
    eventually("it is delivered", SOON, || poisoned.taken() == [dead]).await;
    let (login, subject) = (("dispatcher", &*password_of("dispatcher")), format!("dead_letters.{id}"));
    let unreadable = nats.store_raw_as(login, subject, b"NATS/1.0\r\nX: \xe9\r\n\r\n", b"{}");
    let named = async || subscriptions.get("/v1/dead-letters").await["unreadable"].clone();
    eventually_async("what cannot be read is named", SOON, async || named().await == json!([unreadable])).await;
    let path = format!("/v1/dead-letters/{}", letter["sequence"]);
    assert_eq!(subscriptions.send(Method::DELETE, &path, &[], "").await.unwrap().status(), 204);

    // Another dispatcher takes over, and a URL goes.
    dispatcher.kill();
    let second = role_as(&nats, "dispatcher").start().await;
    let last = events.post_event("a", &json!({})).await.sequence;
    eventually("another dispatcher goes on", crate::LONG, || well.taken().last() == Some(&last)).await;
    let removed = subscriptions.send(Method::DELETE, &format!("/v1/subscriptions/{id}"), &[], "").await.unwrap();
    assert!(removed.status().is_success());
    eventually_async("what was known of it is cleared away", SOON, async || is_cleared_away(&nats, &id).await).await;

    let api = role_as(&nats, "api").start().await;
    api.api().register(&well.url("/"), &["e"], &json!({})).await;
    let next = api.api().post_event("e", &json!({})).await.sequence;
    eventually("a process of both roles works too", SOON, || well.taken().last() == Some(&next)).await;
    for mer in [&dispatcher, &second, &receiver, &registrar, &api] {
        assert!(!mer.log().to_lowercase().contains("permissions violation"), "{}", mer.log());
    }
}

/// Whether a lane's state says that there is none any more.
async fn is_cleared_away(nats: &Nats, id: &SubscriptionId) -> bool {
    let context = async_nats::jetstream::new(client_as(nats, "dispatcher").await);
    let lanes = context.get_stream("KV_LANES").await.unwrap();
    let last = lanes.get_last_raw_message_by_subject(&format!("$KV.LANES.{id}")).await.unwrap();
    last.headers.get("KV-Operation").is_some()
}

#[tokio::test]
async fn a_role_that_may_not_write_the_probe_is_ready() {
    let passwords = ROLES.map(|(user, _)| format!("{}_PASSWORD: \"{}\"\n", user.to_uppercase(), password_of(user)));
    // The lists of the version before.
    let users = std::fs::read_to_string(USERS).expect("the users").replace(", \"$KV.LEASES.probe.*\"", "");
    let nats = Nats::start_with(&format!("{}{users}", passwords.concat()));
    let _dispatcher = role_as(&nats, "dispatcher").start().await;
    let receiver = role_as(&nats, "receiver").start().await;
    eventually("it says that it may not", SOON, || receiver.log().contains("nats.probe_not_allowed")).await;
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(6) {
        assert_eq!(receiver.api().status("/readyz").await, Some(200));
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(receiver.log().matches("nats.probe_not_allowed").count(), 1, "once on each connection");
}

#[test]
fn the_values_for_kubernetes_have_the_same_lists() {
    let users = std::fs::read_to_string(USERS).unwrap();
    let values = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kubernetes/nats-values.yaml");
    let values = std::fs::read_to_string(values).unwrap();
    let (_, users) = users.split_once("user: api").unwrap();
    let (api, dispatcher) = users.split_once("user: dispatcher").unwrap();
    let (_, values) = values.split_once("$MER_API_NKEY >>").unwrap();
    let (api_values, dispatcher_values) = values.split_once("$MER_DISPATCHER_NKEY >>").unwrap();
    let (dispatcher_values, _) = dispatcher_values.split_once("allow_responses").unwrap();
    let quoted = |text: &str| text.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(quoted(api), quoted(api_values));
    assert_eq!(quoted(dispatcher), quoted(dispatcher_values));
}

#[tokio::test]
async fn no_role_may_do_what_is_anothers() {
    let nats = nats_with_users();
    let _dispatcher = role_as(&nats, "dispatcher").start().await;
    let watcher = async_nats::jetstream::new(client_as(&nats, "dispatcher").await);
    let last_of = async |stream: &str| watcher.get_stream(stream).await.unwrap().cached_info().state.last_sequence;
    for (user, subjects) in [
        ("receiver", &["$KV.LANES.x", "$KV.SUBSCRIPTIONS.x", "$KV.LEASES.x", "dead_letters.x", "positions.x"] as &[_]),
        ("registrar", &["events.x", "$KV.LANES.x", "$KV.LEASES.x", "dead_letters.x", "attempts.x"]),
        ("api", &["$KV.LANES.x", "$KV.LEASES.x", "dead_letters.x", "positions.x", "attempts.x"]),
        ("dispatcher", &["events.x", "$KV.SUBSCRIPTIONS.x"]),
    ] {
        let client = client_as(&nats, user).await;
        for subject in subjects {
            client.publish(*subject, "by somebody else".into()).await.unwrap();
        }
        // Removing what is there, and other ways to ask for it.
        for stream in ["EVENTS", "KV_SUBSCRIPTIONS", "KV_LANES", "DEAD_LETTERS"] {
            for call in ["DELETE", "PURGE", "SNAPSHOT", "MSG.DELETE"] {
                client.publish(format!("$JS.API.STREAM.{call}.{stream}"), "{\"seq\": 1}".into()).await.unwrap();
            }
        }
        // An answer to what is asked later comes later.
        let answer = client.request("$JS.API.INFO", "".into()).await;
        assert!(answer.is_ok(), "{user} may ask whether JetStream is there");
    }
    for stream in ["EVENTS", "KV_LANES", "KV_SUBSCRIPTIONS", "DEAD_LETTERS", "ATTEMPTS", "POSITIONS"] {
        assert_eq!(last_of(stream).await, 0, "{stream}");
    }
    let nobody = async_nats::connect(nats.url()).await;
    assert_eq!(nobody.unwrap_err().kind(), async_nats::ConnectErrorKind::AuthorizationViolation);
}
