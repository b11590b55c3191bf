//! The binary under test, as a process.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::api::Api;
use crate::process::Process;
use crate::wait::eventually_async;

const START_DEADLINE: Duration = Duration::from_secs(40);

/// A process of `mer serve`. Its settings stay when it is started again; what it logs is shown when a test fails.
pub struct Mer {
    binary: PathBuf,
    folder: TempDir,
    settings: BTreeMap<String, String>,
    port: u16,
    process: Option<Process>,
}

impl Mer {
    /// One that is not started yet, with all roles but the sample listener.
    pub fn new(binary: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data").display().to_string();
        let mut mer =
            Self { binary: binary.into(), folder, settings: BTreeMap::new(), port: crate::free_port(), process: None };
        let server = crate::nats::binary().display().to_string();
        for (name, value) in
            [("MER_NATS_SERVER", server.as_str()), ("MER_DATA_DIR", &data), ("MER_DELIVERY_TIMEOUT_MS", "2000")]
        {
            mer.settings.insert(name.to_owned(), value.to_owned());
        }
        mer
    }

    /// With one more environment variable.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.insert(name.to_owned(), value.to_string());
        self
    }

    /// With these roles.
    pub fn roles(self, roles: &str) -> Self {
        self.set("MER_ROLES", roles)
    }

    /// Another binary, for the next time that it is started.
    pub fn replace(&mut self, binary: &str) {
        self.binary = binary.into();
    }

    /// Starts it and waits until it is ready.
    pub async fn start(mut self) -> Self {
        self.launch();
        self.until_ready().await;
        self
    }

    /// Starts it (again), without waiting.
    pub fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_file()).expect("a log file");
        let mut command = Command::new(&self.binary);
        command.arg("serve").env_clear().current_dir(self.folder.path()).stdout(Stdio::null()).stderr(log);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("MER_LISTEN", format!("127.0.0.1:{}", self.port)).envs(&self.settings);
        self.process = Some(Process::spawn(&mut command));
    }

    /// Waits until `/readyz` says so.
    pub async fn until_ready(&mut self) {
        let api = self.api();
        let process = self.process.as_mut().expect("a process");
        eventually_async("mer is ready", START_DEADLINE, async || {
            assert!(!process.has_ended(), "mer ended by itself");
            api.status("/readyz").await == Some(200)
        })
        .await;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.take().expect("a process").kill();
    }

    /// SIGTERM, and waits for the end. Answers whether it ended well.
    pub async fn stop(&mut self) -> bool {
        self.process.take().expect("a process").stop().await
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("a process").signal(signal);
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("a process").id()
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A user of it.
    pub fn api(&self) -> Api {
        Api::new(self.url())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Where the embedded nats-server keeps its files.
    pub fn data_dir(&self) -> &Path {
        Path::new(&self.settings["MER_DATA_DIR"])
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("mer.log")
    }
}

impl Drop for Mer {
    fn drop(&mut self) {
        self.process = None;
        if std::thread::panicking() {
            eprintln!("--- what mer logged ---\n{}", self.log());
        }
    }
}
