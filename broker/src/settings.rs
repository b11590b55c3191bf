//! How to reach NATS, and what to make there.

pub mod credentials;
pub mod limits;

use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};

use credentials::{BadCredentials, Credentials, Tls};
use limits::Limits;

use crate::connection::storage::Storage;

/// How to reach NATS, and what to make there.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses, separated by commas: `nats://host:4222`.
    pub url: String,
    /// The user, where the server asks for one.
    pub credentials: Credentials,
    /// Whether TLS is required, and which certificates are trusted.
    pub tls: Tls,
    /// The name of this process in `nats server report connections`.
    pub name: String,
    /// Copies of each stream and bucket that is made (1, 3 or 5).
    pub replicas: usize,
    /// How long a repeated idempotency key is recognised.
    pub duplicate_window: Duration,
    /// Whether this process looks after the log, as a dispatcher does, and makes the bucket `LOG`.
    pub keeps_log: bool,
    /// The limits of the log, where they are set.
    pub limits: Limits,
    /// What is known of the storage under NATS. Where this process starts nats-server itself, it tells it here.
    pub storage: Storage,
}

/// Why NATS cannot be reached with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// It is no address.
    #[error("`{url}` is not the address of a NATS server, like `nats://127.0.0.1:4222`: {why}")]
    Address {
        /// What was given, without user and password.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The credentials, or the certificates, cannot be used.
    #[error(transparent)]
    Credentials(#[from] BadCredentials),
}

/// The servers that a configuration names.
pub(crate) fn addresses_of(url: &str) -> Result<Vec<ServerAddr>, BadConfig> {
    url.split(',').map(|address| address.trim().parse().map_err(|error| bad_address(url, error))).collect()
}

/// The client library's options: user and TLS.
pub(crate) async fn options_of(config: &Config) -> Result<ConnectOptions, BadConfig> {
    let options = config.tls.apply(ConnectOptions::new()).await?;
    let options = match &config.credentials {
        Credentials::None => Credentials::in_addresses(&addresses_of(&config.url)?)?.apply(options).await?,
        credentials => credentials.apply(options).await?,
    };
    Ok(options.name(&config.name))
}

pub(crate) fn bad_address(url: &str, why: impl std::error::Error) -> BadConfig {
    BadConfig::Address { url: last_host_of(url).to_owned(), why: why.to_string() }
}

/// The part of a text that is surely no password. In a text that is no list of addresses, a comma or an `@` may be part of a
/// password.
fn last_host_of(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, host)| host)
}

/// Addresses without user and password.
pub(crate) fn redacted(url: &str) -> String {
    let without_user = |address: &str| match address.rsplit_once('@') {
        Some((_, host)) => host.to_owned(),
        None => address.to_owned(),
    };
    url.split(',').map(without_user).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_told_without_a_password() {
        for url in ["nats://u:canary,canary@host", "nats://u:can:ary@canary@host:x", "u:canary@h,nats://u:canary@ho st"]
        {
            let error = addresses_of(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
        assert!(addresses_of("no port:x").unwrap_err().to_string().contains("no port:x"));
        assert_eq!(redacted("nats://u:canary@h1,nats://h2,u:canary@h3:1"), "h1,nats://h2,h3:1");
    }
}
