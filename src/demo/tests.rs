//! The whole demo, short.

use super::*;

async fn check(options: Options, interrupts: usize) -> Tally {
    let (tx, mut rx) = mpsc::channel(2);
    for _ in 0..interrupts {
        tx.send(()).await.unwrap();
    }
    play(&options, &mut Screen::nowhere(), &mut rx).await.unwrap()
}

#[tokio::test]
async fn the_three_records_of_a_short_run_agree() {
    let tally = check(Options { seconds: 3, endpoints: 3, json: true, sabotage: false }, 0).await;
    assert!(tally.agree, "{tally:?}");
    assert!(tally.served.samples >= 6, "each meter was read more than once: {tally:?}");
    assert_eq!(tally.served.readings, 6 * tally.served.samples);
}

#[tokio::test]
async fn a_batch_that_was_confirmed_and_thrown_away_is_found() {
    let tally = check(Options { seconds: 2, endpoints: 3, json: true, sabotage: true }, 0).await;
    assert!(!tally.agree, "{tally:?}");
    assert!(tally.platform.samples < tally.served.samples, "{tally:?}");
}

#[tokio::test]
async fn an_interrupt_ends_the_polling_and_the_records_agree() {
    let started = clock::now();
    let tally = check(Options { seconds: 3_600, endpoints: 1, json: true, sabotage: false }, 1).await;
    assert!(tally.agree, "{tally:?}");
    assert!(clock::now().since(started) < Duration::from_secs(60));
}

#[test]
fn the_platform_is_away_in_the_middle() {
    for (length, gone, back) in [(20, 8_000, 13_000), (1, 400, 650), (3_600, 1_440_000, 1_455_000)] {
        let at = |ms| Instant::from_start(Duration::from_millis(ms));
        assert_eq!(away(at(0), Duration::from_secs(length)), at(gone)..at(back), "{length}");
    }
}
