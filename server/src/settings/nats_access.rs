//! How mer reaches NATS servers.

use std::path::PathBuf;

use anyhow::ensure;
use broker::{Credentials, Tls};
use clap::Args;

use super::hidden::Hidden;

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
    #[arg(long, env = "MER_NATS_TLS")]
    nats_tls: bool,
}

impl NatsAccess {
    /// Whether what is said fits an installation whose servers are named, or that has an embedded one.
    pub(crate) fn check(&self, is_server_named: bool) -> anyhow::Result<()> {
        // Not clap's `requires`: a variable that says `false` asks for nothing.
        ensure!(
            is_server_named || !self.nats_tls,
            "MER_NATS_TLS asks for TLS, and the embedded nats-server does not speak it: name a server with MER_NATS_URL"
        );
        Ok(())
    }

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
