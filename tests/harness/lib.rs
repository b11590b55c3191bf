//! What end-to-end tests run on: the real thing, on this machine, on free ports of the loopback address.
//!
//! - [`nats`]: a nats-server of the test's own, to be killed and started again.
//! - [`backup`]: what was in a stream, to be put into another nats-server.
//! - [`cluster`]: three of them that are one cluster, to be killed, frozen and cut off.
//! - [`lossy`]: a way to a nats-server on which requests for messages get lost.
//! - [`mer`]: the binary under test, as a process.
//! - [`target`]: an HTTP target that records what it gets and answers as a test tells it to.
//! - [`targets`]: many targets that write down what comes; [`history`]: what happened, and the checker that reads it.
//! - [`traffic`]: events that are posted all the time, for a history.
//! - [`api`]: posting events and registering URLs, as a user does with curl.
//! - [`metrics`]: what `/metrics` says; [`collector`]: what is told of traces.
//! - [`planted`]: secrets of a test, which are recognised wherever they leak.
//! - [`wait`]: waiting for a condition, with a deadline.
//!
//! Everything stops when it is dropped, and when the test's process dies.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, a panic is how a failure is told")]
#![allow(clippy::disallowed_methods, reason = "the harness talks to mer and to itself only")]

pub mod api;
pub mod backup;
pub mod cluster;
pub mod collector;
pub mod history;
pub mod lossy;
pub mod mer;
pub mod metrics;
pub mod nats;
pub mod planted;
mod process;
pub mod target;
pub mod targets;
pub mod traffic;
pub mod wait;
mod wire;

pub use api::{Api, Posted};
pub use backup::Backup;
pub use cluster::Cluster;
pub use collector::{Collector, Told};
pub use mer::Mer;
pub use metrics::Metrics;
pub use nats::Nats;
pub use planted::PlantedSecrets;
pub use target::{Answer, Received, Target};
pub use wait::{eventually, eventually_async, holds_within};

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address").port()
}
