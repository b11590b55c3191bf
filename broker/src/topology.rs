//! Which NATS objects there are, by name and with what settings, and making those that are missing.
//!
//! An object that exists keeps what an operator has set on it (limits, replicas); only what the services cannot do
//! without is put right.

pub(crate) mod monitoring;

use std::time::Duration;

use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind, KeyValueError};
use async_nats::jetstream::{Context, ErrorCode, kv, stream};
use domain::dead_letter;
use tokio::time::timeout;

use crate::error::{During, Unavailable};
use crate::names::{
    ATTEMPTS, ATTEMPTS_PREFIX, DEAD_LETTERS, EVENTS, LANES, LEASES, LOG, POSITIONS, POSITIONS_PREFIX, SUBSCRIPTIONS,
};
use crate::reminder::Reminder;
use crate::settings::Config;
use crate::settings::limits::Limits;

/// How long the marker of an expired key stays. Without markers no key can have a time to live.
const LEASE_MARKERS: Duration = Duration::from_secs(60);
/// How long making the bucket `LOG` may take: where it may not be made, nobody answers.
const LOG_BUCKET_DEADLINE: Duration = Duration::from_secs(3);
/// How long an attempt is known.
const ATTEMPTS_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many messages of attempts are kept of one subscription, and of all. A message holds those of a second, or one.
const ATTEMPTS_PER_SUBSCRIPTION: i64 = 500;
const ATTEMPTS_IN_ALL: i64 = 200_000;
/// How long positions are known: as long as a dispatcher may take to come back after a crash and repeat little.
const POSITIONS_MAX_AGE: Duration = Duration::from_secs(3600);
/// How many messages of positions are kept of one dispatcher: more than it writes while a lane's state waits to be
/// written. And how many bytes of all.
const POSITIONS_PER_DISPATCHER: i64 = 50_000;
const POSITIONS_MAX_BYTES: i64 = 64 * 1024 * 1024;
/// One consumer per URL. nats-server 2.15 allows 1,000 where a stream does not say more, and -1 does not say more.
pub(crate) const MAX_CONSUMERS: i32 = 200_000;

/// What a stream is for. It decides which settings are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The events.
    Log,
    /// Dead letters: kept until somebody removes them.
    Letters,
    /// A stream that may be lost.
    Aid,
    /// A bucket of subscriptions or lanes.
    Bucket,
    /// The bucket of leases.
    Leases,
}

impl Kind {
    /// Whether anything is lost with it.
    pub(crate) fn is_to_stay(self) -> bool {
        matches!(self, Self::Log | Self::Letters | Self::Bucket)
    }
}

/// Every stream, those of buckets among them.
pub(crate) const OBJECTS: [(&str, Kind); 8] = [
    (EVENTS, Kind::Log),
    (DEAD_LETTERS, Kind::Letters),
    (ATTEMPTS, Kind::Aid),
    (POSITIONS, Kind::Aid),
    ("KV_SUBSCRIPTIONS", Kind::Bucket),
    ("KV_LANES", Kind::Bucket),
    ("KV_LEASES", Kind::Leases),
    ("KV_LOG", Kind::Bucket),
];

/// Handles on the objects.
pub(crate) struct Objects {
    pub(crate) events: stream::Stream,
    pub(crate) subscriptions: kv::Store,
    pub(crate) lanes: kv::Store,
    pub(crate) leases: kv::Store,
    /// `None`: it is not there, and could not be made. mer then works without epochs of the log.
    pub(crate) log: Option<kv::Store>,
}

/// Makes what is missing; the bucket `LOG` only where it may be. It is called again and again: the reminder says what to tell of
/// what stays as it is.
pub(crate) async fn ensure(
    context: &Context,
    config: &Config,
    may_make_log: bool,
    reminder: &Reminder,
) -> Result<Objects, Unavailable> {
    let dead_letters = stream::Config {
        name: DEAD_LETTERS.to_owned(),
        description: Some(
            "Events that a subscription has given up on, with the reason. Subject: dead_letters.<subscription id>"
                .to_owned(),
        ),
        subjects: vec![format!("{}>", dead_letter::SUBJECT_PREFIX)],
        allow_direct: true,
        num_replicas: config.replicas,
        ..stream::Config::default()
    };
    let events = ensure_stream(context, events_config(config), Some(&config.limits)).await?;
    ensure_stream(context, dead_letters, None).await?;
    // The first is only shown, and nothing depends on it; without the second a crash repeats more.
    let positions = positions_config(config.replicas.max(events.cached_info().config.num_replicas));
    for (stream, wanted) in [(ATTEMPTS, attempts_config(config)), (POSITIONS, positions)] {
        if let Err(error) = ensure_stream(context, wanted, None).await
            && reminder.fails(format_args!("{stream}: {error}"))
        {
            tracing::warn!(stream, %error, "nats.stream_missing");
        }
    }
    let asked = "What each URL is registered for (key: subscription id). Written by the registrar only";
    let is = "How far each URL's deliveries have come (key: subscription id). Written by the dispatcher only";
    let who = "Which dispatchers live (owner.*, with a time to live), and which works on which shard (shard.*)";
    Ok(Objects {
        events,
        subscriptions: ensure_bucket(context, SUBSCRIPTIONS, asked, config.replicas, None).await?,
        lanes: ensure_bucket(context, LANES, is, config.replicas, None).await?,
        leases: ensure_bucket(context, LEASES, who, config.replicas, Some(LEASE_MARKERS)).await?,
        log: log_bucket(context, config, may_make_log).await,
    })
}

/// The bucket of the log's names and checkpoints. mer works without it, and where it may not be made nothing waits for it long.
async fn log_bucket(context: &Context, config: &Config, may_make: bool) -> Option<kv::Store> {
    const WHAT: &str = "Which log it is: its epochs, and what stood where in it. Written by dispatchers only";
    let bucket = async {
        match context.get_key_value(LOG).await {
            Ok(found) => Ok(found),
            Err(_) if may_make => ensure_bucket(context, LOG, WHAT, config.replicas, None).await,
            Err(error) => Err(error).during("looking for a bucket"),
        }
    };
    let why = match timeout(LOG_BUCKET_DEADLINE, bucket).await {
        Ok(Ok(bucket)) => return Some(bucket),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "there was no answer: may this user make it (STREAM.CREATE.KV_LOG)?".to_owned(),
    };
    if may_make {
        tracing::warn!(bucket = LOG, error = why, "nats.bucket_missing");
    }
    None
}

pub(crate) fn events_config(config: &Config) -> stream::Config {
    let mut events = stream::Config {
        name: EVENTS.to_owned(),
        description: Some("Every event, in the order of acceptance. Subject: events.<type>".to_owned()),
        subjects: vec!["events.>".to_owned()],
        max_consumers: MAX_CONSUMERS,
        duplicate_window: config.duplicate_window,
        allow_direct: true,
        allow_atomic_publish: true,
        num_replicas: config.replicas,
        ..stream::Config::default()
    };
    config.limits.apply(&mut events);
    events
}

fn attempts_config(config: &Config) -> stream::Config {
    stream::Config {
        name: ATTEMPTS.to_owned(),
        description: Some("What came of the last attempts to deliver. Subject: attempts.<subscription id>".to_owned()),
        subjects: vec![format!("{ATTEMPTS_PREFIX}>")],
        max_age: ATTEMPTS_MAX_AGE,
        max_messages: ATTEMPTS_IN_ALL,
        max_messages_per_subject: ATTEMPTS_PER_SUBSCRIPTION,
        allow_direct: true,
        num_replicas: config.replicas,
        persist_mode: not_flushed(config.replicas),
        ..stream::Config::default()
    }
}

/// With as many copies as the log has: what is known of deliveries is as durable as the events.
fn positions_config(replicas: usize) -> stream::Config {
    stream::Config {
        name: POSITIONS.to_owned(),
        description: Some(
            "How far lanes have come since their state was written, by epoch. Subject: positions.<dispatcher>"
                .to_owned(),
        ),
        subjects: vec![format!("{}>", POSITIONS_PREFIX)],
        max_age: POSITIONS_MAX_AGE,
        max_bytes: POSITIONS_MAX_BYTES,
        max_messages_per_subject: POSITIONS_PER_DISPATCHER,
        allow_direct: true,
        num_replicas: replicas,
        persist_mode: not_flushed(replicas),
        ..stream::Config::default()
    }
}

/// For what may be lost: it must not wait for the disk. There is no such mode for replicated streams, and so a stream with it
/// gets no more copies (nats-server 2.15).
fn not_flushed(replicas: usize) -> Option<stream::PersistenceMode> {
    (replicas == 1).then_some(stream::PersistenceMode::Async)
}

async fn ensure_stream(
    context: &Context,
    mut wanted: stream::Config,
    limits: Option<&Limits>,
) -> Result<stream::Stream, Unavailable> {
    monitoring::complete_stream(&mut wanted);
    let name = wanted.name.clone();
    match context.get_stream(&name).await {
        Ok(found) => put_right(context, found, &wanted, limits).await,
        Err(error) if is_missing(&error.kind()) => {
            let made = context.create_stream(wanted).await.during("making a stream")?;
            tracing::info!(stream = name, "nats.stream_made");
            Ok(made)
        }
        Err(error) => Err(error).during("looking for a stream"),
    }
}

/// Whether there is no such bucket, and not only no answer.
fn is_missing_bucket(error: &KeyValueError) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<GetStreamError>());
    source.is_some_and(|error| is_missing(&error.kind()))
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Gives an existing stream what the services need, and the limits that the settings name. The rest stays as it is.
async fn put_right(
    context: &Context,
    found: stream::Stream,
    wanted: &stream::Config,
    limits: Option<&Limits>,
) -> Result<stream::Stream, Unavailable> {
    let has = &found.cached_info().config;
    let mut right = has.clone();
    for subject in &wanted.subjects {
        if !right.subjects.contains(subject) {
            right.subjects.push(subject.clone());
        }
    }
    right.allow_direct = true;
    right.allow_atomic_publish |= wanted.allow_atomic_publish;
    let before_limits = right.clone();
    if let Some(limits) = limits {
        limits.apply(&mut right);
    }
    if right != before_limits {
        let (max_age, max_bytes, max_events) = (right.max_age, right.max_bytes, right.max_messages);
        tracing::warn!(?max_age, max_bytes, max_events, discard = ?right.discard, "nats.limits_changed");
    }
    let is_needed = right != *has;
    monitoring::complete_stream(&mut right);
    if right.description.is_none() {
        right.description.clone_from(&wanted.description);
    }
    if wanted.name == EVENTS && right.max_consumers < MAX_CONSUMERS {
        // Not to be changed on a stream that exists (nats-server 2.15).
        tracing::warn!(stream = EVENTS, max_consumers = right.max_consumers, "nats.few_consumers_allowed");
    }
    if right == *has {
        return Ok(found);
    }
    let updated = context.update_stream(right).await;
    if let (Err(error), false) = (&updated, is_needed) {
        // Only descriptions and metadata are missing, and not every user may update a stream.
        tracing::debug!(stream = wanted.name, %error, "nats.stream_left_as_it_is");
        return Ok(found);
    }
    updated.during("putting a stream right")?;
    tracing::info!(stream = wanted.name, "nats.stream_put_right");
    context.get_stream(&wanted.name).await.during("looking for a stream")
}

async fn ensure_bucket(
    context: &Context,
    name: &str,
    description: &str,
    replicas: usize,
    limit_markers: Option<Duration>,
) -> Result<kv::Store, Unavailable> {
    let bucket = match context.get_key_value(name).await {
        Ok(found) => found,
        Err(error) if is_missing_bucket(&error) => {
            let config = kv::Config {
                bucket: name.to_owned(),
                description: description.to_owned(),
                history: 1,
                num_replicas: replicas,
                limit_markers,
                ..kv::Config::default()
            };
            match context.create_key_value(config).await {
                Ok(made) => {
                    tracing::info!(bucket = name, "nats.bucket_made");
                    made
                }
                // Another process has made it meanwhile, and has put it right already: so it is another one than was asked for.
                Err(error) => match context.get_key_value(name).await {
                    Ok(found) => found,
                    Err(_) => return Err(error).during("making a bucket"),
                },
            }
        }
        Err(error) => return Err(error).during("looking for a bucket"),
    };
    let has = &bucket.stream.cached_info().config;
    let mut right = has.clone();
    monitoring::complete_stream(&mut right);
    // So that what marks a removed key goes after a while: see `buckets::entry`.
    right.allow_message_ttl = true;
    if right == *has {
        return Ok(bucket);
    }
    match context.update_stream(right).await {
        Ok(_) => context.get_key_value(name).await.during("looking for a bucket"),
        Err(error) => {
            tracing::debug!(bucket = name, %error, "nats.stream_left_as_it_is");
            Ok(bucket)
        }
    }
}
