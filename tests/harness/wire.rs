//! A way for TCP connections that can be interrupted.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const BUFFER_BYTES: usize = 64 * 1024;

/// What becomes of what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// It arrives.
    Open,
    /// It is held back until the way is open again, and neither side is told: as TCP does while packets are lost.
    Silent,
    /// Connections end, and no new ones are made.
    Cut,
}

/// A port of the loopback address behind which another one is.
pub(crate) struct Wire {
    pub(crate) port: u16,
    passage: watch::Sender<Passage>,
    task: JoinHandle<()>,
}

impl Wire {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("its address").port();
        let passage = watch::Sender::new(Passage::Open);
        let seen = passage.subscribe();
        let task = tokio::spawn(accept(listener, move |near| relay(near, port, seen.clone())));
        Self { port: own, passage, task }
    }

    pub(crate) fn set(&self, passage: Passage) {
        self.passage.send_replace(passage);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Has each connection relayed, for ever. Those that are left end with it.
pub(crate) async fn accept<R>(listener: TcpListener, relay: impl Fn(TcpStream) -> R)
where
    R: Future<Output: Send> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((connection, _)) = listener.accept() => drop(connections.spawn(relay(connection))),
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Passes on what comes from either side, until one ends or the way is cut.
async fn relay(near: TcpStream, to: u16, mut passage: watch::Receiver<Passage>) {
    let mut cut = passage.clone();
    let relaying = async {
        until_open(&mut passage).await?;
        let far = TcpStream::connect(("127.0.0.1", to)).await.ok()?;
        near.set_nodelay(true).ok()?;
        far.set_nodelay(true).ok()?;
        let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
        tokio::select! {
            ended = pass(from_near, to_far, passage.clone()) => ended,
            ended = pass(from_far, to_near, passage.clone()) => ended,
        }
    };
    tokio::select! {
        _ = cut.wait_for(|passage| *passage == Passage::Cut) => {}
        _ = relaying => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut passage: watch::Receiver<Passage>) -> Option<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let bytes = from.read(&mut buffer).await.ok().filter(|bytes| *bytes > 0)?;
        until_open(&mut passage).await?;
        to.write_all(&buffer[..bytes]).await.ok()?;
    }
}

async fn until_open(passage: &mut watch::Receiver<Passage>) -> Option<()> {
    passage.wait_for(|passage| *passage == Passage::Open).await.ok().map(drop)
}
