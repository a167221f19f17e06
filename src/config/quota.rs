//! `[quota]`, and `[endpoints.NAME.quota]`, whose keys go before it.

use super::{check::KeyPath, check::Notes, low, range};
use crate::shape::quota::Quotas;

/// The quotas of a table; what it does not say is as in `above`, and 0 is no limit.
pub(super) fn check(notes: &mut Notes<'_>, at: &KeyPath, low: low::Quota, above: Quotas) -> Quotas {
    let mut limit = |key, value: Option<u64>, most, above| match value {
        None => above,
        Some(limit) => {
            range(notes, &at.key(key), limit, 0..=most);
            (limit > 0).then_some(limit)
        }
    };
    Quotas {
        samples_per_s: limit("samples_per_s", low.samples_per_s, 1_000_000, above.samples_per_s),
        bytes_per_s: limit("bytes_per_s", low.bytes_per_s, 1 << 30, above.bytes_per_s),
        bytes_queued: limit("bytes_queued", low.bytes_queued, 1 << 40, above.bytes_queued),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn an_endpoints_own_quota_goes_before_that_of_all_key_by_key() {
        let text = r#"
            quota = { samples_per_s = 10, bytes_per_s = 1000, bytes_queued = 50000 }
            uplink = { kind = "none" }
            adapters.modbus.a.host = "h"
            [endpoints.as-all]
            token = "1"
            modbus = { resources = { t = { register = "input:1", type = "i16" } } }
            [endpoints.of-its-own]
            token = "2"
            quota = { samples_per_s = 0, bytes_queued = 7 }
            modbus = { resources = { t = { register = "input:1", type = "i16" } } }
        "#;
        let (config, _) = Config::parse(text, "F", Path::new("")).unwrap();
        let all = Quotas { samples_per_s: Some(10), bytes_per_s: Some(1_000), bytes_queued: Some(50_000) };
        let own = Quotas { samples_per_s: None, bytes_queued: Some(7), ..all };
        let quotas = config.endpoints.iter().map(|e| (e.key.name.as_str(), e.quotas));
        assert_eq!(quotas.collect::<Vec<_>>(), [("as-all", all), ("of-its-own", own)]);
    }
}
