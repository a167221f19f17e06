//! Whether two places are one: two masters on one line garble both.

use crate::{
    Config, Device,
    config::{self, Host},
};
use adapter_api::{EndpointName, clock::timeout};
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};
use tokio::net::lookup_host;

/// What a name look-up may take.
const LOOKUP: Duration = Duration::from_secs(5);

/// Whether two texts, as `host` in the configuration, lead to one host and port: by their names, or by
/// an address both have. A name that cannot be resolved leads nowhere.
pub async fn same_host(one: &str, other: &str) -> bool {
    let (Ok(one), Ok(other)) = (one.parse::<Host>(), other.parse::<Host>()) else { return false };
    if one.port != other.port {
        return false;
    }
    if one.name.eq_ignore_ascii_case(&other.name) {
        return true;
    }
    let one = addresses(&one).await;
    !one.is_empty() && !one.is_disjoint(&addresses(&other).await)
}

async fn addresses(host: &Host) -> BTreeSet<SocketAddr> {
    let found = timeout(LOOKUP, lookup_host((host.name.as_str(), host.port))).await;
    found.ok().and_then(Result::ok).into_iter().flatten().collect()
}

/// The wire of a device in a configuration, as [`super::Question::Wires`] names it; `None` if that is
/// wrong.
pub fn wire_of(config: &Config, endpoint: &EndpointName, device: &Device) -> Option<String> {
    config::resolve(config, endpoint, device).ok().map(|target| target.wire.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_is_known_by_all_of_its_names() {
        for (one, other, same) in [
            ("10.0.0.5", "10.0.0.5:502", true),
            ("10.0.0.5", "10.0.0.5:503", false),
            ("10.0.0.5", "10.0.0.6", false),
            ("[fd00::20]:502", "fd00::20", true),
            ("fd00:0:0::20", "fd00::20", true),
            ("localhost:4001", "127.0.0.1:4001", true),
            ("LOCALHOST", "localhost", true),
            ("localhost", "127.0.0.1:4001", false),
            ("localhost", "nobody.invalid", false),
            ("nobody.invalid", "nothing.invalid", false),
            ("not a host", "not a host", false),
        ] {
            assert_eq!(same_host(one, other).await, same, "{one} {other}");
            assert_eq!(same_host(other, one).await, same, "{other} {one}");
        }
    }
}
