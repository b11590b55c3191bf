//! The reserve: a file in the data folder that is given up when the disk is nearly full, so that positions can still be
//! written while events are refused.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const NAME: &str = "mer.reserve";
/// How much of it is written at a time.
const CHUNK: usize = 1024 * 1024;

fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// Whether it is there, whole.
pub(super) fn is_there(folder: &Path, bytes: u64) -> bool {
    std::fs::metadata(path(folder)).is_ok_and(|file| file.len() >= bytes)
}

/// Gives its room to others. A part of one goes, too.
pub(super) fn give_up(folder: &Path) -> io::Result<()> {
    match std::fs::remove_file(path(folder)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Takes the room. Where that fails, nothing is left of it.
pub(super) fn make(folder: &Path, bytes: u64) -> io::Result<()> {
    let made = write(folder, bytes);
    if made.is_err() {
        give_up(folder)?;
    }
    made
}

fn write(folder: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path(folder))?;
    let chunk = noise();
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        file.write_all(&chunk[..part])?;
        left -= part as u64;
    }
    Ok(())
}

/// What no file system can compress, or leave out as it does zeros.
fn noise() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..CHUNK / 8).flat_map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_room_and_gives_it_up() {
        let folder = std::env::temp_dir().join(format!("mer-reserve-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let bytes = CHUNK as u64 + 5;
        make(&folder, bytes).unwrap();
        assert!(is_there(&folder, bytes) && !is_there(&folder, bytes + 1));
        give_up(&folder).unwrap();
        give_up(&folder).unwrap();
        assert!(!is_there(&folder, bytes));
        std::fs::remove_dir(&folder).unwrap();
        assert!(make(&folder, bytes).is_err());
    }
}
