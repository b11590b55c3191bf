//! What every command asks a running mer with.

use std::fmt;
use std::io::{Write, stdout};

use anyhow::Context;
use clap::Args;
use futures_util::{Stream, TryStreamExt};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio_util::io::StreamReader;

/// How a command reaches mer, and shows what it gets.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApiAccess {
    /// Where mer listens
    #[arg(long, env = "MER_URL", default_value = "http://127.0.0.1:8888", global = true)]
    pub(crate) url: String,

    /// A token, where mer asks for one; best not as a flag, which others on the machine see
    #[arg(long, env = "MER_TOKEN", hide_env_values = true, global = true)]
    pub(crate) token: Option<Token>,

    /// Show answers as JSON, one a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl ApiAccess {
    /// Shows an answer: as JSON, or else as `for_people` writes it.
    pub(crate) fn show(&self, answer: &Value, for_people: impl FnOnce(&Value) -> String) -> anyhow::Result<()> {
        let shown = if self.json { answer.to_string() } else { printable(&for_people(answer)) };
        writeln!(stdout(), "{shown}")?;
        Ok(())
    }

    /// Shows all of an answer: as JSON, or else as JSON over several lines.
    pub(crate) fn show_all(&self, answer: &Value) -> anyhow::Result<()> {
        let lines = serde_json::to_string_pretty(answer)?;
        self.show(answer, |_| lines)
    }
}

/// A text without what would drive a terminal: control characters (C1 too, which JSON leaves as they are) as JSON escapes.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push(c),
            c if c.is_control() => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown
}

/// A bearer token, which is not shown.
#[derive(Clone)]
pub(crate) struct Token(String);

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// An answer that is none of those that were hoped for.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {said}")]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    said: String,
}

/// Whether mer answered with this status.
pub(crate) fn is_refused_with(error: &anyhow::Error, status: StatusCode) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == status)
}

/// A client of one mer.
pub(crate) struct Api {
    base: String,
    token: Option<Token>,
    client: Client,
}

impl Api {
    pub(crate) fn new(access: &ApiAccess) -> anyhow::Result<Self> {
        // An answer may name an address that the data names: nobody else's data says whom this command asks.
        let client = Client::builder().no_proxy().redirect(Policy::none());
        let client = client.build().context("making the HTTP client")?;
        let token = access.token.clone().filter(|Token(token)| !token.is_empty());
        Ok(Self { base: access.url.trim_end_matches('/').to_owned(), token, client })
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(Token(token)) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request; an answer that is a problem becomes an error that says what it says.
    pub(crate) async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        self.send_for(request, StatusCode::is_success).await
    }

    /// The same where an answer with another status may be good, too.
    pub(crate) async fn send_for(
        &self,
        request: RequestBuilder,
        is_good: impl Fn(&StatusCode) -> bool,
    ) -> anyhow::Result<Response> {
        let response = request.send().await.with_context(|| format!("asking {} (--url, MER_URL)", self.base))?;
        let status = response.status();
        if is_good(&status) {
            return Ok(response);
        }
        let problem: Value = response.json().await.unwrap_or_default();
        let unsaid =
            if status.is_redirection() { "mer does not redirect here: what listens there?" } else { "no reason given" };
        let mut said = problem["detail"].as_str().unwrap_or(unsaid).to_owned();
        for error in problem["errors"].as_array().into_iter().flatten() {
            let place =
                ["pointer", "parameter", "header"].iter().find_map(|kind| error[kind].as_str()).unwrap_or_default();
            said = format!("{said}\n  {place}: {}", error["detail"].as_str().unwrap_or_default());
        }
        Err(Refused { status, said }.into())
    }

    /// Sends a request that is answered with JSON.
    pub(crate) async fn json(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        Ok(self.send(request).await?.json().await?)
    }

    /// Sends a request that is answered with lines, for as long as there are any.
    pub(crate) async fn lines(
        &self,
        request: RequestBuilder,
    ) -> anyhow::Result<Lines<BufReader<impl tokio::io::AsyncRead + Unpin>>> {
        let bytes = self.send(request).await?.bytes_stream();
        Ok(lines_of(Box::pin(bytes.map_err(std::io::Error::other))))
    }
}

fn lines_of<B: bytes::Buf>(
    bytes: impl Stream<Item = std::io::Result<B>> + Unpin,
) -> Lines<BufReader<impl tokio::io::AsyncRead + Unpin>> {
    BufReader::new(StreamReader::new(bytes)).lines()
}
