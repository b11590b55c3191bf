//! The nats-server of an installation that names none: started, watched, restarted when it dies, stopped at the end.
//!
//! Its files stay, and belong to one mer at a time: mer holds a lock on a file in the data folder, and hands the open
//! file to nats-server as standard input, which it does not read. So the lock is free only when both are gone, and a
//! mer that was killed cannot leave behind a nats-server that writes the same files as the next one.
//!
//! - [`launch`]: starting the process, with a deadline, and why it failed.
//! - [`disk`]: what is free of the disk, and what follows; [`reserve`]: the file that is given up first; [`disk_watch`] looks,
//!   and tells the broker.
//! - [`restart`]: when a nats-server that does not write is started anew.

pub(crate) mod disk;
mod disk_watch;
mod launch;
mod reserve;
mod restart;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, bail};
use broker::{Reminder, Storage};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use disk_watch::DiskWatch;
use launch::{Launch, StartError};

/// How long to wait for a mer before this one, and its nats-server, to let go of the data folder.
const LOCK_PATIENCE: Duration = Duration::from_secs(15);
const LOCK: &str = "mer.lock";
const POLL: Duration = Duration::from_millis(20);
/// How often the disk is looked at: what is written meanwhile must be less than what is left when events are refused.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long to wait before a disk that has no room is looked at again, when nats-server is to be started on it.
const DISK_RETRY: Duration = Duration::from_secs(1);
/// How often that is said.
const DISK_NOTE: Duration = Duration::from_secs(60);
/// How often a nats-server is tried that starts and does not say where it listens.
const NO_PORTS_TRIES: u32 = 3;
/// How long to wait before a nats-server that died is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(5);
/// One that has lived for so long is started again at once when it dies.
const LONG_LIFE: Duration = Duration::from_secs(30);
/// How long a nats-server that was told to stop may take to, before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How long a killed one is waited for: one that hangs in its disk goes when the disk lets go of it.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// The oldest nats-server that can reset a consumer.
const MIN_VERSION: (u32, u32) = (2, 14);

/// A running nats-server.
pub(crate) struct EmbeddedNats {
    binary: PathBuf,
    folder: PathBuf,
    start_patience: Duration,
    lock: File,
    port: u16,
    child: Child,
    disk: DiskWatch,
    /// How long to wait before it is started again.
    pause: Duration,
    /// What was told of its deaths, and of starts that failed.
    reminder: Reminder,
}

impl EmbeddedNats {
    /// Starts a nats-server on a free port of the loopback address, with its files in `folder`. Where the disk has no room,
    /// or cannot be written, it waits until that is mended, and tells `storage`.
    pub(crate) async fn start(
        binary: &Path,
        folder: &Path,
        start_patience: Duration,
        storage: Storage,
    ) -> anyhow::Result<Self> {
        check_version(binary).await?;
        let (folder, lock) = prepared(folder, &storage).await?;
        let mut disk = DiskWatch::new(folder.clone(), storage);
        let (mut tries, mut waits) = (0, Waits::default());
        loop {
            disk.look().await;
            let launch = Launch { binary, folder: &folder, lock: &lock, port: None, patience: start_patience };
            match launch.run().await {
                Ok((child, port)) => {
                    let (binary, pause, reminder) = (binary.to_owned(), RESTART_PAUSE, Reminder::default());
                    return Ok(Self { binary, folder, start_patience, lock, port, child, disk, pause, reminder });
                }
                Err(error) if error.is_of_disk() => waits.wait(&error).await,
                Err(error) if error.may_be_of_disk() && tries + 1 < NO_PORTS_TRIES => {
                    tries += 1;
                    tracing::warn!(%error, "nats_server.start_failed");
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Keeps it running until `shutdown`, then stops it.
    pub(crate) async fn keep(mut self, shutdown: CancellationToken) {
        loop {
            let began = Instant::now();
            let ended = tokio::select! {
                () = shutdown.cancelled() => return self.end_child().await,
                ended = self.child.wait() => Some(ended),
                () = asks_for_restart(&mut self.disk) => None,
            };
            let for_writes = ended.is_none();
            match ended {
                Some(ended) => {
                    let how = ended.map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string());
                    if self.reminder.fails(&how) {
                        tracing::error!(how, log = %self.log().display(), "nats_server.died");
                    }
                }
                None => {
                    tracing::error!(log = %self.log().display(), "nats_server.does_not_write");
                    self.end_child().await;
                }
            }
            // One that dies again and again is not started in a tight loop.
            self.pause =
                if began.elapsed() >= LONG_LIFE { RESTART_PAUSE } else { (self.pause * 2).min(MAX_RESTART_PAUSE) };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.start_again() => {}
            }
            if self.reminder.works() || for_writes {
                tracing::warn!(url = self.url(), "nats_server.restarted");
            }
            self.disk.started_again(for_writes);
        }
    }

    /// Starts it again, however often that takes.
    async fn start_again(&mut self) {
        // One that could not be killed yet still has its files.
        let _ = self.child.wait().await;
        let mut waits = Waits::default();
        sleep(self.pause).await;
        loop {
            self.disk.look().await;
            let launch = Launch {
                binary: &self.binary,
                folder: &self.folder,
                lock: &self.lock,
                port: Some(self.port),
                patience: self.start_patience,
            };
            match launch.run().await {
                Ok((child, _)) => return self.child = child,
                Err(error) if error.is_of_disk() => waits.wait(&error).await,
                Err(error) => {
                    if self.reminder.fails(&error) {
                        tracing::error!(%error, "nats_server.restart_failed");
                    }
                    self.pause = (self.pause * 2).min(MAX_RESTART_PAUSE);
                    sleep(self.pause).await;
                }
            }
        }
    }

    async fn end_child(&mut self) {
        // SIGTERM makes it write what its consumers have acknowledged; a kill would have some of it sent again.
        let told =
            self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).map(|pid| kill_process(pid, Signal::TERM));
        let stopped = timeout(STOP_PATIENCE, self.child.wait()).await;
        if !matches!((told, stopped), (Some(Ok(())), Ok(Ok(_)))) {
            tracing::warn!("nats_server.killed");
            let killed = timeout(KILL_PATIENCE, self.child.kill()).await.map_err(io::Error::from).flatten();
            if let Err(error) = killed {
                tracing::error!(%error, "nats_server.not_killed");
            }
        }
    }

    fn log(&self) -> PathBuf {
        log_of(&self.folder)
    }
}

fn log_of(folder: &Path) -> PathBuf {
    folder.join("nats-server.log")
}

/// The version of a binary that is new enough, as it says it.
pub(crate) async fn check_version(binary: &Path) -> anyhow::Result<String> {
    let shown = binary.display();
    let advice = "set MER_NATS_SERVER to one, or MER_NATS_URL to a running server; ./deploy/up finds or installs one";
    let output = Command::new(binary).arg("--version").output().await;
    let output = output.with_context(|| format!("running `{shown} --version`: {advice}"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match version_of(&text) {
        Some(version) if version >= MIN_VERSION => Ok(text),
        _ => bail!(
            "`{shown}` says `{text}`, and nats-server {}.{} or later is needed: {advice}",
            MIN_VERSION.0,
            MIN_VERSION.1
        ),
    }
}

/// Whether a mer, or its nats-server, has the data folder. Looks without waiting.
pub(crate) fn is_in_use(folder: &Path) -> bool {
    let lock = File::open(folder.join(LOCK));
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Major and minor version in `nats-server: v2.15.1`.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let (_, numbers) = text.rsplit_once('v')?;
    let mut numbers = numbers.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The data folder, made where it is missing, and what keeps others out of it.
async fn prepared(folder: &Path, storage: &Storage) -> anyhow::Result<(PathBuf, File)> {
    let mut waits = Waits::default();
    loop {
        let what = format!("making the data folder {}", folder.display());
        let error = match std::fs::create_dir_all(folder) {
            Ok(()) => {
                let found = folder.canonicalize();
                let folder = found.with_context(|| format!("looking for the data folder {}", folder.display()))?;
                match lock(&folder).await? {
                    Ok(lock) => return Ok((folder, lock)),
                    Err(error) => error,
                }
            }
            Err(error) => StartError::of_io(what, error, folder),
        };
        if !error.is_of_disk() {
            return Err(error.into());
        }
        storage.cannot_start(&error);
        waits.wait(&error).await;
    }
}

/// Waits for a disk, and says so now and then.
#[derive(Default)]
struct Waits {
    told_at: Option<Instant>,
}

impl Waits {
    async fn wait(&mut self, error: &StartError) {
        if self.told_at.is_none_or(|at| at.elapsed() >= DISK_NOTE) {
            self.told_at = Some(Instant::now());
            tracing::error!(%error, "nats_server.waits_for_disk");
        }
        sleep(DISK_RETRY).await;
    }
}

/// Waits until nats-server is to be started anew, because it does not write.
async fn asks_for_restart(disk: &mut DiskWatch) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if disk.asks_for_restart().await {
            return;
        }
    }
}

/// Locks the data folder; the inner error is the disk's, or of opening the file.
async fn lock(folder: &Path) -> anyhow::Result<Result<File, StartError>> {
    let path = folder.join(LOCK);
    let file = match File::options().create(true).truncate(false).read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(error) => return Ok(Err(StartError::of_io(format!("opening {}", path.display()), error, folder))),
    };
    let deadline = Instant::now() + LOCK_PATIENCE;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Ok(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(folder = %folder.display(), "nats_server.waiting_for_data_folder");
                }
                sleep(POLL).await;
            }
            Err(TryLockError::WouldBlock) => bail!(
                "the data folder {} is in use by another mer or its nats-server: stop it, or choose another folder with MER_DATA_DIR",
                folder.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read() {
        assert_eq!(version_of("nats-server: v2.15.1"), Some((2, 15)));
        assert_eq!(version_of("nats-server: v2.14.0-RC.1"), Some((2, 14)));
        assert_eq!(version_of("something else"), None);
    }
}
