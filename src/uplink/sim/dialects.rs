//! The dialects that runs are about.

use crate::dialect::{
    Dialect, Format, Qos, QualityMode, TimestampFormat,
    kaa::{Kaa, KaaConfig, Subscribe},
    plain::{Plain, PlainConfig, Topic},
};

/// 1/KP.
pub(super) fn kaa_dialect(batch: usize, qos: Qos, subscribe: Subscribe) -> Dialect {
    Dialect::Kaa(Kaa {
        config: KaaConfig {
            app_version: "app-v1".into(),
            dcx: "dcx".into(),
            timestamp_field: "timestamp".into(),
            timestamp_format: TimestampFormat::default(),
            quality: QualityMode::Off,
            batch,
            qos,
            subscribe,
        },
    })
}

/// Plain topics; with each reading a frame, or not.
pub(super) fn plain_dialect(per_resource: bool, batch: usize, qos: Qos) -> Dialect {
    let topic = if per_resource { "t/{endpoint}/{resource}" } else { "t/{endpoint}" };
    let config = PlainConfig {
        topic: Topic::from(topic.to_owned()),
        format: Format::Json,
        batch,
        qos,
        ..PlainConfig::default()
    };
    Dialect::Plain(Plain { config })
}
