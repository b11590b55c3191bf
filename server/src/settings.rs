//! The settings of `mer serve`: flags and environment variables.
//!
//! - [`nats_access`]: how mer reaches NATS servers; [`hidden`]: a setting whose value is a secret.
//! - [`events_limits`]: the limits of the log.
//! - [`collector`]: the OpenTelemetry collector.

pub(crate) mod collector;
pub(crate) mod events_limits;
mod hidden;
pub(crate) mod nats_access;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use dispatcher::EgressPolicy;
use domain::SealingKeys;
use domain::sealed::NotAKey;

use crate::log::LogFormat;
use collector::Collector;
use events_limits::EventsLimits;
use nats_access::NatsAccess;

/// What one process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Takes events
    Receiver,
    /// Takes registrations
    Registrar,
    /// Pushes events to targets
    Dispatcher,
    /// A sample listener at /hello/
    Hello,
}

/// Where targets may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Egress {
    /// Also on this machine and in private networks
    Internal,
    /// Only on the public internet
    Public,
}

/// The settings of `mer serve`, which `mer check` takes too.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// What this process does
    #[arg(long, env = "MER_ROLES", value_enum, value_delimiter = ',', default_value = "receiver,registrar,dispatcher")]
    pub(crate) roles: Vec<Role>,

    /// Where to listen for HTTP; port 0 takes a free one
    #[arg(long, env = "MER_LISTEN", default_value = "127.0.0.1:8888")]
    pub(crate) listen: SocketAddr,

    /// NATS servers, separated by commas, like nats://host:4222; none: an embedded nats-server is started
    #[arg(long, env = "MER_NATS_URL", hide_env_values = true, value_parser = non_empty)]
    pub(crate) nats_url: Option<String>,

    #[command(flatten)]
    pub(crate) nats: NatsAccess,

    /// The nats-server binary (2.14 or later) for the embedded one
    #[arg(long, env = "MER_NATS_SERVER", default_value = "nats-server")]
    pub(crate) nats_server: PathBuf,

    /// Where the embedded nats-server keeps its files; events survive a restart here
    #[arg(long, env = "MER_DATA_DIR", default_value = "mer-data")]
    pub(crate) data_dir: PathBuf,

    /// How long the embedded nats-server may take to read its files and listen, in seconds, before that is given up
    #[arg(long, env = "MER_NATS_START_SECS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) nats_start_secs: u64,

    /// What to log, as tracing's filter directives: info, debug, mer=debug,dispatcher=trace. Crates that are not mer's own
    /// say nothing below info, whatever stands here
    #[arg(long, env = "MER_LOG", default_value = "info,async_nats=warn")]
    pub(crate) log: String,

    /// What a line of the log looks like
    #[arg(long, env = "MER_LOG_FORMAT", value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,

    #[command(flatten)]
    pub(crate) collector: Collector,

    /// Copies of each stream and bucket, when they are made: 1, 3 or 5
    #[arg(long, env = "MER_REPLICAS", default_value_t = 1, value_parser = replicas)]
    pub(crate) replicas: usize,

    /// How long a repeated Idempotency-Key is recognised, in seconds, when the stream is made
    #[arg(long, env = "MER_DUPLICATE_WINDOW_SECS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) duplicate_window_secs: u64,

    #[command(flatten)]
    pub(crate) events: EventsLimits,

    /// What seals the secrets of subscriptions: base64 of 32 bytes (openssl rand -base64 32). Several, separated by
    /// commas: the first seals, each opens. The registrar and the dispatcher have the same
    #[arg(long, env = "MER_SECRET_KEY", hide_env_values = true, value_parser = secret_key)]
    pub(crate) secret_key: Option<SecretKey>,

    /// Who may do what: a file with a line NAME SCOPES TOKEN for each token, where scopes are publish, subscribe,
    /// read and admin, and TOKEN may be sha256: and its hash. Without it everybody may do everything
    #[arg(long, env = "MER_TOKENS_FILE")]
    pub(crate) tokens_file: Option<PathBuf>,

    /// How many requests may be under way; further ones are answered 429
    #[arg(long, env = "MER_MAX_REQUESTS", default_value_t = 4096, value_parser = at_least_one)]
    pub(crate) max_requests: usize,

    /// The largest request body, in bytes
    #[arg(long, env = "MER_MAX_BODY_BYTES", default_value_t = 1024 * 1024)]
    pub(crate) max_body_bytes: usize,

    /// How long a target may take to answer, in milliseconds
    #[arg(long, env = "MER_DELIVERY_TIMEOUT_MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub(crate) delivery_timeout_ms: u64,

    /// How many deliveries may begin at a time; when more wait, the lowest `priority` goes first
    #[arg(long, env = "MER_MAX_DELIVERIES", default_value_t = 1024, value_parser = at_least_one)]
    pub(crate) max_deliveries: usize,

    /// Where targets may be; link-local and metadata addresses and mer's own NATS servers are refused in any case
    #[arg(long, env = "MER_EGRESS", value_enum, default_value = "internal")]
    pub(crate) egress: Egress,

    /// How long a dispatcher may be silent before others take over its work, in seconds
    #[arg(long, env = "MER_LEASE_SECS", default_value_t = 6, value_parser = clap::value_parser!(u64).range(2..=300))]
    pub(crate) lease_secs: u64,

    /// Look first, as `mer check` does, and do not start where something is wrong that waiting does not mend
    #[arg(long, env = "MER_CHECK")]
    pub(crate) check: bool,

    /// How long requests under way may take to end when mer stops, in milliseconds
    #[arg(long, env = "MER_SHUTDOWN_GRACE_MS", default_value_t = 10_000)]
    pub(crate) shutdown_grace_ms: u64,
}

impl From<Egress> for EgressPolicy {
    fn from(egress: Egress) -> Self {
        match egress {
            Egress::Internal => Self::Internal,
            Egress::Public => Self::Public,
        }
    }
}

/// What was given as keys; `None`: an empty text. Read in any case: clap would repeat what it refuses, and so show a secret.
#[derive(Debug, Clone)]
pub(crate) struct SecretKey(Option<Result<SealingKeys, NotAKey>>);

impl Settings {
    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether any role does what not everybody may ask for.
    pub(crate) fn takes_requests(&self) -> bool {
        self.has(Role::Receiver) || self.has(Role::Registrar)
    }

    /// Whether any role works with NATS.
    pub(crate) fn needs_nats(&self) -> bool {
        self.roles.iter().any(|role| *role != Role::Hello)
    }

    /// What seals and opens the secrets of subscriptions, if anything does.
    pub(crate) fn secret_keys(&self) -> Result<Option<SealingKeys>, NotAKey> {
        self.secret_key.clone().and_then(|SecretKey(keys)| keys).transpose()
    }

    /// How NATS is reached, and what is made there.
    pub(crate) fn broker_config(&self, url: String) -> broker::Config {
        let names: Vec<String> = self.roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
        broker::Config {
            url,
            credentials: self.nats.credentials(),
            tls: self.nats.tls(),
            name: format!("mer {} ({})", env!("CARGO_PKG_VERSION"), names.join(", ")),
            replicas: self.replicas,
            duplicate_window: Duration::from_secs(self.duplicate_window_secs),
            keeps_log: self.has(Role::Dispatcher),
            limits: self.events.limits(),
            storage: broker::Storage::default(),
        }
    }

    pub(crate) fn delivery_timeout(&self) -> Duration {
        Duration::from_millis(self.delivery_timeout_ms)
    }

    pub(crate) fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms)
    }
}

fn non_empty(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty; leave it out to have a nats-server started".to_owned()),
        url => Ok(url.to_owned()),
    }
}

fn secret_key(text: &str) -> Result<SecretKey, Infallible> {
    Ok(SecretKey((!text.trim().is_empty()).then(|| SealingKeys::parse(text))))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "it must be a whole number of at least 1".to_owned())
}

fn replicas(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("it must be 1, 3 or 5".to_owned()),
    }
}

#[cfg(test)]
impl Settings {
    /// The settings that `mer serve` takes from these arguments.
    pub(crate) fn of_arguments(arguments: &[&str]) -> Result<Self, clap::Error> {
        use clap::FromArgMatches;

        let command = Self::augment_args(clap::Command::new("serve"));
        Self::from_arg_matches(&command.try_get_matches_from([&["serve"], arguments].concat())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_repeated() {
        let of = |key: &str| Settings::of_arguments(&["--secret-key", key]).unwrap();
        let (good, bad) = (of(&format!("{}=", "A".repeat(43))), of("AAAA"));
        assert!(good.secret_keys().unwrap().is_some());
        let error = bad.secret_keys().unwrap_err().to_string();
        assert!(!format!("{good:?} {bad:?} {error}").contains("AAAA"));
    }

    #[test]
    fn one_way_to_authenticate_to_nats_is_accepted_and_no_secret_is_shown() {
        let of = |arguments: &[&str]| {
            let settings = Settings::of_arguments(&[&["--nats-url", "nats://host"], arguments].concat());
            settings.map(|settings| format!("{:?} {settings:?}", settings.nats.credentials()))
        };
        for (arguments, expected) in [
            (&[] as &[_], "None "),
            (&["--nats-creds", "file"], "File(file) "),
            (&["--nats-nkey", "file"], "Nkey(file) "),
            (&["--nats-user", "mer", "--nats-password", "a-secret-word"], "User(mer) "),
            (&["--nats-token", "a-secret-word"], "Token "),
        ] {
            let shown = of(arguments).unwrap();
            assert!(shown.starts_with(expected) && !shown.contains("a-secret-word"), "{shown}");
        }
        for arguments in [
            &["--nats-user", "mer"] as &[_],
            &["--nats-password", "a-secret-word"],
            &["--nats-user", "mer", "--nats-password", "a-secret-word", "--nats-token", "a-secret-word"],
            &["--nats-creds", "file", "--nats-nkey", "file"],
        ] {
            let error = of(arguments).unwrap_err().to_string();
            assert!(!error.contains("a-secret-word"), "{error}");
        }
        assert!(Settings::of_arguments(&["--nats-token", "a-secret-word"]).is_err());
    }

    #[test]
    fn a_setting_that_says_nothing_is_as_one_that_is_left_out() {
        assert!(Settings::of_arguments(&["--secret-key", ""]).unwrap().secret_keys().unwrap().is_none());
        let settings = Settings::of_arguments(&["--nats-tls"]).unwrap();
        assert!(settings.nats.check(false).is_err() && settings.nats.check(true).is_ok());
    }

    #[test]
    fn roles_are_a_list() {
        let settings = Settings::of_arguments(&["--roles", "receiver,hello"]).unwrap();
        assert!(settings.has(Role::Receiver) && settings.has(Role::Hello) && !settings.has(Role::Dispatcher));
    }
}
