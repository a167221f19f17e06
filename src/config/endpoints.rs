//! `[endpoints.NAME]`: tokens, tenants, and which adapter an endpoint is behind.
//!
//! Not here: the adapter's half of the table (`adapters`).

use super::{
    adapters,
    check::{Half, KeyPath, Notes, Severity},
    files::Base,
    low, quota, read, report,
    secret::EndpointToken,
    suggest,
};
use crate::{
    dialect::Dialect,
    endpoints::{Endpoint, EndpointKey, Tenant},
    fault::Code,
    shape::{quota::Quotas, report::Report},
};
use adapter_api::{EndpointName, Issue, Place, Resource};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Keys of an endpoint that are not a kind of adapter.
const COMMON: [&str; 9] =
    ["token", "token_file", "tenant", "enabled", "adapter", "quota", "report", "name_on_wire", "formerly"];

/// An endpoint that was read, and what its adapter has to say about it.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) name: EndpointName,
    pub(super) path: KeyPath,
    pub(super) enabled: bool,
    /// As configured; to be looked up among the adapters of `kind`.
    pub(super) adapter: Option<String>,
    /// Whose table it has.
    pub(super) kind: Option<String>,
    /// The adapter it is behind, if there is one.
    pub(super) unit: Option<Arc<str>>,
    /// What its adapter knows of its resources, if its half could be read.
    pub(super) resources: Option<Vec<Resource>>,
    tenant: Tenant,
    quotas: Quotas,
    report: Option<Arc<Report>>,
    /// With the key it comes from.
    token: Option<(EndpointToken, KeyPath)>,
    name_on_wire: BTreeMap<Resource, String>,
    formerly: Vec<EndpointName>,
}

/// Reads all endpoints but for their adapters' halves. `own` is the gateway's, behind no adapter.
pub(super) fn drafts(
    notes: &mut Notes<'_>,
    doc: &DeTable<'_>,
    base: Base<'_>,
    defaults: Quotas,
    own: Option<&EndpointName>,
) -> Vec<Draft> {
    let path = KeyPath::new(&["endpoints"]);
    let endpoints = match doc.get("endpoints").map(Spanned::get_ref) {
        Some(DeValue::Table(endpoints)) => endpoints,
        Some(_) => {
            notes.error_with(&path, "expected a table", "write [endpoints.NAME]");
            return Vec::new();
        }
        None => &DeTable::new(),
    };
    if endpoints.is_empty() {
        notes.warn(&path, "there are no endpoints, so nothing is read", "add a table [endpoints.NAME]");
    }
    let named = endpoints.iter().map(|(name, node)| (name.get_ref().as_ref(), node));
    let drafts: Vec<Draft> = named
        .filter_map(|(name, node)| {
            let own = own.is_some_and(|own| own.as_str() == name);
            draft(notes, base, &path.key(name), name, node, defaults, own)
        })
        .collect();
    if let Some(own) = own {
        check_own(notes, own, endpoints, &drafts);
    }
    drafts
}

/// Whether the gateway has the endpoint that is to be its own.
fn check_own(notes: &mut Notes<'_>, own: &EndpointName, endpoints: &DeTable<'_>, drafts: &[Draft]) {
    let key = KeyPath::new(&["gateway", "endpoint"]);
    if !endpoints.keys().any(|name| name.get_ref() == own.as_str()) {
        let near = suggest::did_you_mean(own.as_str(), endpoints.keys().map(|name| name.get_ref().as_ref()));
        // Not the name itself: it may be a token in the wrong place (I11).
        let hint =
            near.unwrap_or_else(|| "add a table [endpoints.NAME] with this name and its token".to_owned());
        notes.error_with(&key, "there is no such endpoint", hint);
    } else if drafts.iter().any(|draft| draft.name == *own && !draft.enabled) {
        notes.error_with(&key, "this endpoint is disabled", "remove its `enabled = false`, or this line");
    }
}

fn draft(
    notes: &mut Notes<'_>,
    base: Base<'_>,
    path: &KeyPath,
    name: &str,
    node: &Spanned<DeValue<'_>>,
    defaults: Quotas,
    own: bool,
) -> Option<Draft> {
    let DeValue::Table(table) = node.get_ref() else {
        notes.error_with(path, "expected a table", "each endpoint has a name: write [endpoints.NAME]");
        notes.unread(path.clone());
        return None;
    };
    let endpoint = match EndpointName::new(name) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            notes.add(Severity::Error, path, Half::Key, error.to_string(), None);
            notes.unread(path.clone());
            return None;
        }
    };
    let kind = kind(notes, path, table, own);
    let mut common = node.clone();
    if let DeValue::Table(table) = common.get_mut() {
        for (kind, _) in adapters::KINDS {
            table.remove(kind);
        }
    }
    let kinds: Vec<&str> = adapters::offered().collect();
    let low: low::Endpoint = read::read(notes, path, &common, &kinds)?;
    let token = token(notes, base, path, low.token, low.token_file.as_deref());
    Some(Draft {
        name: endpoint,
        path: path.clone(),
        enabled: low.enabled,
        adapter: low.adapter,
        kind,
        unit: None,
        resources: None,
        quotas: quota::check(notes, &path.key("quota"), low.quota, defaults),
        report: report::check(notes, &path.key("report"), &low.report).map(Arc::new),
        tenant: low.tenant.as_ref().map_or_else(Tenant::default, Tenant::new),
        token,
        name_on_wire: low.name_on_wire,
        formerly: low.formerly.0,
    })
}

/// The one kind of adapter an endpoint has a table for; the gateway's own has none.
fn kind(notes: &mut Notes<'_>, path: &KeyPath, table: &DeTable<'_>, own: bool) -> Option<String> {
    let known = |key: &str| adapters::KINDS.iter().any(|(kind, _)| *kind == key);
    let kinds: Vec<&str> = table.keys().map(|key| key.get_ref().as_ref()).filter(|key| known(key)).collect();
    for kind in &kinds {
        adapters::check_kind(notes, path, kind);
    }
    match kinds.as_slice() {
        [] if own => {}
        [kind, ..] if own => notes.error_with(
            &path.key(kind),
            "the gateway's own endpoint is behind no adapter",
            "remove this table, or give the gateway another endpoint",
        ),
        [kind] => return Some((*kind).to_owned()),
        [] => {
            // A misspelt one is reported as such.
            let misspelt =
                |key: &str| !COMMON.contains(&key) && suggest::nearest(key, adapters::offered()).is_some();
            if !table.keys().any(|key| misspelt(key.get_ref())) {
                let kinds: Vec<String> =
                    adapters::offered().map(|kind| format!("[{}]", path.key(kind))).collect();
                notes.error_with(
                    path,
                    "no adapter serves this endpoint",
                    format!("add a table {}", kinds.join(" or ")),
                );
            }
        }
        [first, second, ..] => {
            let what =
                format!("an endpoint is behind one adapter, and this one has both `{first}` and `{second}`");
            notes.error_with(path, what, "make it two endpoints, each with a token of its own");
        }
    }
    None
}

fn token(
    notes: &mut Notes<'_>,
    base: Base<'_>,
    path: &KeyPath,
    inline: Option<EndpointToken>,
    file: Option<&Path>,
) -> Option<(EndpointToken, KeyPath)> {
    let (token_key, file_key) = (path.key("token"), path.key("token_file"));
    let (token, key) = match (inline, file) {
        (Some(token), None) => (token, token_key),
        (None, Some(file)) => (EndpointToken::new(&base.credential(notes, &file_key, file)?), file_key),
        (Some(_), Some(_)) => {
            notes.error_with(&file_key, "there is a `token` as well", "keep one of the two");
            return None;
        }
        (None, None) => {
            if !notes.is_unread(&file_key) {
                let hint = "write token = \"...\", or token_file with the name of a file that holds it";
                notes.error_with(&token_key, "is missing", hint);
            }
            return None;
        }
    };
    if let Err(why) = token.check() {
        notes.error(&key, why);
        return None;
    }
    Some((token, key))
}

/// What endpoints were called before, by their former names: nobody may be called so now.
pub(super) fn former(notes: &mut Notes<'_>, drafts: &[Draft]) -> BTreeMap<EndpointName, EndpointName> {
    let mut former: BTreeMap<EndpointName, EndpointName> = BTreeMap::new();
    for draft in drafts {
        let key = draft.path.key("formerly");
        for name in &draft.formerly {
            if drafts.iter().any(|other| other.name == *name) {
                let hint = "what is queued under a name belongs to whoever has it: remove this one, or that endpoint";
                notes.error_with(&key, format!("there is an endpoint {name}"), hint);
            } else if let Some(other) = former.insert(name.clone(), draft.name.clone())
                && other != draft.name
            {
                let what = format!("endpoint {other} was formerly {name} as well");
                notes.error_with(&key, what, "keep it with one of the two");
            }
        }
    }
    former
}

/// Checks what concerns endpoints among each other and in their dialect.
pub(super) fn finish(
    notes: &mut Notes<'_>,
    drafts: Vec<Draft>,
    dialect: Option<&Dialect>,
) -> Vec<Arc<Endpoint>> {
    let mut owners: HashMap<EndpointToken, EndpointName> = HashMap::new();
    let mut endpoints = Vec::with_capacity(drafts.len());
    for mut draft in drafts {
        let Some((token, token_key)) = draft.token.clone() else { continue };
        if let Some(other) = owners.get(&token) {
            let what = format!("endpoints {other} and {} have the same token", draft.name);
            let hint = "give each endpoint the token the platform issued for it";
            notes.fault(Code::TokenTwice, &token_key, Half::Value, what, Some(hint.to_owned()));
        } else {
            owners.insert(token.clone(), draft.name.clone());
        }
        if let Some(report) = &draft.report {
            let known = draft.resources.clone().unwrap_or_default();
            report::check_names(notes, &draft.path.key("report"), report, &known);
            // They have names on the wire as well.
            draft.resources = draft.resources.map(|known| [report::made(report, &known), known].concat());
        }
        check_renamed(notes, &draft);
        let key = EndpointKey { tenant: draft.tenant.clone(), name: draft.name.clone() };
        let name_on_wire = draft.name_on_wire.clone();
        let (enabled, quotas) = (draft.enabled, draft.quotas);
        let (report, unit) = (draft.report.clone(), draft.unit.clone());
        let endpoint = Endpoint { key, token, enabled, quotas, report, unit, name_on_wire };
        let resources = draft.resources.as_deref().unwrap_or_default();
        if let Some(dialect) = dialect {
            if let Err(why) = dialect.check_token(&endpoint.token) {
                notes.error_with(&token_key, why, "take the token as the platform issued it");
            }
            for issue in dialect.check(&endpoint, resources) {
                note_issue(notes, &draft, &endpoint.token, issue);
            }
        }
        endpoints.push(endpoint.into());
    }
    endpoints
}

/// A new name for a resource that the device does not have is most likely misspelt.
fn check_renamed(notes: &mut Notes<'_>, draft: &Draft) {
    let Some(resources) = draft.resources.as_deref().filter(|known| !known.is_empty()) else { return };
    for resource in draft.name_on_wire.keys().filter(|name| !resources.contains(name)) {
        let key = draft.path.key("name_on_wire").key(resource.as_str());
        let near = suggest::did_you_mean(resource.as_str(), resources.iter().map(Resource::as_str));
        notes.warn(
            &key,
            "this endpoint has no such resource",
            near.unwrap_or_else(|| "remove the line".to_owned()),
        );
    }
}

/// A dialect's finding. It speaks of keys of an endpoint, or of `resources`.
fn note_issue(notes: &mut Notes<'_>, draft: &Draft, token: &EndpointToken, issue: Issue) {
    let Issue { place, path, why, hint } = issue;
    let key = match place {
        Place::Config => KeyPath::new(&["uplink"]).below(path),
        Place::Device(_) => {
            // Where it is renamed, the new name is at fault; else its line in the adapter's half.
            let renamed = path.last().map(|name| draft.path.key("name_on_wire").key(name));
            let device = draft.kind.as_ref().map(|kind| draft.path.key(kind).below(path.iter().cloned()));
            let mut places = renamed.into_iter().chain(device);
            places.find(|place| notes.has(place)).unwrap_or_else(|| draft.path.below(path.iter().cloned()))
        }
    };
    notes.add(Severity::Error, &key, Half::Value, token.mask(&why), hint.map(|hint| token.mask(&hint)));
}
