//! The command line: each command with its arguments.

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::commands::check::Check;
use crate::commands::client::ApiAccess;
use crate::commands::dead::DeadCommand;
use crate::commands::events::EventsCommand;
use crate::commands::healthcheck::Healthcheck;
use crate::commands::log::LogCommand;
use crate::commands::subs::SubsCommand;
use crate::settings::Settings;

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
    Serve(Box<Settings>),
    /// Read the log of a running mer, and add to it
    Events {
        #[command(subcommand)]
        command: EventsCommand,
        #[command(flatten)]
        access: ApiAccess,
    },
    /// Which log a running mer has, and how much of it there is
    Log {
        #[command(subcommand)]
        command: LogCommand,
        #[command(flatten)]
        access: ApiAccess,
    },
    /// What is registered with a running mer, and how it stands
    Subs {
        #[command(subcommand)]
        command: SubsCommand,
        #[command(flatten)]
        access: ApiAccess,
    },
    /// How all stands, and what needs attention
    Status {
        #[command(flatten)]
        access: ApiAccess,
    },
    /// Events that subscriptions have given up on
    Dead {
        #[command(subcommand)]
        command: DeadCommand,
        #[command(flatten)]
        access: ApiAccess,
    },
    /// Show a transaction's events in order, with which URL got each when
    Trace {
        /// The transaction's id
        transaction: String,
        #[command(flatten)]
        access: ApiAccess,
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
