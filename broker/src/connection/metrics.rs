//! The metrics of the connection to NATS.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::connection::{Broker, Link};

#[derive(Debug)]
struct Connection(watch::Receiver<Link>);

/// Registers the connection's state, for as long as the registry lives.
pub fn register(registry: &mut Registry, broker: &Broker) {
    registry.register_collector(Box::new(Connection(broker.link())));
}

impl Collector for Connection {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Link { generation, is_up } = *self.0.borrow();
        let connected = ConstGauge::new(u64::from(is_up));
        let help = "Whether there is a connection to NATS.";
        connected.encode(encoder.encode_descriptor("nats_connected", help, None, connected.metric_type())?)?;
        let connections = ConstCounter::new(generation);
        let help = "Connections to NATS that were made, the first one included.";
        connections.encode(encoder.encode_descriptor("nats_connections", help, None, connections.metric_type())?)
    }
}
