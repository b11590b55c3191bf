//! Whether the client library still has the faults that this room goes round.

use std::time::Duration;

use async_nats::{ConnectOptions, Event, HeaderMap};
use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::header_block;

const DEADLINE: Duration = Duration::from_secs(10);

/// What the client library makes of a message.
#[derive(Debug, PartialEq)]
enum Reaction {
    Reads(HeaderMap),
    EndsItsConnection,
    /// Its task is gone: it connects no more.
    Panics,
}

/// Gives a client of the library one message, as a server does that speaks just enough of the protocol.
async fn reaction_to(subject: &[u8], headers: &[u8]) -> Reaction {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = format!("nats://{}", listener.local_addr().unwrap());
    let message =
        [b"HMSG ".as_slice(), subject, format!(" 1 {0} {0}\r\n", headers.len()).as_bytes(), headers, b"\r\n"].concat();
    let server = serve(listener, message);
    let (tell, mut told) = mpsc::unbounded_channel();
    let client = async move {
        // The library holds the callback for as long as its task lives.
        let options = ConnectOptions::new().event_callback(move |event| {
            let _ = tell.send(event);
            std::future::ready(())
        });
        let client = options.connect(address).await.unwrap();
        let mut messages = client.subscribe("a").await.unwrap();
        loop {
            tokio::select! {
                biased;
                event = told.recv() => match event {
                    Some(Event::Disconnected) => return Reaction::EndsItsConnection,
                    Some(_) => {}
                    None => return Reaction::Panics,
                },
                Some(message) = messages.next() => return Reaction::Reads(message.headers.unwrap_or_default()),
            }
        }
    };
    tokio::select! {
        reaction = timeout(DEADLINE, client) => reaction.expect("the client does something"),
        () = server => unreachable!("it serves for ever"),
    }
}

/// Greets each client, and answers its subscription with the message.
async fn serve(listener: TcpListener, message: Vec<u8>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.split();
        let info = r#"INFO {"server_id":"s","version":"2.14.0","proto":1,"headers":true,"max_payload":1048576}"#;
        write.write_all(format!("{info}\r\n").as_bytes()).await.unwrap();
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let answer: &[u8] = match line.split(' ').next() {
                Some("PING") => b"PONG\r\n",
                Some("SUB") => &message,
                _ => continue,
            };
            if write.write_all(answer).await.is_err() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn the_client_library_reads_headers_by_the_rules_of_header_block() {
    for block in ["NATS/1.0\r\na: 1 \r\nA:é\r\na: 2\r\nlong: x\r\n  y\r\n\r\n", "NATS/1.0\r\n\r\n"] {
        let expected = Reaction::Reads(header_block::parse(block.as_bytes()).unwrap());
        assert_eq!(reaction_to(b"a", block.as_bytes()).await, expected, "{block}");
    }
}

#[tokio::test]
async fn the_client_library_still_ends_its_connection_on_headers_that_header_block_refuses() {
    for block in header_block::tests::REFUSED {
        let reaction = reaction_to(b"a", block).await;
        assert_eq!(reaction, Reaction::EndsItsConnection, "{}", block.escape_ascii());
    }
    let reaction = reaction_to(b"\xff", b"NATS/1.0\r\n\r\n").await;
    assert_eq!(reaction, Reaction::EndsItsConnection, "a subject that is not UTF-8");
}

#[tokio::test]
async fn the_client_library_still_panics_on_a_carriage_return_within_a_value() {
    assert_eq!(reaction_to(b"a", b"NATS/1.0\r\nx: a\rb\r\n\r\n").await, Reaction::Panics);
}
