//! Whether NATS is as mer needs it: what a client can see of servers, account, objects and clock, each with how to mend
//! it. Looks only: nothing is made or changed.

mod finding;
mod objects;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::{ErrorCode, stream};
use async_nats::{Client, ConnectError, ConnectErrorKind, Event, ServerAddr};
use domain::Stamp;
use domain::subscription::CLOCK_SKEW_MARGIN_MICROS;
use futures_util::future::join_all;
use serde_json::Value;

use crate::connection::{BadConfig, Config, OLDEST_SERVER, addresses_of, options_of, redacted};
use crate::topology::{EVENTS, Kind, OBJECTS};
pub use finding::{Finding, Level};

/// How long a server may take to let somebody in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// What a message has beside a body: headers, and some room.
const HEADER_ALLOWANCE: usize = 16 * 1024;
/// From which part of a limit on it is told that it is near, in percent.
const NEARLY_FULL_PERCENT: i64 = 90;
/// How far clocks may differ without a word, in microseconds.
const SMALL_SKEW_MICROS: i64 = 1_000_000;

/// Looks at all that there is. `max_body_bytes` is what senders may send.
pub async fn check(config: &Config, max_body_bytes: usize) -> Result<Vec<Finding>, BadConfig> {
    let mut servers = Vec::new();
    for address in addresses_of(&config.url)? {
        servers.push(reach(config, address));
    }
    let mut findings = Vec::new();
    let mut reached = Vec::new();
    for server in join_all(servers).await {
        match server? {
            Ok(server) => {
                findings.extend(server.judge(max_body_bytes));
                reached.push(server);
            }
            Err(finding) => findings.push(finding),
        }
    }
    let Some(server) = reached.first() else { return Ok(findings) };
    for finding in &mut findings {
        // mer goes to another one meanwhile.
        if finding.may_pass && finding.level == Level::Wrong {
            finding.level = Level::Warn;
        }
    }
    findings.extend(server.objects(config, max_body_bytes).await);
    Ok(findings)
}

/// A server that has let us in.
struct Server {
    address: String,
    client: Client,
    /// What it has refused last, in its own words.
    refused: Arc<Mutex<Option<String>>>,
}

async fn reach(config: &Config, address: ServerAddr) -> Result<Result<Server, Finding>, BadConfig> {
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
    fn judge(&self, max_body_bytes: usize) -> Vec<Finding> {
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

    async fn objects(&self, config: &Config, max_body_bytes: usize) -> Vec<Finding> {
        let account = match self.ask("$JS.API.INFO").await {
            Ok(account) => account,
            Err(finding) => return vec![finding],
        };
        let began = Stamp::now();
        let infos = join_all(OBJECTS.map(|(name, _)| self.ask_about(name))).await;
        let mut findings = Vec::new();
        let (mut missing, mut clock) = (Vec::new(), None);
        for ((name, kind), info) in OBJECTS.into_iter().zip(infos) {
            match info {
                Ok(Some(info)) => {
                    findings.extend(of_object(name, kind, &info, config, max_body_bytes));
                    clock = clock.or(info["ts"].as_str().and_then(|time| Stamp::parse(time).ok()));
                }
                Ok(None) => missing.push(name),
                Err(finding) => findings.push(finding),
            }
        }
        let mut all = of_account(&account, config, missing.len());
        all.extend(findings);
        if !missing.is_empty() {
            let mend = "start mer as a user who may make them (STREAM.CREATE); it does so by itself";
            all.push(Finding::note("objects", format!("not made yet: {}", missing.join(", ")), mend));
        }
        all.push(match clock {
            Some(clock) => of_clock(clock, began, Stamp::now()),
            None => Finding::note("clock", "NATS shows its clock with a stream only, and there is none yet", ""),
        });
        all
    }

    /// A stream's information; `None` where there is no such stream.
    async fn ask_about(&self, stream: &str) -> Result<Option<Value>, Finding> {
        let subject = format!("$JS.API.STREAM.INFO.{stream}");
        let answer = self.answer(&subject, stream).await?;
        match error_of(&answer) {
            None => Ok(Some(answer)),
            Some((Some(ErrorCode::STREAM_NOT_FOUND), _)) => Ok(None),
            Some((_, text)) => Err(Finding::away(stream, text, "look at the log of nats-server")),
        }
    }

    async fn ask(&self, subject: &str) -> Result<Value, Finding> {
        let answer = self.answer(subject, "jetstream").await?;
        match error_of(&answer) {
            None => Ok(answer),
            Some((Some(ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT), _)) => {
                Err(jetstream_is_off("for the account of this user"))
            }
            Some((_, text)) => Err(Finding::away("jetstream", text, "look at the log of nats-server")),
        }
    }

    async fn answer(&self, subject: &str, what: &str) -> Result<Value, Finding> {
        match self.client.request(subject.to_owned(), "".into()).await {
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

/// What the account may have, and what of it is left.
fn of_account(account: &Value, config: &Config, missing: usize) -> Vec<Finding> {
    // With tiers, what is allowed depends on the number of replicas.
    let tier = &account["tiers"][format!("R{}", config.replicas)];
    let of = if tier.is_object() { tier } else { account };
    let limit = |name: &str| of["limits"][name].as_i64().filter(|limit| *limit > 0);
    let has = |name: &str| of[name].as_i64().unwrap_or(0);
    let mend = "raise the limits of mer's account in NATS";
    let mut findings = Vec::new();
    if let Some(limit) = limit("max_streams")
        && has("streams") + i64::try_from(missing).unwrap_or(0) > limit
    {
        let found = format!("the account may have {limit} streams, and mer has yet to make {missing}");
        findings.push(Finding::wrong("account", found, mend));
    }
    if missing > 0 && of["limits"]["max_bytes_required"] == true {
        let found = "the account asks for max_bytes of every stream, and mer makes some without";
        findings.push(Finding::wrong("account", found, mend));
    }
    if let Some(limit) = limit("max_storage") {
        let percent = has("storage").saturating_mul(100) / limit;
        let found = format!("{percent} % of the account's {limit} bytes of storage are used");
        findings.push(if percent < NEARLY_FULL_PERCENT {
            Finding::ok("account", found)
        } else {
            Finding::warn("account", format!("{found}; when it is full, posts are answered 503"), mend)
        });
    }
    if let Some(limit) = limit("max_consumers") {
        let found = format!("the account may have {limit} consumers, one for each URL: further URLs would get nothing");
        findings.push(Finding::warn("account", found, mend));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("account", "JetStream is on, with no limit of the account's own"));
    }
    findings
}

fn of_object(name: &str, kind: Kind, info: &Value, config: &Config, max_body_bytes: usize) -> Vec<Finding> {
    let has: stream::Config = match serde_json::from_value(info["config"].clone()) {
        Ok(has) => has,
        Err(error) => return vec![Finding::wrong(name, format!("its settings cannot be read: {error}"), "")],
    };
    let mut findings = objects::judge(kind, &has, config, max_body_bytes);
    findings.extend(of_state(name, info));
    if findings.is_empty() {
        let what = match kind {
            Kind::Log => format!("; {}", objects::limits_of_log(&has)),
            _ => String::new(),
        };
        let copies = if has.num_replicas == 1 { "1 copy".to_owned() } else { format!("{} copies", has.num_replicas) };
        let storage = serde_json::to_value(has.storage).unwrap_or_default();
        findings.push(Finding::ok(name, format!("{copies} ({}){what}", storage.as_str().unwrap_or("?"))));
    }
    findings
}

/// How it stands: its leader and replicas, and how full it is.
fn of_state(name: &str, info: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let cluster = &info["cluster"];
    if cluster.is_object() && cluster["leader"].as_str().unwrap_or_default().is_empty() {
        findings.push(Finding::away(name, "it has no leader: nothing can be written to it", "bring its servers back"));
    }
    let is_behind = |replica: &&Value| replica["current"] != true || replica["offline"] == true;
    let behind: Vec<&str> = cluster["replicas"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(is_behind)
        .filter_map(|replica| replica["name"].as_str())
        .collect();
    if !behind.is_empty() {
        let found = format!("{} has not all of it: one more server that fails may stop it", behind.join(", "));
        findings.push(Finding::warn(name, found, "wait until it has caught up, or bring it back"));
    }
    for (limit, has, of) in [("max_bytes", "bytes", "bytes"), ("max_msgs", "messages", "messages")] {
        let Some(limit) = info["config"][limit].as_i64().filter(|limit| *limit > 0) else { continue };
        let percent = info["state"][has].as_i64().unwrap_or(0).saturating_mul(100) / limit;
        if name == EVENTS && info["config"]["discard"] == "new" && percent >= NEARLY_FULL_PERCENT {
            let found = format!(
                "it holds {percent} % of the {limit} {of} that it may; when it is full, posts are answered 503"
            );
            findings.push(Finding::warn(name, found, "raise the limit, or remove what is old"));
        }
    }
    findings
}

/// How far NATS' clock is from ours; it was read somewhere between two moments of ours.
pub fn of_clock(theirs: Stamp, before: Stamp, after: Stamp) -> Finding {
    let (theirs, before, after) = (theirs.as_micros(), before.as_micros(), after.as_micros());
    let skew = theirs - theirs.clamp(before, after.max(before));
    let found = match skew {
        0 => return Finding::ok("clock", "NATS' clock and the one here agree"),
        skew => format!(
            "NATS' clock is {:.1} s {} the one here",
            skew.unsigned_abs() as f64 / 1e6,
            if skew < 0 { "behind" } else { "ahead of" }
        ),
    };
    let mend = "have both machines' clocks set by NTP";
    match skew.abs() {
        small if small <= SMALL_SKEW_MICROS => Finding::ok("clock", found),
        more if more <= CLOCK_SKEW_MARGIN_MICROS => {
            Finding::warn("clock", format!("{found}; beyond 5 s, replays by time miss events"), mend)
        }
        _ => {
            Finding::wrong("clock", format!("{found}: replays by time miss events, and signatures look too old"), mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn clocks_that_differ_are_told_by_how_much() {
        let at = |micros: i64| Stamp::from_micros(1_000_000_000_000 + micros);
        for (theirs, level, text) in [
            (500_000, Level::Ok, "agree"),
            (1_900_000, Level::Ok, "0.9 s ahead"),
            (-2_500_000, Level::Warn, "2.5 s behind"),
            (7_000_000, Level::Wrong, "6.0 s ahead"),
        ] {
            let finding = of_clock(at(theirs), at(0), at(1_000_000));
            assert!(finding.level == level && finding.found.contains(text), "{finding:?}");
        }
    }

    #[test]
    fn an_account_without_room_is_told() {
        let config = objects::tests::config(3);
        let free = json!({"max_streams": -1, "max_storage": -1, "max_consumers": -1, "max_bytes_required": false});
        let account = |limits: Value| json!({"streams": 2, "storage": 95, "limits": limits});
        let levels = |account: &Value, missing: usize| -> Vec<Level> {
            of_account(account, &config, missing).iter().map(|finding| finding.level).collect()
        };
        assert_eq!(levels(&account(free.clone()), 7), [Level::Ok]);
        assert_eq!(levels(&account(json!({"max_streams": 7})), 7), [Level::Wrong]);
        assert_eq!(levels(&account(json!({"max_streams": 9})), 7), [Level::Ok]);
        assert_eq!(levels(&account(json!({"max_storage": 100})), 0), [Level::Warn]);
        assert_eq!(levels(&account(json!({"max_storage": 1000})), 0), [Level::Ok]);
        assert_eq!(levels(&account(json!({"max_bytes_required": true})), 1), [Level::Wrong]);
        assert_eq!(levels(&account(json!({"max_bytes_required": true})), 0), [Level::Ok]);
        let tiered = json!({"limits": free, "tiers": {"R3": account(json!({"max_streams": 3}))}});
        assert_eq!(levels(&tiered, 2), [Level::Wrong]);
    }

    #[test]
    fn a_stream_without_a_leader_or_room_is_told() {
        let found = |info: Value| of_state(EVENTS, &info).into_iter().map(|finding| finding.level).collect::<Vec<_>>();
        assert_eq!(found(json!({"config": {"max_bytes": -1}, "state": {"bytes": 5}})), []);
        assert_eq!(found(json!({"cluster": {"name": "c"}})), [Level::Wrong]);
        let replicas = json!([{"name": "2", "current": true}, {"name": "3", "current": true, "offline": true}]);
        assert_eq!(found(json!({"cluster": {"leader": "1", "replicas": replicas}})), [Level::Warn]);
        let full = |discard| json!({"config": {"max_bytes": 100, "discard": discard}, "state": {"bytes": 95}});
        assert_eq!(found(full("new")), [Level::Warn]);
        assert_eq!(found(full("old")), []);
    }
}
