//! Points of models become readings: scale factors, values that are not implemented, lengths that lie.

use super::*;
use adapter_api::Quality;
use proptest::prelude::*;

/// An inverter whose registers are all zero but for these, by the names of points or their offsets.
fn registers(model: u16, length: u16, set: &[(u16, u16)]) -> Vec<u16> {
    let mut words = vec![0; usize::from(length) + 2];
    words[..2].copy_from_slice(&[model, length]);
    for (at, word) in set {
        words[usize::from(*at)] = *word;
    }
    words
}

fn all(models: &[Found]) -> Vec<Wanted> {
    Choice { only: None, period: Duration::from_secs(1) }.wanted(models)
}

/// What a point of one model reads.
fn read(name: &str, model: u16, length: u16, set: &[(u16, u16)]) -> Reading {
    let at = 40_070;
    let wanted = all(&[Found { id: model, at, length }]);
    let wanted = wanted.into_iter().find(|wanted| wanted.resource.as_str() == name).expect(name);
    let words = registers(model, length, set);
    let from = usize::from(wanted.want.start - at);
    let words = &words[from..from + usize::from(wanted.want.length)];
    wanted.form.decode(wanted.resource, words).expect("enough registers")
}

#[test]
fn values_are_read_with_their_scale_factors() {
    for (name, model, length, set, value) in [
        ("inverter.W", 103, 50, &[(14, 12_345), (15, 0)][..], Value::from(12_345.0)),
        ("inverter.W", 101, 50, &[(14, 12_345), (15, 0xffff)], Value::from(1_234.5)),
        ("inverter.W", 102, 50, &[(14, 0xffff), (15, 2)], Value::from(-100.0)),
        ("inverter.Hz", 103, 50, &[(16, 5_001), (17, 0xfffe)], Value::from(50.01)),
        ("inverter.WH", 103, 50, &[(24, 1), (25, 1), (26, 3)], Value::from(65_537_000.0)),
        ("inverter.St", 103, 50, &[(38, 4)], Value::Int(4)),
        ("inverter.Evt1", 103, 50, &[(40, 0x8000)], Value::Int(0x8000_0000)),
        ("meter.TotWhImp", 203, 105, &[(47, 5), (54, 0xffff)], Value::from(0.5)),
        ("meter.PhVphAB", 201, 105, &[(12, 4_000), (15, 0xffff)], Value::from(400.0)),
        ("common.SN", 1, 66, &[(50, 0x4142), (51, 0x4300)], Value::from("ABC")),
        ("common.DA", 1, 66, &[(66, 17)], Value::Int(17)),
    ] {
        let reading = read(name, model, length, set);
        assert_eq!((reading.value, reading.quality), (value, Quality::Good), "{name}");
    }
}

#[test]
fn what_is_not_implemented_is_bad() {
    for (name, model, length, set) in [
        ("inverter.W", 103, 50, &[(14, 0x8000)][..]),
        ("inverter.AphB", 103, 50, &[(4, 0xffff)]),
        ("inverter.WH", 103, 50, &[]),
        ("inverter.St", 103, 50, &[(38, 0xffff)]),
        ("inverter.EvtVnd1", 103, 50, &[(44, 0xffff), (45, 0xffff)]),
        // No scale factor, or one that is none.
        ("inverter.W", 103, 50, &[(14, 1), (15, 0x8000)]),
        ("inverter.W", 103, 50, &[(14, 1), (15, 11)]),
        ("inverter.W", 103, 50, &[(14, 1), (15, 0xfff5)]),
        ("meter.W", 204, 105, &[(18, 0x8000)]),
        ("common.Opt", 1, 66, &[]),
    ] {
        let reading = read(name, model, length, set);
        assert_eq!(reading.value, Value::None, "{name}");
        assert!(matches!(reading.quality, Quality::Bad(_)), "{name}");
    }
}

#[test]
fn a_model_that_has_moved_gives_no_value() {
    for (at, word) in [(0, 102), (1, 49)] {
        let set = [(14, 1), (at, word)];
        let Reading { value, quality: Quality::Bad(why), .. } = read("inverter.W", 103, 50, &set) else {
            panic!()
        };
        assert_eq!((value, why.as_str()), (Value::None, MOVED));
    }
}

#[test]
fn a_shorter_model_has_fewer_points_and_none_beyond_its_end() {
    let counts = [(50, 31), (49, 30), (38, 25), (25, 16), (24, 15), (14, 11), (0, 0)];
    for (length, points) in counts {
        let wanted = all(&[Found { id: 103, at: 2, length }]);
        assert_eq!(wanted.len(), points, "{length}");
        let end = u32::from(2 + 2 + length);
        assert!(wanted.iter().all(|w| u32::from(w.want.start + w.want.length) <= end && w.want.start == 2));
    }
}

#[test]
fn models_of_a_kind_are_numbered_and_unknown_ones_passed_over() {
    let found = |id, at, length| Found { id, at, length };
    let models = [found(1, 2, 66), found(160, 70, 88), found(203, 160, 105), found(201, 267, 105)];
    let only = ["common.Mn", "meter.W", "meter_2.W"].map(|name| Resource::new(name).unwrap());
    let choice = Choice { only: Some(only.into()), period: Duration::from_secs(1) };
    let wanted: Vec<_> =
        choice.wanted(&models).into_iter().map(|w| (w.resource.to_string(), w.want.start)).collect();
    assert_eq!(
        wanted,
        [("common.Mn".to_owned(), 2), ("meter.W".to_owned(), 160), ("meter_2.W".to_owned(), 267)]
    );
    assert_eq!(all(&models).len(), 6 + 62 + 62);
}

#[test]
fn the_tables_hold_together() {
    for model in &MODELS {
        let mut behind = 2;
        for point in model.points {
            assert!(point.at >= behind, "{}.{} overlaps", model.group, point.name);
            behind = point.at + point.kind.length();
            assert_eq!(point.scale_at.is_none(), point.unit.is_empty(), "{}.{}", model.group, point.name);
        }
        let scales: BTreeSet<_> = model.points.iter().filter_map(|point| point.scale_at).collect();
        assert!(model.points.iter().all(|point| !scales.contains(&point.at)), "{}", model.group);
    }
    assert_eq!(names(), listed().into_iter().map(|listed| listed.resource).collect::<Vec<_>>());
    assert_eq!(names().iter().collect::<BTreeSet<_>>().len(), 6 + 31 + 62, "no name twice");
}

proptest! {
    #[test]
    fn whatever_the_registers_hold_there_is_one_reading(
        models in proptest::collection::vec((0_usize..9, 0_u16..200, 0_u16..60_000), 0..6),
        words in proptest::collection::vec(any::<u16>(), 0..250),
    ) {
        let ids = [1, 101, 102, 103, 201, 202, 203, 204, 500];
        let models: Vec<Found> = models.into_iter().map(|(id, length, at)| Found { id: ids[id], at, length }).collect();
        for wanted in all(&models) {
            prop_assert!(u32::from(wanted.want.start) + u32::from(wanted.want.length) <= 65_536);
            prop_assert!(wanted.want.length <= 125, "one request reads it");
            let enough = words.len() >= usize::from(wanted.want.length);
            let reading = wanted.form.decode(wanted.resource.clone(), &words);
            prop_assert_eq!(reading.is_some(), enough || words.len() >= 2);
        }
    }
}
