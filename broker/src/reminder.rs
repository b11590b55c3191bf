//! What lasts is told when it begins and when it ends, and meanwhile once a minute; not each time that it is tried.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long the same is not told again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How many different things are told within that time.
const MOST: usize = 16;

/// What was told of one thing that may fail.
#[derive(Debug, Default)]
pub struct Reminder(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// What was told last, and when.
    at: Vec<(String, Instant)>,
    /// Whether it was told that it fails, and not that it works again.
    is_open: bool,
}

impl Reminder {
    /// It fails, for this reason: whether to tell of it now.
    pub fn fails(&self, why: impl Display) -> bool {
        let (why, now) = (why.to_string(), Instant::now());
        let mut told = self.told();
        told.at.retain(|(_, at)| now < *at + AGAIN_AFTER);
        if told.at.len() >= MOST || told.at.iter().any(|(before, _)| *before == why) {
            return false;
        }
        told.at.push((why, now));
        told.is_open = true;
        true
    }

    /// It works: whether to tell that it does again.
    pub fn works(&self) -> bool {
        std::mem::take(&mut self.told().is_open)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_told_once_a_minute_and_each_change_once() {
        let reminder = Reminder::default();
        assert!(!reminder.works(), "nothing was told");
        let mut told = Vec::new();
        for second in 0..130 {
            if reminder.fails("no answer") {
                told.push(second);
            }
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(told, [0, 60, 120]);
        assert!(reminder.fails("disk full"), "another reason");
        assert!(reminder.works() && !reminder.works());
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_and_goes_or_has_a_number_in_it_fills_no_log() {
        let (reminder, mut told) = (Reminder::default(), 0);
        for n in 0..1000 {
            told += usize::from(reminder.fails("no answer")) + usize::from(reminder.works());
            told += usize::from(reminder.fails(format!("failure {n}"))) + usize::from(reminder.works());
        }
        assert!(told <= 2 * MOST, "{told}");
    }
}
