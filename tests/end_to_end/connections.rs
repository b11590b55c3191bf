//! Connections of clients, to the byte: which go on after an answer, and what a request has to say of its host.

use std::collections::BTreeMap;
use std::time::Duration;

use tests::{Mer, Nats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{SOON, mer_on};

const JSON: &str = "application/json";
/// More than is read along with a request's head.
const LARGE: usize = 200_000;

/// An answer's status and headers.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
}

async fn connect(mer: &Mer) -> TcpStream {
    TcpStream::connect(mer.url().trim_start_matches("http://")).await.unwrap()
}

fn post(path: &str, more: &str, content_length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: mer\r\nContent-Length: {content_length}\r\n{more}\r\n")
}

/// Sends something, and reads one answer; `None` where the connection ends before.
async fn exchange(connection: &mut TcpStream, sent: &[u8]) -> Option<Answer> {
    connection.write_all(sent).await.ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(SOON, connection.read_u8()).await.expect("an answer").ok()?;
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    connection.read_exact(&mut body).await.ok()?;
    Some(Answer { status, headers })
}

#[tokio::test]
async fn after_a_refused_post_the_connection_takes_the_next_one() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let (large, too_large) = (format!("\"{}\"", "x".repeat(LARGE)), "x".repeat(2 * 1024 * 1024));
    let gzip = format!("Content-Type: {JSON}\r\nContent-Encoding: gzip\r\n");
    for (path, headers, body, status) in [
        ("/v1/events/a..b", "", &large, 422),
        ("/v1/events/a", "Expected-Last-Sequence: x\r\n", &large, 422),
        ("/v1/events/a", "Content-Type: text/plain\r\n", &large, 415),
        ("/v1/events/a", gzip.as_str(), &large, 415),
        ("/v1/nothing", "", &large, 404),
        ("/v1/events/a", "", &too_large, 413),
    ] {
        let mut connection = connect(&mer).await;
        let refused = [post(path, headers, body.len()).as_bytes(), body.as_bytes()].concat();
        let answer = exchange(&mut connection, &refused).await.unwrap_or_else(|| panic!("no answer: {path}"));
        assert_eq!((answer.status, answer.headers.get("connection")), (status, None), "{path} {headers}");
        let good = [post("/v1/events/a", "", 2).as_bytes(), b"{}"].concat();
        let answer = exchange(&mut connection, &good).await;
        assert_eq!(answer.map(|answer| answer.status), Some(201), "the next one, after {path} {headers}");
    }
}

#[tokio::test]
async fn a_refused_post_whose_body_does_not_come_says_that_the_connection_ends() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    for more in ["", "Expect: 100-continue\r\n"] {
        let mut connection = connect(&mer).await;
        let answer = exchange(&mut connection, post("/v1/events/a..b", more, LARGE).as_bytes()).await.unwrap();
        assert_eq!((answer.status, answer.headers["connection"].as_str()), (422, "close"), "{more}");
        let ended = timeout(Duration::from_secs(5), connection.read_u8()).await.expect("it ends");
        assert!(ended.is_err());
    }
}

#[tokio::test]
async fn a_request_names_one_host() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    for (head, status) in [
        ("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost:\r\n\r\n", 200),
        ("GET /healthz HTTP/1.0\r\n\r\n", 200),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET /healthz HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ] {
        let answer = exchange(&mut connect(&mer).await, head.as_bytes()).await.unwrap();
        assert_eq!(answer.status, status, "{head}");
        if status == 400 {
            assert_eq!(answer.headers["content-type"], "application/problem+json");
        }
    }
}
