//! What came to the URLs of one measurement, and whether it is what should have come, in order.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::{Instant, sleep};

use crate::clock;

/// How many faults of a URL are kept: the first ones.
const MAX_FAULTS: usize = 5;
/// How long to wait for more to come.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(2);

/// The URLs of one measurement, by index.
pub(crate) struct Arrivals {
    tracks: Vec<Mutex<Track>>,
    events: AtomicUsize,
    requests: AtomicUsize,
    last_at: AtomicU64,
}

/// An event that came for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) sequence: u64,
    /// When, in microseconds.
    pub(crate) at: u64,
    /// When it was to be sent, by what it carries.
    pub(crate) sent_at: u64,
}

/// What came to one URL.
#[derive(Debug, Default)]
struct Track {
    came: Vec<Arrival>,
    duplicates: usize,
    faults: Vec<String>,
}

impl Track {
    /// Takes in an event that says which one came here before it. Answers whether it came for the first time.
    fn take(&mut self, arrival: Arrival, previous: u64) -> bool {
        let latest = self.came.last().map_or(0, |arrival| arrival.sequence);
        let sequence = arrival.sequence;
        if sequence <= latest {
            match self.came.binary_search_by_key(&sequence, |arrival| arrival.sequence) {
                Ok(_) => self.duplicates += 1,
                Err(_) => self.fault(format!("event {sequence} came for the first time after event {latest}")),
            }
            return false;
        }
        if previous != latest {
            self.fault(format!("event {sequence} says that {previous} came before it, and it was {latest}"));
        }
        self.came.push(arrival);
        true
    }

    fn fault(&mut self, text: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(text);
        }
    }

    /// Compares with the sequences that should have come, ascending.
    fn compare(&self, expected: &[u64]) -> Vec<String> {
        let mut faults = self.faults.clone();
        let (mut came, mut wanted) = (self.came.iter().map(|arrival| arrival.sequence).peekable(), expected.iter());
        for wanted in wanted.by_ref() {
            while let Some(phantom) = came.next_if(|sequence| sequence < wanted) {
                faults.push(format!("event {phantom} came, and nobody posted it"));
            }
            if came.next_if_eq(wanted).is_none() {
                faults.push(format!("event {wanted} is missing"));
            }
        }
        faults.extend(came.map(|phantom| format!("event {phantom} came, and nobody posted it")));
        faults
    }
}

impl Arrivals {
    /// For so many URLs.
    pub(crate) fn new(urls: usize) -> Self {
        Self {
            tracks: (0..urls).map(|_| Mutex::default()).collect(),
            events: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            last_at: AtomicU64::new(0),
        }
    }

    /// Takes in a request to a URL, with its events: each with the one that came before it.
    pub(crate) fn take(&self, url: usize, events: impl IntoIterator<Item = (Arrival, u64)>) {
        let Some(track) = self.tracks.get(url) else { return };
        let mut track = track.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = 0;
        for (arrival, previous) in events {
            new += usize::from(track.take(arrival, previous));
            self.last_at.fetch_max(arrival.at, Ordering::Relaxed);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(new, Ordering::Release);
    }

    /// Notes that something came which cannot be read.
    pub(crate) fn take_unreadable(&self, url: usize, why: String) {
        if let Some(track) = self.tracks.get(url) {
            track.lock().unwrap_or_else(PoisonError::into_inner).fault(why);
        }
    }

    /// Waits until exactly these events, ascending, have come to each URL, in order. Answers how many came again; fails,
    /// and names the first faults, where something else came, or nothing more does.
    pub(crate) async fn until(&self, expected: &[u64]) -> anyhow::Result<usize> {
        let wanted = self.tracks.len() * expected.len();
        let (mut came, mut since) = (0, Instant::now());
        loop {
            let now = self.events.load(Ordering::Acquire);
            if now >= wanted || since.elapsed() > PATIENCE {
                return self.check(expected).with_context(|| format!("{now} of {wanted} events came"));
            }
            if now > came {
                (came, since) = (now, Instant::now());
            }
            sleep(POLL).await;
        }
    }

    /// The same of what has come by now.
    pub(crate) fn check(&self, expected: &[u64]) -> anyhow::Result<usize> {
        let faults = self.faults(|track| track.compare(expected));
        let shown = faults.len().min(MAX_FAULTS);
        ensure!(faults.is_empty(), "{} faults: {}", faults.len(), faults[..shown].join("; "));
        Ok(self.each(|track| track.duplicates).sum())
    }

    fn faults(&self, of: impl Fn(&Track) -> Vec<String>) -> Vec<String> {
        let named =
            |(url, faults): (usize, Vec<String>)| faults.into_iter().map(move |fault| format!("URL {url}: {fault}"));
        self.each(of).enumerate().flat_map(named).collect()
    }

    fn each<T>(&self, of: impl Fn(&Track) -> T) -> impl Iterator<Item = T> {
        self.tracks.iter().map(move |track| of(&track.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Events a second, from the first to the last.
    pub(crate) fn rate(&self) -> f64 {
        let first_at = self.each(|track| track.came.first().map_or(u64::MAX, |arrival| arrival.at)).min();
        let micros = self.last_at().saturating_sub(first_at.unwrap_or(0)).max(1);
        clock::per_second(self.events.load(Ordering::Acquire), Duration::from_micros(micros))
    }

    /// When the last event came, in microseconds.
    pub(crate) fn last_at(&self) -> u64 {
        self.last_at.load(Ordering::Acquire)
    }

    /// Events in a request.
    pub(crate) fn events_per_request(&self) -> f64 {
        self.events.load(Ordering::Acquire) as f64 / self.requests.load(Ordering::Acquire).max(1) as f64
    }

    /// From when an event was to be sent to when it came, in microseconds, of all that were to be sent since then.
    pub(crate) fn latencies_since(&self, micros: u64) -> Vec<u64> {
        let of = |track: &Track| -> Vec<u64> {
            let since = track.came.iter().filter(|arrival| arrival.sent_at >= micros);
            since.map(|arrival| arrival.at.saturating_sub(arrival.sent_at)).collect()
        };
        self.each(of).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found where events 1 to 4 should have come.
    fn found(came: &[(u64, u64)]) -> Result<usize, String> {
        let arrivals = Arrivals::new(1);
        for (sequence, previous) in came {
            arrivals.take(0, [(Arrival { sequence: *sequence, at: 0, sent_at: 0 }, *previous)]);
        }
        arrivals.check(&[1, 2, 3, 4]).map_err(|error| error.to_string())
    }

    #[test]
    fn what_came_in_order_is_good_and_duplicates_are_counted() {
        assert_eq!(found(&[(1, 0), (2, 1), (3, 2), (4, 3)]), Ok(0));
        assert_eq!(found(&[(1, 0), (2, 1), (2, 1), (3, 2), (1, 0), (4, 3)]), Ok(2));
    }

    #[test]
    fn a_swapped_a_missing_and_a_phantom_event_are_named() {
        let swapped = found(&[(1, 0), (3, 2), (2, 1), (4, 3)]).unwrap_err();
        assert!(swapped.contains("event 2 came for the first time after event 3"), "{swapped}");
        let missing = found(&[(1, 0), (3, 1), (4, 3)]).unwrap_err();
        assert_eq!(missing, "1 faults: URL 0: event 2 is missing");
        let passed_over = found(&[(1, 0), (3, 2), (4, 3)]).unwrap_err();
        assert!(passed_over.contains("event 3 says that 2 came before it, and it was 1"), "{passed_over}");
        let last = found(&[(1, 0), (2, 1), (3, 2)]).unwrap_err();
        assert!(last.contains("event 4 is missing"), "{last}");
        let phantom = found(&[(1, 0), (2, 1), (3, 2), (4, 3), (9, 4)]).unwrap_err();
        assert!(phantom.contains("event 9 came, and nobody posted it"), "{phantom}");
    }

    #[test]
    fn a_wrong_word_about_the_event_before_is_a_fault() {
        assert!(found(&[(1, 0), (2, 0), (3, 2), (4, 3)]).is_err());
    }
}
