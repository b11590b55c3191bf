//! Metadata for `nats server check stream` and `nats server check consumer`: what they check, without flags on the command
//! line. Only missing keys are added; what an operator has set stays.
//!
//! The keys are those of the NATS CLI (<https://github.com/nats-io/natscli>, "Stream and Consumer monitoring").

use std::collections::HashMap;

use async_nats::jetstream::stream;

/// What every key starts with.
const PREFIX: &str = "io.nats.monitor.";
/// By how many operations a replica may be behind, and how long it may be silent. It reports every second.
const PEER_LAG: &str = "1000";
const PEER_SEEN: &str = "10s";
/// How many events a URL may be behind. Its consumer shows its place up to 15 s late: with a lower number, a busy URL that
/// has caught up would look behind.
const UNPROCESSED: &str = "25000";

/// Adds what a stream lacks. With several replicas, that all of them are there and keep up.
pub(crate) fn complete_stream(config: &mut stream::Config) {
    let replicas = config.num_replicas;
    let mut wanted = vec![("enabled", "true".to_owned())];
    if replicas > 1 {
        // On a stream that has one copy, this would be taken for one that has lost the others.
        wanted.push(("peer-expect", replicas.to_string()));
        wanted.push(("peer-lag-critical", PEER_LAG.to_owned()));
        wanted.push(("peer-seen-critical", PEER_SEEN.to_owned()));
    }
    complete(&mut config.metadata, wanted);
}

/// Adds what a URL's consumer lacks; `had` is what the one before it had, of which an operator's settings stay.
///
/// Only how far it is behind: a lane that has caught up reads the tail of the log and not its consumer, so deliveries,
/// acknowledgements and waiting pulls of the consumer say nothing of it.
pub(crate) fn complete_consumer(metadata: &mut HashMap<String, String>, had: Option<&HashMap<String, String>>) {
    let set = had.into_iter().flatten().filter(|(key, _)| key.starts_with(PREFIX));
    metadata.extend(set.map(|(key, value)| (key.clone(), value.clone())));
    complete(metadata, [("enabled", "true".to_owned()), ("unprocessed-critical", UNPROCESSED.to_owned())]);
}

fn complete(metadata: &mut HashMap<String, String>, wanted: impl IntoIterator<Item = (&'static str, String)>) {
    for (key, value) in wanted {
        metadata.entry(format!("{PREFIX}{key}")).or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_added_and_peers_only_where_there_are_any() {
        let mut config = stream::Config { num_replicas: 1, ..stream::Config::default() };
        complete_stream(&mut config);
        assert_eq!(config.metadata, HashMap::from([("io.nats.monitor.enabled".to_owned(), "true".to_owned())]));
        config.num_replicas = 3;
        config.metadata.insert("io.nats.monitor.peer-lag-critical".to_owned(), "5".to_owned());
        complete_stream(&mut config);
        assert_eq!(config.metadata["io.nats.monitor.peer-expect"], "3");
        assert_eq!(config.metadata["io.nats.monitor.peer-lag-critical"], "5");
        let once = config.clone();
        complete_stream(&mut config);
        assert_eq!(config, once);
    }

    #[test]
    fn what_an_operator_set_on_a_consumer_is_carried_over_and_nothing_else() {
        let of = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let mut metadata = of(&[("mer.epoch", "new")]);
        let had = of(&[("mer.epoch", "old"), ("io.nats.monitor.enabled", "false"), ("another", "thing")]);
        complete_consumer(&mut metadata, Some(&had));
        let expected = [
            ("mer.epoch", "new"),
            ("io.nats.monitor.enabled", "false"),
            ("io.nats.monitor.unprocessed-critical", UNPROCESSED),
        ];
        assert_eq!(metadata, of(&expected));
    }
}
