//! Units that end, panic and stall.

use super::*;
use crate::fault::Code;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

#[tokio::test]
async fn a_unit_that_panics_or_fails_is_started_again_and_stops_when_told() {
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = starts.clone();
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let mut unit = start("test".into(), shutdown, move || {
        let (start, tx, stop) = (counted.fetch_add(1, Ordering::SeqCst), tx.clone(), stop.clone());
        async move {
            tx.send(start).unwrap();
            match start {
                0 => panic!("on purpose"),
                1 => Err("failed"),
                _ => {
                    stop.cancelled().await;
                    Ok(())
                }
            }
        }
    })
    .unwrap();
    for start in 0..3 {
        assert_eq!(rx.recv().await, Some(start));
    }
    assert_eq!(unit.watch().state(), UnitState::Running);
    assert!(unit.stop(clock::now() + Duration::from_secs(30)).await);
    assert_eq!((unit.watch().starts(), unit.watch().panics()), (3, 1));
    assert_eq!((unit.watch().state(), starts.load(Ordering::SeqCst)), (UnitState::Stopped, 3));
}

/// Blocks its thread until it is let go, as nothing in a unit should.
fn blocking(
    release: std::sync::mpsc::Receiver<()>,
) -> impl FnMut() -> std::future::Ready<Result<(), &'static str>> {
    move || {
        let _ends = release.recv();
        std::future::ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_blocks_is_stalled_and_well_when_it_turns_again() {
    let (release, blocked) = std::sync::mpsc::channel();
    let stop = CancellationToken::new();
    let unit = start("test".into(), stop.clone(), blocking(blocked)).unwrap();
    let watch = unit.watch();
    let until = async |state: fn(&UnitState) -> bool| {
        while !state(&watch.state()) {
            clock::sleep(Duration::from_secs(1)).await;
        }
    };
    until(|state| *state == UnitState::Stalled).await;
    assert_eq!(watch.fault("test").unwrap().code, Code::UnitStalled.id());
    release.send(()).unwrap();
    // It has returned, and is started again: there it blocks until the other end is gone.
    until(|state| matches!(state, UnitState::BackingOff { .. })).await;
    stop.cancel();
}

#[tokio::test]
async fn a_unit_that_does_not_stop_is_left_behind_with_its_intake_closed() {
    use adapter_api::{EndpointName, Reading, Resource, Sample, SubmitError, Urgency, clock::Bell};
    let (intake, _submissions) =
        adapter_api::channel(Arc::new(Bell::default()), 65_536, tokio::sync::watch::channel(false).1);
    let (release, blocked) = std::sync::mpsc::channel();
    let unit = start("test".into(), CancellationToken::new(), blocking(blocked)).unwrap();
    let mut unit = unit.handing_in_by(intake.clone());
    while unit.watch().starts() == 0 {
        clock::sleep(Duration::from_millis(5)).await;
    }
    assert!(!unit.stop(clock::now() + Duration::from_millis(20)).await);
    let watch = unit.watch();
    assert_eq!(watch.state(), UnitState::LeftBehind);
    assert_eq!(watch.fault("test").unwrap().code, Code::UnitLeftBehind.id());
    let reading = Reading::measured(Resource::new("n").unwrap(), 1_i64);
    let sample = Sample { at: adapter_api::Clock::trusting().stamp(), readings: vec![reading] };
    let offered = intake.submit(&EndpointName::new("e").unwrap(), vec![sample], Urgency::Urgent).await;
    assert!(matches!(offered, Err(SubmitError::Closed)), "{offered:?}");
    // Its thread comes to its end after all.
    drop(release);
    while watch.state() != UnitState::Stopped {
        clock::sleep(Duration::from_millis(5)).await;
    }
}
