//! `mer`: one binary, many roles.
//!
//! - [`config`], [`events_limits`], [`collector`]: flags and environment variables.
//! - [`log`]: what is logged, and how.
//! - [`serve`]: the roles of one process, started, watched and stopped together.
//! - [`door`]: the way in, before and after the roles are there.
//! - [`tokens`]: who may do what, out of the tokens file; [`auth`]: asked at each request.
//! - [`overload`]: how many requests may be under way.
//! - [`ops`]: `/healthz` and `/readyz`; [`metrics`]: `/metrics`; [`docs`]: `/openapi.json` and `/docs`.
//! - [`embedded_nats`]: the nats-server of an installation that names none.
//! - [`hello`]: the sample listener.
//! - `allocator`: what memory comes from.
//! - [`check`]: whether NATS is as it should be, and how to mend what is not.
//! - [`healthcheck`]: whether the mer that listens here is well.
//! - [`client`], [`events`], [`subs`], [`dead`], [`trace`]: the commands that ask a running mer.
//!
//! Everything that serves events lives in the other crates; this one puts them together.

#[cfg(feature = "jemalloc")]
mod allocator;
mod auth;
mod check;
mod client;
mod collector;
mod config;
mod dead;
mod docs;
mod door;
mod embedded_nats;
mod events;
mod events_limits;
mod healthcheck;
mod hello;
mod log;
mod metrics;
mod ops;
mod overload;
mod serve;
mod subs;
mod tokens;
mod trace;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use config::{Cli, Command};
use log::LogFormat;

/// How many tasks a thread of the runtime may run before it looks what has come in meanwhile (61, if nothing is said). Where an
/// event is for many URLs, it is sent to so many before the first answers are dealt with; the last URL has it sooner.
const EVENT_INTERVAL: u32 = 1024;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Command::Completions { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "mer", &mut script);
        return ended(io::stdout().write_all(&script).map_err(Into::into));
    }
    let (directives, format) = match &command {
        Command::Serve(options) => (options.log.as_str(), options.log_format),
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
            Command::Serve(options) => serve::serve(*options).await,
            Command::Events { command, access } => events::run(command, &access).await,
            Command::Subs { command, access } => subs::run(command, &access).await,
            Command::Dead { command, access } => dead::run(command, &access).await,
            Command::Trace { transaction, access } => trace::run(&transaction, &access).await,
            Command::Check(check) => check::run(&check).await,
            Command::Healthcheck(check) => healthcheck::run(&check).await,
            Command::Completions { .. } => Ok(()),
        }
    });
    ended(result)
}

/// Says what went wrong, if anything did.
fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has had enough, as `head` has.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether it is that nobody reads standard output any more.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
