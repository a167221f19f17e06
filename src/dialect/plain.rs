//! Any MQTT broker: samples as JSON or CBOR on a topic made from a template.
//!
//! With `{resource}` in the template each reading is its own publish of a bare value: a JSON value
//! or a CBOR item, null for a `Bad` one, without timestamp and quality. Otherwise samples are
//! objects: one bare object per publish with `batch = 1`, else always an array. The broker's PUBACK
//! confirms; nothing can be refused. Not here: how objects are written (`object.rs`) and templates
//! are read (`plain/topic.rs`). Sans-IO.

#[cfg(test)]
mod tests;
mod topic;

use super::{
    EncodeError, Encoded, Format, Frame, KeyFault, Path, Qos, QualityMode, TimestampFormat, fault,
    object::{self, Layout, name_on_wire},
    resources,
};
use crate::{config::secret::EndpointToken, endpoints::Endpoint};
use adapter_api::{Issue, Resource, Sample};
use serde::Deserialize;
pub use topic::Topic;

/// The dialect with its configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Plain {
    /// Its table.
    pub config: PlainConfig,
}

/// `[uplink.plain]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlainConfig {
    /// Where samples go.
    pub topic: Topic,
    /// How they are spelt.
    pub format: Format,
    /// Most samples in a publish; 1: a bare object, more: an array of objects.
    pub batch: usize,
    /// The member that holds the instant.
    pub timestamp_field: String,
    /// How it is written.
    pub timestamp_format: TimestampFormat,
    /// Whether qualities are written.
    pub quality: QualityMode,
    /// 1: the broker's PUBACK confirms. 0: what the link took counts as delivered.
    pub qos: Qos,
}

impl Default for PlainConfig {
    fn default() -> Self {
        Self {
            topic: Topic::default(),
            format: Format::default(),
            batch: 1,
            timestamp_field: "timestamp".to_owned(),
            timestamp_format: TimestampFormat::default(),
            quality: QualityMode::default(),
            qos: Qos::default(),
        }
    }
}

impl PlainConfig {
    /// What is wrong with these keys.
    pub fn check(&self) -> Vec<KeyFault> {
        let mut faults: Vec<_> = self.topic.check().into_iter().collect();
        if !(1..=1000).contains(&self.batch) {
            faults.push(fault("batch", "a publish takes 1 to 1000 samples", None));
        }
        if self.topic.names_resource() {
            if self.batch > 1 {
                let why = "with {resource} in the topic each reading is its own publish";
                faults.push(fault("batch", why, Some("take {resource} out of the topic, or set batch = 1")));
            }
            if self.quality == QualityMode::Field {
                let why =
                    "with {resource} in the topic a publish is a bare value and has no room for its quality";
                faults.push(fault(
                    "quality",
                    why,
                    Some("take {resource} out of the topic, or set quality = \"off\""),
                ));
            }
        }
        faults.extend(resources::check_field(&self.timestamp_field));
        faults
    }
}

impl Plain {
    /// Encodes leading samples: one frame of them, or the first one's readings with a frame each.
    ///
    /// A sample without readings has no frames in the second case: nothing is left to be confirmed.
    pub fn encode(
        &self,
        endpoint: &Endpoint,
        samples: &[&Sample],
        max_payload: usize,
    ) -> Result<Encoded, EncodeError> {
        let (frames, taken) = if self.config.topic.names_resource() {
            let readings = samples.first().into_iter().flat_map(|sample| &sample.readings).map(|reading| {
                let mut body = Vec::new();
                object::bare(self.config.format, reading, &mut body);
                let resource = name_on_wire(endpoint, &reading.resource);
                self.frame(self.config.topic.path(endpoint, resource), body, max_payload)
            });
            (readings.collect::<Result<Vec<_>, _>>()?, samples.len().min(1))
        } else {
            let (body, taken) = self.body(endpoint, samples, max_payload)?;
            (vec![self.frame(self.config.topic.path(endpoint, ""), body, max_payload)?], taken)
        };
        Ok(Encoded { frames, reply: None, taken })
    }

    /// What is wrong with an endpoint's resources.
    pub fn check(&self, endpoint: &Endpoint, resources: &[Resource]) -> Vec<Issue> {
        // A bare value has no members that could clash.
        let field = (!self.config.topic.names_resource()).then_some(self.config.timestamp_field.as_str());
        resources::check(endpoint, resources, field, |name| {
            if name.is_empty() || name.chars().any(char::is_control) {
                Err("a name on the wire is not empty and has no control characters")
            } else {
                Ok(())
            }
        })
    }

    /// What is wrong with a token, where the topic names it.
    pub fn check_token(&self, token: &EndpointToken) -> Result<(), &'static str> {
        if !self.config.topic.names_token() {
            return Ok(());
        }
        if token.expose().contains(['+', '#', '/']) {
            return Err("a token in a topic has no '+', '#' or '/'");
        }
        resources::check_token(token.expose())
    }

    fn body(
        &self,
        endpoint: &Endpoint,
        samples: &[&Sample],
        limit: usize,
    ) -> Result<(Vec<u8>, usize), EncodeError> {
        let layout = Layout {
            format: self.config.format,
            timestamp_field: &self.config.timestamp_field,
            timestamp_format: self.config.timestamp_format,
            quality: self.config.quality,
        };
        if self.config.batch > 1 {
            return layout.array(endpoint, samples, self.config.batch, limit);
        }
        // Most samples fit: grown byte by byte it would move six times.
        let mut body = Vec::with_capacity(256);
        for sample in samples.iter().take(1) {
            layout.object(endpoint, sample, &mut body);
        }
        Ok((body, samples.len().min(1)))
    }

    fn frame(&self, path: Path, body: Vec<u8>, limit: usize) -> Result<Frame, EncodeError> {
        let bytes = body.len();
        if bytes > limit {
            Err(EncodeError::TooLarge { bytes, limit })
        } else {
            Ok(Frame { path, body, qos: self.config.qos })
        }
    }
}
