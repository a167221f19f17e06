//! What of a device is read: what its profile knows and what its own table says.

use super::{Device, Findings, Manner, Register};
use crate::{
    profile::{Content, Library, Limits, NoProfile},
    sunspec,
};
use adapter_api::{Resource, suggest};
use std::{borrow::Cow, collections::BTreeMap, time::Duration};

/// What is read from a device.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// At places that are known.
    pub registers: BTreeMap<Resource, Register>,
    /// What the device answers at once, as far as that is known.
    pub limits: Limits,
    /// What is found by asking the device.
    pub sunspec: Option<sunspec::Choice>,
}

impl Findings {
    /// What is read from a device, as far as that can be said.
    pub(super) fn chosen(&mut self, library: &Library, device: &Device) -> Chosen {
        let mut chosen = Chosen { registers: device.resources.clone(), ..Chosen::default() };
        match (&device.profile, &device.only) {
            (None, None) if device.resources.is_empty() => {
                let hint = "name a `profile`, or at least one resource and its register";
                self.add(&["resources"], "there is nothing to read", hint);
            }
            (None, Some(_)) => self.add(&["only"], "there is no profile to choose from", "add `profile`"),
            (None, None) => {}
            (Some(name), _) => match library.find(name).map(|profile| (profile.limits, profile.content)) {
                Ok((limits, Content::Registers(entries))) => {
                    chosen.limits = limits;
                    self.only(device, entries.keys().map(Resource::as_str), |name| name.as_str().into());
                    for (resource, entry) in entries {
                        let own = device.resources.get(&resource);
                        if own.is_some() || is_chosen(device, &resource) {
                            let register = own.map(|own| own.over(&entry.register));
                            chosen.registers.insert(resource, register.unwrap_or(entry.register));
                        }
                    }
                }
                Ok((limits, Content::SunSpec)) => {
                    chosen.limits = limits;
                    let names = sunspec::names();
                    self.only(device, names.iter().map(Resource::as_str), sunspec::of_first);
                    let only = device.only.as_ref().map(|only| only.iter().cloned().collect());
                    let period: Duration = device.period.duration();
                    chosen.sunspec = Some(sunspec::Choice { only, period });
                }
                Err(error) => {
                    self.no_profile(error);
                    // What follows from its absence would be said of every resource.
                    chosen.registers.retain(|_, register| register.register.is_some());
                }
            },
        }
        chosen
    }

    /// Names that the profile does not have, even if they are called as it calls them.
    fn only<'k>(
        &mut self,
        device: &Device,
        known: impl Iterator<Item = &'k str>,
        called: fn(&Resource) -> Cow<'_, str>,
    ) {
        let Some(only) = &device.only else { return };
        let known: Vec<&str> = known.collect();
        if only.is_empty() {
            self.add(&["only"], "chooses nothing", "leave it out to read the whole profile");
        }
        for (at, name) in only.iter().enumerate().filter(|(_, name)| !known.contains(&called(name).as_ref()))
        {
            let near = suggest::by_nearness(name.as_str(), known.iter().copied());
            let near: Vec<&str> = near.into_iter().take(5).collect();
            let hint = format!("near to it are {}", near.join(", "));
            self.add(&["only", &at.to_string()], "the profile has no such resource", hint);
        }
    }

    /// A point is read together with the beginning of its model.
    pub(super) fn reach(&mut self, choice: Option<&sunspec::Choice>, manner: Option<&Manner>) {
        let (Some(choice), Some(manner)) = (choice, manner) else { return };
        let (longest, most) = (choice.longest(), manner.limits.registers);
        if longest > most {
            let why = format!(
                "SunSpec points are read from the beginning of their model, up to {longest} registers"
            );
            let hint = "allow as many, or choose with `only` points nearer to the beginning of theirs";
            self.add(&["max_registers"], why, hint);
        }
    }

    fn no_profile(&mut self, error: NoProfile) {
        match error {
            NoProfile::Unknown { names } => {
                let hint = format!("there are {}", names.join(", "));
                self.add(&["profile"], "there is no profile of this name", hint);
            }
            NoProfile::Unreadable { file, why } => {
                let hint = "see to it that the service may read the file, or remove it";
                self.add(&["profile"], format!("{}: {why}", file.display()), hint);
            }
            NoProfile::Faulty { origin, faults } => {
                for fault in faults {
                    let hint = fault.hint.clone().unwrap_or_else(|| format!("correct {origin}"));
                    let fault = crate::profile::Wrong { hint: None, ..fault };
                    self.add(&["profile"], format!("{origin}: {fault}"), hint);
                }
            }
        }
    }
}

fn is_chosen(device: &Device, resource: &Resource) -> bool {
    device.only.as_ref().is_none_or(|only| only.contains(resource))
}

/// The resources of a device that are known before it has spoken.
pub(crate) fn known(device: &Device) -> Vec<Resource> {
    let mut names: Vec<Resource> = device.resources.keys().cloned().collect();
    if let Some(profile) = &device.profile {
        match Library::default().find(profile).map(|profile| profile.content) {
            Ok(Content::Registers(entries)) => {
                let chosen = entries.into_keys().filter(|resource| is_chosen(device, resource));
                names.extend(chosen.filter(|resource| !device.resources.contains_key(resource)));
            }
            Ok(Content::SunSpec) => {
                names.extend(device.only.clone().unwrap_or_else(sunspec::names));
            }
            // `check` says it.
            Err(_) => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use adapter_api::Place;
    use std::fs;

    fn look(library: &Library, device: &str) -> (Chosen, Vec<(String, String, String)>) {
        let mut found = Findings { place: Place::Config, issues: Vec::new() };
        let chosen = found.chosen(library, &toml::from_str(device).unwrap());
        let issues = found.issues.into_iter();
        (chosen, issues.map(|issue| (issue.path.join("."), issue.why, issue.hint.unwrap())).collect())
    }

    fn built_in() -> Library {
        Library::new("/nowhere".into())
    }

    fn registers(device: &str) -> Vec<(String, Option<String>)> {
        let (chosen, issues) = look(&built_in(), device);
        assert_eq!(issues, []);
        chosen.registers.into_iter().map(|(name, register)| (name.to_string(), register.register)).collect()
    }

    #[test]
    fn a_profile_is_taken_whole_or_in_part_and_added_to() {
        assert_eq!(registers("profile = 'sdm120'").len(), 22);
        let some = registers("profile = 'sdm120'\nonly = ['voltage', 'current']");
        let at = |name: &str, at: &str| (name.to_owned(), Some(at.to_owned()));
        assert_eq!(some, [at("current", "input:6"), at("voltage", "input:0")]);
        let more = "profile = 'sdm120'\nonly = ['voltage']\n\
                    resources.baud = { register = 'holding:28', type = 'f32' }\n\
                    resources.total_energy = { period = '60s' }";
        let expected = [at("baud", "holding:28"), at("total_energy", "input:342"), at("voltage", "input:0")];
        assert_eq!(registers(more), expected);
    }

    #[test]
    fn a_resource_changes_keys_of_the_profile_or_replaces_its_entry() {
        let device = "profile = 'sdm120'\nonly = ['voltage']\n[resources]\n\
                      voltage = { decimals = 1, period = '5s' }\n\
                      current = { register = 'input:6', type = 'u32' }";
        let (chosen, issues) = look(&built_in(), device);
        assert_eq!(issues, []);
        let [voltage, current] =
            ["voltage", "current"].map(|name| chosen.registers[&Resource::new(name).unwrap()].clone());
        assert_eq!((voltage.register.as_deref(), voltage.kind.as_deref()), (Some("input:0"), Some("f32")));
        assert_eq!((voltage.decimals, voltage.period.is_some()), (Some(1), true));
        assert_eq!(current.kind.as_deref(), Some("u32"));
    }

    #[test]
    fn what_the_profile_does_not_have_is_reported_with_what_is_near() {
        let (_, issues) = look(&built_in(), "profile = 'sdm12'");
        let [(path, why, hint)] = issues.as_slice() else { panic!("{issues:?}") };
        assert_eq!((path.as_str(), why.as_str()), ("profile", "there is no profile of this name"));
        assert!(hint.starts_with("there are sdm120, "), "{hint}");
        assert!(["ai8", "sunspec", "sdm630"].iter().all(|name| hint.contains(name)), "{hint}");
        let (_, issues) = look(&built_in(), "profile = 'sdm120'\nonly = ['voltage', 'voltag']");
        let [(path, _, hint)] = issues.as_slice() else { panic!("{issues:?}") };
        assert_eq!(path, "only.1");
        assert!(hint.starts_with("near to it are voltage, "), "{hint}");
        for (device, path) in [
            ("profile = 'sunspec'\nonly = ['inverter.Watt']", "only.0"),
            ("profile = 'sunspec'\nonly = ['meter_1.W']", "only.0"),
            ("profile = 'sunspec'\nonly = ['meter_2']", "only.0"),
            ("profile = 'sdm120'\nonly = []", "only"),
            ("only = ['a']", "only"),
            ("", "resources"),
            ("profile = '../tidegate'", "profile"),
        ] {
            let (_, issues) = look(&built_in(), device);
            assert_eq!(issues.iter().map(|(at, ..)| at.as_str()).collect::<Vec<_>>(), [path], "{device}");
        }
    }

    #[test]
    fn a_sunspec_device_is_asked_what_it_has() {
        let (chosen, issues) = look(&built_in(), "profile = 'sunspec'\nonly = ['meter_2.W']\nperiod = '5s'");
        assert_eq!(issues, []);
        assert!(chosen.registers.is_empty());
        let choice = chosen.sunspec.unwrap();
        assert_eq!(choice.period, Duration::from_secs(5));
        assert_eq!(
            choice.only.unwrap().into_iter().map(|r| r.to_string()).collect::<Vec<_>>(),
            ["meter_2.W"]
        );
    }

    #[test]
    fn a_faulty_file_is_named_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let library = Library::new(dir.path().to_owned());
        fs::write(
            dir.path().join("sdm120.toml"),
            "vendor = 'a'\nmodel = 'b'\nsource = 'c'\n[registers]\nu = { register = 'input:0', type = 'f23' }\n",
        )
        .unwrap();
        let (chosen, issues) = look(&library, "profile = 'sdm120'");
        assert!(chosen.registers.is_empty());
        let [(path, why, hint)] = issues.as_slice() else { panic!("{issues:?}") };
        assert_eq!(path, "profile");
        assert!(why.ends_with("/sdm120.toml: registers.u.type: there is no such type"), "{why}");
        assert!(hint.contains("f32"), "{hint}");
    }
}
