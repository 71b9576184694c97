//! The cryptography of TLS connections.

use std::sync::Arc;

use rustls::{
    CipherSuite,
    crypto::{CryptoProvider, ring},
};

/// The cryptography of all connections: of suites that are as good as each other, those first that
/// this processor is quick with. Servers go by their own order, for a client may be quick with
/// anything.
///
/// With AES in hardware that is AES-128, which Go's clients and servers choose, too; without, as on
/// a Raspberry Pi 4, ChaCha20, which needs none.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    let aes = has_aes();
    provider.cipher_suites.sort_by_key(|suite| rank(suite.suite(), aes));
    Arc::new(provider)
}

fn rank(suite: CipherSuite, aes: bool) -> u8 {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 1,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => {
            if aes {
                3
            } else {
                0
            }
        }
        _ => 2,
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_suites_come_first() {
        let first = |aes: bool| {
            let mut suites = ring::default_provider().cipher_suites;
            suites.sort_by_key(|suite| rank(suite.suite(), aes));
            suites[0].suite()
        };
        assert_eq!(first(true), CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(first(false), CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        assert_eq!(provider().cipher_suites.len(), ring::default_provider().cipher_suites.len());
    }
}
