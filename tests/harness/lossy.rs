//! A way to a nats-server on which requests get lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wire;

/// A port of the loopback address behind which a nats-server is.
pub struct Lossy {
    port: u16,
    plan: Arc<Plan>,
    cuts: watch::Sender<u64>,
    task: JoinHandle<()>,
}

/// Which requests get lost, and which have come.
#[derive(Default)]
struct Plan(Mutex<Passage>);

#[derive(Default)]
struct Passage {
    loss: Option<Loss>,
    /// Whatever has this in its subject gets lost.
    closed_to: Option<String>,
    /// The subjects of all that have come.
    subjects: Vec<String>,
}

struct Loss {
    /// How the subject of such requests begins.
    subject: String,
    /// How many of them arrive before.
    after: u32,
    is_done: bool,
}

impl Lossy {
    /// A way to the nats-server on that port.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("its address").port();
        let plan = Arc::<Plan>::default();
        let (losing, cuts) = (plan.clone(), watch::Sender::new(0));
        let seen = cuts.clone();
        let relay = move |near| relay(near, port, losing.clone(), seen.subscribe());
        let task = tokio::spawn(wire::accept(listener, relay));
        Self { port: own, plan, cuts, task }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Has one request get lost for messages of a consumer of the log whose name begins like this, after so many that do not.
    pub fn lose_request(&self, consumer: &str, after: u32) {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.EVENTS.{consumer}");
        self.plan.passage().loss = Some(Loss { subject, after, is_done: false });
    }

    /// Has all requests get lost from now on that have this in their subject.
    pub fn lose_all(&self, part: &str) {
        self.plan.passage().closed_to = Some(part.to_owned());
    }

    /// Has nothing more get lost after [`Lossy::lose_all`].
    pub fn lose_no_more(&self) {
        self.plan.passage().closed_to = None;
    }

    /// Cuts all connections that there are.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many requests have come, lost or not, that have this in their subject.
    pub fn came(&self, part: &str) -> usize {
        self.plan.passage().subjects.iter().filter(|subject| subject.contains(part)).count()
    }

    /// Whether it has got lost.
    pub fn has_lost(&self) -> bool {
        self.plan.passage().loss.as_ref().is_some_and(|loss| loss.is_done)
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Plan {
    fn passage(&self) -> MutexGuard<'_, Passage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a message on this subject is one that gets lost.
    fn loses(&self, subject: &str) -> bool {
        let mut passage = self.passage();
        passage.subjects.push(subject.to_owned());
        if passage.closed_to.as_ref().is_some_and(|part| subject.contains(part)) {
            return true;
        }
        let loss = passage.loss.as_mut().filter(|loss| !loss.is_done && subject.starts_with(&loss.subject));
        let Some(loss) = loss else { return false };
        loss.is_done = loss.after == 0;
        loss.after = loss.after.saturating_sub(1);
        loss.is_done
    }
}

/// Passes on what comes from either side, until one ends or the connection is cut.
async fn relay(near: TcpStream, to: u16, plan: Arc<Plan>, mut cuts: watch::Receiver<u64>) -> std::io::Result<()> {
    let far = TcpStream::connect(("127.0.0.1", to)).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((from_near, mut to_near), (mut from_far, to_far)) = (near.into_split(), far.into_split());
    tokio::select! {
        ended = pass_on_commands(from_near, to_far, &plan) => ended,
        ended = tokio::io::copy(&mut from_far, &mut to_near) => ended.map(drop),
        _ = cuts.changed() => Ok(()),
    }
}

/// Passes on what a client sends, command by command: <https://docs.nats.io/reference/reference-protocols/nats-protocol>.
async fn pass_on_commands(from: OwnedReadHalf, mut to: OwnedWriteHalf, plan: &Plan) -> std::io::Result<()> {
    const LINE_END: usize = 2;
    let mut from = BufReader::new(from);
    let mut command = Vec::new();
    while from.read_until(b'\n', &mut command).await? > 0 {
        let line = String::from_utf8_lossy(&command).into_owned();
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if let ["PUB" | "HPUB", subject, .., bytes] = words[..] {
            let bytes: usize = bytes.parse().expect("a count of bytes");
            let head = command.len();
            command.resize(head + bytes + LINE_END, 0);
            from.read_exact(&mut command[head..]).await?;
            if plan.loses(subject) {
                command.clear();
            }
        }
        to.write_all(&command).await?;
        command.clear();
    }
    Ok(())
}
