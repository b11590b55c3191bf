//! Flags and environment variables.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use broker::{Credentials, Tls};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use dispatcher::EgressPolicy;
use domain::SealingKeys;
use domain::sealed::NotAKey;

use crate::check::Check;
use crate::client::Access;
use crate::collector::Collector;
use crate::dead::DeadCommand;
use crate::events::EventsCommand;
use crate::events_limits::EventsLimits;
use crate::healthcheck::Healthcheck;
use crate::log::LogFormat;
use crate::subs::SubsCommand;

/// Keeps every replica of a microservice in sync: events in by HTTP, stored in NATS JetStream, pushed in order.
#[derive(Debug, Parser)]
#[command(name = "mer", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one or more roles
    Serve(Box<Options>),
    /// Read the log of a running mer, and add to it
    Events {
        #[command(subcommand)]
        command: EventsCommand,
        #[command(flatten)]
        access: Access,
    },
    /// What is registered with a running mer, and how it stands
    Subs {
        #[command(subcommand)]
        command: SubsCommand,
        #[command(flatten)]
        access: Access,
    },
    /// Events that subscriptions have given up on
    Dead {
        #[command(subcommand)]
        command: DeadCommand,
        #[command(flatten)]
        access: Access,
    },
    /// Show a transaction's events in order, with which URL got each when
    Trace {
        /// The transaction's id
        transaction: String,
        #[command(flatten)]
        access: Access,
    },
    /// Look whether NATS, or what the embedded one needs, is as it should be, and say how to mend what is not. Takes
    /// the settings of `mer serve`, makes and changes nothing, and fails where something is wrong
    Check(Box<Check>),
    /// Ask the mer that listens here whether it is well; the exit code tells
    Healthcheck(Healthcheck),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

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

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
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

/// How NATS servers are told who this is. For those that `nats_url` names: the embedded one asks for nothing.
#[derive(Debug, Clone, Args)]
pub(crate) struct NatsAccess {
    /// A .creds file, where NATS asks for one
    #[arg(long, env = "MER_NATS_CREDS", group = "nats_credentials", requires = "nats_url")]
    nats_creds: Option<PathBuf>,

    /// A file with the seed of an NKey
    #[arg(long, env = "MER_NATS_NKEY", group = "nats_credentials", requires = "nats_url")]
    nats_nkey: Option<PathBuf>,

    /// A user of NATS, with a password
    #[arg(long, env = "MER_NATS_USER", group = "nats_credentials", requires_all = ["nats_url", "nats_password"])]
    nats_user: Option<String>,

    /// Its password; best not as a flag, which others on the machine see
    #[arg(long, env = "MER_NATS_PASSWORD", hide_env_values = true, requires = "nats_user")]
    nats_password: Option<Hidden>,

    /// A token; best not as a flag either
    #[arg(long, env = "MER_NATS_TOKEN", hide_env_values = true, group = "nats_credentials", requires = "nats_url")]
    nats_token: Option<Hidden>,

    /// PEM certificates to know NATS by, beside those of the system
    #[arg(long, env = "MER_NATS_CA", requires = "nats_url")]
    nats_ca: Option<PathBuf>,

    /// Refuse a NATS server that does not speak TLS
    #[arg(long, env = "MER_NATS_TLS", requires = "nats_url")]
    nats_tls: bool,
}

/// A text that is not shown.
#[derive(Clone)]
pub(crate) struct Hidden(pub(crate) String);

impl From<&str> for Hidden {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

impl NatsAccess {
    /// Who this is. Of the ways to say so there is one at most: clap sees to that.
    pub(crate) fn credentials(&self) -> Credentials {
        match self.clone() {
            Self { nats_creds: Some(path), .. } => Credentials::File(path),
            Self { nats_nkey: Some(path), .. } => Credentials::Nkey(path),
            Self { nats_user: Some(name), nats_password: Some(Hidden(password)), .. } => {
                Credentials::User { name, password }
            }
            Self { nats_token: Some(Hidden(token)), .. } => Credentials::Token(token),
            _ => Credentials::None,
        }
    }

    pub(crate) fn tls(&self) -> Tls {
        Tls { ca: self.nats_ca.clone(), is_required: self.nats_tls }
    }
}

impl From<Egress> for EgressPolicy {
    fn from(egress: Egress) -> Self {
        match egress {
            Egress::Internal => Self::Internal,
            Egress::Public => Self::Public,
        }
    }
}
/// What was given as keys. Read in any case: clap would repeat what it refuses, and so show a secret.
#[derive(Debug, Clone)]
pub(crate) struct SecretKey(Result<SealingKeys, NotAKey>);

impl Options {
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
        self.secret_key.clone().map(|SecretKey(keys)| keys).transpose()
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
    Ok(SecretKey(SealingKeys::parse(text)))
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
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_key_is_never_repeated() {
        let of = |key: &str| {
            let cli = Cli::parse_from(["mer", "serve", "--secret-key", key]);
            let Command::Serve(options) = cli.command else { panic!("another command") };
            options
        };
        let (good, bad) = (of(&format!("{}=", "A".repeat(43))), of("AAAA"));
        assert!(good.secret_keys().unwrap().is_some());
        let error = bad.secret_keys().unwrap_err().to_string();
        assert!(!format!("{good:?} {bad:?} {error}").contains("AAAA"));
    }

    #[test]
    fn nats_is_told_in_one_way_who_this_is_and_nobody_else_is() {
        let of = |arguments: &[&str]| {
            let command = ["mer", "serve", "--nats-url", "nats://host"];
            match Cli::try_parse_from(command.iter().chain(arguments)).map_err(|error| error.to_string())?.command {
                Command::Serve(options) => Ok(format!("{:?} {options:?}", options.nats.credentials())),
                _ => Err("another command".to_owned()),
            }
        };
        for (arguments, expected) in [
            (&[] as &[_], "None "),
            (&["--nats-creds", "file"], "File(file) "),
            (&["--nats-nkey", "file"], "Nkey(file) "),
            (&["--nats-user", "mer", "--nats-password", "canary"], "User(mer) "),
            (&["--nats-token", "canary"], "Token "),
        ] {
            let shown = of(arguments).unwrap();
            assert!(shown.starts_with(expected) && !shown.contains("canary"), "{shown}");
        }
        for arguments in [
            &["--nats-user", "mer"] as &[_],
            &["--nats-password", "canary"],
            &["--nats-user", "mer", "--nats-password", "canary", "--nats-token", "canary"],
            &["--nats-creds", "file", "--nats-nkey", "file"],
        ] {
            let error = of(arguments).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
        assert!(Cli::try_parse_from(["mer", "serve", "--nats-token", "canary"]).is_err());
    }

    #[test]
    fn roles_are_a_list() {
        let cli = Cli::parse_from(["mer", "serve", "--roles", "receiver,hello"]);
        let Command::Serve(options) = cli.command else { panic!("another command") };
        assert!(options.has(Role::Receiver) && options.has(Role::Hello) && !options.has(Role::Dispatcher));
    }
}
