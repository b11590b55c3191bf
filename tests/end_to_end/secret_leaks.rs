//! No secret leaks: the test plants a secret of its own in every place that may hold one, has mer log everything, and
//! searches all that mer shows for them.
//!
//! What cannot be secret, as it is there to be shown, is listed in docs/logs.md: types, ids and sources of events,
//! subscriptions' ids, scheme, host and path of URLs, groups, names of tokens, names of fields and headers.

use std::sync::Mutex;

use reqwest::Method;
use serde_json::{Value, json};
use tests::planted::command_lines;
use tests::{Collector, Mer, Nats, PlantedSecrets, Target, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::{LONG, MER, SOON};

mod refusals;
mod traffic;

const SPAN_DELAY: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "20");
const CLOUD_EVENT: (&str, &str) = ("content-type", "application/cloudevents+json");
const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");
const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
/// The seed of an NKey that is made of 32 times the same byte, and its public key.
const SEED: &str = "SUADONZXG43TONZXG43TONZXG43TONZXG43TONZXG43TONZXG43TONZNKU";
const PUBLIC_KEY: &str = "UAWIJCWYMZHOMUPERFWBHKCKRGRJMSWKL23XVC4IDZQN5VOIDNHJ2DET";

/// Somebody who asks mer, with a secret in each header that mer has no use for, and remembers every refusal.
struct User<'a> {
    mer: &'a Mer,
    secrets: &'a PlantedSecrets,
    token: &'a str,
    refusals: Mutex<Vec<String>>,
}

impl User<'_> {
    /// What is answered: its status and body.
    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl ToString) -> (u16, String) {
        let at = |place: &str| self.secrets.at(&format!("{place} of {method} {path}"));
        let bearer = format!("Bearer {}", self.token);
        let (cookie, custom, agent) = (format!("session={}", at("cookie")), at("x-secret"), at("user-agent"));
        let (state, baggage) = (format!("v={}", at("tracestate")), format!("k={}", at("baggage")));
        let mut all = vec![
            ("authorization", bearer.as_str()),
            ("cookie", &cookie),
            ("x-secret", &custom),
            ("user-agent", &agent),
            ("tracestate", &state),
            ("baggage", &baggage),
        ];
        all.retain(|(name, _)| !headers.iter().any(|(given, _)| given == name));
        all.extend_from_slice(headers);
        let response = self.mer.api().send(method.clone(), path, &all, body.to_string()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), format!("{:?}", response.headers()));
        let text = response.text().await.unwrap();
        if status >= 400 {
            let path = path.split('?').next().unwrap_or_default();
            self.refusals.lock().unwrap().push(format!("{method} {path}: {status} {headers} {text}"));
        }
        (status, text)
    }

    /// The same, where it must be so answered.
    async fn is_answered(
        &self,
        status: u16,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl ToString,
    ) -> Value {
        let (actual, text) = self.ask(method.clone(), path, headers, body).await;
        assert_eq!(actual, status, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    async fn metrics(&self) -> String {
        self.ask(Method::GET, "/metrics", &[], "").await.1
    }

    /// The refusals, one a line.
    fn refusals(&self) -> String {
        self.refusals.lock().unwrap().join("\n")
    }
}

/// Someone who answers every connection with these bytes, whatever is asked.
async fn babbler(bytes: String) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(bytes.as_bytes()).await;
        }
    });
    (host, tasks)
}

#[tokio::test]
async fn nothing_secret_is_shown_in_text() {
    nothing_secret_is_shown("text").await;
}

#[tokio::test]
async fn nothing_secret_is_shown_in_json() {
    nothing_secret_is_shown("json").await;
}

async fn nothing_secret_is_shown(format: &str) {
    let secrets = PlantedSecrets::default();
    let at = |place: &str| secrets.at(place);
    let (user, password) = (at("MER_NATS_USER"), at("MER_NATS_PASSWORD"));
    let mut nats = Nats::start_with(&format!("authorization {{ user: {user}, password: {password} }}"));
    let collector = Collector::start().await;
    let of_traces = collector.url().replace("//", &format!("//u:{}@", at("password of the collector's URL")));
    let of_traces =
        format!("{of_traces}/{}?key={}", at("path of the collector's URL"), at("query of the collector's URL"));
    // 32 bytes, in base64.
    let secret_key = format!("{}AAAAAAA=", at("MER_SECRET_KEY"));
    let (token, reader, stranger) = (at("an admin's token"), at("a reader's token"), at("a token that nobody has"));
    let with = |roles: &str| {
        let mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_NATS_USER", &user).roles(roles);
        let tokens = mer.data_dir().with_file_name("tokens");
        std::fs::write(&tokens, format!("all admin {token}\nviewer read {reader}\n")).unwrap();
        mer.set("MER_NATS_PASSWORD", &password)
            .set("MER_LOG", "trace")
            .set("MER_LOG_FORMAT", format)
            .set("MER_CHECK", "true")
            .set("MER_SECRET_KEY", &secret_key)
            .set("MER_TOKENS_FILE", tokens.display())
            .set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &of_traces)
            .set("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer {}", at("OTEL_EXPORTER_OTLP_HEADERS")))
            .set(SPAN_DELAY.0, SPAN_DELAY.1)
    };
    let front = with("receiver,registrar").start().await;
    let dispatcher = with("dispatcher").start().await;
    let user_of = |mer| User { mer, secrets: &secrets, token: &token, refusals: Mutex::default() };
    let (api, its_dispatcher) = (user_of(&front), user_of(&dispatcher));
    let client = async_nats::ConnectOptions::with_user_and_password(user.clone(), password.clone());
    let client = client.connect(nats.url()).await.unwrap();

    let (targets, _babbling) = traffic::subscribe(&api, &at).await;
    traffic::post_events(&api, &at).await;
    traffic::publish_plainly(&client, &at).await;
    traffic::deliver(&api, &at, &targets).await;
    traffic::write_nonsense(&client, &at).await;
    eventually("nonsense is noticed", LONG, || dispatcher.log().contains("subscription.unreadable")).await;
    refusals::provoke(&api, &at, &reader, &stranger).await;
    let metrics = [api.metrics().await, its_dispatcher.metrics().await];
    let spans = || {
        String::from_utf8_lossy(&collector.requests().iter().flat_map(|r| r.body.clone()).collect::<Vec<_>>())
            .into_owned()
    };
    let told = |operation: &str| collector.spans().iter().any(|span| span.name.starts_with(operation));
    eventually("the collector is told", SOON, || told("publish") && told("deliver") && told("deliver events.>")).await;
    nats.kill();
    for (path, headers) in [
        ("/receive_event/a", &[][..]),
        ("/v1/events/a", &[]),
        ("/v1/events", &[("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "a"), ("ce-specversion", "1.0")]),
    ] {
        let body = json!({"secret": at("data while NATS is gone")});
        let key = at("idempotency-key while NATS is gone");
        let key = (path != "/v1/events").then_some(("idempotency-key", key.as_str()));
        let headers: Vec<_> = headers.iter().copied().chain(key).collect();
        api.is_answered(503, Method::POST, path, &headers, body).await;
    }
    let url = format!("http://u:{}@127.0.0.1:9/?{}", at("userinfo while NATS is gone"), at("query while NATS is gone"));
    let body = json!({"url": url, "events": [{"type": "a"}]});
    api.is_answered(503, Method::PUT, "/v1/subscriptions", &[], body).await;
    api.is_answered(503, Method::GET, "/readyz", &[], "").await;

    // They have been where they belong.
    let received = format!("{:?}", targets.iter().map(Target::received).collect::<Vec<_>>());
    let arrived = secrets.places_in(&received);
    for place in ["data of an event", "listener_data", "ce-secret", "userinfo, as a header", "a plain message's data"] {
        assert!(arrived.iter().any(|arrived| arrived == place), "{place} is not among {arrived:?}");
    }
    let asked = secrets.places_in(&format!("{:?}", collector.requests()));
    assert!(asked.iter().any(|place| place == "OTEL_EXPORTER_OTLP_HEADERS"), "{asked:?}");
    // And nowhere else.
    let shown = [
        ("the front's log", front.log()),
        ("the dispatcher's log", dispatcher.log()),
        ("the front's /metrics", metrics[0].clone()),
        ("the dispatcher's /metrics", metrics[1].clone()),
        ("a span", spans()),
        ("a command line", command_lines()),
        ("a refusal", api.refusals()),
        ("a refusal of the dispatcher", its_dispatcher.refusals()),
    ];
    let leaks: Vec<String> = shown.iter().flat_map(|(what, text)| secrets.leaks_in(what, text)).collect();
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    for line in ["event.stored", "http.forbidden", "subscription.put"] {
        assert!(front.log().contains(line), "{line} is logged");
    }
    for line in ["delivery.attempted", "dead_letter.written", "lane.stopped", "egress.refused"] {
        assert!(dispatcher.log().contains(line), "{line} is logged");
    }
    assert!(api.refusals().lines().count() > 50);
}

#[tokio::test]
async fn nothing_that_tells_nats_who_mer_is_is_shown() {
    let secrets = PlantedSecrets::default();
    secrets.given("the seed of an NKey", SEED);
    let (name, word, token) = (secrets.at("user"), secrets.at("password"), secrets.at("token"));
    let (wrong, jwt, ignored) = (secrets.at("a wrong one"), secrets.at("a JWT"), secrets.at("a password in the URL"));
    let creds = format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
    );
    let asks_for_both = format!("authorization {{ user: {name}, password: {word} }}");
    let asks_for_token = format!("authorization {{ token: {token} }}");
    let asks_for_key = format!("authorization {{ users: [{{ nkey: {PUBLIC_KEY} }}] }}");
    let (user, password) = (("MER_NATS_USER", name.as_str()), ("MER_NATS_PASSWORD", word.as_str()));
    for (is_let_in, settings, variables) in [
        (true, &asks_for_both, &[user, password][..]),
        (true, &asks_for_token, &[("MER_NATS_TOKEN", token.as_str())]),
        (true, &asks_for_key, &[("MER_NATS_NKEY", "seed")]),
        (false, &asks_for_both, &[user, ("MER_NATS_PASSWORD", &wrong)]),
        (false, &asks_for_token, &[("MER_NATS_TOKEN", &wrong)]),
        (false, &asks_for_key, &[("MER_NATS_CREDS", "creds")]),
    ] {
        let mut nats = Nats::start_with(settings);
        // What stands in the URL is not heeded, and not shown either.
        let url = nats.url().replace("//", &format!("//u:{ignored}@"));
        let mut mer = Mer::new(MER).set("MER_NATS_URL", url).set("MER_LOG", "trace").set("MER_CHECK", "true");
        std::fs::write(mer.data_dir().with_file_name("seed"), format!("{SEED}\n")).unwrap();
        std::fs::write(mer.data_dir().with_file_name("creds"), &creds).unwrap();
        for (variable, value) in variables {
            mer = mer.set(variable, value);
        }
        if is_let_in {
            mer = mer.start().await;
            nats.kill();
            eventually("it is seen", SOON, || mer.log().contains("nats.disconnected")).await;
        } else {
            mer.launch();
            eventually("it is refused", SOON, || mer.log().to_lowercase().contains("authorization violation")).await;
        }
        // One that was refused may have ended.
        if let Ok(answer) = mer.api().send(Method::GET, "/readyz", &[], "").await {
            secrets.must_not_be_in("/readyz", &answer.text().await.unwrap());
        }
        secrets.must_not_be_in("a command line", &command_lines());
        secrets.must_not_be_in("the log", &mer.log());
    }
}

#[tokio::test]
async fn the_embedded_nats_server_shows_nothing_either() {
    let secrets = PlantedSecrets::default();
    let mer = Mer::new(MER).set("MER_LOG", "trace").set("MER_TOKENS_FILE", "tokens");
    let token = secrets.at("a token");
    std::fs::write(mer.data_dir().with_file_name("tokens"), format!("all admin {token}\n")).unwrap();
    let mer = mer.start().await;
    let user = User { mer: &mer, secrets: &secrets, token: &token, refusals: Mutex::default() };
    traffic::post_events(&user, &|place| secrets.at(place)).await;
    secrets.must_not_be_in("a command line", &command_lines());
    secrets.must_not_be_in("the log", &mer.log());
    let log = std::fs::read_to_string(mer.data_dir().join("nats-server.log")).unwrap();
    secrets.must_not_be_in("nats-server's log", &log);
    let config = std::fs::read_to_string(mer.data_dir().join("nats-server.conf")).unwrap();
    secrets.must_not_be_in("nats-server's configuration", &config);
}

#[test]
fn a_planted_secret_is_recognised_in_every_form() {
    let secrets = PlantedSecrets::default();
    let (first, second) = (secrets.at("first"), secrets.at("second"));
    let numbers = format!("{:?}", second.as_bytes());
    for (text, expected) in [
        (format!("Bearer {first}\n"), vec!["first"]),
        (format!("payload={numbers}"), vec!["second"]),
        (format!("{first} {numbers}"), vec!["first", "second"]),
        (first[1..].to_owned(), vec![]),
    ] {
        assert_eq!(secrets.places_in(&text), expected);
    }
    assert!(command_lines().contains("end_to_end"), "this process is seen");
}
