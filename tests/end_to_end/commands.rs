//! The command line: `mer events` and `mer subs` against a running mer.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tests::{Answer, Mer, Nats, Target, eventually};

use crate::{MER, SOON, mer_on};

const SECRET_KEY: &str = "MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE=";

/// Runs a command against a mer, in a pipe as a script would.
fn run(mer: &Mer, arguments: &[&str]) -> Output {
    let mut command = Command::new(MER);
    command.args(arguments).env_clear().env("MER_URL", mer.url()).stdin(Stdio::null());
    command.output().expect("the command runs")
}

/// What a command that must succeed says.
fn said(mer: &Mer, arguments: &[&str]) -> String {
    let output = run(mer, arguments);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_posted_listed_and_shown() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let keyed = ["events", "post", "order.created", r#"{"n": 1}"#, "--key", "k"];
    assert!(said(&mer, &keyed).starts_with("stored as 1: order.created:"));
    assert!(
        said(&mer, &keyed)
            .starts_with("nothing was stored: this key was sent before, and its event is 1: order.created:")
    );
    said(&mer, &["events", "post", "order.paid", r#"{"n": 2}"#, "--key", "k"]);
    let again: Value =
        serde_json::from_str(&said(&mer, &["events", "post", "order.paid", r#"{"n": 2}"#, "--key", "k", "--json"]))
            .unwrap();
    assert_eq!(again["event_received"]["data"]["n"], 2);

    let listed = said(&mer, &["events", "ls"]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.lines().next().unwrap().contains("order.created") && listed.contains(r#"{"n":1,"#), "{listed}");
    let paid = said(&mer, &["events", "ls", "--type", "*.paid", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(paid.trim()).unwrap()["sequence"], 2);
    assert_eq!(said(&mer, &["events", "ls", "--limit", "1"]).lines().count(), 1);
    assert!(said(&mer, &["events", "get", "1"]).contains("\"sequence\": 1"));
    for command in [&["events", "ls", "--limit", "0"], &["dead", "ls", "--limit", "0"]] {
        assert!(!run(&mer, command).status.success(), "{command:?}: none is no answer");
    }
    // What drives a terminal is shown as JSON would escape it.
    said(&mer, &["events", "post", "odd", "{\"c1\": \"\u{9b}31m\u{7f}\"}"]);
    for command in [&["events", "ls", "--type", "odd"] as &[_], &["events", "get", "3"]] {
        let shown = said(&mer, command);
        assert!(shown.contains(r"\u009b31m\u007f") && !shown.contains('\u{9b}'), "{shown}");
    }

    let refused = run(&mer, &["events", "post", "a..b", "{}"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("empty token"), "{refused:?}");
    let missing = run(&mer, &["events", "get", "99"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("404"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_are_added_listed_paused_replayed_and_removed() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let target = Target::start().await;
    let url = target.url("/in");
    mer.api().post_event("a", &json!({})).await;
    said(&mer, &["subs", "add", &url, "a", "b.*", "--from", "20200101000000.0"]);
    eventually("the past arrives", SOON, || target.taken() == [1]).await;
    let listed = said(&mer, &["subs", "ls"]);
    assert!(listed.contains("active") && listed.contains(&url) && listed.contains("a, b.*"), "{listed}");
    assert!(said(&mer, &["subs", "pause", &url]).contains("paused"));
    said(&mer, &["subs", "resume", &url]);
    said(&mer, &["subs", "replay", &url, "--from", "20200101000000.0"]);
    eventually("it arrives again", SOON, || target.taken() == [1, 1]).await;
    let shown: Value = serde_json::from_str(&said(&mer, &["subs", "get", &url, "--json"])).unwrap();
    assert_eq!(shown["status"]["replay"]["is_finished"], true);
    let set: Value =
        serde_json::from_str(&said(&mer, &["subs", "set", &url, "timeout_ms=700", "group=g", "--json"])).unwrap();
    assert_eq!((&set["delivery"]["timeout_ms"], &set["group"]), (&json!(700), &json!("g")));
    said(&mer, &["subs", "set", &url, "timeout_ms=", "group="]);
    assert_eq!(said(&mer, &["subs", "ls"]).lines().next().unwrap().split_whitespace().next(), Some("STATE"));
    let status = said(&mer, &["status"]);
    assert!(status.contains("1 (1 active)") && status.contains("nothing needs attention"), "{status}");
    said(&mer, &["subs", "rm", &url]);
    assert_eq!(said(&mer, &["subs", "ls"]), "");
    assert!(String::from_utf8_lossy(&run(&mer, &["subs", "ls"]).stderr).contains("no subscriptions"));
    assert!(!run(&mer, &["subs", "get", &url]).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_traced_to_the_targets() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let (well, sick, other) = (Target::start().await, Target::start().await, Target::start().await);
    sick.answer(Answer::Status(500));
    for (target, event_type) in [(&well, "order.*"), (&sick, "order.paid"), (&other, "user.*")] {
        api.register(&target.url("/"), &[event_type], &json!({})).await;
    }
    let first = api.post_event("order.created", &json!({"n": 1})).await;
    api.post_event("order.created", &json!({"n": "of another transaction"})).await;
    api.post_event("order.paid", &json!({"n": 2, "transaction_id": first.stamp})).await;
    let traced = || -> Vec<Value> {
        said(&mer, &["trace", &first.stamp, "--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let outcomes = |line: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        line["deliveries"].as_array().unwrap().iter().map(|d| (text(&d["url"]), text(&d["outcome"]))).collect()
    };
    let pair = |target: &Target, outcome: &str| (target.url("/"), outcome.to_owned());
    eventually("attempts are known", SOON, || {
        let lines = traced();
        let mut both = outcomes(&lines[1]);
        both.sort_by_key(|(_, outcome)| outcome.clone());
        lines.len() == 2
            && outcomes(&lines[0]) == [pair(&well, "delivered")]
            && both == [pair(&well, "delivered"), pair(&sick, "failed")]
    })
    .await;
    let text = said(&mer, &["trace", &first.stamp]);
    assert!(text.contains("delivered 2") && text.contains("answered 500"), "{text}");
    assert!(!run(&mer, &["trace", "nothing"]).status.success());

    assert!(said(&mer, &["subs", "attempts", &sick.url("/"), "--failed"]).contains("answered 500"));
    assert!(said(&mer, &["subs", "test", &well.url("/")]).starts_with("answered 200 in "));
    let failed = run(&mer, &["subs", "test", &sick.url("/")]);
    assert!(!failed.status.success() && String::from_utf8_lossy(&failed.stderr).contains("answered 500"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_rotated_and_shown() {
    let nats = Nats::start();
    let mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_SECRET_KEY", SECRET_KEY).start().await;
    let url = "http://127.0.0.1:9/";
    said(&mer, &["subs", "add", url, "a"]);
    let secret = said(&mer, &["subs", "rotate-secret", url]);
    assert!(secret.starts_with("whsec_") && secret.lines().count() == 1, "{secret}");
    assert!(said(&mer, &["subs", "rotate-secret", url, "--type", "v1a", "--grace-secs", "0"]).starts_with("whpk_"));
    let json = said(&mer, &["subs", "rotate-secret", url, "--grace-secs", "0", "--json"]);
    assert!(serde_json::from_str::<Value>(&json).unwrap()["secret"].is_string(), "{json}");
    assert!(!run(&mer, &["subs", "rotate-secret", url, "--type", "v2"]).status.success());
}

#[test]
fn completions_are_printed() {
    let output = Command::new(MER).args(["completions", "bash"]).output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("_mer()"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_whose_reader_has_gone_ends_quietly() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let target = Target::start().await;
    let url = target.url("/");
    mer.api().register(&url, &["a"], &json!({})).await;
    mer.api().post_event("a", &json!({})).await;
    eventually("it is attempted", SOON, || said(&mer, &["subs", "attempts", &url]).lines().count() == 1).await;
    let commands = [
        &["subs", "attempts", &url] as &[_],
        &["subs", "ls"],
        &["subs", "get", &url],
        &["events", "ls"],
        &["completions", "bash"],
    ];
    for arguments in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(MER);
        command.args(arguments).env_clear().env("MER_URL", mer.url()).stdin(Stdio::null()).stdout(writer);
        let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirection_that_the_data_asks_for_is_not_followed_and_the_event_is_stored() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let target = Target::start().await;
    let data = json!({"redirect_url": target.url("/elsewhere")}).to_string();
    assert!(said(&mer, &["events", "post", "a", &data]).starts_with("stored as 1: a:"));
    assert_eq!(target.received().len(), 0, "nobody else's data says whom a command asks");
    // One that mer does not make is a failure.
    target.answer(Answer::Redirect(mer.url()));
    let elsewhere = run(&mer, &["subs", "ls", "--url", &target.url("")]);
    assert!(!elsewhere.status.success() && String::from_utf8_lossy(&elsewhere.stderr).contains("does not redirect"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_is_named_by_its_url_in_any_spelling_and_what_is_missing_as_it_was_typed() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let target = Target::start().await;
    said(&mer, &["subs", "add", &target.url("/%c3%bc"), "a"]);
    for path in ["/%c3%bc", "/ü", "/%C3%BC"] {
        assert!(said(&mer, &["subs", "get", &target.url(path)]).contains("/%C3%BC"), "{path}");
    }
    let url = target.url("/nobody");
    let missing = run(&mer, &["subs", "get", &url]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains(&format!("no subscription of {url}")), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_tells_what_became_of_an_event_that_was_not_delivered() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let (late, choosy, dead) = (Target::start().await, Target::start().await, Target::start().await);
    dead.answer(Answer::Status(422));
    let body = json!({"url": dead.url("/"), "events": [{"type": "a"}], "delivery": {"max_attempts": 1, "on_exhausted": "dead_letter"}});
    let put = api.send(reqwest::Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap();
    assert_eq!(put.status(), 201);
    api.register(&choosy.url("/"), &["a"], &json!({"required_data": ["k"]})).await;
    api.register(&dead.url("/other"), &["a"], &json!({"transaction_id": "another"})).await;
    api.post_event("a", &json!({"transaction_id": "t"})).await;
    api.register(&late.url("/"), &["a"], &json!({})).await;
    api.post_event("a", &json!({"transaction_id": "t", "k": 1})).await;
    let traced = || said(&mer, &["trace", "t"]);
    eventually("what became of all is known", SOON, || {
        let text = traced();
        text.contains("dead letter 2: answered 422") && text.matches("  delivered ").count() == 2
    })
    .await;
    let text = traced();
    let lines_of = |url: String| text.lines().filter(|line| line.contains(&format!("{url}  "))).collect::<Vec<_>>();
    let told = |target: &Target| {
        lines_of(target.url("/")).into_iter().map(|line| line.split("  ").last().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(told(&late)[0], "not delivered (registered later)", "{text}");
    assert_eq!(told(&choosy)[0], "not delivered (skipped: it lacks required_data)", "{text}");
    assert_eq!(told(&dead), ["dead letter 1: answered 422", "dead letter 2: answered 422"], "{text}");
    assert!(told(&late)[1].starts_with("delivered ") && told(&choosy)[1].starts_with("delivered "), "{text}");
    assert!(lines_of(dead.url("/other")).is_empty(), "it is not for it: {text}");
    let json: Value = serde_json::from_str(said(&mer, &["trace", "t", "--json"]).lines().next().unwrap()).unwrap();
    let outcomes: std::collections::BTreeSet<&str> =
        json["deliveries"].as_array().unwrap().iter().map(|delivery| delivery["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["dead_letter", "not_delivered"].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_takes_every_attribute_and_times_as_people_type_them() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let url = "http://127.0.0.1:9/";
    let attributes =
        ["--from", "1h", "--expire-after", "600", "--count", "3", "--transaction", "t", "--priority", "-2.5"];
    let more = ["--requires", "a", "--requires", "b", "--listener-data", r#"{"x":1}"#, "--allow-gap"];
    said(&mer, &[&["subs", "add", url, "a"] as &[_], &attributes, &more].concat());
    let shown: Value = serde_json::from_str(&said(&mer, &["subs", "get", url, "--json"])).unwrap();
    let event = &shown["events"][0];
    assert_eq!(
        (&event["count"], &event["transaction_id"], &event["priority"], &event["required_data"]),
        (&json!(3), &json!("t"), &json!(-2.5), &json!(["a", "b"]))
    );
    assert_eq!((&event["listener_data"], &event["allow_gap"]), (&json!({"x": 1}), &json!(true)));
    assert!(event["datetime_start"].is_string() && event["datetime_end"].is_string(), "{event}");
    said(&mer, &["subs", "add", url, "b", "--after", "0"]);
    assert_eq!(said(&mer, &["events", "ls", "--from", "yesterday", "--to", "now"]), "");
    assert!(!run(&mer, &["subs", "add", url, "b", "--from", "soon"]).status.success());
}
