//! The disk under nats-server: how much is free of it, and what follows from that.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use broker::{Disk, DiskState};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::io::Errno;

const MIB: u64 = 1024 * 1024;
/// How large the reserve is at most: positions, leases and registrations take little.
const MOST_RESERVE: u64 = 16 * MIB;
/// A file that is written to see whether any can be.
const TRIAL: &str = "mer.trial";
/// What nats-server may use where nobody says how large the file system is. It takes 0 for "nothing".
const UNKNOWN_SIZE: u64 = 1024 * 1024 * MIB;
/// The least that it may use, by its own count: that takes what a stream may grow to (`POSITIONS`: 64 MiB) for used, and on a
/// small disk leaves nothing to the others.
const LEAST_STORE: u64 = 1024 * MIB;
/// The most that it can count. Some file systems in a network say that they are larger.
const MOST_STORE: u64 = i64::MAX as u64;

/// How large a file system is, and what is free of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) total_bytes: u64,
    /// What this user may still write; 0 where no file can be made any more.
    pub(crate) available_bytes: u64,
    pub(crate) is_read_only: bool,
    /// Whether writing fails for another reason than that, or for want of room.
    pub(crate) is_failing: bool,
}

impl Space {
    /// Of the file system that a folder is on.
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        let state = statvfs(folder)?;
        let has_files = state.f_files == 0 || state.f_favail > 0;
        let available = if has_files { state.f_bavail } else { 0 };
        Ok(Self {
            total_bytes: state.f_blocks.saturating_mul(state.f_frsize),
            available_bytes: available.saturating_mul(state.f_frsize),
            is_read_only: state.f_flag.contains(StatVfsMountFlags::RDONLY),
            is_failing: false,
        })
    }

    /// The same, after a small file was written there. A file system that the kernel has made read-only after an error may
    /// still say that it is not (ext4 of Linux 6.18 does so), and a quota is not in its numbers.
    pub(crate) fn tried(folder: &Path) -> io::Result<Self> {
        let space = Self::of(folder)?;
        let trial = folder.join(TRIAL);
        let tried = File::create(&trial).and_then(|mut file| file.write_all(TRIAL.as_bytes()));
        // The next one is to take new room, and not that of this one, which a quota has counted. If it is not removed, it is
        // written over.
        let _ = std::fs::remove_file(&trial);
        Ok(space.after_trial(tried))
    }

    fn after_trial(self, tried: io::Result<()>) -> Self {
        let Err(error) = tried else { return self };
        match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => Self { is_read_only: true, ..self },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self { available_bytes: 0, ..self },
            _ if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Self { is_failing: true, ..self },
            _ => self,
        }
    }

    /// Whether nothing can be written, however much is free.
    fn is_closed(&self) -> bool {
        self.is_read_only || self.is_failing
    }
}

/// How many free bytes mean what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Below it events are refused: the rest is left to positions, leases and registrations.
    pub(crate) refuse_below: u64,
    /// From it on events are taken again.
    pub(crate) take_from: u64,
    /// Below it the reserve is given up.
    pub(crate) give_up_below: u64,
    /// How large the reserve is.
    pub(crate) reserve: u64,
    /// Below it nats-server is not started: it would write half of its files.
    pub(crate) start_from: u64,
}

impl Marks {
    /// For a file system of this size. What is given up is less than what events need: so it is never they who take it.
    pub(crate) fn of(total_bytes: u64) -> Self {
        let refuse_below = (total_bytes / 32).clamp(16 * MIB, 512 * MIB).min(total_bytes / 8);
        Self {
            refuse_below,
            take_from: refuse_below + refuse_below / 2,
            give_up_below: refuse_below / 4,
            reserve: (refuse_below / 2).min(MOST_RESERVE),
            start_from: refuse_below / 8,
        }
    }

    /// How the disk is, after it was as `before`.
    pub(crate) fn state(&self, space: Space, before: DiskState) -> DiskState {
        let least = if before == DiskState::Full { self.take_from } else { self.refuse_below };
        match space {
            Space { is_read_only: true, .. } => DiskState::ReadOnly,
            Space { is_failing: true, .. } => DiskState::Failing,
            Space { available_bytes, .. } if available_bytes < least => DiskState::Full,
            Space { .. } => DiskState::Roomy,
        }
    }

    /// What to do with the reserve.
    pub(crate) fn reserve_step(&self, space: Space, is_there: bool, writes_fail: bool) -> ReserveStep {
        let available = space.available_bytes;
        if space.is_closed() || self.reserve == 0 {
            ReserveStep::Leave
        } else if is_there && (available < self.give_up_below || available < self.refuse_below && writes_fail) {
            ReserveStep::GiveUp
        } else if !is_there && !writes_fail && available >= self.take_from + self.reserve {
            ReserveStep::Make
        } else {
            ReserveStep::Leave
        }
    }

    /// For what there is room.
    pub(crate) fn room(&self, space: Space) -> Room {
        match space {
            _ if space.is_closed() => Room::None,
            Space { available_bytes, .. } if available_bytes < self.reserve / 2 => Room::None,
            Space { available_bytes, .. } if available_bytes < self.take_from => Room::ForPositions,
            Space { .. } => Room::ForEvents,
        }
    }

    pub(crate) fn told(&self, space: Space, state: DiskState) -> Disk {
        Disk {
            state,
            total_bytes: space.total_bytes,
            available_bytes: space.available_bytes,
            refuse_below_bytes: self.refuse_below,
        }
    }
}

/// What to do with the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReserveStep {
    Leave,
    GiveUp,
    Make,
}

/// For what a disk has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Room {
    None,
    /// What the reserve has left.
    ForPositions,
    ForEvents,
}

/// What nats-server may use: the whole file system, as mer itself watches what is free of it. nats-server's own default is
/// a part of what is free when it starts, which is nothing where it starts on a full disk.
pub(crate) fn max_file_store(total_bytes: u64) -> u64 {
    if total_bytes == 0 { UNKNOWN_SIZE } else { total_bytes.clamp(LEAST_STORE, MOST_STORE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(available_mib: u64) -> Space {
        Space { total_bytes: 400 * MIB, available_bytes: available_mib * MIB, is_read_only: false, is_failing: false }
    }

    #[test]
    fn what_is_given_up_never_lets_events_in() {
        for total in [1, MIB, 20 * MIB, 64 * MIB, 400 * MIB, 10_000 * MIB, 4_000_000 * MIB, u64::MAX / 2] {
            let marks = Marks::of(total);
            assert!(marks.give_up_below + marks.reserve <= marks.refuse_below, "{total}: {marks:?}");
            assert!(marks.take_from <= total && marks.refuse_below <= 512 * MIB, "{total}: {marks:?}");
        }
    }

    #[test]
    fn events_are_refused_before_the_disk_is_full_and_taken_again_a_little_later() {
        let marks = Marks::of(400 * MIB);
        assert_eq!((marks.refuse_below, marks.take_from), (16 * MIB, 24 * MIB));
        for (available, before, expected) in [
            (16, DiskState::Roomy, DiskState::Roomy),
            (15, DiskState::Roomy, DiskState::Full),
            (23, DiskState::Full, DiskState::Full),
            (24, DiskState::Full, DiskState::Roomy),
            (16, DiskState::ReadOnly, DiskState::Roomy),
        ] {
            assert_eq!(marks.state(space(available), before), expected, "{available} MiB, {before:?}");
        }
        let read_only = Space { is_read_only: true, ..space(300) };
        assert_eq!(marks.state(read_only, DiskState::Roomy), DiskState::ReadOnly);
        let failing = Space { is_failing: true, ..space(300) };
        assert_eq!(marks.state(failing, DiskState::Roomy), DiskState::Failing);
        assert_eq!(marks.room(failing), Room::None, "another start would not help");
    }

    #[test]
    fn the_reserve_is_given_up_first_and_made_again_when_there_is_room() {
        let marks = Marks::of(400 * MIB);
        for (available, is_there, writes_fail, expected) in [
            (100, true, false, ReserveStep::Leave),
            (5, true, false, ReserveStep::Leave),
            (5, true, true, ReserveStep::GiveUp),
            (3, true, false, ReserveStep::GiveUp),
            (100, true, true, ReserveStep::Leave),
            (0, false, true, ReserveStep::Leave),
            (31, false, false, ReserveStep::Leave),
            (32, false, false, ReserveStep::Make),
            (100, false, true, ReserveStep::Leave),
        ] {
            let step = marks.reserve_step(space(available), is_there, writes_fail);
            assert_eq!(step, expected, "{available} MiB, there: {is_there}, writes fail: {writes_fail}");
        }
        let read_only = Space { is_read_only: true, ..space(0) };
        assert_eq!(marks.reserve_step(read_only, true, true), ReserveStep::Leave);
    }

    #[test]
    fn what_the_reserve_leaves_is_room_for_positions() {
        let marks = Marks::of(400 * MIB);
        assert_eq!(
            [3, 8, 23, 24].map(|mib| marks.room(space(mib))),
            [Room::None, Room::ForPositions, Room::ForPositions, Room::ForEvents]
        );
        assert_eq!(marks.room(Space { is_read_only: true, ..space(300) }), Room::None);
    }

    #[test]
    fn what_a_small_file_shows_goes_before_what_the_file_system_says() {
        let after = |kind: io::ErrorKind| space(300).after_trial(Err(kind.into()));
        assert!(after(io::ErrorKind::ReadOnlyFilesystem).is_read_only);
        assert_eq!(after(io::ErrorKind::QuotaExceeded).available_bytes, 0);
        assert_eq!(after(io::ErrorKind::PermissionDenied), space(300), "that is no matter of the disk");
        assert_eq!(space(300).after_trial(Ok(())), space(300));
        let error = io::Error::from_raw_os_error(Errno::IO.raw_os_error());
        assert!(space(300).after_trial(Err(error)).is_failing, "as of a file system that was shut down after an error");
    }

    #[test]
    fn a_trial_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("mer-trial-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Space::tried(&folder).unwrap();
        // Or the next one would have its room, on a disk or under a quota that has none.
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn nats_server_may_use_the_disk_whatever_is_free_of_it() {
        assert_eq!(max_file_store(4000 * MIB), 4000 * MIB);
        assert!(max_file_store(0) > 0, "0 would let it store nothing");
        assert!(max_file_store(64 * MIB) > 64 * MIB + 64 * MIB, "it takes what POSITIONS may have for used");
        assert_eq!(max_file_store(u64::MAX), i64::MAX as u64, "it refuses to start with more");
    }
}
