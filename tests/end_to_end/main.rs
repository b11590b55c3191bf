//! What a user relies on, seen from outside: real mer, real nats-server, real HTTP.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, a panic is how a failure is told")]
#![allow(clippy::disallowed_methods, reason = "tests own their tasks and read answers of mer only")]

mod acknowledgements;
mod answers;
mod attributes;
mod authentication;
mod backfill;
mod bad_input;
mod batches;
mod check;
mod clocks;
mod cluster;
mod cluster_fork;
mod commands;
mod conditional_writes;
mod connections;
mod crashes;
mod dead_letters;
mod dispatchers;
mod egress;
mod embedded;
mod failing_targets;
mod failpoints;
mod faults;
mod forks;
mod full_disks;
mod gaps;
mod hand_over;
mod holes;
mod idempotency;
mod large_events;
mod limits;
mod live_tails;
mod logs;
mod lost_requests;
mod lost_subscriptions;
mod metrics;
mod modes;
mod nats_access;
mod nats_objects;
mod nats_users;
mod odd_events;
mod order;
mod posts_at_once;
mod registering_again;
mod registrations;
mod replays;
mod restore;
mod secret_leaks;
mod signatures;
mod spans;
mod stated_positions;
mod tail;
mod transactions;
mod transcript;
mod unreadable_messages;
mod upgrade;
mod urls;
mod v1_events;
mod v1_subscriptions;
mod without_nats;

use std::time::Duration;

use tests::{Mer, Nats};

/// The binary under test: `MER_TESTED_BIN` when this is compiled, else the one that cargo builds beside it.
const MER: &str = match option_env!("MER_TESTED_BIN") {
    Some(binary) => binary,
    None => env!("CARGO_BIN_EXE_mer"),
};
/// How long something may take that takes a moment.
const SOON: Duration = Duration::from_secs(15);
/// How long something may take that takes a while.
const LONG: Duration = Duration::from_secs(90);

/// A mer with all roles but the sample listener, on that nats-server.
async fn mer_on(nats: &Nats) -> Mer {
    Mer::new(MER).set("MER_NATS_URL", nats.url()).start().await
}
