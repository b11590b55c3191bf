//! Which server to connect to next.

use std::sync::{Mutex, PoisonError};

use async_nats::{ReconnectToServer, Server, ServerAddr};

/// Goes from one server to another: a server that was left is not the next one to connect to.
#[derive(Default)]
pub(crate) struct Rotation {
    last: Mutex<Option<ServerAddr>>,
}

impl Rotation {
    /// One of the servers that were out of reach least often, but not the last one where there are others.
    pub(crate) fn next(&self, servers: &[Server]) -> Option<ReconnectToServer> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let rank =
            |server: &&Server| (last.as_ref() == Some(&server.addr), server.failed_attempts, rand::random::<u32>());
        let addr = servers.iter().min_by_key(rank)?.addr.clone();
        *last = Some(addr.clone());
        Some(ReconnectToServer { addr, delay: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(failed_attempts: &[usize]) -> Vec<Server> {
        let server = |(n, failed_attempts): (usize, &usize)| Server {
            addr: format!("nats://host-{n}:4222").parse().unwrap(),
            failed_attempts: *failed_attempts,
            did_connect: true,
            is_discovered: false,
            last_error: None,
        };
        failed_attempts.iter().enumerate().map(server).collect()
    }

    #[test]
    fn another_server_comes_next_and_one_alone_comes_again() {
        let (rotation, three) = (Rotation::default(), servers(&[0, 0, 0]));
        let mut before = rotation.next(&three).unwrap().addr;
        for _ in 0..20 {
            let next = rotation.next(&three).unwrap().addr;
            assert_ne!(next, before);
            before = next;
        }
        let (rotation, alone) = (Rotation::default(), servers(&[7]));
        assert_eq!(rotation.next(&alone).unwrap().addr, rotation.next(&alone).unwrap().addr);
        assert!(rotation.next(&[]).is_none());
    }

    #[test]
    fn those_that_were_out_of_reach_come_last() {
        let (rotation, servers) = (Rotation::default(), servers(&[2, 0, 1]));
        let order: Vec<String> = (0..4).map(|_| rotation.next(&servers).unwrap().addr.host().to_owned()).collect();
        assert_eq!(order, ["host-1", "host-2", "host-1", "host-2"]);
    }
}
