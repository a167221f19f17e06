//! Kaa 1/KP: data collection (2/DCP).
//!
//! A batch of samples is one request `kp1/<app version>/<instance>/<token>/json/<id>`; the platform
//! answers it on the same topic with `/status` (processed) or `/error` (`{statusCode, reasonPhrase}`).
//! The codes of RFC 9110 decide what a refusal means. Not here: whose reply it is and what then
//! happens; that is `uplink/outflow.rs`. Sans-IO.

#[cfg(test)]
mod tests;

use super::{
    Correlation, EncodeError, Encoded, Format, Frame, Inbound, KeyFault, Path, Qos, QualityMode, Refusal,
    TimestampFormat, fault, object::Layout, resources, words::Words,
};
use crate::{config::secret::EndpointToken, endpoints::Endpoint};
use adapter_api::{Issue, Resource, Sample};
use serde::Deserialize;
use std::sync::Arc;

/// The dialect with its configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Kaa {
    /// Its table.
    pub config: KaaConfig,
}

/// `[uplink.kaa]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KaaConfig {
    /// The application version all endpoints belong to, as in `demo_application_v1`.
    pub app_version: String,
    /// Name of the platform's data collection instance.
    #[serde(default = "dcx")]
    pub dcx: Arc<str>,
    /// The member that holds the instant, as agreed with the platform's time series.
    #[serde(default = "timestamp_field")]
    pub timestamp_field: String,
    /// How it is written.
    #[serde(default)]
    pub timestamp_format: TimestampFormat,
    /// Whether qualities are written.
    #[serde(default)]
    pub quality: QualityMode,
    /// Most samples in a request.
    #[serde(default = "batch")]
    pub batch: usize,
    /// How MQTT carries requests; the reply confirms in either case.
    #[serde(default)]
    pub qos: Qos,
    /// How replies are subscribed to.
    #[serde(default)]
    pub subscribe: Subscribe,
}

/// Whose replies a filter asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subscribe {
    /// Filters for each endpoint.
    #[default]
    PerEndpoint,
    /// Filters with a wildcard in place of the token.
    PerExtension,
    /// None: Kaa itself sends replies unasked, a broker in between does not.
    None,
}

fn dcx() -> Arc<str> {
    "dcx".into()
}

fn timestamp_field() -> String {
    "timestamp".to_owned()
}

const fn batch() -> usize {
    100
}

/// The replies to requests.
///
/// Not `<token>/#`, nor `+/#`: a broker sends us our own requests on it (MQTT 3.1.1 knows no "no
/// local"), all of the telemetry once more over a link that may be metered.
const REPLIES: [&str; 2] = ["/json/+/status", "/json/+/error"];

impl KaaConfig {
    /// What is wrong with these keys.
    pub fn check(&self) -> Vec<KeyFault> {
        let mut faults = Vec::new();
        let in_version = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        if self.app_version.is_empty() || !self.app_version.bytes().all(in_version) {
            let hint = "copy it from the application's page, as in \"demo_application_v1\"";
            faults.push(fault(
                "app_version",
                "an application version is made of a-z, 0-9, '-' and '_'",
                Some(hint),
            ));
        }
        let in_topic = |c: char| matches!(c, '/' | '+' | '#') || c.is_control();
        if self.dcx.is_empty() || self.dcx.contains(in_topic) {
            let why = "an instance's name is not empty and has no '/', '+', '#' or control character";
            faults.push(fault("dcx", why, Some("the platform's default is \"dcx\"")));
        }
        faults.extend(resources::check_field(&self.timestamp_field));
        if !(1..=1000).contains(&self.batch) {
            faults.push(fault("batch", "a request takes 1 to 1000 samples", None));
        }
        faults
    }
}

impl Kaa {
    /// Encodes leading samples as one request.
    pub fn encode(
        &self,
        endpoint: &Endpoint,
        samples: &[&Sample],
        max_payload: usize,
        next_id: &mut dyn FnMut() -> u32,
    ) -> Result<Encoded, EncodeError> {
        let layout = Layout {
            format: Format::Json,
            timestamp_field: &self.config.timestamp_field,
            timestamp_format: self.config.timestamp_format,
            quality: self.config.quality,
        };
        let (body, taken) = layout.array(endpoint, samples, self.config.batch, max_payload)?;
        let id = next_id();
        let path = Path::of(&endpoint.key.name)
            .text(&self.instance_path())
            .token(endpoint.token.expose())
            .text(&format!("/json/{id}"))
            .done();
        let correlation =
            Correlation { token: endpoint.token.clone(), instance: Arc::clone(&self.config.dcx), id };
        let frames = vec![Frame { path, body, qos: self.config.qos }];
        Ok(Encoded { frames, reply: Some(correlation), taken })
    }

    /// Understands a reply.
    pub fn decode(&self, path: &str, body: &[u8]) -> Inbound {
        let (correlation, verdict) = match self.reply(path) {
            Ok(reply) => reply,
            Err(why) => return Inbound::Ignored(why),
        };
        match verdict {
            Verdict::Status => Inbound::Delivered(correlation),
            Verdict::Error => {
                let (code, reason) = read_error(body);
                Inbound::Refused { correlation, refusal: meaning(code), reason }
            }
        }
    }

    /// Filters that serve all endpoints.
    pub fn common_subscriptions(&self) -> Vec<Path> {
        match self.config.subscribe {
            Subscribe::PerExtension => {
                REPLIES.map(|replies| Path::open(&format!("{}+{replies}", self.instance_path()))).into()
            }
            Subscribe::PerEndpoint | Subscribe::None => Vec::new(),
        }
    }

    /// Filters for the replies to this endpoint's requests.
    pub fn subscriptions(&self, endpoint: &Endpoint) -> Vec<Path> {
        let filter = |replies| {
            let start = Path::of(&endpoint.key.name).text(&self.instance_path());
            start.token(endpoint.token.expose()).text(replies).done()
        };
        match self.config.subscribe {
            Subscribe::PerEndpoint => REPLIES.map(filter).into(),
            Subscribe::PerExtension | Subscribe::None => Vec::new(),
        }
    }

    /// What is wrong with an endpoint's resources.
    pub fn check(&self, endpoint: &Endpoint, resources: &[Resource]) -> Vec<Issue> {
        resources::check(endpoint, resources, Some(&self.config.timestamp_field), |name| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            if !name.is_empty() && name.bytes().all(fits) {
                Ok(())
            } else {
                Err("Kaa's time series take names of A-Z, a-z, 0-9, '_' and '-' only")
            }
        })
    }

    fn instance_path(&self) -> String {
        format!("kp1/{}/{}/", self.config.app_version, self.config.dcx)
    }

    /// Takes a reply's path apart from its end (1/KP, request/response pattern).
    fn reply(&self, path: &str) -> Result<(Correlation, Verdict), &'static str> {
        let (request, verdict) = match path.rsplit_once('/') {
            Some((request, "status")) => (request, Verdict::Status),
            Some((request, "error")) => (request, Verdict::Error),
            // With a broker in between: our own request, on somebody's wide filter.
            _ => return Err("neither a status nor an error"),
        };
        let digits = |level: &str| !level.is_empty() && level.bytes().all(|b| b.is_ascii_digit());
        let (resource, id) = match request.rsplit_once('/') {
            Some((resource, last)) if digits(last) => (resource, Some(last)),
            _ => (request, None),
        };
        let mut levels = resource.split('/');
        if levels.next() != Some("kp1") {
            return Err("not a path of 1/KP");
        }
        if levels.next() != Some(&self.config.app_version) {
            return Err("of another application version");
        }
        if levels.next() != Some(&self.config.dcx) {
            return Err("of another extension instance");
        }
        let token = EndpointToken::new(levels.next().unwrap_or_default());
        check_token(&token).map_err(|_| "without an endpoint token")?;
        if (levels.next(), levels.next()) != (Some("json"), None) {
            return Err("not of data collection");
        }
        let id = match (id, &verdict) {
            (Some(id), _) => request_id(id).ok_or("not a request id of ours")?,
            (None, Verdict::Error) => return Err("an error without a request id"),
            (None, Verdict::Status) => return Err("a status without a request id"),
        };
        Ok((Correlation { token, instance: Arc::clone(&self.config.dcx), id }, verdict))
    }
}

/// 1/KP: a token is not empty and has none of `+ # / .`. Control characters make brokers hang up (MQTT 3.1.1 §1.5.3).
pub fn check_token(token: &EndpointToken) -> Result<(), &'static str> {
    let token = token.expose();
    if token.contains(['+', '#', '/', '.']) {
        return Err("a token of Kaa has no '+', '#', '/' or '.'");
    }
    resources::check_token(token)
}

enum Verdict {
    Status,
    Error,
}

/// 1..=2^31-1 (the platform's data type), spelt as we spell it.
fn request_id(digits: &str) -> Option<u32> {
    let id = digits.parse::<u32>().ok().filter(|id| i32::try_from(*id).is_ok())?;
    (!digits.starts_with('0')).then_some(id)
}

/// The code of an error, and the platform's words; 0 where there is no code. Never fails: whatever
/// a refusal looks like, it is one.
fn read_error(body: &[u8]) -> (u16, Words) {
    /// Larger than any error: what is beyond is not worth reading.
    const READABLE: usize = 65_536;
    const NO_CODE: &str = "an error without a code";
    if body.len() > READABLE {
        return (0, Words::new(None, &format!("an error of {} bytes", body.len())));
    }
    let text = String::from_utf8_lossy(body);
    let Ok(serde_json::Value::Object(error)) = serde_json::from_str(&text) else {
        let text = text.trim();
        return (0, Words::new(None, if text.is_empty() { NO_CODE } else { text }));
    };
    let code = error.get("statusCode").and_then(|code| {
        let number = code.as_u64().or_else(|| code.as_str()?.trim().parse().ok())?;
        u16::try_from(number).ok()
    });
    let phrase = error.get("reasonPhrase").and_then(|phrase| phrase.as_str()).unwrap_or_default();
    let phrase = if code.is_none() && phrase.is_empty() { NO_CODE } else { phrase };
    (code.unwrap_or_default(), Words::new(code, phrase))
}

/// The reference names no codes per cause, so they mean what they mean in HTTP (RFC 9110 §15). An
/// unknown one parks the endpoint, which loses nothing.
fn meaning(code: u16) -> Refusal {
    match code {
        400 | 413 | 422 => Refusal::Item,
        408 | 425 | 429 | 500..=599 => Refusal::Later { after: None },
        _ => Refusal::Endpoint,
    }
}
