//! Who may do what: the tokens file.
//!
//! A line a token: a name, scopes separated by commas, and the token or `sha256:` and its SHA-256 in hexadecimal. Empty
//! lines, and those that begin with `#`, say nothing. No message repeats what stands in the file: a word in the wrong
//! place may be a token.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// The shortest token that is accepted, in characters: 16 random bytes in base64 without padding have 22.
const MIN_TOKEN_CHARS: usize = 20;
/// The longest, in characters.
const MAX_TOKEN_CHARS: usize = 1024;
const MAX_NAME_CHARS: usize = 64;
const HASHED: &str = "sha256:";

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Sending events.
    Publish,
    /// Registering and unregistering, and all else that changes subscriptions.
    Subscribe,
    /// Reading events, subscriptions and attempts.
    Read,
    /// Everything.
    Admin,
}

impl Scope {
    const ALL: [Self; 4] = [Self::Publish, Self::Subscribe, Self::Read, Self::Admin];

    /// As it stands in the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == text)
    }
}

/// A token's holder. The token itself is not kept, only its hash.
pub(crate) struct Holder {
    name: String,
    scopes: Vec<Scope>,
    digest: [u8; 32],
}

impl Holder {
    /// The name in the file, which is no secret.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its token is good for what needs this scope.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

/// All the tokens that are known; at least one.
pub(crate) struct Tokens(Vec<Holder>);

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadTokens {
    /// The file cannot be read.
    #[error("reading {}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{}, line {line}: {fault}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What.
        fault: Fault,
    },
    /// It holds no token: every request would be refused.
    #[error("{} names no token: leave MER_TOKENS_FILE out if none is to be asked for", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("it is not UTF-8")]
    NotText,
    #[error("it has {0} words; it must have three: NAME SCOPE[,SCOPE] TOKEN")]
    Words(usize),
    #[error("the name must be of letters, digits, `.`, `_` and `-`, at most {MAX_NAME_CHARS}")]
    Name,
    #[error("the name stands in line {0} already")]
    NameAgain(usize),
    #[error("scope {0} of the list is none: they are publish, subscribe, read and admin")]
    Scope(usize),
    #[error(
        "the token must have {MIN_TOKEN_CHARS} to {MAX_TOKEN_CHARS} characters, as `openssl rand -hex 32` makes it"
    )]
    Length,
    #[error("the token may have only letters, digits and -._~+/, with = at its end")]
    Characters,
    #[error("behind `{HASHED}` there must be 64 hexadecimal digits")]
    Hash,
    #[error("the token stands in line {0} already")]
    TokenAgain(usize),
}

impl Tokens {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, BadTokens> {
        let path = path.to_owned();
        match std::fs::read(&path) {
            Ok(bytes) => match Self::parse(&bytes) {
                Ok(tokens) if tokens.0.is_empty() => Err(BadTokens::Empty { path }),
                Ok(tokens) => Ok(tokens),
                Err((line, fault)) => Err(BadTokens::Wrong { path, line, fault }),
            },
            Err(error) => Err(BadTokens::Unreadable { path, error }),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, (usize, Fault)> {
        let (mut holders, mut names, mut digests) = (Vec::new(), HashMap::new(), HashMap::new());
        for (line, bytes) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let text = std::str::from_utf8(bytes).map_err(|_| (line, Fault::NotText))?.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let holder = Holder::parse(text).map_err(|fault| (line, fault))?;
            if let Some(earlier) = names.insert(holder.name.clone(), line) {
                return Err((line, Fault::NameAgain(earlier)));
            }
            if let Some(earlier) = digests.insert(holder.digest, line) {
                return Err((line, Fault::TokenAgain(earlier)));
            }
            holders.push(holder);
        }
        Ok(Self(holders))
    }

    /// Whose token it is. How long it takes does not tell how much of it is right: hashes are compared, each with every
    /// one, in constant time.
    pub(crate) fn holder(&self, token: &[u8]) -> Option<&Holder> {
        let digest = Sha256::digest(token);
        let mut found = None;
        for holder in &self.0 {
            let same: Choice = holder.digest.ct_eq(digest.as_slice());
            if bool::from(same) {
                found = Some(holder);
            }
        }
        found
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Shows nothing of them.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

impl Holder {
    fn parse(line: &str) -> Result<Self, Fault> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, scopes, token] = words.as_slice() else { return Err(Fault::Words(words.len())) };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.len() > MAX_NAME_CHARS || !name.chars().all(is_name) {
            return Err(Fault::Name);
        }
        let scopes = (1..).zip(scopes.split(',')).map(|(n, scope)| Scope::parse(scope).ok_or(Fault::Scope(n)));
        Ok(Self { name: (*name).to_owned(), scopes: scopes.collect::<Result<_, _>>()?, digest: digest_of(token)? })
    }
}

/// The hash of a token as it stands in the file. What may stand in one: RFC 6750, section 2.1.
fn digest_of(token: &str) -> Result<[u8; 32], Fault> {
    if let Some(hex) = token.strip_prefix(HASHED) {
        return unhex(hex).ok_or(Fault::Hash);
    }
    if !(MIN_TOKEN_CHARS..=MAX_TOKEN_CHARS).contains(&token.len()) {
        return Err(Fault::Length);
    }
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    if !token.trim_end_matches('=').chars().all(is_of_token) {
        return Err(Fault::Characters);
    }
    Ok(Sha256::digest(token).into())
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdefghij";

    fn fault(text: &str) -> Option<(usize, Fault)> {
        Tokens::parse(text.as_bytes()).err()
    }

    #[test]
    fn tokens_are_found_by_themselves_plain_or_hashed() {
        let other = "another-one-of-20+chars==";
        let hash: String = Sha256::digest(other).iter().map(|byte| format!("{byte:02X}")).collect();
        let text = format!("# who\n\n a publish,read {TOKEN}\r\nb\tadmin  sha256:{hash}\n");
        let tokens = Tokens::parse(text.as_bytes()).unwrap();
        let (a, b) = (tokens.holder(TOKEN.as_bytes()).unwrap(), tokens.holder(other.as_bytes()).unwrap());
        assert_eq!((a.name(), b.name(), tokens.len()), ("a", "b", 2));
        assert!(a.may(Scope::Publish) && a.may(Scope::Read) && !a.may(Scope::Subscribe) && !a.may(Scope::Admin));
        assert!(Scope::ALL.into_iter().all(|scope| b.may(scope)));
        for unknown in ["", "a", &TOKEN[1..], &format!("{TOKEN}k"), &hash, &format!("sha256:{hash}")] {
            assert!(tokens.holder(unknown.as_bytes()).is_none(), "{unknown}");
        }
    }

    #[test]
    fn a_bad_line_is_named_and_not_repeated() {
        for (line, expected) in [
            (TOKEN.to_owned(), Fault::Words(1)),
            (format!("a read {TOKEN} more"), Fault::Words(4)),
            (format!("a:{TOKEN} read {TOKEN}"), Fault::Name),
            (format!("{} read {TOKEN}", TOKEN.repeat(4)), Fault::Name),
            (format!("a {TOKEN} read"), Fault::Scope(1)),
            (format!("a read,Publish {TOKEN}"), Fault::Scope(2)),
            (format!("a read, {TOKEN}"), Fault::Scope(2)),
            ("a read short".to_owned(), Fault::Length),
            (format!("a read {}", TOKEN.repeat(100)), Fault::Length),
            (format!("a read {TOKEN}:"), Fault::Characters),
            (format!("a read =={TOKEN}"), Fault::Characters),
            (format!("a read sha256:{TOKEN}"), Fault::Hash),
            (format!("a read sha256:{}", "+1".repeat(32)), Fault::Hash),
        ] {
            let found = fault(&format!("ok read {TOKEN}x\n\n{line}\n"));
            assert_eq!(found, Some((3, expected)), "{line}");
            let (line, fault) = found.unwrap();
            let told = BadTokens::Wrong { path: "tokens".into(), line, fault };
            assert!(!format!("{told} {told:?}").contains(TOKEN), "{told}");
        }
        assert_eq!(Tokens::parse(b"# \n\xff").err(), Some((2, Fault::NotText)));
    }

    #[test]
    fn names_and_tokens_stand_once() {
        assert_eq!(fault(&format!("a read {TOKEN}\na read {TOKEN}1")), Some((2, Fault::NameAgain(1))));
        let hash: String = Sha256::digest(TOKEN).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(fault(&format!("a read {TOKEN}\nb admin sha256:{hash}")), Some((2, Fault::TokenAgain(1))));
    }

    #[test]
    fn nothing_of_them_is_shown() {
        let tokens = Tokens::parse(format!("a read {TOKEN}").as_bytes()).unwrap();
        assert_eq!(format!("{tokens:?}"), "Tokens(1)");
    }
}
