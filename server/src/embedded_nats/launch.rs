//! Starting the process of nats-server, and waiting until it listens: not for ever, and with the reason where it does not.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::disk::{self, Marks, Space};
use super::{POLL, log_of};

/// How often to say that a nats-server does not listen yet: it reads its streams first.
const PATIENCE_NOTE: Duration = Duration::from_secs(10);
/// How long the file with its ports may say nothing: it is written at once.
const PORTS_PATIENCE: Duration = Duration::from_secs(5);

/// Why nats-server was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// There is no room for its files.
    #[error("disk full: there is no room in the data folder {} ({available_bytes} bytes are free): make room", folder.display())]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// What is free there.
        available_bytes: u64,
    },
    /// Its files cannot be written.
    #[error("read-only file system: nothing can be written to the data folder {}", .0.display())]
    ReadOnly(PathBuf),
    /// Writing its files fails.
    #[error("disk error: nothing can be written to the data folder {}", .0.display())]
    DiskFails(PathBuf),
    /// It listens, and does not say where.
    #[error("nats-server wrote no port into its file of ports in {}: was its disk full, or is it no nats-server?", .0.display())]
    NoPorts(PathBuf),
    /// It ended.
    #[error("nats-server ended with {} before it listened: see {}", .0, .1.display())]
    Ended(ExitStatus, PathBuf),
    /// It takes too long.
    #[error(
        "nats-server did not listen within {} s: see {}; where it has many files to read, give it longer with \
         MER_NATS_START_SECS", .0.as_secs(), .1.display()
    )]
    TooLong(Duration, PathBuf),
    /// A file cannot be read or written, or the process not be started.
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

impl StartError {
    /// Whether it goes when the disk is mended.
    pub(crate) fn is_of_disk(&self) -> bool {
        matches!(self, Self::NoRoom { .. } | Self::ReadOnly(_) | Self::DiskFails(_))
    }

    /// Whether the same may work now: a disk that was full for a moment shows in nothing else.
    pub(crate) fn may_be_of_disk(&self) -> bool {
        matches!(self, Self::NoPorts(_))
    }

    /// What an error of the operating system means.
    pub(super) fn of_io(what: impl Into<String>, error: io::Error, folder: &Path) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoRoom { folder: folder.to_owned(), available_bytes: 0 }
            }
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(folder.to_owned()),
            _ => Self::Io(what.into(), error),
        }
    }
}

#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

/// What a nats-server is started with.
pub(super) struct Launch<'a> {
    pub(super) binary: &'a Path,
    pub(super) folder: &'a Path,
    /// What keeps others out of the folder.
    pub(super) lock: &'a File,
    /// Where it listens; `None`: on any free port.
    pub(super) port: Option<u16>,
    /// How long it may take to listen.
    pub(super) patience: Duration,
}

impl Launch<'_> {
    /// Starts the process and waits until it listens. Answers with its port.
    pub(super) async fn run(&self) -> Result<(Child, u16), StartError> {
        let Self { binary, folder, lock, port, .. } = self;
        // Where nobody can tell, nats-server will.
        let space = Space::tried(folder).ok();
        if let Some(error) = space.and_then(|space| no_start(folder, space)) {
            return Err(error);
        }
        let max_store = disk::max_file_store(space.map_or(0, |space| space.total_bytes));
        let config = folder.join("nats-server.conf");
        let io = |what: &str, path: &Path| {
            let what = format!("{what} {}", path.display());
            move |error| StartError::of_io(what, error, folder)
        };
        std::fs::write(&config, configuration(folder, *port, max_store)).map_err(io("writing", &config))?;
        remove_ports_files(folder).map_err(io("clearing", folder))?;
        let mut command = Command::new(binary);
        command
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::from(lock.try_clone().map_err(io("sharing the lock of", folder))?))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Ctrl-C reaches the whole group of a terminal; nats-server has to outlive the roles that use it.
        command.process_group(0).kill_on_drop(true);
        die_with_parent(&mut command);
        let mut child = command.spawn().map_err(io("starting", binary))?;
        match self.until_it_listens(&mut child).await {
            Ok(port) => Ok((child, port)),
            Err(error) => {
                // Before another one writes the same files. Where it has ended, there is nothing to kill.
                let _ = child.kill().await;
                Err(self.by_the_disk(error))
            }
        }
    }

    async fn until_it_listens(&self, child: &mut Child) -> Result<u16, StartError> {
        let folder = self.folder;
        let io = |error| StartError::of_io(format!("looking into {}", folder.display()), error, folder);
        let began = Instant::now();
        let (mut next_note, mut silent_since) = (began + PATIENCE_NOTE, None);
        loop {
            if let Some(status) = child.try_wait().map_err(io)? {
                return Err(StartError::Ended(status, log_of(folder)));
            }
            let files = ports_files(folder).map_err(io)?;
            if let Some(port) = files.iter().find_map(|file| read_port(file)) {
                return Ok(port);
            }
            let now = Instant::now();
            if !files.is_empty() && now >= *silent_since.get_or_insert(now) + PORTS_PATIENCE {
                return Err(StartError::NoPorts(folder.to_owned()));
            }
            if now >= began + self.patience {
                return Err(StartError::TooLong(self.patience, log_of(folder)));
            }
            if now > next_note {
                tracing::info!(log = %log_of(folder).display(), "nats_server.still_starting");
                next_note += PATIENCE_NOTE;
            }
            sleep(POLL).await;
        }
    }

    /// The disk where it is the cause of an error that does not say so.
    fn by_the_disk(&self, error: StartError) -> StartError {
        let space = Space::tried(self.folder).ok().filter(|_| !error.is_of_disk());
        space.and_then(|space| no_start(self.folder, space)).unwrap_or(error)
    }
}

/// Why nothing is started on such a disk; `None`: it can be.
fn no_start(folder: &Path, space: Space) -> Option<StartError> {
    let available_bytes = space.available_bytes;
    if space.is_read_only {
        Some(StartError::ReadOnly(folder.to_owned()))
    } else if space.is_failing {
        Some(StartError::DiskFails(folder.to_owned()))
    } else if available_bytes < Marks::of(space.total_bytes).start_from {
        Some(StartError::NoRoom { folder: folder.to_owned(), available_bytes })
    } else {
        None
    }
}

/// One that an earlier server left, which was killed, may name another port.
fn remove_ports_files(folder: &Path) -> io::Result<()> {
    ports_files(folder)?.into_iter().try_for_each(std::fs::remove_file)
}

/// Where nats-server writes on which ports it listens. The file is named after its program and its process id, which are not
/// those that were started where that is a script, as version managers make it.
fn ports_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let is_ports = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "ports");
    paths.filter(|path| path.as_ref().map_or(true, is_ports)).collect()
}

fn read_port(file: &Path) -> Option<u16> {
    let ports: Ports = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    ports.nats.first()?.rsplit_once(':')?.1.parse().ok()
}

/// `always`: what is acknowledged is on disk. Old logs go: nats-server keeps all of them if nothing is said. A larger `max_payload`, so that a body of the full limit still has room
/// for headers.
fn configuration(folder: &Path, port: Option<u16>, max_store: u64) -> String {
    let quoted = |path: PathBuf| serde_json::Value::from(path.to_string_lossy()).to_string();
    let port = port.map_or("-1".to_owned(), |port| port.to_string());
    let (store, log, ports) = (quoted(folder.join("jetstream")), quoted(log_of(folder)), quoted(folder.to_owned()));
    format!(
        "# Written by mer at each start.\n\
         server_name: \"mer-embedded\"\n\
         listen: \"127.0.0.1:{port}\"\n\
         ports_file_dir: {ports}\n\
         log_file: {log}\n\
         log_size_limit: 10MB\n\
         log_max_num: 5\n\
         max_payload: 8MB\n\
         jetstream {{ store_dir: {store}, sync_interval: always, max_file_store: {max_store} }}\n"
    )
}

/// Has the kernel end nats-server when mer is killed. The signal comes when the *thread* that started it ends, so this
/// must be called on one that lives as long as mer: the one that the main task runs on.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "prctl between fork and exec, which allocates nothing")]
fn die_with_parent(command: &mut Command) {
    let set = || rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).map_err(io::Error::from);
    // SAFETY: the closure makes one system call and touches no memory of the parent.
    unsafe {
        command.pre_exec(set);
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_odd_characters_is_quoted() {
        let text = configuration(Path::new("/a \"b\""), Some(4222), 7);
        assert!(text.contains(r#"store_dir: "/a \"b\"/jetstream""#), "{text}");
        assert!(text.contains("listen: \"127.0.0.1:4222\"") && text.contains("max_file_store: 7 "), "{text}");
    }

    #[test]
    fn a_disk_without_room_or_that_cannot_be_written_is_the_reason() {
        let folder = Path::new("/data");
        let space = |available_bytes, is_read_only| {
            let (total_bytes, is_failing) = (400 << 20, false);
            Space { total_bytes, available_bytes, is_read_only, is_failing }
        };
        assert!(no_start(folder, space(100 << 20, false)).is_none());
        let full = no_start(folder, space(0, false)).unwrap();
        assert!(full.is_of_disk() && full.to_string().starts_with("disk full"), "{full}");
        let read_only = no_start(folder, space(100 << 20, true)).unwrap();
        assert!(read_only.is_of_disk() && read_only.to_string().starts_with("read-only file system"), "{read_only}");
        let of = |kind: io::ErrorKind| StartError::of_io("writing", kind.into(), folder);
        assert!(of(io::ErrorKind::StorageFull).is_of_disk() && of(io::ErrorKind::ReadOnlyFilesystem).is_of_disk());
        assert!(!of(io::ErrorKind::PermissionDenied).is_of_disk());
    }
}
