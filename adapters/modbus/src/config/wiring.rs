//! How a line is wired: the keys `rs485` and `echo`.

use super::{Config, Findings};
use crate::{
    frame::{Echo, Framing},
    wiring::{self, Direction, Wiring},
};
use adapter_api::Span;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{fmt, time::Duration};

/// What serial drivers take at most.
const LONGEST_DELAY: Duration = Duration::from_millis(100);
type Switching = fn(wiring::Rs485) -> Direction;
const BY: [(&str, Switching); 2] = [("kernel", Direction::Kernel), ("rts", Direction::Rts)];

/// Who switches the direction of an RS-485 line.
#[derive(Debug, Clone, PartialEq)]
pub enum Rs485 {
    /// `true`: the kernel; `false`: nobody has to, and the kernel no longer does.
    Kernel(bool),
    /// `"kernel"` or `"rts"`.
    By(String),
    /// With its details.
    Table(Rs485Table),
}

/// How RTS is switched.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rs485Table {
    /// `"kernel"`, also if not given, or `"rts"`.
    pub by: Option<String>,
    /// The level of RTS while something is sent; true if not given.
    pub rts_on_send: Option<bool>,
    /// Its level while nothing is; the other one if not given.
    pub rts_after_send: Option<bool>,
    /// From switching to the first character, at most 100 ms.
    pub delay_before: Option<Span>,
    /// From the last character to switching back, at most 100 ms.
    pub delay_after: Option<Span>,
}

impl<'de> Deserialize<'de> for Rs485 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Rs485;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"true, "rts" or a table"#)
            }

            fn visit_bool<E>(self, on: bool) -> Result<Rs485, E> {
                Ok(Rs485::Kernel(on))
            }

            fn visit_str<E>(self, by: &str) -> Result<Rs485, E> {
                Ok(Rs485::By(by.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rs485, A::Error> {
                Rs485Table::deserialize(MapAccessDeserializer::new(map)).map(Rs485::Table)
            }
        }
        from.deserialize_any(Any)
    }
}

impl Findings {
    /// How the lines are wired.
    pub(super) fn wiring(&mut self, config: &Config, framing: Option<Framing>) -> Wiring {
        let echo = match config.echo {
            None => Echo::Possible,
            Some(false) => Echo::Absent,
            Some(true) => Echo::Certain,
        };
        if config.echo.is_some() && framing == Some(Framing::Tcp) {
            let hint = r#"leave it out; behind a converter write `framing = "rtu"`"#;
            self.add(&["echo"], "Modbus TCP has none", hint);
        }
        let direction = match &config.rs485 {
            None => Direction::Itself,
            Some(Rs485::Kernel(false)) => {
                config.port.as_ref().map_or(Direction::Itself, |_| Direction::Nobody)
            }
            Some(_) if config.port.is_none() => {
                self.add(
                    &["rs485"],
                    "there is no serial port here",
                    "leave it out: a converter does it itself",
                );
                Direction::Itself
            }
            Some(Rs485::Kernel(true)) => Direction::Kernel(wiring::Rs485::default()),
            Some(Rs485::By(by)) => self.direction(&["rs485"], by, wiring::Rs485::default()),
            Some(Rs485::Table(table)) => {
                let rs485 = self.rs485(table);
                self.direction(&["rs485", "by"], table.by.as_deref().unwrap_or("kernel"), rs485)
            }
        };
        Wiring { direction, echo }
    }

    fn direction(&mut self, at: &[&str], by: &str, rs485: wiring::Rs485) -> Direction {
        self.one_of(at, by, &BY, "way to switch").map_or(Direction::Itself, |of| of(rs485))
    }

    fn rs485(&mut self, table: &Rs485Table) -> wiring::Rs485 {
        let rts_on_send = table.rts_on_send.unwrap_or(true);
        let rts_after_send = table.rts_after_send.unwrap_or(!rts_on_send);
        if rts_on_send == rts_after_send {
            let hint = "leave out `rts_after_send`: it is the other level then";
            self.add(&["rs485", "rts_after_send"], "RTS would never be switched", hint);
        }
        let delay_before = self.delay("delay_before", table.delay_before);
        let delay_after = self.delay("delay_after", table.delay_after);
        wiring::Rs485 { rts_on_send, rts_after_send, delay_before, delay_after }
    }

    fn delay(&mut self, key: &str, given: Option<Span>) -> Duration {
        let delay = given.unwrap_or_default().duration();
        if delay > LONGEST_DELAY {
            self.add(&["rs485", key], "drivers take at most 100 ms", r#"write for example "1ms""#);
        }
        delay
    }
}
