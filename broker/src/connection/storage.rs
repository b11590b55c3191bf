//! Whether what is to be stored can be: what the last writes tell, and what mer sees of the disk where it started nats-server
//! itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::connection::write_health::{Failure, Outcome, WriteHealth};
use crate::error::Unavailable;

const NOT_READY: &str = "NATS is not ready";
const NO_EVENTS: &str = "no events are taken";

/// How the disk under nats-server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskState {
    /// Events may be stored.
    Roomy,
    /// So little is free that events are refused.
    Full,
    /// Nothing can be written.
    ReadOnly,
    /// Writing fails, for another reason than these.
    Failing,
}

/// What is known of the disk under nats-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// How it is.
    pub state: DiskState,
    /// How large the file system is.
    pub total_bytes: u64,
    /// How much of it is free.
    pub available_bytes: u64,
    /// Below how many free bytes events are refused.
    pub refuse_below_bytes: u64,
}

impl Disk {
    /// Why no events can be stored there; `None` where they can.
    fn refusal(&self) -> Option<String> {
        const MIB: u64 = 1024 * 1024;
        match self.state {
            DiskState::Roomy => None,
            DiskState::Full => Some(format!(
                "disk full: {} of {} MiB are free, and events are refused below {} MiB",
                self.available_bytes / MIB,
                self.total_bytes / MIB,
                self.refuse_below_bytes / MIB
            )),
            DiskState::ReadOnly => Some("read-only file system: nothing can be written to the data folder".to_owned()),
            DiskState::Failing => Some("disk error: nothing can be written to the data folder".to_owned()),
        }
    }
}

/// Whether what is to be stored can be. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Storage(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    health: Mutex<WriteHealth>,
    disk: Mutex<Option<Disk>>,
    /// Why nats-server cannot be started, before its disk was seen.
    no_start: Mutex<Option<String>>,
    /// Of these two, what every post asks.
    refuses: AtomicBool,
    has_failed: AtomicBool,
    restarts: AtomicU64,
}

impl Storage {
    /// Tells how the disk under nats-server is.
    pub fn disk_is(&self, disk: Disk) {
        *lock(&self.0.disk) = Some(disk);
        self.0.refuses.store(disk.state != DiskState::Roomy, Ordering::Relaxed);
    }

    /// How the disk under nats-server is, where that is known.
    pub fn disk(&self) -> Option<Disk> {
        *lock(&self.0.disk)
    }

    /// What fails, and since when.
    pub fn failure(&self) -> Option<Failure> {
        lock(&self.0.health).failure(Instant::now())
    }

    /// nats-server was started anew, because writes failed or because it had died: what came of earlier writes says nothing
    /// any more.
    pub fn begins_anew(&self, for_writes: bool) {
        lock(&self.0.health).begin_anew();
        self.0.has_failed.store(false, Ordering::Relaxed);
        self.0.restarts.fetch_add(u64::from(for_writes), Ordering::Relaxed);
    }

    /// nats-server cannot be started, for a reason that lies in the disk.
    pub fn cannot_start(&self, why: impl ToString) {
        *lock(&self.0.no_start) = Some(why.to_string());
    }

    /// How often nats-server was started anew because writes failed.
    pub(crate) fn restarts(&self) -> u64 {
        self.0.restarts.load(Ordering::Relaxed)
    }

    /// Whether writes fail, or may soon, because the disk has no room or cannot be written.
    pub fn is_short_of_room(&self) -> bool {
        !self.has_room() || self.failure().is_some_and(|failure| failure.is_of_disk())
    }

    /// Whether there is room for events.
    pub(crate) fn has_room(&self) -> bool {
        !self.0.refuses.load(Ordering::Relaxed)
    }

    /// Refuses events where the disk has no room for them: it is left to what must be written of those that are there.
    pub(crate) fn takes_events(&self) -> Result<(), Unavailable> {
        if self.has_room() {
            return Ok(());
        }
        match self.refusal() {
            Some(why) => Err(Unavailable::new(NO_EVENTS, why)),
            None => Ok(()),
        }
    }

    /// Why events are refused, or nothing can be stored, by the disk alone.
    pub fn refusal(&self) -> Option<String> {
        match self.disk() {
            Some(disk) => disk.refusal(),
            None => lock(&self.0.no_start).clone(),
        }
    }

    /// Takes in what came of a post that began then.
    pub(crate) fn posted(&self, outcome: Outcome, began: Instant) {
        if outcome != Outcome::Written || self.0.has_failed.load(Ordering::Relaxed) {
            self.note(|health| health.posted(outcome, began));
        }
    }

    /// Takes in what came of a probe that began then.
    pub(crate) fn probed(&self, outcome: Outcome, began: Instant) {
        self.note(|health| health.probed(outcome, began));
    }

    fn note(&self, note: impl FnOnce(&mut WriteHealth)) {
        let mut health = lock(&self.0.health);
        note(&mut health);
        self.0.has_failed.store(health.has_failed(), Ordering::Relaxed);
    }

    /// Whether writes succeed, as far as anybody knows; the error says why not.
    pub(crate) fn check(&self) -> Result<(), Unavailable> {
        if let Some(why) = self.refusal() {
            return Err(Unavailable::new(NOT_READY, why));
        }
        match lock(&self.0.health).not_ready(Instant::now()) {
            Some(cause) => Err(Unavailable::new(NOT_READY, cause)),
            None => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::write_health::Cause;

    #[test]
    fn events_are_refused_while_the_disk_has_no_room_for_them_and_the_detail_says_so() {
        let storage = Storage::default();
        assert!(storage.takes_events().is_ok() && storage.check().is_ok(), "nothing is known of the disk");
        let disk =
            |state| Disk { state, total_bytes: 400 << 20, available_bytes: 7 << 20, refuse_below_bytes: 16 << 20 };
        for (state, words) in [
            (DiskState::Full, "disk full: 7 of 400 MiB"),
            (DiskState::ReadOnly, "read-only file system"),
            (DiskState::Failing, "disk error"),
        ] {
            storage.disk_is(disk(state));
            let (post, ready) = (storage.takes_events().unwrap_err(), storage.check().unwrap_err());
            assert!(post.to_string().contains(words) && ready.to_string().contains(words), "{post}; {ready}");
        }
        storage.disk_is(disk(DiskState::Roomy));
        assert!(storage.takes_events().is_ok() && storage.check().is_ok());
    }

    #[test]
    fn a_post_that_is_stored_ends_what_failed_before() {
        let storage = Storage::default();
        storage.posted(Outcome::Failed(Cause::DiskFull), Instant::now());
        assert!(storage.check().unwrap_err().to_string().contains("disk full") && storage.failure().is_some());
        storage.posted(Outcome::Written, Instant::now());
        assert!(storage.check().is_ok() && storage.failure().is_none());
    }
}
