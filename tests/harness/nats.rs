//! A nats-server of the test's own.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull::OrderedConfig;
use domain::TargetUrl;
use futures_util::StreamExt;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;

const START_DEADLINE: Duration = Duration::from_secs(20);
/// A running nats-server on a port that stays the same, with a store that stays until this is dropped.
pub struct Nats {
    folder: TempDir,
    port: u16,
    sync_interval: String,
    settings: String,
    process: Process,
}

/// The nats-server binary to test with.
pub fn binary() -> PathBuf {
    match std::env::var_os("MER_NATS_SERVER") {
        Some(path) => path.into(),
        None => panic!(
            "MER_NATS_SERVER does not name a nats-server: run ./tests/run, or set it to what ./deploy/nats-server prints"
        ),
    }
}

impl Nats {
    /// Starts one.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts one with more in its configuration.
    pub fn start_with(settings: &str) -> Self {
        Self::start_syncing("always", settings)
    }

    /// Starts one that has written to disk what is older than this, with more in its configuration.
    pub fn start_syncing(sync_interval: &str, settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = crate::free_port();
        let process = launch(&folder, port, sync_interval, settings);
        Self { folder, port, sync_interval: sync_interval.to_owned(), settings: settings.to_owned(), process }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where it keeps its files.
    pub fn store_dir(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it in good order.
    pub fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        let began = Instant::now();
        while !self.process.has_ended() {
            assert!(began.elapsed() < START_DEADLINE, "nats-server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again after [`Nats::kill`], on the same port and store.
    pub fn restart(&mut self) {
        self.process = launch(&self.folder, self.port, &self.sync_interval, &self.settings);
    }

    /// The same with other words in its configuration: what is said last counts.
    pub fn restart_with(&mut self, settings: &str) {
        settings.clone_into(&mut self.settings);
        self.restart();
    }

    /// Has it do nothing, and keep its connections, until [`Nats::thaw`].
    pub fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Has it go on.
    pub fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Where in the stream `EVENTS` are messages that were stored in an atomic batch.
    pub async fn stored_in_batches(&self) -> BTreeSet<u64> {
        let context = async_nats::jetstream::new(self.client().await);
        let stream = context.get_stream("EVENTS").await.expect("the stream");
        let all = OrderedConfig { headers_only: true, ..OrderedConfig::default() };
        let consumer = stream.create_consumer(all).await.expect("a consumer");
        let count = consumer.cached_info().num_pending;
        let mut messages = consumer.messages().await.expect("messages");
        let mut found = BTreeSet::new();
        for _ in 0..count {
            let message = messages.next().await.expect("a message").expect("a message");
            if message.headers.as_ref().is_some_and(|headers| headers.get("Nats-Batch-Id").is_some()) {
                found.insert(message.info().expect("a place").stream_sequence);
            }
        }
        found
    }

    /// What stands in a bucket under the id of a URL's subscription; null where nothing does.
    pub async fn value(&self, bucket: &str, url: &str) -> Value {
        let id = TargetUrl::parse(url).expect("a URL").subscription_id();
        let context = async_nats::jetstream::new(self.client().await);
        let bucket = context.get_key_value(bucket).await.expect("the bucket");
        let value = bucket.get(id.as_str()).await.expect("the bucket answers");
        value.map_or(Value::Null, |value| serde_json::from_slice(&value).unwrap_or(Value::Null))
    }

    /// Puts something into a bucket under the id of a URL's subscription.
    pub async fn put_value(&self, bucket: &str, url: &str, value: impl ToString) {
        let id = TargetUrl::parse(url).expect("a URL").subscription_id();
        let context = async_nats::jetstream::new(self.client().await);
        let bucket = context.get_key_value(bucket).await.expect("the bucket");
        bucket.put(id.as_str(), value.to_string().into()).await.expect("the bucket takes it");
    }

    /// Stores a message as it is given: a subject, a header block, which need not be one, and data. Answers its sequence.
    ///
    /// By the protocol's own words: client libraries take nothing that they would not read.
    pub fn store_raw(&self, subject: impl AsRef<[u8]>, headers: &[u8], data: &[u8]) -> u64 {
        self.store_raw_as(("", ""), subject, headers, data)
    }

    /// The same by a user, with a password.
    pub fn store_raw_as(
        &self,
        (user, password): (&str, &str),
        subject: impl AsRef<[u8]>,
        headers: &[u8],
        data: &[u8],
    ) -> u64 {
        let mut connection = std::net::TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        connection.set_read_timeout(Some(START_DEADLINE)).expect("a deadline");
        let (inbox, header_bytes, total_bytes) = ("_INBOX.stored.raw", headers.len(), headers.len() + data.len());
        let connect = json!({"headers": true, "verbose": false, "user": user, "pass": password});
        let begin = format!("CONNECT {connect}\r\nSUB {inbox} 1\r\nHPUB ");
        let sizes = format!(" {inbox} {header_bytes} {total_bytes}\r\n");
        let parts = [begin.as_bytes(), subject.as_ref(), sizes.as_bytes(), headers, data, b"\r\n"];
        connection.write_all(&parts.concat()).expect("it is sent");
        for line in BufReader::new(connection).lines() {
            let line = line.expect("an acknowledgement");
            if let Some(sequence) = serde_json::from_str::<Value>(&line).ok().and_then(|ack| ack["seq"].as_u64()) {
                return sequence;
            }
        }
        panic!("nats-server ended the connection");
    }

    /// A client of it.
    pub async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.expect("a connection to the test's nats-server")
    }
}

pub(crate) fn launch(folder: &TempDir, port: u16, sync_interval: &str, settings: &str) -> Process {
    let path = folder.path();
    let config = path.join("nats-server.conf");
    let text = format!(
        "listen: \"127.0.0.1:{port}\"\nlog_file: \"{0}/nats-server.log\"\nmax_payload: 8MB\n\
         jetstream {{ store_dir: \"{0}/store\", sync_interval: {sync_interval} }}\n{settings}\n",
        path.display()
    );
    std::fs::write(&config, text).expect("writing nats-server's configuration");
    let mut command = Command::new(binary());
    command.arg("--config").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = Process::spawn(&mut command);
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(!process.has_ended(), "nats-server ended: see {}", path.join("nats-server.log").display());
        assert!(began.elapsed() < START_DEADLINE, "nats-server does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    process
}
