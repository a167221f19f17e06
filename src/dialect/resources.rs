//! What a configuration can have wrong about names on the wire, in any dialect. Sans-IO.
//!
//! Not here: what a dialect alone demands; it hands that in.

use super::{KeyFault, fault, object::name_on_wire};
use crate::endpoints::Endpoint;
use adapter_api::{Issue, Place, Resource};
use std::collections::HashMap;

/// More is no name: with it no topic comes near MQTT's 65,535 bytes.
const NAME_BYTES: usize = 1_024;

/// Checks the resources an endpoint is known to have, and those it renames. `field`: the member they
/// must not be called like. `fits`: what the dialect demands of a name on the wire.
pub(super) fn check(
    endpoint: &Endpoint,
    resources: &[Resource],
    field: Option<&str>,
    fits: impl Fn(&str) -> Result<(), &'static str>,
) -> Vec<Issue> {
    let renamed = endpoint.name_on_wire.keys().filter(|renamed| !resources.contains(renamed));
    let mut seen = HashMap::new();
    let mut issues = Vec::new();
    for resource in resources.iter().chain(renamed) {
        let wire = name_on_wire(endpoint, resource);
        let why = if let Some(other) = seen.insert(wire, resource) {
            // An adapter that lists a resource twice has its own check for that.
            (other != resource).then(|| {
                format!("{:?} and {:?} are both {wire:?} on the wire", resource.as_str(), other.as_str())
            })
        } else if field == Some(wire) {
            Some(format!("{wire:?} is the name of the timestamp field"))
        } else if wire.len() > NAME_BYTES {
            Some(format!("a name on the wire has at most {NAME_BYTES} bytes"))
        } else {
            fits(wire).err().map(|why| format!("{wire:?}: {why}"))
        };
        issues.extend(why.map(|why| Issue {
            place: Place::Device(endpoint.key.name.clone()),
            path: vec!["resources".to_owned(), resource.to_string()],
            why,
            hint: Some(hint(endpoint, resource)),
        }));
    }
    issues
}

/// What is wrong with a token wherever it is a level of a topic.
pub(super) fn check_token(token: &str) -> Result<(), &'static str> {
    if token.is_empty() {
        return Err("the token is empty");
    }
    if token.chars().any(char::is_control) {
        return Err("the token has a control character");
    }
    if token.len() > NAME_BYTES {
        return Err("the token has more than 1024 bytes");
    }
    Ok(())
}

/// What is wrong with the key `timestamp_field`.
pub(super) fn check_field(name: &str) -> Option<KeyFault> {
    let good = (1..=128).contains(&name.len()) && !name.chars().any(char::is_control);
    let why = "the timestamp field's name has 1 to 128 bytes and no control characters";
    (!good).then(|| fault("timestamp_field", why, Some("the default is \"timestamp\"")))
}

fn hint(endpoint: &Endpoint, resource: &Resource) -> String {
    let mut other: String = resource
        .as_str()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    if other == name_on_wire(endpoint, resource) {
        other.push_str("_2");
    }
    format!(
        "name it otherwise in the endpoint's table: name_on_wire = {{ {:?} = {other:?} }}",
        resource.as_str()
    )
}
