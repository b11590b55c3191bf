//! How targets of `https://` are spoken to, and whose word about who they are is taken.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::ring;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_platform_verifier::Verifier;

/// What is offered in the handshake: the one protocol that is spoken here.
const HTTP_1_1: &[u8] = b"http/1.1";

/// Trusts whom this machine trusts. One without certificates of authorities still serves targets of plain http.
pub(super) fn of_this_machine() -> Result<ClientConfig, rustls::Error> {
    match Verifier::new(Arc::new(ring::default_provider())) {
        Ok(verifier) => config(|builder| builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))),
        Err(error) => {
            tracing::warn!(reason = %error, "tls.no_authorities_known_https_targets_will_fail");
            trusting(RootCertStore::empty())
        }
    }
}

/// Trusts these authorities.
pub(super) fn trusting(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    config(|builder| builder.with_root_certificates(roots))
}

fn config(
    verified: impl FnOnce(ConfigBuilder<ClientConfig, WantsVerifier>) -> ConfigBuilder<ClientConfig, WantsClientCert>,
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let mut config = verified(builder.with_safe_default_protocol_versions()?).with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(config)
}
