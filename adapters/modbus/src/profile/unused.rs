//! Profiles of the site that are not good and that no device uses: whoever names one later should not be
//! the first to learn of it.

use super::{Library, NoProfile, Wrong};
use crate::Device;
use adapter_api::{Devices, Issue, Place};
use std::collections::BTreeSet;

/// What is wrong in files of profiles that none of these devices has; of the others `check` tells.
pub(crate) fn unused(library: &Library, devices: &Devices<Device>) -> Vec<Issue> {
    let used: BTreeSet<&str> = devices.values().filter_map(|device| device.profile.as_deref()).collect();
    let names = library.names();
    let unused = names.iter().filter(|name| !used.contains(name.as_str()));
    unused.filter_map(|name| library.find(name).err()).flat_map(issues).collect()
}

fn issues(error: NoProfile) -> Vec<Issue> {
    let issue = |why: String, hint: String| Issue {
        place: Place::Config,
        path: Vec::new(),
        why: format!("a profile that no device uses is not good: {why}"),
        hint: Some(hint),
    };
    match error {
        // It was removed meanwhile.
        NoProfile::Unknown { .. } => Vec::new(),
        NoProfile::Unreadable { file, why } => {
            let hint = "see to it that the service may read the file, or remove it".to_owned();
            vec![issue(format!("{}: {why}", file.display()), hint)]
        }
        NoProfile::Faulty { origin, faults } => {
            let told = faults.into_iter().map(|fault| {
                let hint = fault.hint.clone().unwrap_or_else(|| format!("correct {origin}, or remove it"));
                issue(format!("{origin}: {}", Wrong { hint: None, ..fault }), hint)
            });
            told.collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adapter_api::EndpointName;
    use std::fs;

    #[test]
    fn faulty_profiles_that_no_device_uses_are_named_with_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        let library = Library::new(dir.path().to_owned());
        let devices = |profile: &str| -> Devices<Device> {
            let device = toml::from_str(&format!("profile = '{profile}'")).unwrap();
            [(EndpointName::new("d").unwrap(), device)].into()
        };
        assert_eq!(unused(&library, &devices("sdm120")), [], "those that are built in");
        let good =
            "vendor = 'a'\nmodel = 'b'\nsource = 'c'\nregisters.u = { register = 'input:0', type = 'u16' }\n";
        let wrong = good.replace("u16", "u17").replace("'a'", "''");
        for (name, text) in [("boiler.toml", wrong.as_str()), ("pump.toml", good), ("notes.txt", "")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        fs::create_dir(dir.path().join("fan.toml")).unwrap();
        let said: Vec<String> =
            unused(&library, &devices("sdm120")).into_iter().map(|issue| issue.why).collect();
        let ends = [
            "/boiler.toml: vendor: is empty",
            "/boiler.toml: registers.u.type: there is no such type",
            "/fan.toml: a directory, not a file",
        ];
        assert_eq!(said.len(), ends.len(), "{said:?}");
        for (said, end) in said.iter().zip(ends) {
            assert!(said.starts_with("a profile that no device uses") && said.ends_with(end), "{said}");
        }
        assert_eq!(unused(&library, &devices("boiler")).len(), 1, "`check` tells of the other one");
    }
}
