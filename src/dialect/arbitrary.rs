//! Samples and endpoints for tests: fixed ones, and any at all.

use crate::{
    config::secret::EndpointToken,
    endpoints::{Endpoint, EndpointKey, Tenant},
};
use adapter_api::{EndpointName, Quality, Reading, Resource, Sample, Source, Stamp, Value};
use proptest::prelude::*;

/// The token of the reference's own example.
pub(super) const TOKEN: &str = "JTjdbENzHh";

/// An endpoint with [`TOKEN`] and these names on the wire.
pub(super) fn endpoint(renamed: &[(&str, &str)]) -> Endpoint {
    Endpoint {
        key: EndpointKey { tenant: Tenant::default(), name: EndpointName::new("boiler-7").unwrap() },
        token: EndpointToken::new(TOKEN),
        enabled: true,
        quotas: Default::default(),
        report: None,
        unit: None,
        name_on_wire: renamed.iter().map(|(from, to)| (resource(from), (*to).to_owned())).collect(),
    }
}

/// A resource.
pub(super) fn resource(name: &str) -> Resource {
    Resource::new(name).unwrap()
}

/// A sample of the reference's instant, all readings good.
pub(super) fn sample(readings: &[(&str, Value)]) -> Sample {
    let reading = |(name, value): &(&str, Value)| Reading {
        resource: resource(name),
        value: value.clone(),
        quality: Quality::Good,
    };
    Sample {
        at: Stamp::Wall { us: 1_566_987_697_005_000, source: Source::Gateway },
        readings: readings.iter().map(reading).collect(),
    }
}

/// Any value.
pub(super) fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::Text),
        any::<Vec<u8>>().prop_map(Value::Bytes),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(Value::Map),
        ]
    })
}

/// Any sample, with names that clash often.
pub(super) fn any_sample() -> impl Strategy<Value = Sample> {
    let at = prop_oneof![
        any::<i64>().prop_map(|us| Stamp::Wall { us, source: Source::Device }),
        any::<i64>().prop_map(|us| Stamp::Mono { boot: 1, us }),
    ];
    let quality = prop_oneof![
        Just(Quality::Good),
        any::<String>().prop_map(Quality::Uncertain),
        any::<String>().prop_map(Quality::Bad)
    ];
    let name = prop_oneof!["a(_quality)?_{0,2}", "timestamp_?", "[^\\pC]{1,20}"];
    let reading = (name, any_value(), quality).prop_map(|(name, value, quality)| Reading {
        resource: resource(&name),
        value,
        quality,
    });
    (at, prop::collection::vec(reading, 0..8)).prop_map(|(at, readings)| Sample { at, readings })
}
