//! The settings that bound the log.

use std::time::Duration;

use anyhow::ensure;
use broker::Limits;
use clap::{Args, ValueEnum};

/// The longest age, in seconds: a hundred years.
const MAX_AGE_SECS: u64 = 100 * 365 * 24 * 3600;

/// How much the log may hold. What is set is given to a stream that exists, too.
#[derive(Debug, Clone, Args)]
pub(crate) struct EventsLimits {
    /// How old events get, in seconds, before they are removed; 0: any age. If not said, the stream keeps what it has
    #[arg(long, env = "MER_EVENTS_MAX_AGE_SECS", value_parser = clap::value_parser!(u64).range(..=MAX_AGE_SECS))]
    events_max_age_secs: Option<u64>,

    /// How many bytes events may take, with their headers; 0: any number. If not said, the stream keeps what it has
    #[arg(long, env = "MER_EVENTS_MAX_BYTES", value_parser = clap::value_parser!(i64).range(0..))]
    events_max_bytes: Option<i64>,

    /// How many events there may be; 0: any number. If not said, the stream keeps what it has
    #[arg(long, env = "MER_EVENTS_MAX_COUNT", value_parser = clap::value_parser!(i64).range(0..))]
    events_max_count: Option<i64>,

    /// What happens when there are too many events, or bytes of them
    #[arg(long, env = "MER_EVENTS_DISCARD", value_enum)]
    events_discard: Option<Discard>,
}

/// What happens to an event for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Discard {
    /// It is stored, and the oldest ones are removed, delivered or not
    Old,
    /// It is refused: posts are answered 503
    New,
}

impl EventsLimits {
    /// Whether they can all hold at a time.
    pub(crate) fn check(&self, duplicate_window_secs: u64) -> anyhow::Result<()> {
        let age = self.events_max_age_secs.unwrap_or(0);
        ensure!(
            age == 0 || age >= duplicate_window_secs,
            "MER_EVENTS_MAX_AGE_SECS={age} is less than MER_DUPLICATE_WINDOW_SECS={duplicate_window_secs}: \
             an event that is gone cannot be recognised; raise the one or lower the other"
        );
        Ok(())
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_age: self.events_max_age_secs.map(Duration::from_secs),
            max_bytes: self.events_max_bytes,
            max_events: self.events_max_count,
            discard: self.events_discard.map(|discard| match discard {
                Discard::Old => broker::Discard::Old,
                Discard::New => broker::Discard::New,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};

    #[test]
    fn a_bad_limit_is_named() {
        let checked = |arguments: &[&str]| -> Result<(), String> {
            let command = EventsLimits::augment_args(Command::new("serve"));
            let matches = command.try_get_matches_from([&["serve"], arguments].concat());
            let limits = matches.and_then(|matches| EventsLimits::from_arg_matches(&matches));
            limits.map_err(|error| error.to_string())?.check(120).map_err(|error| error.to_string())
        };
        for (arguments, named) in [
            (["--events-max-age-secs", "soon"], "--events-max-age-secs"),
            (["--events-max-age-secs", "119"], "MER_EVENTS_MAX_AGE_SECS=119"),
            (["--events-max-bytes", "1GB"], "--events-max-bytes"),
            (["--events-max-bytes", "99999999999999999999"], "--events-max-bytes"),
            (["--events-max-count=-1", "--events-discard=old"], "--events-max-count"),
            (["--events-discard", "some"], "--events-discard"),
        ] {
            let error = checked(&arguments).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        assert_eq!(checked(&["--events-max-age-secs", "0", "--events-discard", "new"]), Ok(()));
        assert_eq!(checked(&["--events-max-age-secs", "120"]), Ok(()));
    }
}
