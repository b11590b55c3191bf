//! Three nats-servers of the test's own that are one cluster, to be killed, frozen and cut off.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use futures_util::TryStreamExt;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::api::Api;
use crate::nats::launch;
use crate::process::Process;
pub use crate::wire::Passage;
use crate::wire::Wire;
use crate::{eventually_async, free_port, holds_within};

/// How many nodes there are.
pub const NODES: usize = 3;
/// A cluster does not wait for the disk: what one node loses, two others have.
const SYNC_INTERVAL: &str = "100ms";
/// How long the nodes may take to find each other, or a node to catch up.
const WHOLE_DEADLINE: Duration = Duration::from_secs(60);
/// Between one look at a node that has not caught up and the next: each costs it a look at all that it has.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A running cluster. Ports and stores stay until this is dropped.
///
/// All that goes from node to node, and from mer to a node, goes over wires. No other way is known: a node tells its
/// clients of no other node, and the other nodes an address at which nobody listens.
pub struct Cluster {
    nodes: Vec<Node>,
    /// Which nodes a wire joins.
    routes: Vec<([usize; 2], Wire)>,
}

struct Node {
    folder: TempDir,
    port: u16,
    monitor: u16,
    settings: String,
    clients: Wire,
    process: Process,
}

impl Cluster {
    /// Starts one, and waits until it is whole.
    pub async fn start() -> Self {
        let ports: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
        let (mut nodes, mut routes) = (Vec::new(), Vec::new());
        for n in 0..NODES {
            let mut urls = Vec::new();
            for (other, port) in ports.iter().enumerate().filter(|(other, _)| *other != n) {
                let wire = Wire::to(*port).await;
                urls.push(format!("\"nats://127.0.0.1:{}\"", wire.port));
                routes.push(([n, other], wire));
            }
            nodes.push(Node::start(n, ports[n], &urls.join(", ")).await);
        }
        let cluster = Self { nodes, routes };
        cluster.until_whole().await;
        cluster
    }

    /// Where mer finds it.
    pub fn urls(&self) -> String {
        let urls: Vec<String> =
            self.nodes.iter().map(|node| format!("nats://127.0.0.1:{}", node.clients.port)).collect();
        urls.join(",")
    }

    /// `kill -9`.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].process.kill();
    }

    /// Starts a node again after [`Cluster::kill`], on the same ports and store.
    pub fn restart(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.process = launch(&node.folder, node.port, SYNC_INTERVAL, &node.settings);
    }

    /// What a node has on disk now, beside it: what is not flushed counts as lost where this is put back.
    pub fn copy_store(&self, node: usize) {
        let folder = self.nodes[node].folder.path();
        copy(&folder.join("store"), &folder.join("kept"));
    }

    /// Gives a node that was killed what it had on disk at [`Cluster::copy_store`].
    pub fn put_store_back(&self, node: usize) {
        let folder = self.nodes[node].folder.path();
        copy(&folder.join("kept"), &folder.join("store"));
    }

    /// Freezes a node.
    pub fn freeze(&self, node: usize) {
        self.nodes[node].process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self, node: usize) {
        self.nodes[node].process.signal(Signal::CONT);
    }

    /// What becomes of what goes between a node and the others.
    pub fn set_routes(&self, node: usize, passage: Passage) {
        self.routes.iter().filter(|(ends, _)| ends.contains(&node)).for_each(|(_, wire)| wire.set(passage));
    }

    /// What becomes of what goes between a node and mer.
    pub fn set_clients(&self, node: usize, passage: Passage) {
        self.nodes[node].clients.set(passage);
    }

    /// The node that leads a stream, as a whole cluster says.
    pub async fn leader_of(&self, stream: &str) -> Option<usize> {
        let context = jetstream::new(self.nodes[0].client().await?);
        leader_of(&context.get_stream(stream).await.ok()?.get_info().await.ok()?)
    }

    /// Waits until every node has all that there is, and every stream a leader and its replicas.
    pub async fn until_whole(&self) {
        eventually_async("the cluster is whole", WHOLE_DEADLINE, async || self.is_whole().await.unwrap_or(false)).await;
    }

    /// The same where something was wrong with a node. A replica may stay behind for good (seen with nats-server 2.15, on a busy
    /// machine: nothing of it is mer's): then all nodes are started anew, one after the other, as an operator would do.
    pub async fn until_whole_again(&mut self) {
        if holds_within(WHOLE_DEADLINE, async || self.is_whole().await.unwrap_or(false)).await {
            return;
        }
        println!("the cluster is not whole after {WHOLE_DEADLINE:?}: each node is started anew");
        for node in 0..NODES {
            self.kill(node);
            self.restart(node);
            eventually_async("a node has caught up", WHOLE_DEADLINE, async || self.nodes[node].is_healthy().await)
                .await;
        }
        self.until_whole().await;
    }

    async fn is_whole(&self) -> Option<bool> {
        for node in &self.nodes {
            if !node.is_healthy().await {
                tokio::time::sleep(LOOK_AGAIN).await;
                return Some(false);
            }
        }
        let context = jetstream::new(self.nodes[0].client().await?);
        let streams: Vec<stream::Info> = context.streams().try_collect().await.ok()?;
        Some(streams.iter().all(|info| leader_of(info).is_some() && is_current(info)))
    }
}

impl Node {
    async fn start(n: usize, cluster_port: u16, routes: &str) -> Self {
        let (port, monitor) = (free_port(), free_port());
        let settings = format!(
            "server_name: \"{n}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
             cluster {{ name: test, listen: \"127.0.0.1:{cluster_port}\", advertise: \"127.0.0.1:1\", no_advertise: true, \
             routes: [{routes}] }}"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let process = launch(&folder, port, SYNC_INTERVAL, &settings);
        Self { folder, port, monitor, settings, clients: Wire::to(port).await, process }
    }

    /// Whether it says that it has caught up with all that is assigned to it.
    async fn is_healthy(&self) -> bool {
        Api::new(format!("http://127.0.0.1:{}", self.monitor)).status("/healthz").await == Some(200)
    }

    async fn client(&self) -> Option<async_nats::Client> {
        async_nats::connect(format!("127.0.0.1:{}", self.port)).await.ok()
    }
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).expect("the folder goes");
    }
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().expect("cp");
    assert!(copied.success(), "{} is copied", from.display());
}

fn leader_of(info: &stream::Info) -> Option<usize> {
    info.cluster.as_ref()?.leader.as_ref()?.parse().ok()
}

/// Whether all replicas have what the leader has.
fn is_current(info: &stream::Info) -> bool {
    let replicas = info.cluster.iter().flat_map(|cluster| &cluster.replicas);
    replicas.clone().count() == info.config.num_replicas - 1
        && replicas.clone().all(|replica| replica.current && !replica.offline)
}
