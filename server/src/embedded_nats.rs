//! The nats-server of an installation that names none: started, watched, restarted when it dies, stopped at the end.
//!
//! Its files stay, and belong to one mer at a time: mer holds a lock on a file in the data folder, and hands the open
//! file to nats-server as standard input, which it does not read. So the lock is free only when both are gone, and a
//! mer that was killed cannot leave behind a nats-server that writes the same files as the next one.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How often to say that a nats-server does not listen yet: it reads its streams first, however long that takes.
const PATIENCE_NOTE: Duration = Duration::from_secs(10);
/// How long to wait for a mer before this one, and its nats-server, to let go of the data folder.
const LOCK_PATIENCE: Duration = Duration::from_secs(15);
const LOCK: &str = "mer.lock";
const POLL: Duration = Duration::from_millis(20);
/// How long to wait before a nats-server that died is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(5);
/// How long a nats-server that was told to stop may take to, before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// The oldest nats-server that can reset a consumer.
const MIN_VERSION: (u32, u32) = (2, 14);

/// A running nats-server.
pub(crate) struct EmbeddedNats {
    binary: PathBuf,
    folder: PathBuf,
    lock: File,
    port: u16,
    child: Child,
}

#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

impl EmbeddedNats {
    /// Starts a nats-server on a free port of the loopback address, with its files in `folder`.
    pub(crate) async fn start(binary: &Path, folder: &Path) -> anyhow::Result<Self> {
        check_version(binary).await?;
        std::fs::create_dir_all(folder).with_context(|| format!("making the data folder {}", folder.display()))?;
        let folder =
            folder.canonicalize().with_context(|| format!("looking for the data folder {}", folder.display()))?;
        let lock = lock(&folder).await?;
        let (child, port) = launch(binary, &folder, &lock, None).await?;
        Ok(Self { binary: binary.to_owned(), folder, lock, port, child })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Keeps it running until `shutdown`, then stops it.
    pub(crate) async fn keep(mut self, shutdown: CancellationToken) {
        loop {
            let ended = tokio::select! {
                () = shutdown.cancelled() => return self.stop().await,
                ended = self.child.wait() => ended,
            };
            let how = ended.map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string());
            tracing::error!(how, log = %self.log().display(), "nats_server.died");
            let mut pause = RESTART_PAUSE;
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = sleep(pause) => {}
                }
                let launched = tokio::select! {
                    () = shutdown.cancelled() => return,
                    launched = launch(&self.binary, &self.folder, &self.lock, Some(self.port)) => launched,
                };
                match launched {
                    Ok((child, _)) => {
                        self.child = child;
                        tracing::warn!(url = self.url(), "nats_server.restarted");
                        break;
                    }
                    Err(error) => {
                        tracing::error!(error = format!("{error:#}"), "nats_server.restart_failed");
                        pause = (pause * 2).min(MAX_RESTART_PAUSE);
                    }
                }
            }
        }
    }

    async fn stop(mut self) {
        // SIGTERM makes it write what its consumers have acknowledged; a kill would have some of it sent again.
        let told =
            self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).map(|pid| kill_process(pid, Signal::TERM));
        let stopped = timeout(STOP_PATIENCE, self.child.wait()).await;
        if !matches!((told, stopped), (Some(Ok(())), Ok(Ok(_)))) {
            tracing::warn!("nats_server.killed");
            if let Err(error) = self.child.kill().await {
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

async fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join(LOCK);
    let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
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

/// Starts the process and waits until it listens. Answers with its port.
async fn launch(binary: &Path, folder: &Path, lock: &File, port: Option<u16>) -> anyhow::Result<(Child, u16)> {
    let config = folder.join("nats-server.conf");
    std::fs::write(&config, configuration(folder, port)).with_context(|| format!("writing {}", config.display()))?;
    remove_ports_files(folder)?;
    let mut command = Command::new(binary);
    command
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::from(lock.try_clone()?))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Ctrl-C reaches the whole group of a terminal; nats-server has to outlive the roles that use it.
    command.process_group(0).kill_on_drop(true);
    die_with_parent(&mut command);
    let mut child = command.spawn().with_context(|| format!("starting {}", binary.display()))?;
    let mut next_note = Instant::now() + PATIENCE_NOTE;
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("nats-server ended with {status} before it listened: see {}", log_of(folder).display());
        }
        if let Some(port) = port_in(folder)? {
            return Ok((child, port));
        }
        if Instant::now() > next_note {
            tracing::info!(log = %log_of(folder).display(), "nats_server.still_starting");
            next_note += PATIENCE_NOTE;
        }
        sleep(POLL).await;
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

/// The port on which the server of this folder listens, once it does.
fn port_in(folder: &Path) -> io::Result<Option<u16>> {
    Ok(ports_files(folder)?.iter().find_map(|file| read_port(file)))
}

fn read_port(file: &Path) -> Option<u16> {
    let ports: Ports = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    ports.nats.first()?.rsplit_once(':')?.1.parse().ok()
}

/// `always`: what is acknowledged is on disk. A larger `max_payload`, so that a body of the full limit still has room
/// for headers.
fn configuration(folder: &Path, port: Option<u16>) -> String {
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
         max_payload: 8MB\n\
         jetstream {{ store_dir: {store}, sync_interval: always }}\n"
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
    fn a_version_is_read() {
        assert_eq!(version_of("nats-server: v2.15.1"), Some((2, 15)));
        assert_eq!(version_of("nats-server: v2.14.0-RC.1"), Some((2, 14)));
        assert_eq!(version_of("something else"), None);
    }

    #[test]
    fn a_folder_with_odd_characters_is_quoted() {
        let text = configuration(Path::new("/a \"b\""), Some(4222));
        assert!(text.contains(r#"store_dir: "/a \"b\"/jetstream""#), "{text}");
        assert!(text.contains("listen: \"127.0.0.1:4222\""), "{text}");
    }
}
