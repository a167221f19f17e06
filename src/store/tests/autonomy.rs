//! What is said of the room that is left comes true.

use super::*;
use crate::store::outbox;

/// Fills a store of 4 MiB in small steps; the room it told at the start, and what really fitted.
async fn fill(when_full: WhenFull, sample: fn(i64) -> Sample) -> (u64, u64) {
    let limits = Limits { max_bytes: 4 << 20, min_free: 0, when_full, ..Limits::default() };
    let site = open_with(tempfile::tempdir().unwrap(), true, limits);
    let intake = site.store.intake().await.unwrap();
    let name = EndpointName::new("a").unwrap();
    let autonomy = site.store.figures().await.unwrap().autonomy.unwrap();
    assert_eq!((autonomy.left, autonomy.limit, autonomy.then), (None, "quota", when_full), "no rate yet");
    let (mut n, mut bytes) = (0, 0);
    loop {
        // Stamps of these years: those of tests take fewer bytes.
        let samples: Vec<Sample> = (n..n + 50).map(|n| sample(1_800_000_000_000_000 + n)).collect();
        n += 50;
        bytes += samples.iter().map(|s| outbox::row_bytes(item::encode(s).len())).sum::<u64>();
        intake.submit(&name, samples, Urgency::Urgent).await.unwrap().committed().await.unwrap();
        if intake.is_full() || site.totals().await.dropped > 0 {
            break;
        }
    }
    let after = site.store.figures().await.unwrap().autonomy.unwrap().room_bytes;
    assert!(after < 300_000, "{after} are left, when something gives way");
    (autonomy.room_bytes, bytes)
}

#[tokio::test]
async fn what_is_told_of_the_room_fits_into_it_and_little_more() {
    for (size, sample) in [("small", sample as fn(i64) -> Sample), ("large", room::large)] {
        for when_full in [WhenFull::DropOldest, WhenFull::Refuse] {
            let (told, fitted) = fill(when_full, sample).await;
            println!("{size}, {when_full:?}: {told} bytes told, {fitted} fitted");
            assert!(
                fitted.abs_diff(told) < told / 5,
                "{size}, {when_full:?}: {told} bytes told, {fitted} fitted"
            );
        }
    }
}

#[tokio::test]
async fn before_there_is_a_rate_nothing_is_claimed_however_near_the_age_is() {
    let limits = Limits { max_age: Some(Duration::from_secs(3_600)), ..Limits::default() };
    let site = open_with(tempfile::tempdir().unwrap(), true, limits);
    site.store.clock().trust();
    let now = adapter_api::Clock::trusting().wall_us();
    site.submit("a", now - 1_800_000_000..now - 1_799_999_999).await.unwrap();
    let autonomy = site.store.figures().await.unwrap().autonomy.unwrap();
    assert_eq!((autonomy.left, autonomy.bytes_per_s), (None, None));
}
