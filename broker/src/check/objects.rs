//! Whether a stream or bucket that is there is what mer needs of it: decided from its settings alone.

use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, StorageType};

use super::finding::Finding;
use crate::names::EVENTS;
use crate::settings::Config;
use crate::topology::{Kind, MAX_CONSUMERS};

/// For settings that nats-server does not change on a stream that is there.
const MAKE_ANEW: &str = "stop mer, back it up, remove it, and restore it with other settings (docs/operating.md)";

/// All that is not as it should be; empty where everything is.
pub(super) fn judge(kind: Kind, has: &stream::Config, config: &Config, max_body_bytes: usize) -> Vec<Finding> {
    let mut faults = of_all(kind, has, config);
    match kind {
        Kind::Log => faults.extend(of_log(has, config, max_body_bytes)),
        Kind::Letters => faults.extend(of_what_is_kept(has)),
        Kind::Aid => {}
        Kind::Bucket => faults.extend(of_bucket(has)),
        Kind::Leases => faults.extend(of_leases(has)),
    }
    faults
}

fn edit(name: &str, flags: &str) -> String {
    format!("nats stream edit {name} {flags}")
}

fn of_all(kind: Kind, has: &stream::Config, config: &Config) -> Vec<Finding> {
    let name = has.name.as_str();
    let mut faults = Vec::new();
    if has.storage == StorageType::Memory && kind.is_to_stay() {
        let found = "it is kept in memory: all of it is lost when nats-server restarts";
        faults.push(Finding::wrong(name, found, MAKE_ANEW));
    }
    if has.num_replicas < config.replicas {
        let (has, asked) = (has.num_replicas, config.replicas);
        let found = format!(
            "it has {has} replica(s), and MER_REPLICAS asks for {asked}: it stops, and may be lost, with a server"
        );
        let mend = edit(name, &format!("--replicas {asked}"));
        faults.push(if kind.is_to_stay() {
            Finding::wrong(name, found, mend)
        } else {
            Finding::warn(name, found, format!("nats stream rm {name}: mer makes it anew, and loses nothing by it"))
        });
    }
    if has.sealed || has.mirror.is_some() {
        let found = "it is sealed, or a mirror: nothing can be written to it";
        faults.push(Finding::wrong(name, found, MAKE_ANEW));
    }
    if has.no_ack {
        let found = "it acknowledges nothing (no_ack): nothing that is written counts as stored";
        faults.push(Finding::wrong(name, found, edit(name, "--ack")));
    }
    if !has.allow_direct {
        let found = "it does not allow direct gets, by which mer reads";
        faults.push(Finding::warn(name, found, "mer puts it right when it starts, if it may (STREAM.UPDATE)"));
    }
    faults
}

fn of_log(has: &stream::Config, config: &Config, max_body_bytes: usize) -> Vec<Finding> {
    let mut faults = Vec::new();
    if has.retention != RetentionPolicy::Limits {
        let found = "its retention is not `limits`: events are removed once somebody has acknowledged them, \
                     and nobody can be taken through the past";
        faults.push(Finding::wrong(EVENTS, found, MAKE_ANEW));
    }
    if has.max_messages_per_subject > 0 {
        let found = format!(
            "it keeps {} events of a type and removes what is older, wanted or not",
            has.max_messages_per_subject
        );
        faults.push(Finding::wrong(EVENTS, found, edit(EVENTS, "--max-msgs-per-subject=-1")));
    }
    if has.max_consumers < MAX_CONSUMERS {
        // 0 and less is what nats-server has for streams that do not say.
        let allowed = if has.max_consumers > 0 { has.max_consumers } else { 1000 };
        let found = format!("it allows {allowed} consumers, and each URL has one: further URLs would get nothing");
        faults.push(Finding::warn(EVENTS, found, MAKE_ANEW));
    }
    if !has.allow_atomic_publish {
        let found = "it does not allow atomic publishes: batches are refused";
        faults.push(Finding::warn(EVENTS, found, "mer puts it right when it starts, if it may (STREAM.UPDATE)"));
    }
    if !has.subjects.iter().any(|subject| subject == "events.>" || subject == ">") {
        let found = "it does not take `events.>`: no event can be stored";
        faults.push(Finding::warn(EVENTS, found, "mer puts it right when it starts, if it may (STREAM.UPDATE)"));
    }
    if has.duplicate_window < config.duplicate_window {
        let (has, asked) = (has.duplicate_window, config.duplicate_window);
        let found = format!(
            "it recognises an Idempotency-Key for {has:?}, and MER_DUPLICATE_WINDOW_SECS asks for {asked:?}: \
             what is sent again later is stored twice"
        );
        faults.push(Finding::warn(EVENTS, found, edit(EVENTS, &format!("--dupe-window {}s", asked.as_secs()))));
    }
    let mut asked = has.clone();
    config.limits.apply(&mut asked);
    if asked != *has {
        let found = format!("its limits: {}; the settings ask for: {}", limits_of_log(has), limits_of_log(&asked));
        faults.push(Finding::warn(EVENTS, found, "mer changes them when it starts, if it may (STREAM.UPDATE)"));
    }
    if usize::try_from(has.max_message_size).is_ok_and(|limit| limit > 0 && limit < max_body_bytes) {
        let found = format!(
            "it takes messages of {} bytes, and MER_MAX_BODY_BYTES lets in {max_body_bytes}: larger ones are refused",
            has.max_message_size
        );
        faults.push(Finding::warn(EVENTS, found, edit(EVENTS, "--max-msg-size=-1")));
    }
    if has.allow_rollup {
        let found = "it allows roll-ups: every publisher may remove what was stored before";
        faults.push(Finding::warn(EVENTS, found, edit(EVENTS, "--no-allow-rollup")));
    }
    faults
}

/// For what mer removes none of, and nobody else should.
fn of_what_is_kept(has: &stream::Config) -> Vec<Finding> {
    let name = has.name.as_str();
    let removes = has.retention != RetentionPolicy::Limits || (is_limited(has) && has.discard == DiscardPolicy::Old);
    let found = "its limits or its retention remove messages that nobody has read";
    if removes { vec![Finding::warn(name, found, "take the limits off, or keep an eye on it")] } else { Vec::new() }
}

fn of_bucket(has: &stream::Config) -> Vec<Finding> {
    let name = has.name.as_str();
    let mut faults = Vec::new();
    if has.retention != RetentionPolicy::Limits || has.max_age > std::time::Duration::ZERO {
        let found = "what stands in it is removed after a while: URLs would be forgotten, or begin anew";
        faults.push(Finding::wrong(name, found, edit(name, "--max-age=0")));
    }
    if (has.max_bytes > 0 || has.max_messages > 0) && has.discard == DiscardPolicy::Old {
        let found = "its limits remove what is oldest: URLs would be forgotten, or begin anew";
        faults.push(Finding::wrong(name, found, edit(name, "--max-bytes=-1 --max-msgs=-1")));
    }
    if !has.allow_message_ttl {
        let found = "messages of it cannot expire: what marks a removed URL stays for ever";
        faults.push(Finding::warn(name, found, "mer puts it right when it starts, if it may (STREAM.UPDATE)"));
    }
    faults
}

fn of_leases(has: &stream::Config) -> Vec<Finding> {
    if has.allow_message_ttl && has.subject_delete_marker_ttl.is_some() {
        return Vec::new();
    }
    let found = "its keys cannot expire: nobody takes over from a dispatcher that has died";
    vec![Finding::wrong(
        has.name.as_str(),
        found,
        format!("stop mer, nats stream rm {}, and let mer make it", has.name),
    )]
}

/// Whether anything is ever removed from it by a limit.
pub(super) fn is_limited(has: &stream::Config) -> bool {
    has.max_age > std::time::Duration::ZERO || has.max_bytes > 0 || has.max_messages > 0
}

/// What its limits do, said of the log.
pub(super) fn limits_of_log(has: &stream::Config) -> String {
    let mut limits = Vec::new();
    if has.max_age > std::time::Duration::ZERO {
        limits.push(format!("events older than {:?} go", has.max_age));
    }
    let size = [(has.max_bytes, "bytes"), (has.max_messages, "events")];
    let size: Vec<String> =
        size.iter().filter(|(most, _)| *most > 0).map(|(most, of)| format!("{most} {of}")).collect();
    if !size.is_empty() {
        let then = match has.discard {
            DiscardPolicy::Old => "the oldest events go",
            DiscardPolicy::New => "posts are answered 503",
        };
        limits.push(format!("at {} {then}", size.join(" or ")));
    }
    if limits.is_empty() { "no limit but the disk's".to_owned() } else { limits.join("; ") }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::names::{LANES, LEASES};
    use crate::topology;
    use std::time::Duration;

    pub(in crate::check) fn config(replicas: usize) -> Config {
        Config {
            url: String::new(),
            credentials: crate::Credentials::None,
            tls: crate::Tls::default(),
            name: String::new(),
            replicas,
            duplicate_window: Duration::from_secs(120),
            keeps_log: true,
            limits: crate::Limits::default(),
            storage: crate::Storage::default(),
        }
    }

    fn bucket(name: &str) -> stream::Config {
        let config = stream::Config {
            name: format!("KV_{name}"),
            allow_direct: true,
            num_replicas: 1,
            ..stream::Config::default()
        };
        stream::Config { discard: DiscardPolicy::New, allow_message_ttl: true, ..config }
    }

    fn found(kind: Kind, has: &stream::Config, replicas: usize) -> Vec<(Level, String)> {
        judge(kind, has, &config(replicas), 1024).into_iter().map(|fault| (fault.level, fault.found)).collect()
    }

    #[test]
    fn what_mer_makes_is_as_it_should_be() {
        for replicas in [1, 3] {
            assert_eq!(found(Kind::Log, &topology::events_config(&config(replicas)), replicas), []);
        }
        assert_eq!(found(Kind::Bucket, &bucket(LANES), 1), []);
        let leases = stream::Config { subject_delete_marker_ttl: Some(Duration::from_secs(1)), ..bucket(LEASES) };
        assert_eq!(found(Kind::Leases, &leases, 1), []);
    }

    #[test]
    fn what_loses_events_is_wrong_and_what_bounds_mer_is_told() {
        let log = topology::events_config(&config(1));
        let of = |change: fn(&mut stream::Config)| {
            let mut has = log.clone();
            change(&mut has);
            found(Kind::Log, &has, 1)
        };
        type Case = (fn(&mut stream::Config), Level, &'static str);
        let cases: [Case; 11] = [
            (|has| has.storage = StorageType::Memory, Level::Wrong, "memory"),
            (|has| has.retention = RetentionPolicy::WorkQueue, Level::Wrong, "retention"),
            (|has| has.max_messages_per_subject = 5, Level::Wrong, "5 events of a type"),
            (|has| has.sealed = true, Level::Wrong, "sealed"),
            (|has| has.no_ack = true, Level::Wrong, "no_ack"),
            (|has| has.max_consumers = -1, Level::Warn, "1000 consumers"),
            (|has| has.max_consumers = 7, Level::Warn, "7 consumers"),
            (|has| has.duplicate_window = Duration::from_secs(2), Level::Warn, "for 2s"),
            (|has| has.allow_atomic_publish = false, Level::Warn, "batches"),
            (|has| has.max_message_size = 1000, Level::Warn, "1000 bytes"),
            (|has| has.subjects.clear(), Level::Warn, "events.>"),
        ];
        for (change, level, text) in cases {
            let faults = of(change);
            assert!(faults.len() == 1 && faults[0].0 == level && faults[0].1.contains(text), "{text}: {faults:?}");
        }
        assert_eq!(found(Kind::Log, &log, 3)[0].0, Level::Wrong, "one replica where three are asked for");
        assert_eq!(found(Kind::Aid, &stream::Config { name: "POSITIONS".to_owned(), ..log }, 3)[0].0, Level::Warn);
    }

    #[test]
    fn buckets_must_not_forget_and_leases_must_expire() {
        let aged = stream::Config { max_age: Duration::from_secs(1), ..bucket(LANES) };
        assert_eq!(found(Kind::Bucket, &aged, 1)[0].0, Level::Wrong);
        let small = stream::Config { max_bytes: 10, discard: DiscardPolicy::Old, ..bucket(LANES) };
        assert_eq!(found(Kind::Bucket, &small, 1)[0].0, Level::Wrong);
        assert_eq!(found(Kind::Leases, &bucket(LEASES), 1)[0].0, Level::Wrong);
    }

    #[test]
    fn limits_are_told_with_what_happens_at_them() {
        let mut log = topology::events_config(&config(1));
        assert_eq!(limits_of_log(&log), "no limit but the disk's");
        (log.max_age, log.max_bytes, log.discard) = (Duration::from_secs(60), 7, DiscardPolicy::New);
        assert_eq!(limits_of_log(&log), "events older than 60s go; at 7 bytes posts are answered 503");
        (log.max_age, log.max_messages, log.discard) = (Duration::ZERO, 8, DiscardPolicy::Old);
        assert_eq!(limits_of_log(&log), "at 7 bytes or 8 events the oldest events go");
    }
}
