//! How a register is written in the configuration: `holding:0`. Sans-IO.
//!
//! Addresses are those of the PDU, from 0. The five- and six-digit numbers of manuals (`40001`) are
//! not read, since half of the manuals that use them count from 0; they get a hint instead.

use std::{fmt, str::FromStr};

/// The four tables of the Modbus data model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// Read-write bits, function code 1.
    Coil,
    /// Read-only bits, function code 2.
    Discrete,
    /// Read-write registers, function code 3.
    Holding,
    /// Read-only registers, function code 4.
    Input,
}

/// Where a value begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    /// Which table.
    pub table: Table,
    /// The address in the PDU, from 0.
    pub address: u16,
}

/// Why this is no register.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PointError {
    /// Not `table:number`.
    #[error("not a register")]
    Form {
        /// The same register as we write it, where the text is a manual's number.
        meant: Option<Point>,
    },
    /// No such table.
    #[error("there is no table of this name")]
    Table,
    /// The address does not fit 16 bits.
    #[error("registers end at 65535")]
    Beyond,
}

impl Table {
    const NAMES: [(&'static str, Self); 4] = [
        ("coil", Self::Coil),
        ("discrete", Self::Discrete),
        ("holding", Self::Holding),
        ("input", Self::Input),
    ];

    /// Its name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, table)| *table == self).map_or("", |(name, _)| name)
    }

    /// How manuals write an address that they count from 1: `40013`, with six digits above 9999.
    pub(crate) fn in_manuals(self, number: u16) -> String {
        let table = match self {
            Self::Coil => 0,
            Self::Discrete => 1,
            Self::Input => 3,
            Self::Holding => 4,
        };
        if number > 9_999 { format!("{table}{number:05}") } else { format!("{table}{number:04}") }
    }

    /// Whether its entries are single bits.
    pub(crate) fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// The most entries one request may ask for. Modbus Application Protocol V1.1b3 §6.1 to §6.4
    pub(crate) fn limit(self) -> u16 {
        if self.is_bits() { 2_000 } else { 125 }
    }
}

impl PointError {
    /// What to write instead.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Form { meant: Some(point) } => {
                format!(r#"write it as "{point}"; check in the manual whether its numbers start at 1"#)
            }
            Self::Form { meant: None } | Self::Table => {
                r#"write it as "holding:0", "input:12", "coil:3" or "discrete:7", counted from 0"#.to_owned()
            }
            Self::Beyond => "addresses are counted from 0, without the 4xxxx of manuals".to_owned(),
        }
    }
}

impl FromStr for Point {
    type Err = PointError;

    fn from_str(text: &str) -> Result<Self, PointError> {
        let Some((table, address)) = text.split_once(':') else {
            return Err(PointError::Form { meant: from_manual(text) });
        };
        let named = Table::NAMES.iter().find(|(name, _)| *name == table);
        let (_, table) = *named.ok_or(PointError::Table)?;
        if address.is_empty() || !address.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PointError::Form { meant: None });
        }
        // Only digits are left, so what does not parse is too large.
        let address = address.parse().map_err(|_| PointError::Beyond)?;
        Ok(Self { table, address })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.table.name(), self.address)
    }
}

/// `40001` or `400001` as a point: a digit for the table, then the number from 1.
fn from_manual(text: &str) -> Option<Point> {
    if !matches!(text.len(), 5 | 6) || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (table, number) = text.split_at_checked(1)?;
    let table = match table {
        "0" => Table::Coil,
        "1" => Table::Discrete,
        "3" => Table::Input,
        "4" => Table::Holding,
        _ => return None,
    };
    let number: u32 = number.parse().ok()?;
    Some(Point { table, address: u16::try_from(number.checked_sub(1)?).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_read_as_written() {
        for (text, table, address) in [
            ("holding:0", Table::Holding, 0),
            ("input:12", Table::Input, 12),
            ("coil:3", Table::Coil, 3),
            ("discrete:65535", Table::Discrete, 65_535),
            ("holding:007", Table::Holding, 7),
        ] {
            assert_eq!(text.parse(), Ok(Point { table, address }), "{text}");
        }
        assert_eq!("input:12".parse::<Point>().unwrap().to_string(), "input:12");
    }

    #[test]
    fn what_is_no_register_says_why() {
        let form = PointError::Form { meant: None };
        for (text, error) in [
            ("", form.clone()),
            ("holding", form.clone()),
            ("holding:", form.clone()),
            ("holding:-1", form.clone()),
            ("holding:+1", form.clone()),
            ("holding: 1", form.clone()),
            ("holding:0x10", form.clone()),
            ("Holding:1", PointError::Table),
            ("register:1", PointError::Table),
            ("holding:65536", PointError::Beyond),
            ("holding:99999999999999999999999", PointError::Beyond),
        ] {
            assert_eq!(text.parse::<Point>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_manuals_number_gets_a_hint() {
        for (text, hint) in [
            ("40001", Some("holding:0")),
            ("400001", Some("holding:0")),
            ("465536", Some("holding:65535")),
            ("30013", Some("input:12")),
            ("00004", Some("coil:3")),
            ("10008", Some("discrete:7")),
            ("40000", None),
            ("465537", None),
            ("20001", None),
            ("4001", None),
        ] {
            let Err(PointError::Form { meant }) = text.parse::<Point>() else { panic!("{text}") };
            assert_eq!(meant.map(|p| p.to_string()).as_deref(), hint, "{text}");
        }
    }
}
