//! How much of a serial line a configuration needs, as far as that can be known beforehand. Sans-IO.
//!
//! What a SunSpec device has is known only when it was asked: it is counted with [`TYPICAL`] registers.

use crate::{
    config::{Config, Device, Target, line, resolve},
    frame::Exchange,
    line::Line,
    plan::{Plan, Want},
    point::Table,
    round,
    sunspec::BASES,
    wire::Wire,
};
use adapter_api::{Devices, EndpointName, Issue, Place};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What a device needs to think, beside the silence it has to keep: few need less.
const THINKING: Duration = Duration::from_millis(5);
/// A line with less to spare loses readings with the first devices that do not answer.
const FULL: f64 = 0.8;
/// Registers of a SunSpec device that has an inverter's or a meter's model: with their scale factors
/// they are about as many.
const TYPICAL: u16 = 100;
/// So many of those who need most are named.
const NAMED: usize = 3;

/// The lines that are asked for more than they carry, or nearly so.
pub(crate) fn forecast(config: &Config, devices: &Devices<Device>) -> Vec<Issue> {
    let Some(characters) = line(config).ok().and_then(|line| line.characters) else { return Vec::new() };
    let mut wires: BTreeMap<Wire, Vec<(f64, &EndpointName)>> = BTreeMap::new();
    let mut guessed: BTreeSet<Wire> = BTreeSet::new();
    for (endpoint, device) in devices {
        if let Ok(target) = resolve(config, endpoint, device) {
            if target.sunspec.is_some() {
                guessed.insert(target.wire.clone());
            }
            wires.entry(target.wire.clone()).or_default().push((share(&target), endpoint));
        }
    }
    let full = wires.into_iter().filter_map(|(wire, mut users)| {
        let all: f64 = users.iter().map(|(share, _)| share).sum();
        users.sort_by(|a, b| b.0.total_cmp(&a.0));
        let most: Vec<String> =
            users.iter().take(NAMED).map(|(share, name)| format!("{name} {}", percent(*share))).collect();
        let guess = format!(" (a SunSpec device is counted with up to {TYPICAL} registers)");
        let guess = if guessed.contains(&wire) { guess } else { String::new() };
        (all > FULL).then(|| Issue {
            place: Place::Config,
            path: Vec::new(),
            why: format!(
                "{wire} needs {} of its {} baud; most of it {}{guess}",
                percent(all),
                grouped(characters.baud),
                most.join(", ")
            ),
            hint: Some(
                "raise `period` where values change slowly, or the speed of the line, or use two lines; \
                 what is too much is left out, in turn"
                    .to_owned(),
            ),
        })
    });
    full.collect()
}

/// Which share of its line a device takes.
fn share(target: &Target) -> f64 {
    let line = &target.manner.line;
    let groups = round::groups(target).into_iter();
    let share = groups.map(|(period, wanted)| {
        let mut wants: Vec<Want> = wanted.iter().map(|wanted| wanted.want).collect();
        if let Some(choice) = target.sunspec.as_ref().filter(|choice| choice.period == period) {
            wants.push(Want {
                table: Table::Holding,
                start: BASES[0],
                length: choice.longest().min(TYPICAL),
            });
        }
        let plan = Plan::new(wants, target.manner.limits);
        let requests = (0..).map_while(|at| Some(plan.block(at)?.request()));
        let takes: Duration = requests.map(|request| exchange(line, target.unit, request)).sum();
        takes.as_secs_f64() / period.as_secs_f64()
    });
    share.sum()
}

/// A request, the answer to it, and the silences around them.
fn exchange(line: &Line, unit: u8, request: crate::pdu::Request) -> Duration {
    let (exchange, frame) = Exchange::new(line.framing, line.wiring.echo, 0, unit, request.into());
    let standard = Line { gap: Duration::ZERO, ..line.clone() };
    line.characters(frame.len() + exchange.answer_length()) + line.silence() + standard.silence() + THINKING
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// `19,200`
fn grouped(number: u32) -> String {
    match (number / 1_000, number % 1_000) {
        (0, rest) => rest.to_string(),
        (thousands, rest) => format!("{},{rest:03}", grouped(thousands)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` units with these registers each.
    fn said(adapter: &str, count: u8, device: &str) -> Vec<String> {
        let config: Config = toml::from_str(adapter).unwrap();
        let devices = (1..=count).map(|unit| {
            let device = toml::from_str(&format!("unit = {unit}\n{device}")).unwrap();
            (EndpointName::new(&format!("meter-{unit}")).unwrap(), device)
        });
        forecast(&config, &devices.collect()).into_iter().map(|issue| issue.why).collect()
    }

    fn registers(count: usize) -> String {
        (0..count).fold("[resources]\n".to_owned(), |text, n| {
            text + &format!("r{n} = {{ register = 'holding:{n}', type = 'u16' }}\n")
        })
    }

    #[test]
    fn a_line_that_cannot_carry_it_is_told_before() {
        let line = "port = '/dev/ttyUSB0'\nbaud = 9600";
        let twenty = format!("period = '1s'\n{}", registers(20));
        // 53 characters of 11 bits, twice 3.5 of them, and 5 ms: 73.75 ms.
        assert_eq!(
            said(line, 18, &twenty),
            [
                "/dev/ttyUSB0 needs 133 % of its 9,600 baud; most of it meter-1 7 %, meter-10 7 %, meter-11 7 %"
            ]
        );
        assert_eq!(said(line, 10, &twenty), [""; 0], "74 %");
        assert_eq!(said(line, 11, &twenty).len(), 1, "81 %");
        let slow = format!("period = '10s'\n{}", registers(20));
        assert_eq!(said(line, 100, &slow), [""; 0]);
        let apart = "max_hole = 0\nresources.a = { register = 'holding:0', type = 'u16' }\n\
                     resources.b = { register = 'holding:2', type = 'u16' }";
        assert_eq!(said("port = 'x'\nbaud = 1200", 4, apart).len(), 1, "two requests each");
        let patient = format!("gap = '500ms'\n{}", registers(1));
        assert_eq!(said(line, 2, &patient).len(), 1);
    }

    #[test]
    fn a_sunspec_device_is_counted_as_a_usual_one_and_that_is_said() {
        let line = "port = '/dev/ttyUSB0'\nbaud = 9600";
        let usual = "profile = 'sunspec'\nperiod = '1s'";
        // 213 characters of 11 bits, twice 3.5 of them, and 5 ms: 257.1 ms.
        assert_eq!(said(line, 3, usual), [""; 0], "77 %");
        assert_eq!(
            said(line, 4, usual),
            [
                "/dev/ttyUSB0 needs 103 % of its 9,600 baud; most of it meter-1 26 %, meter-2 26 %, meter-3 26 % \
                 (a SunSpec device is counted with up to 100 registers)"
            ]
        );
        let few = format!("{usual}\nonly = ['inverter.W']");
        assert_eq!(said(line, 10, &few), [""; 0], "16 registers each");
        let beside = format!("{usual}\nonly = ['inverter.W']\n{}", registers(100));
        assert_eq!(said(line, 3, &beside).len(), 1);
    }

    #[test]
    fn nothing_is_told_where_nothing_is_known() {
        let device = format!("period = '10ms'\n{}", registers(100));
        assert_eq!(said("host = '10.0.0.5'", 10, &device), [""; 0], "no serial line");
        assert_eq!(said("host = '10.0.0.5'\nframing = 'rtu'", 10, &device), [""; 0], "of unknown speed");
        let converter = said("host = '10.0.0.5'\nframing = 'rtu'\nbaud = 115200", 10, &device);
        assert!(converter[0].starts_with("10.0.0.5:502 needs "), "{converter:?}");
        assert!(converter[0].contains("of its 115,200 baud"), "{converter:?}");
    }
}
