//! One server: whether it lets mer in, and what it says when it is asked.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::ErrorCode;
use async_nats::{Client, ConnectError, ConnectErrorKind, Event, ServerAddr};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::log_epoch::LogRecord;
use domain::log_holes::LogHoles;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::finding::Finding;
use crate::buckets::entry;
use crate::connection::OLDEST_SERVER;
use crate::log::lookup;
use crate::names::{EVENTS, HOLES, LOG, RECORD};
use crate::poison::header_block;
use crate::settings::{BadConfig, Config, options_of, redacted};

/// How long a server may take to let somebody in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// How long the record of the log may take to come: where this user may not read it, nothing comes.
const RECORD_DEADLINE: Duration = Duration::from_secs(1);
/// What a message has beside a body: headers, and some room.
const HEADER_ALLOWANCE: usize = 16 * 1024;

/// A server that has let us in.
pub(super) struct Server {
    address: String,
    client: Client,
    /// What it has refused last, in its own words.
    refused: Arc<Mutex<Option<String>>>,
}

pub(super) async fn reach(config: &Config, address: ServerAddr) -> Result<Result<Server, Finding>, BadConfig> {
    let refused = Arc::new(Mutex::new(None));
    let noted = refused.clone();
    let options = options_of(config)
        .await?
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ignore_discovered_servers()
        .event_callback(move |event| {
            if let Event::ServerError(error) = event {
                *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
            std::future::ready(())
        });
    let shown = format!("nats://{}:{}", address.host(), address.port());
    Ok(match options.connect(address).await {
        Ok(client) => Ok(Server { address: shown, client, refused }),
        Err(error) => Err(out_of_reach(&shown, &error)),
    })
}

fn out_of_reach(address: &str, error: &ConnectError) -> Finding {
    let text = redacted(&error.to_string());
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    let kind = match source.map(io::Error::kind) {
        // What the two sides could not agree on while TLS began.
        Some(io::ErrorKind::InvalidData) => ConnectErrorKind::Tls,
        _ => error.kind(),
    };
    match kind {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => Finding::wrong(
            address,
            format!("it does not let mer in: {text}"),
            "say who mer is: MER_NATS_CREDS, MER_NATS_NKEY, MER_NATS_USER with MER_NATS_PASSWORD, or MER_NATS_TOKEN",
        ),
        ConnectErrorKind::Tls => Finding::wrong(
            address,
            format!("no TLS with it: {text}"),
            "name the certificate that signed its own in MER_NATS_CA; if it speaks no TLS, leave MER_NATS_TLS out",
        ),
        ConnectErrorKind::Dns => Finding::away(
            address,
            format!("its name is not known: {text}"),
            "correct MER_NATS_URL, or the name's record",
        ),
        ConnectErrorKind::TimedOut => Finding::away(
            address,
            "it does not answer: a firewall, a server that hangs, or nothing of NATS",
            "look whether nats-server runs there, and whether its port can be reached from here",
        ),
        _ => Finding::away(
            address,
            format!("nothing lets mer in there: {text}"),
            "start nats-server, or correct MER_NATS_URL",
        ),
    }
}

impl Server {
    /// What is to be said of it.
    pub(super) fn judge(&self, max_body_bytes: usize) -> Vec<Finding> {
        let info = self.client.server_info();
        let (major, minor) = OLDEST_SERVER;
        let name = format!("{} (nats-server {})", info.server_name, info.version);
        let mut findings = vec![if self.client.is_server_compatible(major, minor, 0) {
            Finding::ok(&self.address, name)
        } else {
            let found = format!("{name} is older than {major}.{minor}, and cannot set a consumer back");
            Finding::wrong(&self.address, found, format!("upgrade it to {major}.{minor} or later"))
        }];
        if info.lame_duck_mode {
            findings.push(Finding::warn(
                &self.address,
                "it is about to stop",
                "nothing, where another one takes its place",
            ));
        }
        if info.max_payload < max_body_bytes + HEADER_ALLOWANCE {
            let found = format!(
                "it takes {} bytes a message, and MER_MAX_BODY_BYTES lets in {max_body_bytes}: the largest are refused",
                info.max_payload
            );
            let mend =
                format!("max_payload: {} in its configuration, or a lower MER_MAX_BODY_BYTES", 2 * max_body_bytes);
            findings.push(Finding::warn(&self.address, found, mend));
        }
        findings
    }

    /// A stream's information; `None` where there is no such stream.
    pub(super) async fn ask_about(&self, stream: &str) -> Result<Option<Value>, Finding> {
        let subject = format!("$JS.API.STREAM.INFO.{stream}");
        let answer = self.answer(&subject, "", stream).await?;
        match error_of(&answer) {
            None => Ok(Some(answer)),
            Some((Some(ErrorCode::STREAM_NOT_FOUND), _)) => Ok(None),
            Some((_, text)) => Err(Finding::away(stream, text, "look at the log of nats-server")),
        }
    }

    /// What is recorded of the log; `None` where it cannot be read, as by a user of an earlier version.
    pub(super) async fn log_record(&self) -> Option<LogRecord> {
        self.of_log(RECORD).await
    }

    /// What is recorded of the log's holes; `None` as for [`Server::log_record`].
    pub(super) async fn log_holes(&self) -> Option<LogHoles> {
        self.of_log(HOLES).await
    }

    /// The keys of a bucket, those that were removed of late among them; `None` where they cannot be listed.
    pub(super) async fn keys_of(&self, bucket: &str) -> Option<BTreeSet<String>> {
        let (subject, prefix) = (format!("$JS.API.STREAM.INFO.KV_{bucket}"), format!("$KV.{bucket}."));
        let body = json!({"subjects_filter": format!("{prefix}>")}).to_string();
        let answer = timeout(RECORD_DEADLINE, self.client.request(subject, body.into())).await.ok()?.ok()?;
        let answer: Value = serde_json::from_slice(&answer.payload).ok()?;
        let total = answer["total"].as_u64().unwrap_or(0);
        let Some(subjects) = answer["state"]["subjects"].as_object() else {
            return (answer["state"]["messages"] == 0).then(BTreeSet::new);
        };
        // Where they do not fit into one answer, nothing is said of any.
        let is_whole = total <= subjects.len() as u64;
        is_whole
            .then(|| subjects.keys().filter_map(|subject| Some(subject.strip_prefix(&prefix)?.to_owned())).collect())
    }

    /// Whether a key of a bucket holds a value, as far as this user may see it.
    pub(super) async fn holds(&self, bucket: &str, key: &str) -> bool {
        let subject = format!("$JS.API.STREAM.MSG.GET.KV_{bucket}");
        let body = json!({"last_by_subj": format!("$KV.{bucket}.{key}")}).to_string();
        let answer = timeout(RECORD_DEADLINE, self.client.request(subject, body.into())).await;
        let answer: Option<Value> =
            answer.ok().and_then(Result::ok).and_then(|m| serde_json::from_slice(&m.payload).ok());
        answer.is_some_and(|answer| {
            let headers = STANDARD.decode(answer["message"]["hdrs"].as_str().unwrap_or_default()).unwrap_or_default();
            let headers = header_block::parse(&headers);
            answer["message"].is_object() && !entry::is_marker(headers.as_ref())
        })
    }

    async fn of_log<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let subject = format!("$JS.API.STREAM.MSG.GET.KV_{LOG}");
        let body = json!({"last_by_subj": format!("$KV.{LOG}.{key}")}).to_string();
        let answer = timeout(RECORD_DEADLINE, self.client.request(subject, body.into())).await.ok()?.ok()?;
        let answer: Value = serde_json::from_slice(&answer.payload).ok()?;
        let value = STANDARD.decode(answer["message"]["data"].as_str()?).ok()?;
        serde_json::from_slice(&value).ok()
    }

    /// What JetStream answers to a request.
    pub(super) async fn ask(&self, subject: &str) -> Result<Value, Finding> {
        let answer = self.answer(subject, "", "jetstream").await?;
        match error_of(&answer) {
            None => Ok(answer),
            Some((Some(ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT), _)) => {
                Err(jetstream_is_off("for the account of this user"))
            }
            Some((_, text)) => Err(Finding::away("jetstream", text, "look at the log of nats-server")),
        }
    }

    /// The last event of the log, as far as this user may see it.
    pub(super) async fn last_event(&self) -> Option<domain::Event> {
        let subject = format!("$JS.API.STREAM.MSG.GET.{EVENTS}");
        lookup::event_in(self.answer(&subject, r#"{"last_by_subj":"events.>"}"#, EVENTS).await.ok()?)
    }

    async fn answer(&self, subject: &str, question: &'static str, what: &str) -> Result<Value, Finding> {
        match self.client.request(subject.to_owned(), question.into()).await {
            Ok(message) => serde_json::from_slice(&message.payload)
                .map_err(|error| Finding::wrong(what, format!("{subject} is not answered in JSON: {error}"), "")),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(jetstream_is_off("on this server")),
            Err(error) => {
                let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Err(match refused {
                    Some(said) => Finding::wrong(
                        what,
                        format!("no answer to {subject}; the server says: {said}"),
                        "give this user the permissions of deploy/nats/users.conf",
                    ),
                    None => {
                        let found = format!("no answer to {subject}: {error}");
                        Finding::away(what, found, "wait for a leader, or look at the log of nats-server")
                    }
                })
            }
        }
    }
}

fn jetstream_is_off(place: &str) -> Finding {
    Finding::wrong(
        "jetstream",
        format!("JetStream is off {place}: nothing can be stored"),
        "jetstream { store_dir: … } in nats-server's configuration; with accounts, jetstream: enabled in mer's",
    )
}

fn error_of(answer: &Value) -> Option<(Option<ErrorCode>, String)> {
    let error = answer.get("error")?;
    let code = serde_json::from_value(error["err_code"].clone()).ok();
    Some((code, error["description"].as_str().unwrap_or("an error without a description").to_owned()))
}
