//! A cluster of nats-servers of which one after the other is killed, frozen or cut off in a seeded random order, while
//! events are posted all the time; a checker that reads nothing but the history says what came of it.

use std::time::Instant;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tests::cluster::{NODES, Passage};
use tests::traffic::Traffic;
use tests::{Cluster, Mer};

use crate::{LONG, MER};

const SEED: u64 = 20_261_122;
const URLS: usize = 24;
const TYPES: usize = 4;
const DISPATCHERS: usize = 3;
/// How many events of one URL may come again because of a fault.
const UNDER_WAY: usize = 200;

/// What becomes of a node.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Killed,
    Frozen,
    /// What goes to and from the other nodes does so no more, and, where `alone`, what goes to and from mer.
    CutOff {
        how: Passage,
        alone: bool,
    },
}

/// Which node it becomes of.
#[derive(Debug, Clone, Copy)]
enum Who {
    /// The one that leads the stream `EVENTS`.
    Leader,
    Any,
}

const FAULTS: &[(Who, Fault)] = &[
    (Who::Leader, Fault::Killed),
    (Who::Any, Fault::Killed),
    (Who::Any, Fault::Killed),
    (Who::Leader, Fault::Frozen),
    (Who::Leader, Fault::CutOff { how: Passage::Silent, alone: true }),
    (Who::Leader, Fault::CutOff { how: Passage::Cut, alone: false }),
    (Who::Any, Fault::CutOff { how: Passage::Silent, alone: false }),
    (Who::Any, Fault::CutOff { how: Passage::Cut, alone: true }),
];

async fn strike(cluster: &mut Cluster, node: usize, fault: Fault) {
    match fault {
        Fault::Killed => cluster.kill(node),
        Fault::Frozen => cluster.freeze(node),
        Fault::CutOff { how, alone } => {
            cluster.set_routes(node, how);
            if alone {
                cluster.set_clients(node, how);
            }
        }
    }
}

async fn heal(cluster: &mut Cluster, node: usize, fault: Fault) {
    match fault {
        Fault::Killed => cluster.restart(node),
        Fault::Frozen => cluster.thaw(node),
        Fault::CutOff { .. } => {
            cluster.set_routes(node, Passage::Open);
            cluster.set_clients(node, Passage::Open);
        }
    }
    cluster.until_whole_again().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_out_of_order_whatever_becomes_of_a_node() {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut cluster = Cluster::start().await;
    let mer = |roles| Mer::new(MER).set("MER_NATS_URL", cluster.urls()).set("MER_REPLICAS", NODES).roles(roles);
    let front = mer("receiver,registrar").start().await;
    let mut dispatchers = Vec::new();
    for _ in 0..DISPATCHERS {
        dispatchers.push(mer("dispatcher").start().await);
    }
    let mut traffic = Traffic::start(front.api(), URLS, TYPES, LONG).await;
    traffic.reach_all().await;
    traffic.begin();
    let mut faults = FAULTS.to_vec();
    faults.shuffle(&mut random);
    for (who, fault) in faults {
        let node = match who {
            Who::Leader => cluster.leader_of("EVENTS").await.expect("a leader"),
            Who::Any => random.random_range(0..NODES),
        };
        // Where no node acknowledges anything for a while, the dispatchers lose their leases, and what they delivered since
        // they wrote it last comes again.
        traffic.disturb(UNDER_WAY);
        let began = Instant::now();
        strike(&mut cluster, node, fault).await;
        let reached = traffic.reach_all_in_spite().await;
        heal(&mut cluster, node, fault).await;
        println!(
            "{who:?} {fault:?}: all URLs reached after {reached:?}, the cluster whole after {:?}",
            began.elapsed()
        );
    }
    let outcome = traffic.end().await;
    println!("seed {SEED}, {outcome}");
    assert_eq!(outcome.report.faults, []);
}

/// What is known of deliveries is as durable as the events, also where an operator has made the log's copies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_have_as_many_copies_as_the_log() {
    let cluster = Cluster::start().await;
    let urls = cluster.urls();
    let client = async_nats::connect(urls.split(',').next().unwrap()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let events = async_nats::jetstream::stream::Config {
        name: "EVENTS".to_owned(),
        subjects: vec!["events.>".to_owned()],
        num_replicas: NODES,
        ..Default::default()
    };
    context.create_stream(events).await.unwrap();
    let _mer = Mer::new(MER).set("MER_NATS_URL", &urls).start().await;
    let positions = context.get_stream("POSITIONS").await.unwrap();
    assert_eq!(positions.cached_info().config.num_replicas, NODES);
    assert_eq!(context.get_stream("ATTEMPTS").await.unwrap().cached_info().config.num_replicas, 1);
}
