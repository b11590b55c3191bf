//! The disk of the embedded nats-server: what is free of it, and how long that lasts.

use std::path::Path;
use std::time::{Duration, SystemTime};

use broker::check::Finding;

use crate::embedded_nats::disk::{Marks, Space};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Over how long growth is measured, at most and at least.
const WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);
const LEAST_WINDOW: Duration = Duration::from_secs(3600);
/// Below how much of the disk, or within how many days, it is told that it is nearly full.
const NEARLY_FULL_PERCENT: u64 = 10;
const NEARLY_FULL_DAYS: u64 = 7;
/// Where nats-server keeps the log, below the data folder.
const LOG_FILES: &str = "jetstream/jetstream/$G/streams/EVENTS/msgs";
/// How many of its files are looked at.
const MAX_FILES: usize = 1_000_000;
const MIB: u64 = 1024 * 1024;

/// A file of the log: its number, its size, and when it was last written.
#[derive(Debug, Clone, Copy)]
struct LogFile {
    number: u64,
    bytes: u64,
    written: SystemTime,
}

/// What is free below a folder that is there; `data` is the data folder, there or not.
pub(super) fn look(nearest: &Path, data: &Path) -> Option<Finding> {
    let space = Space::of(nearest).ok()?;
    let growth = growth_per_day(&log_files(&data.join(LOG_FILES)), SystemTime::now());
    Some(judge(&format!("disk of {}", data.display()), space, growth))
}

fn log_files(folder: &Path) -> Vec<LogFile> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_FILES);
    let file = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let number = name.to_str()?.strip_suffix(".blk")?.parse().ok()?;
        let metadata = entry.metadata().ok()?;
        Some(LogFile { number, bytes: metadata.len(), written: metadata.modified().ok()? })
    };
    entries.filter_map(file).collect()
}

/// How much the log grows, in bytes a day. `None`: it cannot be told, as it is too young, or its beginning is removed as it
/// grows (a limit).
fn growth_per_day(files: &[LogFile], now: SystemTime) -> Option<u64> {
    if !files.iter().any(|file| file.number == 1) {
        return None;
    }
    let age = |file: &LogFile| now.duration_since(file.written).unwrap_or_default();
    let over = files.iter().map(age).max()?.min(WINDOW);
    if over < LEAST_WINDOW {
        return None;
    }
    let bytes: u64 = files.iter().filter(|file| age(file) < over).map(|file| file.bytes).sum();
    u64::try_from(u128::from(bytes) * DAY.as_millis() / over.as_millis()).ok()
}

fn judge(what: &str, space: Space, growth_per_day: Option<u64>) -> Finding {
    let Space { total_bytes, available_bytes, is_read_only, .. } = space;
    let marks = Marks::of(total_bytes);
    if is_read_only {
        let mend = "look into the kernel's log, mend the file system, and mount it so that it can be written";
        return Finding::wrong(what, "the file system is read-only: nothing can be stored", mend);
    }
    let mend = "make room, give the log a limit (MER_EVENTS_MAX_AGE_SECS, MER_EVENTS_MAX_BYTES), or get a larger disk";
    let percent = available_bytes.saturating_mul(100).checked_div(total_bytes).unwrap_or(100);
    let free = format!("{} of {} MiB are free ({percent} %)", available_bytes / MIB, total_bytes / MIB);
    if available_bytes < marks.refuse_below {
        let found = format!("{free}; below {} MiB events are refused with 503", marks.refuse_below / MIB);
        return Finding::wrong(what, found, mend);
    }
    let days = growth_per_day.filter(|bytes| *bytes > 0).map(|bytes| (available_bytes - marks.refuse_below) / bytes);
    let found = match (days, growth_per_day) {
        (Some(days), Some(bytes)) => {
            format!("{free}; the log grows by {} MiB a day: events are refused in {days} days", bytes / MIB)
        }
        _ => free,
    };
    if percent < NEARLY_FULL_PERCENT || days.is_some_and(|days| days < NEARLY_FULL_DAYS) {
        Finding::warn(what, found, mend)
    } else {
        Finding::ok(what, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::check::Level;

    fn space(available_mib: u64) -> Space {
        Space {
            total_bytes: 100_000 * MIB,
            available_bytes: available_mib * MIB,
            is_read_only: false,
            is_failing: false,
        }
    }

    #[test]
    fn a_disk_is_judged_by_what_is_free_and_by_how_long_that_lasts() {
        let level = |space, growth: Option<u64>| judge("disk", space, growth.map(|mib| mib * MIB)).level;
        assert_eq!(level(space(50_000), None), Level::Ok);
        assert_eq!(level(space(50_000), Some(0)), Level::Ok);
        assert_eq!(level(space(50_000), Some(1_000)), Level::Ok, "for 49 days");
        assert_eq!(level(space(50_000), Some(10_000)), Level::Warn, "for 4 days");
        assert_eq!(level(space(9_000), None), Level::Warn);
        assert_eq!(level(space(500), None), Level::Wrong, "events are refused");
        assert_eq!(level(Space { is_read_only: true, ..space(50_000) }, None), Level::Wrong);
        let found = judge("disk", space(50_512), Some(10_000 * MIB)).found;
        assert!(found.contains("grows by 10000 MiB a day") && found.contains("in 5 days"), "{found}");
    }

    #[test]
    fn growth_is_what_was_written_within_a_week_where_nothing_is_removed_meanwhile() {
        let now = SystemTime::UNIX_EPOCH + 1_000 * DAY;
        let file =
            |number, days_ago: u32, mib: u64| LogFile { number, bytes: mib * MIB, written: now - DAY * days_ago };
        let growth = |files: &[LogFile]| growth_per_day(files, now).map(|bytes| bytes / MIB);
        assert_eq!(growth(&[]), None);
        assert_eq!(growth(&[file(1, 0, 8)]), None, "it has just begun");
        assert_eq!(growth(&[file(1, 2, 8), file(2, 1, 8), file(3, 0, 4)]), Some(6), "12 MiB in two days");
        assert_eq!(growth(&[file(1, 30, 8), file(2, 20, 8), file(3, 6, 14), file(4, 1, 7)]), Some(3), "21 in seven");
        assert_eq!(growth(&[file(7, 2, 8), file(8, 1, 8)]), None, "the beginning was removed");
    }
}
