//! `mer check`, and the look at NATS that comes before a start.

use std::process::{Command, Stdio};

use async_nats::jetstream::{self, stream};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use tests::{Mer, Nats, eventually, free_port};

use crate::{MER, SOON, mer_on};

const SECRET: &str = "secret-0123456789";

/// What `mer check` found, and whether it succeeded.
struct Checked {
    is_well: bool,
    findings: Vec<Value>,
}

impl Checked {
    /// The level of what says this.
    fn level(&self, text: &str) -> &str {
        let found = self.findings.iter().find(|finding| finding.to_string().contains(text));
        found.unwrap_or_else(|| panic!("nothing says `{text}`: {:#?}", self.findings))["level"].as_str().unwrap()
    }

    fn count(&self, level: &str) -> usize {
        self.findings.iter().filter(|finding| finding["level"] == level).count()
    }
}

fn check(settings: &[(&str, &str)]) -> Checked {
    let mut command = Command::new(MER);
    command.args(["check", "--json"]).env_clear().stdin(Stdio::null()).env("MER_LISTEN", "127.0.0.1:0");
    let output = command.envs(settings.iter().copied()).output().expect("the command runs");
    let (said, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!said.contains(SECRET) && !error.contains(SECRET), "{said}{error}");
    let findings: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!findings.is_empty(), "{error}");
    for finding in &findings {
        let is_to_mend = finding["level"] == "warn" || finding["level"] == "wrong";
        assert!(!is_to_mend || finding["mend"].as_str().is_some_and(|mend| mend.len() > 10), "{finding}");
    }
    Checked { is_well: output.status.success(), findings }
}

fn check_at(url: &str) -> Checked {
    check(&[("MER_NATS_URL", url)])
}

/// The settings of user `a`.
fn as_a(url: &str) -> [(&str, &str); 3] {
    [("MER_NATS_URL", url), ("MER_NATS_USER", "a"), ("MER_NATS_PASSWORD", "a-password")]
}

#[tokio::test]
async fn a_healthy_nats_has_nothing_wrong_and_is_left_as_it_is() {
    let monitor = free_port();
    let nats = Nats::start_with(&format!("http: \"127.0.0.1:{monitor}\""));
    let monitor = format!("http://127.0.0.1:{monitor}");
    let before = check_at(&nats.url());
    assert!(before.is_well && before.count("warn") == 0, "{:#?}", before.findings);
    assert_eq!(before.level("not made yet: EVENTS"), "note");
    let streams: Vec<String> = jetstream::new(nats.client().await).stream_names().try_collect().await.unwrap();
    assert!(streams.is_empty(), "it has made {streams:?}");

    let mer = mer_on(&nats).await;
    let after = check(&[("MER_NATS_URL", &nats.url()), ("MER_NATS_MONITOR", &monitor)]);
    assert!(after.is_well && after.count("warn") == 0 && after.count("note") == 0, "{:#?}", after.findings);
    for name in
        ["EVENTS", "DEAD_LETTERS", "ATTEMPTS", "POSITIONS", "KV_SUBSCRIPTIONS", "KV_LANES", "KV_LEASES", "KV_LOG"]
    {
        assert_eq!(after.level(name), "ok");
    }
    assert_eq!(after.level("on disk (sync_interval: always)"), "ok");
    assert_eq!(after.level("clock"), "ok");
    drop(mer);
}

#[tokio::test]
async fn objects_that_lose_events_or_bound_mer_are_named() {
    let nats = Nats::start();
    let context = jetstream::new(nats.client().await);
    let made = stream::Config {
        name: "EVENTS".to_owned(),
        subjects: vec!["events.>".to_owned()],
        storage: stream::StorageType::Memory,
        max_consumers: 7,
        ..stream::Config::default()
    };
    context.create_stream(made).await.unwrap();
    let bucket = jetstream::kv::Config {
        bucket: "LANES".to_owned(),
        max_age: std::time::Duration::from_secs(3600),
        ..jetstream::kv::Config::default()
    };
    context.create_key_value(bucket).await.unwrap();
    let checked = check(&[("MER_NATS_URL", &nats.url()), ("MER_REPLICAS", "3")]);
    assert!(!checked.is_well);
    for (text, level) in [
        ("kept in memory", "wrong"),
        ("allows 7 consumers", "warn"),
        ("does not allow atomic publishes", "warn"),
        ("MER_REPLICAS asks for 3", "wrong"),
        ("URLs would be forgotten", "wrong"),
    ] {
        assert_eq!(checked.level(text), level, "{text}");
    }
}

#[tokio::test]
async fn who_is_not_let_in_or_may_not_ask_is_told_why() {
    let nobody = format!("nats://127.0.0.1:{}", free_port());
    let checked = check_at(&nobody);
    assert!(!checked.is_well && checked.level("start nats-server") == "wrong");
    // One of several is enough.
    let nats = Nats::start();
    let checked = check_at(&format!("{nobody},{}", nats.url()));
    assert!(checked.is_well && checked.level("start nats-server") == "warn", "{:#?}", checked.findings);
    let checked = check(&[("MER_NATS_URL", &nats.url()), ("MER_NATS_TLS", "true")]);
    assert!(!checked.is_well && checked.level("no TLS with it") == "wrong");

    let nats = Nats::start_with(&format!("authorization {{ user: mer, password: \"{SECRET}\" }}"));
    let checked = check(&[("MER_NATS_URL", &nats.url()), ("MER_NATS_USER", "mer"), ("MER_NATS_PASSWORD", "another")]);
    assert!(!checked.is_well && checked.level("does not let mer in") == "wrong");
    let right = [("MER_NATS_URL", nats.url()), ("MER_NATS_USER", "mer".into()), ("MER_NATS_PASSWORD", SECRET.into())];
    let right: Vec<(&str, &str)> = right.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert!(check(&right).is_well);

    let nats = Nats::start_with("accounts { A { users: [{user: a, password: a-password}] } }");
    let checked = check(&as_a(&nats.url()));
    assert!(!checked.is_well && checked.level("JetStream is off") == "wrong");

    let permissions = "permissions: {publish: \"events.>\", subscribe: \"_INBOX.>\"}";
    let nats =
        Nats::start_with(&format!("authorization {{ users: [{{user: a, password: a-password, {permissions}}}] }}"));
    let checked = check(&as_a(&nats.url()));
    assert!(!checked.is_well && checked.level("ermissions") == "wrong", "{:#?}", checked.findings);
}

#[tokio::test]
async fn what_the_embedded_server_needs_is_looked_at() {
    let mer = Mer::new(MER).start().await;
    let server = tests::nats::binary().display().to_string();
    let folder = mer.data_dir().display().to_string();
    let checked = check(&[("MER_NATS_SERVER", &server), ("MER_DATA_DIR", &folder)]);
    assert!(checked.is_well && checked.level("has it: another one would wait") == "warn", "{:#?}", checked.findings);
    let elsewhere = format!("{folder}-of-another/deeper");
    let checked = check(&[("MER_NATS_SERVER", &server), ("MER_DATA_DIR", &elsewhere)]);
    assert!(checked.is_well && checked.level("can be made") == "ok", "{:#?}", checked.findings);
    assert!(!std::path::Path::new(&elsewhere).exists(), "it makes nothing");
    let checked = check(&[("MER_NATS_SERVER", "/nowhere"), ("MER_DATA_DIR", &elsewhere), ("MER_REPLICAS", "3")]);
    assert!(!checked.is_well && checked.level("/nowhere") == "wrong" && checked.level("MER_REPLICAS") == "wrong");
}

#[tokio::test]
async fn a_start_that_looks_first_waits_for_nats_and_ends_where_waiting_mends_nothing() {
    let mut nats = Nats::start();
    nats.kill();
    let mut mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_CHECK", "true");
    mer.launch();
    eventually("it says that NATS is away", SOON, || mer.log().contains("check.failed")).await;
    nats.restart();
    mer.until_ready().await;
    mer.api().post_event("a", &json!({})).await;
    mer.stop().await;

    let context = jetstream::new(nats.client().await);
    context.delete_stream("EVENTS").await.unwrap();
    let in_memory = stream::Config {
        name: "EVENTS".to_owned(),
        subjects: vec!["events.>".to_owned()],
        storage: stream::StorageType::Memory,
        ..stream::Config::default()
    };
    context.create_stream(in_memory).await.unwrap();
    mer.launch();
    eventually("it ends, and says why", SOON, || mer.log().contains("MER_CHECK=false starts mer all the same")).await;
    assert!(mer.log().contains("kept in memory"), "{}", mer.log());
}
