//! `[http]`: where the status page is served, and to whom. Off unless an address is given.

use super::{
    check::{KeyPath, Notes},
    files::Base,
    low,
    secret::Secret,
};
use std::net::{IpAddr, SocketAddr};

/// The listener for people and for Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Names it may be called by beside its address and `localhost`, in lower case.
    pub hosts: Vec<String>,
    /// Whether `/metrics` has figures of each endpoint.
    pub metrics_per_endpoint: bool,
    /// What whoever changes something has to know; without it nothing can be changed.
    pub token: Option<Secret>,
}

/// Checks `[http]`. `None` where it is off, and together with an error.
pub(super) fn check(notes: &mut Notes<'_>, low: low::Http, base: Base<'_>) -> Option<HttpConfig> {
    let at = KeyPath::new(&["http"]);
    let listen = low.listen.as_deref().and_then(|listen| address(notes, &at.key("listen"), listen));
    if low.listen.is_none() {
        for key in ["hosts", "token_file", "metrics_per_endpoint"].map(|key| at.key(key)) {
            if notes.has(&key) {
                notes.warn(&key, "not used without http.listen", "add listen = \"127.0.0.1:8080\"");
            }
        }
    }
    let token = low.token_file.as_deref().and_then(|file| {
        let key = at.key("token_file");
        let token = base.credential(notes, &key, file)?;
        if !is_token(&token) {
            let what = "a token has 16 to 256 characters: letters, digits and - . _ ~ + / =";
            notes.error_with(&key, what, "make one with `openssl rand -hex 32`");
        }
        Some(Secret::new(&token))
    });
    let hosts = low.hosts.into_iter().enumerate().map(|(n, host)| {
        if !is_host(&host) {
            let hint =
                "write the name or address alone, as in \"gateway.example.com\", without scheme and port";
            notes.error_with(&at.key("hosts").index(n), "not the name of a host", hint);
        }
        host.to_ascii_lowercase()
    });
    let hosts = hosts.collect();
    Some(HttpConfig { listen: listen?, hosts, metrics_per_endpoint: low.metrics_per_endpoint, token })
}

fn address(notes: &mut Notes<'_>, key: &KeyPath, listen: &str) -> Option<SocketAddr> {
    let Some(address) = listen.parse::<SocketAddr>().ok().filter(|address| address.port() != 0) else {
        notes.error_with(key, "expected an address and a port", "write it as \"127.0.0.1:8080\"");
        return None;
    };
    if !address.ip().to_canonical().is_loopback() {
        notes.warn(
            key,
            "whoever can reach this address can read names, values and faults, and nothing is encrypted on the way",
            "listen on 127.0.0.1 and look through `ssh -L 8080:127.0.0.1:8080`, or put a proxy with TLS and a login in front",
        );
    }
    Some(address)
}

/// A name of letters, digits, dots and hyphens, or an address.
fn is_host(host: &str) -> bool {
    let name = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    host.parse::<IpAddr>().is_ok() || (!host.is_empty() && host.len() <= 253 && name(host))
}

/// RFC 6750 §2.1, and too long to be guessed.
fn is_token(token: &str) -> bool {
    let allowed =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    (16..=256).contains(&token.len()) && token.bytes().all(allowed)
}
