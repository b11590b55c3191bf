//! `mer`: one binary, many roles.
//!
//! - [`config`]: flags and environment variables.
//! - [`serve`]: the roles of one process, started, watched and stopped together.
//! - [`door`]: the way in, before and after the roles are there.
//! - [`ops`]: `/healthz` and `/readyz`.
//! - [`embedded_nats`]: the nats-server of an installation that names none.
//! - [`hello`]: the sample listener.
//!
//! Everything that serves events lives in the other crates; this one puts them together.

mod config;
mod door;
mod embedded_nats;
mod hello;
mod ops;
mod serve;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use config::{Cli, Command};

fn main() -> ExitCode {
    let Cli { command: Command::Serve(options) } = Cli::parse();
    let filter = EnvFilter::try_new(&options.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let in_colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(in_colour).init();
    // The runtime's own thread runs the main task, and starts the embedded nats-server: see `embedded_nats`.
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "mer.no_runtime");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve::serve(*options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "mer.failed");
            eprintln!("mer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
