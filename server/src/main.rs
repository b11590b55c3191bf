//! `mer`: one binary, many roles.
//!
//! - [`cli`]: the command line.
//! - [`settings`]: the settings of `mer serve`, from flags and environment variables.
//! - [`serve`]: starts the roles of one process, watches them and stops them together.
//! - [`admission`]: stands in front of all routes: tokens, and the limit of requests under way.
//! - [`routes`]: the routes of the roles, `/healthz`, `/readyz`, `/metrics`, `/openapi.json`, `/docs` and the sample listener.
//! - [`commands`]: `mer check`, `mer healthcheck`, and the commands that ask a running mer.
//! - [`embedded_nats`]: the nats-server of an installation that names none.
//! - [`log`]: the log's filter and format; `allocator`: mimalloc.
//!
//! Imports go one way: `cli`, then `commands` and `serve`, then `routes`, then `admission` and `settings`. This crate must not
//! know how events are stored or delivered: the other crates do that, and this one puts them together.

mod admission;
#[cfg(feature = "mimalloc")]
mod allocator;
mod cli;
mod commands;
mod embedded_nats;
mod log;
mod routes;
mod serve;
mod settings;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use commands::{check, dead, events, healthcheck, status, subs, trace};
use log::LogFormat;

/// How many tasks a thread of the runtime may run before it looks what has come in meanwhile (61, if nothing is said). Where an
/// event is for many URLs, it is sent to so many before the first answers are dealt with; the last URL has it sooner.
const EVENT_INTERVAL: u32 = 1024;
/// How long what still runs at the end may take.
const END_DEADLINE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Command::Completions { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "mer", &mut script);
        return ended(io::stdout().write_all(&script).map_err(Into::into));
    }
    let (directives, format) = match &command {
        Command::Serve(settings) => (settings.log.as_str(), settings.log_format),
        // What a connection says while it is looked at is in what is found.
        Command::Check(_) => ("warn,async_nats=off", LogFormat::Text),
        _ => ("warn", LogFormat::Text),
    };
    log::start(directives, format);
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("tls.provider_already_installed");
    }
    // The runtime's own thread runs the main task, and starts the embedded nats-server: see `embedded_nats`.
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(EVENT_INTERVAL).build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "mer.no_runtime");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match command {
            Command::Serve(settings) => serve::serve(*settings).await,
            Command::Events { command, access } => events::run(command, &access).await,
            Command::Log { command, access } => commands::log::run(command, &access).await,
            Command::Subs { command, access } => subs::run(command, &access).await,
            Command::Status { access } => status::run(&access).await,
            Command::Dead { command, access } => dead::run(command, &access).await,
            Command::Trace { transaction, access } => trace::run(&transaction, &access).await,
            Command::Check(check) => check::run(&check).await,
            Command::Healthcheck(check) => healthcheck::run(&check).await,
            Command::Completions { .. } => Ok(()),
        }
    });
    // What hangs in a disk that does not answer is not waited for.
    runtime.shutdown_timeout(END_DEADLINE);
    ended(result)
}

/// Says what went wrong, if anything did.
fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the output has closed it, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the reader of standard output has closed it.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
