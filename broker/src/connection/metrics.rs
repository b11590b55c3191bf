//! The metrics of the connection to NATS.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::connection::{Broker, Disk, Link, Storage};

#[derive(Debug)]
struct Connection {
    link: watch::Receiver<Link>,
    storage: Storage,
}

/// Registers the connection's state, for as long as the registry lives.
pub fn register(registry: &mut Registry, broker: &Broker) {
    registry.register_collector(Box::new(Connection { link: broker.link(), storage: broker.storage().clone() }));
}

impl Collector for Connection {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Link { generation, is_up } = *self.link.borrow();
        let connected = ConstGauge::new(u64::from(is_up));
        let help = "Whether there is a connection to NATS.";
        connected.encode(encoder.encode_descriptor("nats_connected", help, None, connected.metric_type())?)?;
        let connections = ConstCounter::new(generation);
        let help = "Connections to NATS that were made, the first one included.";
        connections.encode(encoder.encode_descriptor("nats_connections", help, None, connections.metric_type())?)?;
        self.encode_storage(encoder)
    }
}

impl Connection {
    fn encode_storage(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let writable = ConstGauge::new(u64::from(self.storage.check().is_ok()));
        let help = "Whether NATS takes writes, as far as the last ones and its disk tell.";
        writable.encode(encoder.encode_descriptor("nats_writable", help, None, writable.metric_type())?)?;
        // 0 where nats-server is not this process's own.
        let disk = self.storage.disk();
        let of_disk = |bytes: fn(&Disk) -> u64| disk.as_ref().map_or(0, bytes);
        for (name, help, bytes) in [
            (
                "nats_disk_total_bytes",
                "The size of the file system of the embedded nats-server.",
                of_disk(|disk| disk.total_bytes),
            ),
            ("nats_disk_available_bytes", "What is free of it.", of_disk(|disk| disk.available_bytes)),
            (
                "nats_disk_refuse_below_bytes",
                "Below how many free bytes events are refused.",
                of_disk(|disk| disk.refuse_below_bytes),
            ),
        ] {
            let gauge = ConstGauge::new(bytes);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let restarts = ConstCounter::new(self.storage.restarts());
        let help = "Times that the embedded nats-server was started anew because writes failed.";
        restarts.encode(encoder.encode_descriptor("nats_server_restarts", help, None, restarts.metric_type())?)
    }
}
