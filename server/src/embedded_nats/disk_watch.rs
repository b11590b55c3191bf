//! Looks at the disk under nats-server again and again, tells the broker how it is, and keeps the reserve.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::{DiskState, Reminder, Storage};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout};

use super::disk::{Marks, ReserveStep, Room, Space};
use super::reserve;
use super::restart::{Failing, Restarts};

/// How often a small file is written to see whether that is possible.
const TRY_EVERY: Duration = Duration::from_secs(5);
/// How long not to make the reserve, after it could not be made.
const MAKE_PAUSE: Duration = Duration::from_secs(60);
/// How long looking may take: a disk that hangs must not hang what watches it.
const DEADLINE: Duration = Duration::from_secs(2);

pub(super) struct DiskWatch {
    folder: PathBuf,
    storage: Storage,
    state: DiskState,
    restarts: Restarts,
    /// When a file was written last, to see whether that is possible.
    tried_at: Option<Instant>,
    /// When the reserve may be made, after it could not be.
    make_at: Option<Instant>,
    /// What was told of a reserve that cannot be made, or given up.
    reminder: Reminder,
    /// A look that has not come to its end.
    looking: Option<JoinHandle<io::Result<Look>>>,
}

/// What one look has found and done.
struct Look {
    space: Space,
    step: ReserveStep,
    /// What came of the step.
    done: io::Result<()>,
}

impl DiskWatch {
    pub(super) fn new(folder: PathBuf, storage: Storage) -> Self {
        Self {
            folder,
            storage,
            state: DiskState::Roomy,
            restarts: Restarts::default(),
            tried_at: None,
            make_at: None,
            reminder: Reminder::default(),
            looking: None,
        }
    }

    /// Looks, tells, and keeps the reserve, but makes none: nothing waits for that. `None`: nobody can tell how the disk is.
    pub(super) async fn look(&mut self) -> Option<(Space, Marks)> {
        self.look_and(false).await
    }

    async fn look_and(&mut self, may_make: bool) -> Option<(Space, Marks)> {
        let writes_fail = self.storage.failure().is_some();
        let (folder, now) = (self.folder.clone(), Instant::now());
        let may_make = may_make && self.make_at.is_none_or(|at| now >= at);
        let is_trial = self.state != DiskState::Roomy || self.tried_at.is_none_or(|at| now >= at + TRY_EVERY);
        if is_trial && self.looking.is_none() {
            self.tried_at = Some(now);
        }
        let looking =
            self.looking.get_or_insert_with(|| spawn_blocking(move || look(&folder, is_trial, may_make, writes_fail)));
        let looked = timeout(DEADLINE, looking).await.ok()?;
        self.looking = None;
        let Look { space, step, done } = match looked.ok()? {
            Ok(look) => look,
            Err(error) => {
                tracing::debug!(%error, folder = %self.folder.display(), "disk.not_seen");
                return None;
            }
        };
        match (step, done) {
            (ReserveStep::Leave, _) => {}
            (ReserveStep::GiveUp, Ok(())) => {
                tracing::warn!(available_bytes = space.available_bytes, "disk.reserve_given_up");
            }
            (ReserveStep::Make, Ok(())) => tracing::info!("disk.reserve_made"),
            (step, Err(error)) => {
                if step == ReserveStep::Make {
                    self.make_at = Some(Instant::now() + MAKE_PAUSE);
                }
                if self.reminder.fails(&error) {
                    tracing::warn!(%error, ?step, "disk.reserve_not_changed");
                }
            }
        }
        let marks = Marks::of(space.total_bytes);
        let before = self.state;
        self.state = marks.state(space, before);
        self.storage.disk_is(marks.told(space, self.state));
        if before != self.state {
            self.say(space);
        }
        Some((space, marks))
    }

    fn say(&self, space: Space) {
        let Space { total_bytes, available_bytes, .. } = space;
        match self.state {
            DiskState::Roomy => tracing::info!(total_bytes, available_bytes, "disk.has_room"),
            DiskState::Full => tracing::error!(total_bytes, available_bytes, "disk.full"),
            DiskState::ReadOnly => tracing::error!(folder = %self.folder.display(), "disk.read_only"),
            DiskState::Failing => tracing::error!(folder = %self.folder.display(), "disk.failing"),
        }
    }

    /// Whether nats-server is to be started anew, as the disk is now.
    pub(super) async fn asks_for_restart(&mut self) -> bool {
        let looked = self.look_and(true).await;
        let room = looked.map_or(Room::None, |(space, marks)| marks.room(space));
        let failing = self.storage.failure();
        let failing = failing.map(|failure| Failing { since: failure.since, is_of_disk: failure.is_of_disk() });
        self.restarts.is_due(Instant::now(), failing, self.state, room)
    }

    /// nats-server was started again: because writes failed, or because it had died.
    pub(super) fn started_again(&self, for_writes: bool) {
        self.storage.begins_anew(for_writes);
    }
}

fn look(folder: &Path, is_trial: bool, may_make: bool, writes_fail: bool) -> io::Result<Look> {
    let see = if is_trial { Space::tried } else { Space::of };
    let space = see(folder)?;
    let marks = Marks::of(space.total_bytes);
    let step = match marks.reserve_step(space, reserve::is_there(folder, marks.reserve), writes_fail) {
        ReserveStep::Make if !may_make => ReserveStep::Leave,
        step => step,
    };
    let done = match step {
        ReserveStep::Leave => Ok(()),
        ReserveStep::GiveUp => reserve::give_up(folder),
        ReserveStep::Make => reserve::make(folder, marks.reserve),
    };
    let space = if step == ReserveStep::Leave { space } else { see(folder)? };
    Ok(Look { space, step, done })
}
