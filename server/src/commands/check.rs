//! `mer check`: whether what mer works with is as it should be, a line for each thing, with how to mend it.

mod disk;
mod monitor;

use std::fs::File;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::bail;
use broker::check::{Finding, Level};
use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;
use url::Url;

use crate::admission::tokens::Tokens;
use crate::embedded_nats;
use crate::settings::Settings;

#[derive(Debug, Clone, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    settings: Settings,

    /// Where nats-server's monitoring is (`http` in its configuration), like http://127.0.0.1:8222; several, separated
    /// by commas. It alone shows when what is acknowledged is on disk
    #[arg(long, env = "MER_NATS_MONITOR", value_delimiter = ',')]
    monitor: Vec<Url>,

    /// Show only what is not as it should be
    #[arg(long)]
    quiet: bool,

    /// Show each as JSON, one a line
    #[arg(long)]
    json: bool,
}

/// What is looked at where no server is named.
const OF_A_START: &str = "MER_NATS_URL is not set: these are the findings for a mer that would start here, with a nats-server of \
    its own. A mer that runs is asked with `mer status`, or `curl /readyz`";

/// Looks at everything, shows what was found, and fails where something is wrong.
pub(crate) async fn run(check: &Check) -> anyhow::Result<()> {
    let settings = &check.settings;
    let mut findings = of_settings(settings);
    match &settings.nats_url {
        Some(url) => {
            findings.extend(broker::check::check(&settings.broker_config(url.clone()), settings.max_body_bytes).await?);
            findings.extend(monitor::look(&check.monitor, settings.replicas).await?);
        }
        None if settings.needs_nats() => {
            findings.push(Finding::note("start", OF_A_START, ""));
            findings.extend(of_embedded(settings).await);
        }
        None => {}
    }
    findings.push(of_address(settings).await);
    for finding in findings.iter().filter(|finding| !check.quiet || finding.level > Level::Note) {
        // If the reader closes the output, the exit code still says what was found.
        let _ = writeln!(stdout(), "{}", if check.json { json_of(finding) } else { line_of(finding) });
    }
    let wrong = findings.iter().filter(|finding| finding.level == Level::Wrong).count();
    if wrong > 0 {
        bail!("{wrong} of {} checks found something wrong", findings.len());
    }
    Ok(())
}

/// Looks at NATS before the roles start: what is not as it should be is logged, and what is wrong ends mer, unless
/// waiting mends it.
pub(crate) async fn at_start(settings: &Settings, url: &str) -> anyhow::Result<()> {
    let findings = broker::check::check(&settings.broker_config(url.to_owned()), settings.max_body_bytes).await?;
    for Finding { level, what, found, mend, .. } in &findings {
        match level {
            Level::Ok | Level::Note => tracing::debug!(what, found, "check.passed"),
            Level::Warn => tracing::warn!(what, found, mend, "check.warned"),
            Level::Wrong => tracing::error!(what, found, mend, "check.failed"),
        }
    }
    let lasting: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.level == Level::Wrong && !finding.may_pass)
        .map(|finding| finding.what.as_str())
        .collect();
    if !lasting.is_empty() {
        bail!(
            "NATS is not as mer needs it ({}): see `check.failed` above; MER_CHECK=false starts mer all the same",
            lasting.join(", ")
        );
    }
    Ok(())
}

fn line_of(finding: &Finding) -> String {
    let Finding { level, what, found, mend, .. } = finding;
    let mend = if mend.is_empty() { String::new() } else { format!(". To mend it: {mend}") };
    format!("{:<5}  {what}: {found}{mend}", level.name())
}

fn json_of(finding: &Finding) -> String {
    let Finding { level, what, found, mend, .. } = finding;
    json!({"level": level.name(), "what": what, "found": found, "mend": mend}).to_string()
}

/// What mer would not start with.
fn of_settings(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = settings.secret_keys() {
        findings.push(Finding::wrong("MER_SECRET_KEY", error.to_string(), "make one with: openssl rand -base64 32"));
    }
    if let Err(error) = settings.events.check(settings.duplicate_window_secs) {
        findings.push(Finding::wrong("MER_EVENTS_MAX_AGE_SECS", error.to_string(), "change one of the two"));
    }
    if let Err(error) = settings.nats.check(settings.nats_url.is_some()) {
        findings.push(Finding::wrong("MER_NATS_TLS", error.to_string(), "change one of the two"));
    }
    if let Some(Err(error)) = settings.tokens_file.as_deref().map(Tokens::read) {
        findings.push(Finding::wrong("MER_TOKENS_FILE", format!("{error:#}"), "correct the file"));
    }
    findings
}

/// What the embedded nats-server needs.
async fn of_embedded(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![match embedded_nats::check_version(&settings.nats_server).await {
        Ok(version) => Finding::ok("nats-server", format!("{}: {version}", settings.nats_server.display())),
        Err(error) => Finding::wrong(
            "nats-server",
            format!("{error:#}"),
            "MER_NATS_SERVER=$(deploy/nats-server) finds or installs one",
        ),
    }];
    if settings.replicas > 1 {
        let found = format!("MER_REPLICAS asks for {}, and the embedded nats-server is one", settings.replicas);
        findings.push(Finding::wrong(
            "nats-server",
            found,
            "leave MER_REPLICAS out, or name a cluster in MER_NATS_URL",
        ));
    }
    findings.push(of_folder(&settings.data_dir));
    findings.extend(nearest(&settings.data_dir).and_then(|nearest| disk::look(&nearest, &settings.data_dir)));
    findings
}

fn of_folder(folder: &Path) -> Finding {
    let what = format!("data folder {}", folder.display());
    if embedded_nats::is_in_use(folder) {
        let found = "a mer, or its nats-server, has it: another one would wait for it and then give up";
        return Finding::warn(
            what,
            found,
            "nothing if that mer is to run; else stop it, or choose another MER_DATA_DIR",
        );
    }
    let is_there = folder.is_dir();
    let Some(nearest) = nearest(folder) else {
        return Finding::wrong(what, "no folder above it is there", "choose another MER_DATA_DIR");
    };
    match try_to_write(&nearest) {
        Ok(()) if is_there => Finding::ok(what, "it is there and can be written to"),
        Ok(()) => Finding::ok(what, "it is not there yet, and can be made"),
        Err(error) => Finding::wrong(
            what,
            format!("nothing can be written to {}: {error}", nearest.display()),
            "let this user write there, or choose another MER_DATA_DIR",
        ),
    }
}

/// The nearest folder that is there: what is not is made in it.
fn nearest(folder: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    absolute.ancestors().find(|folder| folder.exists()).map(Path::to_owned)
}

/// Makes a file, and removes it.
fn try_to_write(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".mer-check-{}", std::process::id()));
    File::create_new(&path)?;
    std::fs::remove_file(&path)
}

async fn of_address(settings: &Settings) -> Finding {
    match TcpListener::bind(settings.listen).await {
        Ok(_) => Finding::ok("address", format!("{} is free", settings.listen)),
        Err(error) => Finding::warn(
            "address",
            format!("{} cannot be listened on: {error}", settings.listen),
            "nothing if a mer runs there; else choose another address with MER_LISTEN",
        ),
    }
}
