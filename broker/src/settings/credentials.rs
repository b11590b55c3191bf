//! Credentials for NATS, and TLS to it.

use std::fmt;
use std::path::PathBuf;

use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;
use tokio::fs;

/// The user of this process, for NATS.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// No user, or the one that the addresses name: `nats://user:password@host`, or `nats://token@host`.
    #[default]
    None,
    /// A `.creds` file: a JWT and the seed that belongs to it.
    File(PathBuf),
    /// A file with the seed of an NKey.
    Nkey(PathBuf),
    /// A user and a password.
    User {
        /// The user.
        name: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
}

/// Shows the kind and no secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Nkey(path) => write!(f, "Nkey({})", path.display()),
            Self::User { name, .. } => write!(f, "User({name})"),
            Self::Token(_) => f.write_str("Token"),
        }
    }
}

/// TLS to NATS. A server that asks for TLS gets it in any case.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// PEM certificates to trust beside those of the system.
    pub ca: Option<PathBuf>,
    /// Whether a server without TLS is refused.
    pub is_required: bool,
}

/// Why credentials or certificates cannot be used. It shows nothing of their contents.
#[derive(Debug, thiserror::Error)]
pub enum BadCredentials {
    /// The file cannot be read.
    #[error("reading {}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The addresses name several users.
    #[error(
        "the addresses of the NATS servers name several users or tokens: say who this is with MER_NATS_USER or MER_NATS_TOKEN"
    )]
    Several,
    /// The file is not what it should be.
    #[error("{} is not {expected}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
}

impl Credentials {
    /// The user that the addresses name. The client library reads its options only, which hold for all servers: so all
    /// addresses with a user must name the same one.
    pub(crate) fn in_addresses(addresses: &[ServerAddr]) -> Result<Self, BadCredentials> {
        let mut found = addresses.iter().map(Self::in_address).filter(|credentials| *credentials != Self::None);
        let first = found.next().unwrap_or_default();
        if found.all(|other| other == first) { Ok(first) } else { Err(BadCredentials::Several) }
    }

    fn in_address(address: &ServerAddr) -> Self {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        match (address.username(), address.password()) {
            (Some(name), Some(password)) => Self::User { name: decoded(name), password: decoded(password) },
            (Some(token), None) => Self::Token(decoded(token)),
            (None, _) => Self::None,
        }
    }

    /// Adds the credentials to the options. Files are read once: a change counts from the next start on.
    pub(crate) async fn apply(&self, options: ConnectOptions) -> Result<ConnectOptions, BadCredentials> {
        match self {
            Self::None => Ok(options),
            Self::File(path) => options.credentials(&read(path).await?).map_err(|_| BadCredentials::Unusable {
                path: path.clone(),
                expected: "a .creds file, with a JWT and the seed of a user",
            }),
            Self::Nkey(path) => match read(path).await?.trim() {
                seed if is_seed(seed) => Ok(options.nkey(seed.to_owned())),
                _ => Err(BadCredentials::Unusable {
                    path: path.clone(),
                    expected: "the seed of a user's NKey, which begins with SU and has 58 characters",
                }),
            },
            Self::User { name, password } => Ok(options.user_and_password(name.clone(), password.clone())),
            Self::Token(token) => Ok(options.token(token.clone())),
        }
    }
}

impl Tls {
    pub(crate) async fn apply(&self, options: ConnectOptions) -> Result<ConnectOptions, BadCredentials> {
        let options = options.require_tls(self.is_required);
        let Some(path) = &self.ca else { return Ok(options) };
        if read(path).await?.contains("-----BEGIN CERTIFICATE-----") {
            return Ok(options.add_root_certificates(path.clone()));
        }
        Err(BadCredentials::Unusable { path: path.clone(), expected: "a PEM file with certificates" })
    }
}

async fn read(path: &PathBuf) -> Result<String, BadCredentials> {
    fs::read_to_string(path).await.map_err(|error| BadCredentials::Unreadable { path: path.clone(), error })
}

/// Whether a text looks like the seed of a user: base32, with a user's first two letters. The server checks the rest.
fn is_seed(text: &str) -> bool {
    text.len() == 58
        && text.starts_with("SU")
        && text.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let user = Credentials::User { name: "mer".to_owned(), password: "canary".to_owned() };
        let shown = format!("{user:?} {:?}", Credentials::Token("canary".to_owned()));
        assert_eq!(shown, "User(mer) Token");
    }

    #[test]
    fn addresses_name_one_user_or_token() {
        let named = |urls: &[&str]| {
            Credentials::in_addresses(&urls.iter().map(|url| url.parse().unwrap()).collect::<Vec<ServerAddr>>())
        };
        let user = |name: &str, password: &str| Credentials::User { name: name.into(), password: password.into() };
        for (urls, expected) in [
            (&["nats://a", "b:4222"] as &[_], Credentials::None),
            (&["nats://me:p%40ss@a", "nats://me:p%40ss@b", "c"], user("me", "p@ss")),
            (&["nats://secret@a"], Credentials::Token("secret".into())),
        ] {
            assert!(named(urls).unwrap() == expected, "{urls:?}");
        }
        assert!(matches!(named(&["nats://me:1@a", "nats://me:2@b"]), Err(BadCredentials::Several)));
    }

    #[test]
    fn a_seed_of_a_user_is_told_from_what_is_none() {
        let seed = format!("SU{}", "A2".repeat(28));
        assert!(is_seed(&seed));
        for bad in ["", &seed[1..], &seed.to_lowercase(), &seed.replace("SU", "SA"), &seed.replace('2', "1")] {
            assert!(!is_seed(bad), "{bad}");
        }
    }
}
