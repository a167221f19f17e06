//! The directory: endpoint <-> token. The only place where the names adapters speak and the tokens
//! dialects speak meet.

use crate::{
    config::secret::EndpointToken,
    shape::{quota::Quotas, report::Report},
};
use adapter_api::{EndpointName, Resource};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, LazyLock},
};

/// The owner of endpoints.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(Arc<str>);

/// What the store knows an endpoint by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey {
    /// Its owner.
    pub tenant: Tenant,
    /// Its name.
    pub name: EndpointName,
}

/// An endpoint as the configuration describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// What the store knows it by.
    pub key: EndpointKey,
    /// Its credential and its name on the wire.
    pub token: EndpointToken,
    /// Whether its samples are wanted.
    pub enabled: bool,
    /// How much it may hand in.
    pub quotas: Quotas,
    /// Which of its readings are reported; without, all.
    pub report: Option<Arc<Report>>,
    /// The unit its device is behind, as `modbus.boiler-room`; the gateway's own has none.
    pub unit: Option<Arc<str>>,
    /// Resources that are called otherwise on the wire.
    pub name_on_wire: BTreeMap<Resource, String>,
}

/// What becomes of what is queued and known under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// An endpoint is called so.
    Stays,
    /// It goes to the endpoint that was called so. What that one has of its own comes after it.
    Goes(EndpointKey),
    /// It is nobody's: kept, until an endpoint has the key.
    Orphaned,
}

/// All configured endpoints.
#[derive(Debug, Default)]
pub struct Directory {
    by_name: HashMap<EndpointName, Arc<Endpoint>>,
    /// What endpoints were called before, and are called now.
    former: HashMap<EndpointName, EndpointName>,
}

impl Tenant {
    /// A tenant's name follows the rule of endpoints' names.
    pub fn new(name: &EndpointName) -> Self {
        Self::stored(name.as_str())
    }

    /// From a row of the database, where it was checked before it was written.
    pub(crate) fn stored(name: &str) -> Self {
        let default = Self::default();
        if name == default.as_str() { default } else { Self(name.into()) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Tenant {
    fn default() -> Self {
        // One text for all: most gateways have no other, and it is part of each endpoint's key.
        static DEFAULT: LazyLock<Arc<str>> = LazyLock::new(|| "default".into());
        Self(DEFAULT.clone())
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tenant == Tenant::default() {
            write!(f, "{}", self.name)
        } else {
            write!(f, "{}/{}", self.tenant, self.name)
        }
    }
}

impl fmt::Debug for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Directory {
    /// A directory of these endpoints.
    pub fn new<E: Into<Arc<Endpoint>>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        let by_name = endpoints.into_iter().map(Into::into).map(|e| (e.key.name.clone(), e)).collect();
        Self { by_name, former: HashMap::new() }
    }

    /// With names that endpoints had before: former, present.
    #[must_use]
    pub fn formerly(mut self, former: impl IntoIterator<Item = (EndpointName, EndpointName)>) -> Self {
        self.former.extend(former);
        self
    }

    /// What an endpoint is called now that an adapter may still know by an earlier name.
    pub fn present_name(&self, former: &EndpointName) -> Option<&EndpointName> {
        self.former.get(former).filter(|_| !self.by_name.contains_key(former))
    }

    /// What becomes of what is queued and known under a key. A former name is its endpoint's own tenant's: nothing
    /// goes from one to another.
    pub fn fate(&self, key: &EndpointKey) -> Fate {
        if self.by_key(key).is_some() {
            return Fate::Stays;
        }
        let present = self.former.get(&key.name).and_then(|present| self.by_name.get(present));
        match present.filter(|present| present.key.tenant == key.tenant) {
            Some(present) => Fate::Goes(present.key.clone()),
            None => Fate::Orphaned,
        }
    }

    /// What the store knew endpoints by, and knows them by now.
    pub fn renamed(&self) -> impl Iterator<Item = (EndpointKey, EndpointKey)> {
        self.former.iter().filter_map(|(former, present)| {
            let tenant = self.by_name.get(present)?.key.tenant.clone();
            let former = EndpointKey { tenant, name: former.clone() };
            match self.fate(&former) {
                Fate::Goes(present) => Some((former, present)),
                Fate::Stays | Fate::Orphaned => None,
            }
        })
    }

    /// The endpoint an adapter means.
    pub fn by_name(&self, name: &EndpointName) -> Option<&Arc<Endpoint>> {
        self.by_name.get(name)
    }

    /// The endpoint a lane belongs to; `None` where it left the configuration (an orphaned lane).
    pub fn by_key(&self, key: &EndpointKey) -> Option<&Arc<Endpoint>> {
        self.by_name.get(&key.name).filter(|e| e.key == *key)
    }

    /// All endpoints, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.by_name.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}
