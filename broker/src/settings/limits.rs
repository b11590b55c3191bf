//! The limits of the log, where the settings name them.

use std::time::Duration;

use async_nats::jetstream::stream::{self, DiscardPolicy};

/// What happens to an event for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// It is stored, and the oldest events are removed, delivered or not.
    Old,
    /// It is refused.
    New,
}

/// How much the log may hold. `None`: a log that exists keeps what it has, and a new one has no such limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// The greatest age of an event; zero: any age.
    pub max_age: Option<Duration>,
    /// How many bytes the events may take; 0: any number.
    pub max_bytes: Option<i64>,
    /// How many events there may be; 0: any number.
    pub max_events: Option<i64>,
    /// What happens at `max_bytes` or `max_events`.
    pub discard: Option<Discard>,
}

impl Limits {
    /// Applies the limits to a stream's configuration.
    pub(crate) fn apply(&self, config: &mut stream::Config) {
        // -1 means any number to nats-server.
        let or_any = |limit: i64| if limit == 0 { -1 } else { limit };
        if let Some(age) = self.max_age {
            config.max_age = age;
            if age > Duration::ZERO {
                // nats-server allows no longer window than the greatest age.
                config.duplicate_window = config.duplicate_window.min(age);
            }
        }
        config.max_bytes = self.max_bytes.map_or(config.max_bytes, or_any);
        config.max_messages = self.max_events.map_or(config.max_messages, or_any);
        match self.discard {
            Some(Discard::Old) => config.discard = DiscardPolicy::Old,
            Some(Discard::New) => config.discard = DiscardPolicy::New,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_is_changed() {
        let had = stream::Config {
            max_age: Duration::from_secs(60),
            max_bytes: 10,
            max_messages: 20,
            duplicate_window: Duration::from_secs(60),
            ..stream::Config::default()
        };
        let applied = |limits: Limits| {
            let mut config = had.clone();
            limits.apply(&mut config);
            config
        };
        assert_eq!(applied(Limits::default()), had);
        let short = applied(Limits { max_age: Some(Duration::from_secs(5)), ..Limits::default() });
        assert_eq!((short.max_age, short.duplicate_window), (Duration::from_secs(5), Duration::from_secs(5)));
        let any = applied(Limits { max_age: Some(Duration::ZERO), max_bytes: Some(0), ..Limits::default() });
        assert_eq!((any.max_age, any.max_bytes, any.duplicate_window), (Duration::ZERO, -1, had.duplicate_window));
        let new = applied(Limits { max_events: Some(5), discard: Some(Discard::New), ..Limits::default() });
        assert_eq!((new.max_messages, new.max_bytes, new.discard), (5, 10, DiscardPolicy::New));
    }
}
