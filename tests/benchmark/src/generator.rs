//! The load generator: keep-alive connections that post, as cheaply as can be.
//!
//! Closed: each connection posts again as soon as it is answered, for as long as is asked for. Paced: at moments fixed
//! beforehand, and a latency counts from that moment, not from when a connection was free: a server that stalls is
//! charged for all that had to wait (no coordinated omission).

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock;
use crate::request::Request;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 1024 * 1024;
const MAX_HEADERS: usize = 32;

/// What was posted, and how that went.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// From the first to the last.
    pub(crate) took: Duration,
    /// Of each request, in microseconds, in no order.
    pub(crate) latencies: Vec<u64>,
    /// The places in the log that answers name, ascending.
    pub(crate) sequences: Vec<u64>,
    /// How many events were in the requests.
    pub(crate) events: usize,
}

impl Load {
    /// Events a second.
    pub(crate) fn rate(&self) -> f64 {
        clock::per_second(self.events, self.took)
    }

    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.sequences.extend(other.sequences);
        self.events += other.events;
    }
}

/// Posts on so many connections at once, each as fast as it is answered, for so long.
pub(crate) async fn closed(
    address: SocketAddr,
    request: &Request,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Load> {
    let opened = open(address, connections).await?;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in opened {
        let mut request = request.clone();
        tasks.spawn(async move {
            let mut load = Load::default();
            while began.elapsed() < time {
                let sent = Instant::now();
                let answer = connection.exchange(request.numbered()).await?;
                load.note(sent, &answer, request.events())?;
            }
            anyhow::Ok(load)
        });
    }
    gather(tasks, began).await
}

/// Posts so many a second for so long, at even distances, on so many connections in turn.
pub(crate) async fn paced(
    address: SocketAddr,
    request: &Request,
    connections: usize,
    rate: f64,
    time: Duration,
) -> anyhow::Result<Load> {
    let opened = open(address, connections).await?;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    let mut turns = Vec::new();
    let count = (rate * time.as_secs_f64()) as usize;
    for mut connection in opened {
        let (turn, mut due) = mpsc::channel::<Instant>(count / connections + 1);
        turns.push(turn);
        let mut request = request.clone();
        tasks.spawn(async move {
            let mut load = Load::default();
            while let Some(due) = due.recv().await {
                let answer = connection.exchange(request.sent_at(clock::micros_at(due))).await?;
                load.note(due, &answer, request.events())?;
            }
            anyhow::Ok(load)
        });
    }
    let mut pace = Pace::start(count, rate)?;
    let mut i = 0;
    while let Some(due) = pace.next().await {
        // There is room for all of its turns. One that has failed says so below.
        let _ = turns[i % connections].try_send(due);
        i += 1;
    }
    drop(turns);
    gather(tasks, began).await
}

async fn open(address: SocketAddr, connections: usize) -> anyhow::Result<Vec<Connection>> {
    let mut opened = Vec::with_capacity(connections);
    for _ in 0..connections {
        opened.push(Connection::open(address).await?);
    }
    Ok(opened)
}

async fn gather(mut tasks: JoinSet<anyhow::Result<Load>>, began: Instant) -> anyhow::Result<Load> {
    let mut all = Load::default();
    while let Some(load) = tasks.join_next().await {
        all.add(load??);
    }
    all.took = began.elapsed();
    all.sequences.sort_unstable();
    Ok(all)
}

impl Load {
    fn note(&mut self, since: Instant, answer: &Answer<'_>, events: usize) -> anyhow::Result<()> {
        ensure!(
            (200..300).contains(&answer.status),
            "answered {}: {}",
            answer.status,
            String::from_utf8_lossy(answer.body)
        );
        self.latencies.push(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
        self.sequences.extend(answer.sequences());
        self.events += events;
        Ok(())
    }
}

/// Moments at even distances, each told when it has come, by a thread of its own: timers of the runtime come up to a
/// millisecond late.
pub(crate) struct Pace(mpsc::Receiver<Instant>);

impl Pace {
    /// So many moments, so many a second.
    pub(crate) fn start(count: usize, rate: f64) -> anyhow::Result<Self> {
        let (sender, receiver) = mpsc::channel(count.max(1));
        let tell = move || {
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
            let began = Instant::now();
            for i in 0..count {
                let due = began + Duration::from_secs_f64(i as f64 / rate);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if sender.blocking_send(due).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("pace".to_owned()).spawn(tell).context("starting a thread")?;
        Ok(Self(receiver))
    }

    /// The next moment.
    pub(crate) async fn next(&mut self) -> Option<Instant> {
        self.0.recv().await
    }
}

/// A connection that is kept.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    /// `event-sequence`.
    sequence: Option<u64>,
    body: &'a [u8],
}

impl Answer<'_> {
    /// The places in the log that it names: in its header, or one by one in its body.
    fn sequences(&self) -> Vec<u64> {
        const NAME: &[u8] = b"\"sequence\":";
        if self.sequence.is_some() {
            return self.sequence.into_iter().collect();
        }
        let (mut found, mut rest) = (Vec::new(), self.body);
        while let Some(at) = rest.windows(NAME.len()).position(|window| window == NAME) {
            rest = &rest[at + NAME.len()..];
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
            found.push(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')));
        }
        found
    }
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(4096) })
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        let Self { stream, read } = self;
        let exchange = async {
            stream.write_all(request).await?;
            read.clear();
            loop {
                ensure!(stream.read_buf(read).await? > 0, "the server has closed the connection");
                if let Some(head) = head_of(read)? {
                    ensure!(head.ends_at + head.body_bytes <= MAX_ANSWER, "an answer of {} bytes", head.body_bytes);
                    while read.len() < head.ends_at + head.body_bytes {
                        ensure!(stream.read_buf(read).await? > 0, "the server has closed the connection");
                    }
                    return Ok(head);
                }
            }
        };
        let head = timeout(PATIENCE, exchange).await.map_err(|_| anyhow!("no answer within {PATIENCE:?}"))??;
        let body = &read[head.ends_at..head.ends_at + head.body_bytes];
        Ok(Answer { status: head.status, sequence: head.sequence, body })
    }
}

struct Head {
    status: u16,
    sequence: Option<u64>,
    ends_at: usize,
    body_bytes: usize,
}

/// The head of an answer, once it is there.
fn head_of(read: &[u8]) -> anyhow::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(ends_at) = answer.parse(read)? else { return Ok(None) };
    let (mut sequence, mut body_bytes) = (None, None);
    for header in answer.headers.iter() {
        let number = || std::str::from_utf8(header.value).ok()?.parse().ok();
        if header.name.eq_ignore_ascii_case("content-length") {
            body_bytes = number();
        } else if header.name.eq_ignore_ascii_case("event-sequence") {
            sequence = number().map(|number| number as u64);
        }
    }
    let Some(body_bytes) = body_bytes else { bail!("an answer without content-length") };
    Ok(Some(Head { status: answer.code.unwrap_or(0), sequence, ends_at, body_bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::percentile;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    const TIME: Duration = Duration::from_millis(500);

    /// Something plain that counts requests, with a thread for each connection. The `stalls_at`th request holds up all
    /// of them for so long.
    fn plain_server(connections: usize, stalls_at: usize, stall: Duration) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (counted, one_at_a_time) = (count.clone(), Arc::new(Mutex::new(())));
        std::thread::spawn(move || {
            for stream in listener.incoming().take(connections) {
                let (mut stream, counted, one_at_a_time) = (stream.unwrap(), counted.clone(), one_at_a_time.clone());
                std::thread::spawn(move || {
                    let mut request = Vec::new();
                    let mut chunk = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut chunk) {
                        request.extend_from_slice(&chunk[..read]);
                        if !request.ends_with(b"\"}") {
                            continue;
                        }
                        request.clear();
                        let _turn = one_at_a_time.lock().unwrap();
                        if counted.fetch_add(1, Ordering::SeqCst) + 1 == stalls_at {
                            std::thread::sleep(stall);
                        }
                        let sequence = counted.load(Ordering::SeqCst);
                        let head = format!("HTTP/1.1 200 OK\r\nevent-sequence: {sequence}\r\ncontent-length: 2");
                        stream.write_all(format!("{head}\r\n\r\n{{}}").as_bytes()).unwrap();
                    }
                });
            }
        });
        (address, count)
    }

    #[tokio::test]
    async fn as_many_are_counted_as_a_plain_server_saw() {
        let (address, count) = plain_server(8, 0, Duration::ZERO);
        let load = closed(address, &Request::event("/"), 8, TIME).await.unwrap();
        let seen = count.load(Ordering::SeqCst);
        assert_eq!((load.events, load.latencies.len()), (seen, seen));
        assert_eq!(load.sequences, (1..=seen as u64).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn so_many_are_posted_as_the_rate_asks_for() {
        let (address, count) = plain_server(4, 0, Duration::ZERO);
        let load = paced(address, &Request::event("/"), 4, 200.0, TIME).await.unwrap();
        assert_eq!((load.events, count.load(Ordering::SeqCst)), (100, 100));
        assert!(load.took >= TIME.mul_f64(0.9), "{:?}", load.took);
    }

    #[tokio::test]
    async fn a_stall_is_charged_to_all_that_had_to_wait() {
        let stall = Duration::from_millis(400);
        let (address, _) = plain_server(1, 10, stall);
        let mut load = paced(address, &Request::event("/"), 1, 100.0, Duration::from_secs(1)).await.unwrap();
        // 100 requests, of which those due within 400 ms were held up: by send time, the 80th percentile shows it.
        let p80 = percentile(&mut load.latencies, 0.8);
        assert!(p80 >= 100_000.0, "the 80th percentile is {p80} us, with a stall of {stall:?}");
        assert_eq!(load.events, 100);
    }

    #[tokio::test]
    async fn an_answer_that_is_no_success_ends_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 3\r\n\r\nfor");
        });
        let error = closed(address, &Request::event("/"), 1, TIME).await.unwrap_err().to_string();
        assert_eq!(error, "answered 503: for");
    }

    #[test]
    fn sequences_are_read_from_a_body_too() {
        let body = br#"{"events":[{"id":"1","sequence":7,"time":"x"},{"id":"2","sequence":12}]}"#;
        assert_eq!(Answer { status: 201, sequence: None, body }.sequences(), [7, 12]);
    }
}
