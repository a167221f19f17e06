//! What is shown of endpoints at a glance, and while it happens.

use super::*;
use crate::store::tail::Happened;

#[tokio::test]
async fn endpoints_are_told_in_the_order_in_which_they_are_asked_for() {
    let site = site();
    site.submit("b", 0..3).await.unwrap();
    let keys = ["off", "b", "a", "b"].map(|name| endpoint(name).key).to_vec();
    let told = site.store.overview(keys).await.unwrap();
    assert_eq!(told.iter().map(|told| told.queued).collect::<Vec<_>>(), [0, 3, 0, 3]);
    let last = told[1].last.as_ref().unwrap();
    assert_eq!((&last.reading, last.seen.is_some()), (&sample(2).readings[0], true));
    assert_eq!((&told[0].last, told[0].samples_per_s, told[0].over_quota), (&None, None, false));
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    rows(&site.store, &mut events, lane.id, 2).await;
    let told = site.store.overview(vec![endpoint("b").key]).await.unwrap();
    assert_eq!(told[0].queued, 3, "those in the air included");
}

#[tokio::test]
async fn the_youngest_reading_is_shown_also_if_it_is_of_an_earlier_life() {
    let site = site();
    site.submit("a", 0..4).await.unwrap();
    let site = site.restart(true).await;
    let glance = async |site: &Site| site.store.overview(vec![endpoint("a").key]).await.unwrap().remove(0);
    let last = glance(&site).await.last.unwrap();
    assert_eq!((last.reading, last.seen), (sample(3).readings[0].clone(), None));
    let intake = site.store.intake().await.unwrap();
    let other = Reading::measured(Resource::new("other").unwrap(), 7_i64);
    // Older by its stamp, and seen later.
    let at = Stamp::Wall { us: -5, source: Source::Device };
    let name = endpoint("a").key.name;
    let sample = Sample { at, readings: vec![other.clone()] };
    intake.submit(&name, vec![sample], Urgency::Urgent).await.unwrap().committed().await.unwrap();
    assert_eq!(glance(&site).await.last.unwrap().reading, other);
}

#[tokio::test]
async fn whoever_looks_on_hears_what_is_taken_and_what_is_refused_and_of_the_end() {
    let site = site();
    site.submit("a", 0..1).await.unwrap();
    let mut all = site.store.tail(None).await.unwrap();
    let mut of_b = site.store.tail(Some(endpoint("b").key.name)).await.unwrap();
    site.submit("a", 1..3).await.unwrap();
    site.submit("off", 3..4).await.unwrap();
    site.submit("b", 4..5).await.unwrap();
    assert_eq!(site.submit("nobody", 0..2).await, Err(Refused::Unknown));
    let mut told = Vec::new();
    for _ in 0..5 {
        let next = all.next().await.unwrap();
        told.push((next.endpoint.to_string(), next.what));
    }
    let taken = |name: &str, n: i64| (name.to_owned(), Happened::Taken(sample(n)));
    let why = Refused::Unknown.to_string();
    let refused = ("nobody".to_owned(), Happened::Refused { samples: 2, why });
    // Those of a disabled endpoint are shown as well: they are suppressed, and visible.
    assert_eq!(told, [taken("a", 1), taken("a", 2), taken("off", 3), taken("b", 4), refused]);
    assert_eq!(of_b.next().await.unwrap().what, Happened::Taken(sample(4)));
    site.store.stop().await.unwrap();
    assert_eq!((all.next().await, of_b.next().await), (None, None));
}
