//! Endpoints that are called otherwise while they are in use.

use super::*;

#[test]
fn a_lane_of_another_name_counts_once_among_those_that_flew() {
    // The session hears of the name first, or the store says first whose the lane is.
    for store_first in [false, true] {
        let mut bench = bench(true, &[(1, "old")]);
        bench.commit(1, "old", 0..3);
        bench.refuse(&[]);
        assert_eq!(bench.landed, [0, 1, 2]);
        bench.wait(1_000);
        if store_first {
            let info = LaneInfo { id: LaneId(1), endpoint: key("new"), class: Class::Telemetry, seq: 1 };
            bench.outflow.handle_renamed(bench.now, &info);
        } else {
            bench.outflow.handle_left(bench.now, &key("old"));
        }
        bench.commit(1, "new", 3..10);
        if store_first {
            bench.outflow.handle_left(bench.now, &key("old"));
        }
        bench.outflow.handle_open(&key("new"));
        // It is refused at once, and at each probe.
        let mut refused = 0;
        for _ in 0..36 {
            for (part, _) in bench.launch() {
                refused += 1;
                bench.outflow.handle_refused(bench.now, part, &Refusal::Endpoint, "404 no");
            }
            assert!(bench.outflow.is_degraded(bench.now), "store first: {store_first}");
            bench.wait(5_000);
        }
        assert!(refused > 1 && bench.outflow.parked().count() == 1, "{refused} refused");
        bench.wait(60 * MINUTE);
        bench.refuse(&[]);
        assert_eq!(bench.landed, (0..10).collect::<Vec<_>>());
    }
}
