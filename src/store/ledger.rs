//! What came in, what landed, what was dropped and why.
//!
//! `offered = refused(reason) + suppressed(reason) + stored` and
//! `stored = landed + queued + dropped(reason) + dead + discarded`, across restarts. Each term counts
//! samples actually changed in the same transaction. One row per (tenant, class, term, reason), never
//! per endpoint: a row per endpoint doubled the flash writes. `queued` is counted from the table.

use super::Class;
use crate::endpoints::Tenant;
use rusqlite::{Connection, params};
use serde::Serialize;
use std::collections::BTreeMap;

/// A term of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// Handed in by adapters, or made by report rules.
    Offered,
    /// Not taken, and the adapter was told.
    Refused,
    /// Taken and not wanted by a rule.
    Suppressed,
    /// Committed to the outbox.
    Stored,
    /// Confirmed by the platform and deleted.
    Landed,
    /// Given up for want of space or age.
    Dropped,
    /// Refused by the platform for good.
    Dead,
    /// Deleted by hand.
    Discarded,
    /// Dead letters that went to make room for younger ones. In no equation: they stay dead.
    Forgotten,
}

/// Sums over tenants, classes and reasons; `queued` counted from the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Handed in by adapters, or made by report rules.
    pub offered: u64,
    /// Not taken, and the adapter was told.
    pub refused: u64,
    /// Taken and not wanted by a rule.
    pub suppressed: u64,
    /// Committed to the outbox.
    pub stored: u64,
    /// Confirmed by the platform and deleted.
    pub landed: u64,
    /// In the outbox now.
    pub queued: u64,
    /// Given up for want of space or age.
    pub dropped: u64,
    /// Refused by the platform for good.
    pub dead: u64,
    /// Deleted by hand.
    pub discarded: u64,
}

type Key = (Tenant, Class, Term, String);

/// The ledger: what is on disk, and what the open transaction adds to it.
#[derive(Debug, Default)]
pub struct Ledger {
    committed: BTreeMap<Key, u64>,
    /// Below 0 only where a dead letter is dead no more.
    pending: BTreeMap<Key, i64>,
}

impl Term {
    const ALL: [Self; 9] = [
        Self::Offered,
        Self::Refused,
        Self::Suppressed,
        Self::Stored,
        Self::Landed,
        Self::Dropped,
        Self::Dead,
        Self::Discarded,
        Self::Forgotten,
    ];

    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Refused => "refused",
            Self::Suppressed => "suppressed",
            Self::Stored => "stored",
            Self::Landed => "landed",
            Self::Dropped => "dropped",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
            Self::Forgotten => "forgotten",
        }
    }
}

impl Totals {
    /// Whether both equations hold.
    pub fn balance(&self) -> bool {
        let sum = |terms: &[u64]| terms.iter().fold(0_u64, |sum, term| sum.saturating_add(*term));
        self.offered == sum(&[self.refused, self.suppressed, self.stored])
            && self.stored == sum(&[self.landed, self.queued, self.dropped, self.dead, self.discarded])
    }
}

impl Ledger {
    /// Reads the ledger of a database.
    pub fn load(db: &Connection) -> rusqlite::Result<Self> {
        let mut committed = BTreeMap::new();
        let mut rows = db.prepare("SELECT tenant, class, term, reason, samples FROM ledger")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let term: String = row.get(2)?;
            // A term of a newer minor version is not ours to sum.
            let Some(term) = Term::ALL.into_iter().find(|t| t.name() == term) else { continue };
            let Some(class) = Class::stored(row.get(1)?) else { continue };
            let samples = u64::try_from(row.get::<_, i64>(4)?).unwrap_or_default();
            committed.insert((Tenant::stored(&row.get::<_, String>(0)?), class, term, row.get(3)?), samples);
        }
        Ok(Self { committed, pending: BTreeMap::new() })
    }

    /// Counts samples in the open transaction.
    pub fn add(&mut self, tenant: &Tenant, class: Class, term: Term, reason: &str, samples: u64) {
        if samples > 0 {
            self.change(tenant, class, term, reason, i64::try_from(samples).unwrap_or(i64::MAX));
        }
    }

    /// A dead letter is dead no more. One that the ledger does not know, for it was lost with a damaged database,
    /// had been offered and stored.
    pub fn revive(&mut self, tenant: &Tenant, class: Class) {
        let key = (tenant.clone(), class, Term::Dead, String::new());
        let (committed, pending) = (self.committed.get(&key), self.pending.get(&key));
        let dead = committed
            .copied()
            .unwrap_or_default()
            .saturating_add_signed(pending.copied().unwrap_or_default());
        if dead > 0 {
            self.change(tenant, class, Term::Dead, "", -1);
        } else {
            self.add(tenant, class, Term::Offered, "", 1);
            self.add(tenant, class, Term::Stored, "", 1);
        }
    }

    fn change(&mut self, tenant: &Tenant, class: Class, term: Term, reason: &str, by: i64) {
        let sum = self.pending.entry((tenant.clone(), class, term, reason.to_owned())).or_default();
        *sum = sum.saturating_add(by);
    }

    /// Whether the open transaction changes it.
    pub fn is_changed(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes what the open transaction adds, inside it.
    pub fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        upsert(db, self.pending.iter().map(|(key, samples)| (key, *samples)))
    }

    /// Writes all that was committed, into an empty table.
    pub(super) fn write_all(&self, db: &Connection) -> rusqlite::Result<()> {
        let known = |samples: &u64| i64::try_from(*samples).unwrap_or(i64::MAX);
        upsert(db, self.committed.iter().map(|(key, samples)| (key, known(samples))))
    }

    /// After COMMIT: what was added is on disk.
    pub fn committed(&mut self) {
        for (key, samples) in std::mem::take(&mut self.pending) {
            let sum = self.committed.entry(key).or_default();
            *sum = sum.saturating_add_signed(samples);
        }
    }

    /// After ROLLBACK: nothing was added.
    pub fn rolled_back(&mut self) {
        self.pending.clear();
    }

    /// The sums on disk.
    pub fn totals(&self, queued: u64) -> Totals {
        let mut totals = Totals { queued, ..Totals::default() };
        for ((_, _, term, _), samples) in &self.committed {
            let total = match term {
                Term::Offered => &mut totals.offered,
                Term::Refused => &mut totals.refused,
                Term::Suppressed => &mut totals.suppressed,
                Term::Stored => &mut totals.stored,
                Term::Landed => &mut totals.landed,
                Term::Dropped => &mut totals.dropped,
                Term::Dead => &mut totals.dead,
                Term::Discarded => &mut totals.discarded,
                Term::Forgotten => continue,
            };
            *total = total.saturating_add(*samples);
        }
        totals
    }

    /// Samples dropped, by reason.
    pub(super) fn dropped(&self) -> BTreeMap<String, u64> {
        let mut dropped = BTreeMap::new();
        for ((_, _, term, reason), samples) in &self.committed {
            if *term == Term::Dropped {
                let sum: &mut u64 = dropped.entry(reason.clone()).or_default();
                *sum = sum.saturating_add(*samples);
            }
        }
        dropped
    }

    /// Samples per term and reason, where there is a reason.
    pub fn reasons(&self) -> BTreeMap<String, u64> {
        let mut reasons = BTreeMap::new();
        for ((_, _, term, reason), samples) in
            self.committed.iter().filter(|((.., reason), _)| !reason.is_empty())
        {
            let sum: &mut u64 = reasons.entry(format!("{}({reason})", term.name())).or_default();
            *sum = sum.saturating_add(*samples);
        }
        reasons
    }
}

fn upsert<'k>(db: &Connection, figures: impl Iterator<Item = (&'k Key, i64)>) -> rusqlite::Result<()> {
    let mut upsert = db.prepare_cached(
        "INSERT INTO ledger(tenant, class, term, reason, samples) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET samples = samples + excluded.samples",
    )?;
    for ((tenant, class, term, reason), samples) in figures {
        upsert.execute(params![tenant.as_str(), class.number(), term.name(), reason, samples])?;
    }
    Ok(())
}
