//! The tables of the file as they are typed, with their defaults.
//!
//! Not here: what their values may be (`uplink`, `endpoints`), and the tables of adapters, whose types
//! are the adapters' own (`adapters`). A key is added together with its line in `config.example.toml`.

use super::secret::EndpointToken;
use crate::{
    dialect::{kaa::KaaConfig, plain::PlainConfig},
    log::Level,
    shape::DeviceTime,
    trust::Choice,
    uplink::pacing::Order,
};
use adapter_api::{EndpointName, Resource, Span};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use std::{collections::BTreeMap, fmt, path::PathBuf};

/// The tables at the top of the file.
pub(super) const TOP: [&str; 9] =
    ["gateway", "log", "clock", "store", "quota", "http", "uplink", "adapters", "endpoints"];

/// `[gateway]`
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Gateway {
    pub(super) state_dir: PathBuf,
    pub(super) control_socket: PathBuf,
    pub(super) endpoint: Option<EndpointName>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: Level,
    pub(super) targets: BTreeMap<String, Level>,
}

/// `[clock]`
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Clock {
    pub(super) trust: Choice,
    pub(super) hold: Span,
    pub(super) device_time: DeviceTime,
}

/// `[store]`
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Store {
    pub(super) commit_within: Span,
    pub(super) max_sample_bytes: u64,
    pub(super) max_bytes: u64,
    pub(super) max_age: Option<Span>,
    pub(super) min_free: u64,
    pub(super) when_full: WhenFull,
}

/// What becomes of new samples when the store may not grow.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WhenFull {
    DropOldest,
    Refuse,
}

/// `[quota]` and `[endpoints.NAME.quota]`
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Quota {
    pub(super) samples_per_s: Option<u64>,
    pub(super) bytes_per_s: Option<u64>,
    pub(super) bytes_queued: Option<u64>,
}

/// `[http]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Http {
    pub(super) listen: Option<String>,
    pub(super) hosts: Vec<String>,
    pub(super) metrics_per_endpoint: bool,
    pub(super) token_file: Option<PathBuf>,
}

/// `[endpoints.NAME.report]`: a rule for all resources, more for some, and expressions.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Report {
    pub(super) on_change: Option<bool>,
    pub(super) deadband: Option<f64>,
    pub(super) deadband_percent: Option<f64>,
    pub(super) heartbeat: Option<Span>,
    pub(super) min_interval: Option<Span>,
    pub(super) window: Option<Span>,
    pub(super) resources: BTreeMap<Resource, Rule>,
    pub(super) expressions: BTreeMap<Resource, String>,
}

/// `[endpoints.NAME.report.resources.RESOURCE]`
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) on_change: Option<bool>,
    pub(super) deadband: Option<f64>,
    pub(super) deadband_percent: Option<f64>,
    pub(super) heartbeat: Option<Span>,
    pub(super) min_interval: Option<Span>,
    pub(super) window: Option<Span>,
}

/// `[uplink]`
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Uplink {
    pub(super) kind: Option<String>,
    pub(super) urls: Vec<String>,
    pub(super) client_id: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) keep_alive: Span,
    pub(super) confirm_timeout: Span,
    pub(super) retry_min: Span,
    pub(super) retry_max: Span,
    pub(super) probe_min: Span,
    pub(super) probe_max: Span,
    pub(super) max_payload: u64,
    pub(super) insecure: bool,
    pub(super) tls: Tls,
    pub(super) replay: Replay,
    pub(super) limits: Limits,
    pub(super) kaa: Option<KaaConfig>,
    pub(super) plain: Option<PlainConfig>,
}

/// `[uplink.tls]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) ca_file: Option<PathBuf>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) server_name: Option<String>,
    pub(super) alpn: Vec<String>,
}

/// `[uplink.replay]`
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Replay {
    pub(super) order: Order,
    pub(super) live_age: Span,
    pub(super) share: u64,
    pub(super) max_rate: Option<u64>,
}

/// `[uplink.limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) max_messages_per_s: Option<u64>,
    pub(super) max_bytes_per_s: Option<u64>,
    pub(super) daily_bytes: Option<u64>,
}

/// `[endpoints.NAME]` without the table of its adapter kind.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Endpoint {
    pub(super) token: Option<EndpointToken>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) tenant: Option<EndpointName>,
    pub(super) enabled: bool,
    pub(super) adapter: Option<String>,
    pub(super) quota: Quota,
    pub(super) report: Report,
    pub(super) name_on_wire: BTreeMap<Resource, String>,
    pub(super) formerly: Former,
}

/// One name or several.
#[derive(Debug, Clone, Default)]
pub(super) struct Former(pub(super) Vec<EndpointName>);

impl Default for Gateway {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/tidegate".into(),
            control_socket: "/run/tidegate/control.sock".into(),
            endpoint: None,
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self { trust: Choice::Auto, hold: Span::from_secs(600), device_time: DeviceTime::Mark }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            commit_within: Span::from_millis(200),
            max_sample_bytes: 65_536,
            max_bytes: 1 << 30,
            max_age: None,
            min_free: 64 << 20,
            when_full: WhenFull::DropOldest,
        }
    }
}

impl Default for Uplink {
    fn default() -> Self {
        Self {
            kind: None,
            urls: Vec::new(),
            client_id: None,
            username: None,
            password_file: None,
            keep_alive: Span::from_secs(60),
            confirm_timeout: Span::from_secs(30),
            retry_min: Span::from_secs(5),
            retry_max: Span::from_secs(600),
            probe_min: Span::from_secs(60),
            probe_max: Span::from_secs(3_600),
            max_payload: 65_536,
            insecure: false,
            tls: Tls::default(),
            replay: Replay::default(),
            limits: Limits::default(),
            kaa: None,
            plain: None,
        }
    }
}

impl Default for Replay {
    fn default() -> Self {
        Self { order: Order::InOrder, live_age: Span::from_secs(60), share: 50, max_rate: None }
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self {
            token: None,
            token_file: None,
            tenant: None,
            enabled: true,
            adapter: None,
            quota: Quota::default(),
            report: Report::default(),
            name_on_wire: BTreeMap::new(),
            formerly: Former::default(),
        }
    }
}

impl<'de> Deserialize<'de> for Former {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Former;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list of names")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Former, E> {
                EndpointName::new(name).map(|name| Former(vec![name])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Former, A::Error> {
                let mut former = Vec::new();
                while let Some(name) = names.next_element()? {
                    former.push(name);
                }
                Ok(Former(former))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}
