//! Tells the platform what was dropped (I10), as readings of the gateway's own endpoint.
//!
//! `gateway.endpoint` names it. Each report holds the sums since the database was made, so a report that
//! is itself lost is made up for by the next one: `dropped` counts samples, and for each reason there are
//! `dropped.REASON`, `dropped.REASON.first_ms` and `dropped.REASON.last_ms`, the range of their stamps in
//! milliseconds since 1970.

use crate::store::{Closed, Drops, Store};
use adapter_api::{
    EndpointName, Instant, Intake, Reading, Resource, Sample, Urgency, Value,
    clock::{now, sleep_until},
};
use std::{collections::BTreeMap, time::Duration};

/// At most one report in so long: a store that is full must not be filled by them.
const EVERY: Duration = Duration::from_secs(60);
/// One that was refused is tried again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// Reports after the start what was dropped before, and from then on what is.
pub(crate) async fn report(store: Store, intake: Intake, endpoint: EndpointName) -> Result<(), Closed> {
    let mut known = 0;
    let mut due: Option<Instant> = None;
    loop {
        store.until_dropped(known).await?;
        if let Some(due) = due {
            sleep_until(due).await;
        }
        known = loop {
            match tell(&store, &intake, &endpoint).await? {
                Some(told) => break told,
                None => sleep_until(now() + AGAIN).await,
            }
        };
        due = Some(now() + EVERY);
    }
}

/// One report. Returns how many it told of, if it is on disk.
async fn tell(store: &Store, intake: &Intake, endpoint: &EndpointName) -> Result<Option<u64>, Closed> {
    let drops = store.figures().await?.drops;
    let sample = Sample { at: store.clock().stamp(), readings: readings(&drops) };
    let Ok(receipt) = intake.submit(endpoint, vec![sample], Urgency::Relaxed).await else {
        return Ok(None);
    };
    let kept = receipt.committed().await;
    if let Err(refused) = kept {
        tracing::debug!(endpoint = %endpoint, error = %refused, "a report of what was dropped was not kept");
    }
    Ok(kept.is_ok().then(|| sum(&drops)))
}

fn sum(drops: &BTreeMap<String, Drops>) -> u64 {
    drops.values().map(|drops| drops.samples).sum()
}

fn readings(drops: &BTreeMap<String, Drops>) -> Vec<Reading> {
    let whole = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let mut readings = Vec::new();
    let mut add = |name: String, value: Value| {
        // A name of ours is never too long; one of a newer version's reasons might be.
        if let Ok(resource) = Resource::new(&name) {
            readings.push(Reading::measured(resource, value));
        }
    };
    add("dropped".to_owned(), whole(sum(drops)));
    for (reason, drops) in drops {
        add(format!("dropped.{reason}"), whole(drops.samples));
        for (end, us) in [("first_ms", drops.first_us), ("last_ms", drops.last_us)] {
            if let Some(us) = us {
                add(format!("dropped.{reason}.{end}"), Value::Int(us.div_euclid(1_000)));
            }
        }
    }
    readings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_holds_the_sum_and_for_each_reason_its_range() {
        let [mut quota, mut corrupt] = [Drops::default(); 2];
        quota.add(12, Some((1_999, 5_000_001)));
        corrupt.add(3, None);
        let drops = BTreeMap::from([("quota".to_owned(), quota), ("corrupt".to_owned(), corrupt)]);
        let told: Vec<_> =
            readings(&drops).into_iter().map(|r| (r.resource.as_str().to_owned(), r.value)).collect();
        let expected = [
            ("dropped", 15),
            ("dropped.corrupt", 3),
            ("dropped.quota", 12),
            ("dropped.quota.first_ms", 1),
            ("dropped.quota.last_ms", 5_000),
        ];
        assert_eq!(told, expected.map(|(name, n)| (name.to_owned(), Value::Int(n))));
    }
}
