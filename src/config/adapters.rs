//! `[adapters.KIND.NAME]` and the adapter's half of each endpoint.
//!
//! A new kind of adapter needs a line in `KINDS`, a field in `AdapterConfigs` and a line in `units_of_all`.

use super::{
    check::{Half, KeyPath, Notes, Severity},
    endpoints::Draft,
    read, suggest,
};
use adapter_api::{Adapter, Devices, EndpointName, Issue, Place};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The kinds this version knows, and whether they are part of this build.
pub(super) const KINDS: [(&str, bool); 2] =
    [("modbus", cfg!(feature = "modbus")), ("test", cfg!(feature = "test-hooks"))];

/// One adapter and the devices behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitConfig<C, D> {
    /// Its own table.
    pub config: C,
    /// Its half of the tables of its enabled endpoints.
    pub devices: Arc<Devices<D>>,
}

/// All adapters of one kind, by name.
pub type Units<A> = BTreeMap<String, UnitConfig<<A as Adapter>::Config, <A as Adapter>::Device>>;

/// All adapters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AdapterConfigs {
    /// `[adapters.modbus.*]`
    #[cfg(feature = "modbus")]
    pub modbus: Units<adapter_modbus::Modbus>,
    /// `[adapters.test.*]`
    #[cfg(feature = "test-hooks")]
    pub test: Units<adapter_api::test_adapter::Test>,
}

impl AdapterConfigs {
    /// Without these devices.
    pub(super) fn forget(&mut self, endpoints: &BTreeSet<EndpointName>) {
        #[cfg(feature = "modbus")]
        self.modbus.values_mut().for_each(|unit| unit.forget(endpoints));
        #[cfg(feature = "test-hooks")]
        self.test.values_mut().for_each(|unit| unit.forget(endpoints));
    }
}

impl<C, D: Clone> UnitConfig<C, D> {
    /// Copied only where there is something to forget.
    fn forget(&mut self, endpoints: &BTreeSet<EndpointName>) {
        if endpoints.iter().any(|name| self.devices.contains_key(name)) {
            Arc::make_mut(&mut self.devices).retain(|name, _| !endpoints.contains(name));
        }
    }
}

/// Kinds in this build that a person would want.
pub(super) fn offered() -> impl Iterator<Item = &'static str> {
    KINDS.iter().filter(|(kind, compiled)| *compiled && *kind != "test").map(|(kind, _)| *kind)
}

/// Reads and checks all adapters and their devices. Notes in each draft the resources its adapter knows.
pub(super) fn units_of_all(
    notes: &mut Notes<'_>,
    doc: &DeTable<'_>,
    drafts: &mut [Draft],
    no_platform: bool,
) -> AdapterConfigs {
    let adapters = match doc.get("adapters").map(Spanned::get_ref) {
        Some(DeValue::Table(adapters)) => adapters,
        Some(_) => {
            notes.error(&KeyPath::new(&["adapters"]), "expected a table");
            &DeTable::new()
        }
        None => &DeTable::new(),
    };
    for kind in adapters.keys().map(|key| key.get_ref().as_ref()) {
        check_kind(notes, &KeyPath::new(&["adapters"]), kind);
    }
    let mut all =
        All { notes, adapters, endpoints: doc.get("endpoints").map(Spanned::get_ref), drafts, no_platform };
    AdapterConfigs {
        #[cfg(feature = "modbus")]
        modbus: all.units::<adapter_modbus::Modbus>(),
        #[cfg(feature = "test-hooks")]
        test: all.units::<adapter_api::test_adapter::Test>(),
    }
}

/// Notes a kind that is unknown, or known and not part of this build.
pub(super) fn check_kind(notes: &mut Notes<'_>, table: &KeyPath, kind: &str) {
    match KINDS.iter().find(|(known, _)| *known == kind) {
        Some((_, true)) => {}
        Some((_, false)) => {
            let hint = "install a build with it, or remove the table".to_owned();
            let what = "this kind of adapter is not part of this build".to_owned();
            notes.add(Severity::Error, &table.key(kind), Half::Key, what, Some(hint));
            notes.unread(table.key(kind));
        }
        None => read::unknown_key(notes, table, kind, offered()),
    }
}

/// What reading the units of one kind needs.
struct All<'a, 'n, 'd> {
    notes: &'a mut Notes<'n>,
    adapters: &'a DeTable<'d>,
    endpoints: Option<&'a DeValue<'d>>,
    drafts: &'a mut [Draft],
    /// `uplink.kind = "none"`: samples go nowhere.
    no_platform: bool,
}

impl All<'_, '_, '_> {
    /// The adapters of one kind with their devices, checked.
    fn units<A: Adapter>(&mut self) -> Units<A> {
        let table = KeyPath::new(&["adapters", A::KIND]);
        let named = match self.adapters.get(A::KIND).map(Spanned::get_ref) {
            Some(DeValue::Table(named)) => named,
            Some(_) => {
                self.notes.error_with(&table, "expected a table", format!("write [{table}.NAME]"));
                self.notes.unread(table.clone());
                &DeTable::new()
            }
            None => &DeTable::new(),
        };
        let names: Vec<String> = named.keys().map(|name| name.get_ref().to_string()).collect();
        let mut devices = self.devices::<A>(&names);
        let mut units = BTreeMap::new();
        for (name, node) in named {
            let name = name.get_ref().as_ref();
            let path = table.key(name);
            if !node.get_ref().is_table() {
                // Most likely a key of an adapter whose name was forgotten.
                self.notes.error_with(
                    &path,
                    "expected a table",
                    format!("each adapter has a name: write [{table}.NAME]"),
                );
                self.notes.unread(path);
                continue;
            }
            if EndpointName::new(name).is_err() {
                let what = "an adapter's name has 1 to 64 letters, digits, '.', '_' or '-' and starts with a letter or digit";
                self.notes.add(Severity::Error, &path, Half::Key, what.to_owned(), None);
            }
            let config = read::read::<A::Config>(self.notes, &path, node, &[]);
            let devices = devices.remove(name).unwrap_or_default();
            if let Some(config) = config {
                units.insert(name.to_owned(), self.unit::<A>(&path, config, devices));
            }
        }
        units
    }

    /// One adapter with its devices, checked.
    fn unit<A: Adapter>(
        &mut self,
        path: &KeyPath,
        config: A::Config,
        mut devices: Devices<A::Device>,
    ) -> UnitConfig<A::Config, A::Device> {
        // What follows from a key of the adapter that could not be read would be said of every device.
        let issues = if self.notes.is_partial(path) { Vec::new() } else { A::check(&config, &devices) };
        for issue in issues {
            note_issue(self.notes, path, A::KIND, Severity::Error, issue);
        }
        // With errors about, a device may be missing for no other reason than those.
        if devices.is_empty() && !A::ANSWERS_DEVICES && !self.notes.has_errors() {
            let hint = format!("name it as `adapter` of an endpoint with a table `{}`", A::KIND);
            self.notes.warn(path, "no endpoint uses this adapter", hint);
        }
        if self.no_platform && A::ANSWERS_DEVICES {
            let what = format!(
                "the devices of [{path}] are told that their data is kept, and without a platform it is not"
            );
            self.notes.warn(
                &KeyPath::new(&["uplink", "kind"]),
                what,
                "configure a platform, or remove this adapter",
            );
        }
        for draft in self.drafts.iter().filter(|draft| !draft.enabled) {
            devices.remove(&draft.name);
        }
        // A doubt is about the whole; of a part it would be wrong.
        if !self.notes.has_errors() {
            for issue in A::doubts(&config, &devices) {
                note_issue(self.notes, path, A::KIND, Severity::Warning, issue);
            }
        }
        UnitConfig { config, devices: devices.into() }
    }

    /// The devices of one kind by the name of their adapter.
    fn devices<A: Adapter>(&mut self, names: &[String]) -> BTreeMap<String, Devices<A::Device>> {
        let mut by_adapter: BTreeMap<String, Devices<A::Device>> = BTreeMap::new();
        let units: BTreeMap<&String, Arc<str>> =
            names.iter().map(|name| (name, format!("{}.{name}", A::KIND).into())).collect();
        for draft in self.drafts.iter_mut().filter(|d| d.kind.as_deref() == Some(A::KIND)) {
            let path = draft.path.key(A::KIND);
            let adapter = adapter_of(self.notes, draft, A::KIND, names);
            draft.unit = adapter.as_ref().and_then(|adapter| units.get(adapter)).cloned();
            let node = self.endpoints.and_then(|e| e.get(draft.name.as_str()));
            let Some(node) = node.and_then(|n| n.get_ref().get(A::KIND)) else { continue };
            let device = read::read::<A::Device>(self.notes, &path, node, &[]);
            draft.resources = device.as_ref().map(A::resources);
            if let (Some(adapter), Some(device)) = (adapter, device) {
                by_adapter.entry(adapter).or_default().insert(draft.name.clone(), device);
            }
        }
        by_adapter
    }
}

/// The adapter an endpoint is behind.
fn adapter_of(notes: &mut Notes<'_>, draft: &Draft, kind: &str, names: &[String]) -> Option<String> {
    let path = draft.path.key("adapter");
    let known = || names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    match (&draft.adapter, names) {
        (Some(adapter), _) if names.contains(adapter) => return Some(adapter.clone()),
        (Some(_), []) => {
            let hint = format!("add a table [adapters.{kind}.NAME] with this name");
            notes.error_with(&path, format!("there is no {kind} adapter at all"), hint);
        }
        (Some(adapter), _) => {
            let near = suggest::did_you_mean(adapter, names.iter().map(String::as_str));
            let hint = near.unwrap_or_else(|| format!("known here: {}", known()));
            notes.error_with(&path, format!("there is no {kind} adapter of this name"), hint);
        }
        (None, [only]) => return Some(only.clone()),
        (None, []) => {
            let hint = format!("add a table [adapters.{kind}.NAME]");
            notes.error_with(&path, format!("there is no {kind} adapter"), hint);
        }
        (None, _) => {
            let hint = format!("write adapter = \"NAME\" with one of: {}", known());
            notes.error_with(&path, format!("there are several {kind} adapters"), hint);
        }
    }
    None
}

/// An adapter's own findings.
fn note_issue(notes: &mut Notes<'_>, config: &KeyPath, kind: &str, severity: Severity, issue: Issue) {
    let table = match &issue.place {
        Place::Config => config.clone(),
        Place::Device(endpoint) => KeyPath::new(&["endpoints", endpoint.as_str(), kind]),
    };
    let key = table.below(issue.path);
    // Of a table that was read in part, only what is said of the keys themselves is certain.
    if !notes.is_partial(&key) {
        notes.add(severity, &key, Half::Value, issue.why, issue.hint);
    }
}
