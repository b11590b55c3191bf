//! Who may ask for what, and how much at a time.

use std::process::{Command, Output, Stdio};

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tests::{Api, Mer, Nats, Target, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{MER, SOON};

const PUBLISH: &str = "publish-0123456789abcdef";
const SUBSCRIBE: &str = "subscribe-0123456789abcdef";
const READ: &str = "read-0123456789abcdef";
const ADMIN: &str = "admin-0123456789abcdef";
const SEVERAL: &str = "several-0123456789abcdef";
const TOKENS: [(&str, &[&str]); 5] = [
    (PUBLISH, &["publish"]),
    (SUBSCRIBE, &["subscribe"]),
    (READ, &["read"]),
    (ADMIN, &["admin"]),
    (SEVERAL, &["publish", "read"]),
];

/// A mer that asks for tokens, and logs all there is to log.
async fn guarded_mer(nats: &Nats) -> Mer {
    let mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_LOG", "trace");
    let file = mer.data_dir().with_file_name("tokens");
    let lines: String =
        (0..).zip(TOKENS).map(|(n, (token, scopes))| format!("holder-{n} {} {token}\n", scopes.join(","))).collect();
    std::fs::write(&file, format!("# who may do what\n\n{lines}")).unwrap();
    mer.set("MER_TOKENS_FILE", file.display()).roles("receiver,registrar,dispatcher,hello").start().await
}

async fn send(api: &Api, method: Method, path: &str, token: Option<&str>, body: &str) -> Response {
    let value = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&str, &str)> = value.iter().map(|value| ("authorization", value.as_str())).collect();
    api.send(method, path, &headers, body.to_owned()).await.unwrap()
}

fn run(mer: &Mer, token: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = Command::new(MER);
    command.args(arguments).env_clear().env("MER_URL", mer.url()).stdin(Stdio::null());
    command.envs(token.map(|token| ("MER_TOKEN", token))).output().unwrap()
}

/// A request that everything is right with, and the scope that it needs.
fn requests(url: &str) -> Vec<(Method, String, String, &'static str)> {
    let id = domain::TargetUrl::parse(url).unwrap().subscription_id();
    let one = format!("/v1/subscriptions/{id}");
    let pairs = |what: &str| {
        json!({format!("events_to_{what}"): [{"event": "b", format!("urls_to_{what}"): [{"url": url}]}]}).to_string()
    };
    let put = json!({"url": url, "events": [{"type": "b"}]}).to_string();
    let part = json!({"from": "2026-01-31T09:30:00Z", "to": "2026-02-01T00:00:00Z"}).to_string();
    let of = |method, path: &str, body: &str, scope| (method, path.to_owned(), body.to_owned(), scope);
    vec![
        of(Method::POST, "/receive_event/a", "{}", "publish"),
        of(Method::POST, "/receive_event/a/", "{}", "publish"),
        of(Method::POST, "/v1/events/a", "{}", "publish"),
        of(Method::POST, "/register_for_events/", &pairs("register"), "subscribe"),
        of(Method::POST, "/register_for_events", &pairs("register"), "subscribe"),
        of(Method::POST, "/unregister_for_events/", &pairs("unregister"), "subscribe"),
        of(Method::PUT, "/v1/subscriptions", &put, "subscribe"),
        of(Method::PATCH, &one, r#"{"group": "g"}"#, "subscribe"),
        of(Method::POST, &format!("{one}/pause"), "", "subscribe"),
        of(Method::POST, &format!("{one}/resume"), "", "subscribe"),
        of(Method::POST, &format!("{one}/test"), "", "subscribe"),
        of(Method::POST, &format!("{one}/replay"), &part, "subscribe"),
        of(Method::GET, "/v1/events", "", "read"),
        of(Method::GET, "/v1/events/1", "", "read"),
        of(Method::GET, "/v1/subscriptions", "", "read"),
        of(Method::GET, &one, "", "read"),
        of(Method::GET, &format!("{one}/attempts"), "", "read"),
        of(Method::GET, "/metrics", "", "read"),
        of(Method::GET, "/nowhere", "", "admin"),
    ]
}

#[tokio::test]
async fn a_token_may_do_what_its_scopes_say_and_nothing_else() {
    let nats = Nats::start();
    let mer = guarded_mer(&nats).await;
    let (api, target) = (mer.api(), Target::start().await);
    let mut stored = 0;
    // The admin's requests come last: nobody's request is refused for want of something that is not there yet.
    for (token, scopes) in TOKENS {
        for (method, path, body, scope) in requests(&target.url("/")) {
            let response = send(&api, method.clone(), &path, Some(token), &body).await;
            let status = response.status().as_u16();
            let may = scopes.contains(&scope) || scopes == ["admin"];
            if !may {
                let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
                assert_eq!(challenge, format!(r#"Bearer error="insufficient_scope", scope="{scope}""#));
                assert_eq!(response.headers()["content-type"], "application/problem+json");
                let problem: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
                assert!(problem["detail"].as_str().unwrap().contains(&format!("`{scope}`")), "{problem}");
            }
            assert_eq!(status == 403, !may, "{token}: {method} {path}: {status}");
            assert_ne!(status, 401, "{token}: {method} {path}");
            if scope == "publish" {
                stored += u64::from(may);
                assert!(!may || status < 300, "{method} {path}: {status}");
            }
        }
    }
    // What was refused was not done.
    let events = send(&api, Method::GET, "/v1/events", Some(READ), "").await.text().await.unwrap();
    let events: Value = serde_json::from_str(&events).unwrap();
    assert_eq!(events["events"].as_array().unwrap().len() as u64, stored);
    assert_eq!(stored, 9);
}

#[tokio::test]
async fn without_a_token_or_with_a_wrong_one_only_open_paths_answer() {
    let nats = Nats::start();
    let mer = guarded_mer(&nats).await;
    let api = mer.api();
    for path in ["/healthz", "/readyz", "/openapi.json", "/docs/"] {
        assert_eq!(api.status(path).await, Some(200), "{path}");
    }
    assert_eq!(api.post("/hello/", &json!({"name": "nobody"})).await.status(), 200);

    let wrong = format!("{ADMIN}x");
    for (method, path, body, _) in requests("http://127.0.0.1:9/") {
        for token in [None, Some(wrong.as_str())] {
            let response = send(&api, method.clone(), &path, token, &body).await;
            assert_eq!(response.status(), 401, "{method} {path}");
            let challenge = response.headers()["www-authenticate"].to_str().unwrap();
            let expected = if token.is_some() { r#"Bearer error="invalid_token""# } else { "Bearer" };
            assert_eq!(challenge, expected);
            assert_eq!(response.headers()["content-type"], "application/problem+json");
        }
    }
    for value in [format!("Basic {ADMIN}"), ADMIN.to_owned(), "Bearer".to_owned(), format!("Bearer {PUBLISH} {ADMIN}")]
    {
        let response = api.send(Method::GET, "/v1/events", &[("authorization", value.as_str())], "").await.unwrap();
        assert_eq!(response.status(), 401, "{value}");
    }
    let two = [ADMIN, READ].map(|token| format!("Bearer {token}"));
    let two = two.each_ref().map(|value| ("authorization", value.as_str()));
    assert_eq!(api.send(Method::GET, "/v1/events", &two, "").await.unwrap().status(), 401);
    // The sender of a body sees the answer too.
    let large = "x".repeat(1024 * 1024);
    assert_eq!(send(&api, Method::POST, "/receive_event/a", None, &large).await.status(), 401);

    let empty = send(&api, Method::GET, "/v1/events", Some(READ), "").await.text().await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&empty).unwrap()["events"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_brings_a_token_and_nobody_logs_it() {
    let nats = Nats::start();
    let mer = guarded_mer(&nats).await;
    let target = Target::start().await;
    let succeeds = |token, arguments: &[&str]| {
        let output = run(&mer, Some(token), arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    succeeds(ADMIN, &["subs", "add", &target.url("/"), "a"]);
    succeeds(PUBLISH, &["events", "post", "a", r#"{"transaction_id": "T"}"#]);
    eventually("it arrives", SOON, || target.taken() == [1]).await;
    assert!(!target.received()[0].headers.contains_key("authorization"));
    succeeds(READ, &["events", "ls"]);
    succeeds(READ, &["subs", "ls"]);
    succeeds(READ, &["trace", "T"]);
    let flag = run(&mer, None, &["events", "ls", "--token", READ]);
    assert!(flag.status.success(), "{flag:?}");

    let wrong = "wrong-0123456789abcdef";
    for (token, arguments, expected) in [
        (None, &["events", "ls"] as &[_], "401"),
        (Some(""), &["events", "ls"], "401"),
        (Some(wrong), &["subs", "ls"], "401"),
        (Some(READ), &["events", "post", "a", "{}"], "`publish`"),
        (Some("not\na header"), &["subs", "ls"], ""),
    ] {
        let output = run(&mer, token, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{said}");
        assert!(token.is_none_or(|token| token.is_empty() || !said.contains(token)), "{said}");
    }
    let help = run(&mer, Some(READ), &["events", "--help"]);
    assert!(!String::from_utf8_lossy(&help.stdout).contains(READ));
    let log = mer.log();
    assert!(log.contains("http.forbidden") && log.contains("holder-2"), "the log is at trace");
    for secret in [PUBLISH, SUBSCRIBE, READ, ADMIN, wrong] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[test]
fn a_bad_tokens_file_ends_mer_with_the_line_and_without_the_token() {
    let mer = Mer::new(MER);
    let file = mer.data_dir().with_file_name("tokens");
    for (text, expected) in [
        (format!("good read {READ}\nbad raed {ADMIN}\n"), "line 2: scope 1 of the list"),
        (format!("bad {ADMIN}\n"), "line 1: it has 2 words"),
        ("# nobody\n".to_owned(), "names no token"),
    ] {
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(MER);
        command.args(["serve", "--listen", "127.0.0.1:0", "--tokens-file"]).arg(&file).env_clear();
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected) && !said.contains(ADMIN) && !said.contains(READ), "{said}");
    }
    let output = Command::new(MER).args(["serve", "--tokens-file", "/nowhere/tokens"]).env_clear().output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("reading /nowhere/tokens"), "{output:?}");
}

#[tokio::test]
async fn mer_warns_where_everybody_may_reach_it_without_a_token() {
    const WARNING: &str = "mer.open_to_everybody";
    let nats = Nats::start();
    let mer = Mer::new(MER).set("MER_NATS_URL", nats.url());
    let everywhere = mer.url().replace("http://127.0.0.1", "0.0.0.0");
    let mut mer = mer.start().await;
    assert!(!mer.log().contains(WARNING));
    assert!(mer.stop().await);
    let mer = mer.set("MER_LISTEN", everywhere).start().await;
    assert!(mer.log().contains(WARNING));
    drop(mer);
    assert!(!guarded_mer(&nats).await.log().contains(WARNING));
}

/// A POST that is under way, and whose body does not come: mer asked for the body when it had let the request in.
async fn slow_post(mer: &Mer) -> TcpStream {
    const HEAD: &str = "POST /receive_event/slow HTTP/1.1\r\nHost: mer\r\nContent-Length: 2\r\n\
        Connection: close\r\nExpect: 100-continue\r\n\r\n";
    const LET_IN: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let mut stream = TcpStream::connect(mer.url().strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(HEAD.as_bytes()).await.unwrap();
    let mut interim = [0; LET_IN.len()];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(interim, LET_IN.as_bytes());
    stream
}

#[tokio::test]
async fn more_requests_than_may_be_under_way_are_told_to_come_back() {
    let nats = Nats::start();
    let mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_MAX_REQUESTS", 2).start().await;
    let api = mer.api();
    let mut slow = [slow_post(&mer).await, slow_post(&mer).await];
    let refused = api.post("/receive_event/a", &json!({"refused": true})).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert!(refused.text().await.unwrap().contains("more than 2 requests"));
    assert_eq!(api.status("/v1/events").await, Some(429));
    assert_eq!((api.status("/healthz").await, api.status("/readyz").await), (Some(200), Some(200)));
    let turned_away = api.metrics().await.sum("mer_requests_turned_away_total", &[("reason", "overload")]);
    assert_eq!(turned_away, Some(2.0), "how busy it is can be seen while it is");

    // Those that were under way are not harmed, and make room when they end.
    for stream in &mut slow {
        stream.write_all(b"{}").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(api.post("/receive_event/a", &json!({})).await.status(), 200);
    assert!(!api.get("/v1/events").await.to_string().contains("refused"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_has_begun_is_no_failure_for_a_token_that_may_not_read_how_it_goes_on() {
    let nats = Nats::start();
    let mer = guarded_mer(&nats).await;
    let target = Target::start().await;
    let url = target.url("/");
    let posted = run(&mer, Some(PUBLISH), &["events", "post", "a", "{}"]);
    assert!(posted.status.success(), "{posted:?}");
    assert!(run(&mer, Some(SUBSCRIBE), &["subs", "add", &url, "a"]).status.success());
    let replay = run(&mer, Some(SUBSCRIBE), &["subs", "replay", &url, "--from", "20200101000000.0"]);
    let said = String::from_utf8_lossy(&replay.stderr);
    assert!(replay.status.success() && said.contains("it has begun"), "{replay:?}");
    assert!(String::from_utf8_lossy(&replay.stdout).contains(&url), "{replay:?}");
    let refused = run(&mer, Some(READ), &["subs", "replay", &url, "--from", "20200101000000.0"]);
    assert!(!refused.status.success(), "what has not begun is one");
}
