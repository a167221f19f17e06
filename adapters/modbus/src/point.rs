//! How a register is written in the configuration: `holding:0`, `holding:0x1f` or `40001`. Sans-IO.
//!
//! Which number the first register has is the device's `base`. Without one it is 0, as in the PDU; the
//! five- and six-digit numbers of manuals are read only where it is given, since half of the manuals
//! that use them count from 0.

use std::fmt;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PointError {
    /// Not `table:number`.
    #[error("not a register")]
    Form,
    /// A manual's number, and nobody said whether it counts from 0 or from 1.
    #[error("it is not said whether the numbers of this device begin with 0 or with 1")]
    Base {
        /// The register if they begin with 1.
        meant: Point,
    },
    /// No such table.
    #[error("there is no table of this name")]
    Table,
    /// A number below the base.
    #[error("with base = 1 there is no register 0")]
    Zero,
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

    /// By its name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, table)| *table)
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
    pub(crate) fn hint(self) -> String {
        match self {
            Self::Form | Self::Table => {
                r#"write it as "holding:0", "input:0x0c", "coil:3" or "discrete:7""#.to_owned()
            }
            Self::Base { meant } => {
                format!(r#"add `base = 1` if this is "{meant}", `base = 0` if it is the one behind it"#)
            }
            Self::Zero => "its registers begin with 1, as `base` says".to_owned(),
            Self::Beyond => "addresses are 16 bits, without the 4xxxx of manuals".to_owned(),
        }
    }
}

impl Point {
    /// The register of a device whose first one has the number `base`.
    pub(crate) fn read(text: &str, base: Option<u16>) -> Result<Self, PointError> {
        let (table, number) = match text.split_once(':') {
            Some((table, number)) => {
                let named = Table::NAMES.iter().find(|(name, _)| *name == table);
                (named.ok_or(PointError::Table)?.1, number_of(number)?)
            }
            None => {
                let (table, number) = from_manual(text).ok_or(PointError::Form)?;
                if base.is_none() {
                    let meant = at(table, number, 1).map_err(|_| PointError::Form)?;
                    return Err(PointError::Base { meant });
                }
                (table, number)
            }
        };
        at(table, number, base.unwrap_or(0))
    }
}

fn at(table: Table, number: u32, base: u16) -> Result<Point, PointError> {
    let address = number.checked_sub(u32::from(base)).ok_or(PointError::Zero)?;
    Ok(Point { table, address: u16::try_from(address).map_err(|_| PointError::Beyond)? })
}

fn number_of(text: &str) -> Result<u32, PointError> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
    if digits.is_empty() || !digits.bytes().all(|b| char::from(b).is_digit(radix)) {
        return Err(PointError::Form);
    }
    // Only digits are left, so what does not parse is too large.
    u32::from_str_radix(digits, radix).map_err(|_| PointError::Beyond)
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.table.name(), self.address)
    }
}

/// `40013` or `400013`: a digit for the table, then the number.
fn from_manual(text: &str) -> Option<(Table, u32)> {
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
    Some((table, number.parse().ok()?))
}

/// For property tests.
#[cfg(test)]
pub(crate) fn tables() -> impl proptest::strategy::Strategy<Value = Table> {
    proptest::sample::select(Table::NAMES.map(|(_, table)| table).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_read_as_written() {
        for (text, base, table, address) in [
            ("holding:0", None, Table::Holding, 0),
            ("input:12", Some(0), Table::Input, 12),
            ("input:12", Some(1), Table::Input, 11),
            ("coil:3", None, Table::Coil, 3),
            ("discrete:65535", None, Table::Discrete, 65_535),
            ("discrete:65536", Some(1), Table::Discrete, 65_535),
            ("holding:007", None, Table::Holding, 7),
            ("holding:0x0c", None, Table::Holding, 12),
            ("holding:0xFFFF", None, Table::Holding, 65_535),
            ("40001", Some(1), Table::Holding, 0),
            ("40001", Some(0), Table::Holding, 1),
            ("40000", Some(0), Table::Holding, 0),
            ("400001", Some(1), Table::Holding, 0),
            ("465536", Some(1), Table::Holding, 65_535),
            ("30013", Some(1), Table::Input, 12),
            ("00004", Some(1), Table::Coil, 3),
            ("10008", Some(1), Table::Discrete, 7),
        ] {
            assert_eq!(Point::read(text, base), Ok(Point { table, address }), "{text} {base:?}");
        }
        assert_eq!(Point::read("input:12", None).unwrap().to_string(), "input:12");
    }

    #[test]
    fn what_is_no_register_says_why() {
        for (text, base, error) in [
            ("", None, PointError::Form),
            ("holding", None, PointError::Form),
            ("holding:", None, PointError::Form),
            ("holding:-1", None, PointError::Form),
            ("holding:+1", None, PointError::Form),
            ("holding: 1", None, PointError::Form),
            ("holding:1f", None, PointError::Form),
            ("holding:0x", None, PointError::Form),
            ("0x0000", None, PointError::Form),
            ("20001", Some(1), PointError::Form),
            ("4001", Some(1), PointError::Form),
            ("Holding:1", None, PointError::Table),
            ("register:1", None, PointError::Table),
            ("holding:65536", None, PointError::Beyond),
            ("holding:0x10000", None, PointError::Beyond),
            ("465537", Some(1), PointError::Beyond),
            ("holding:99999999999999999999999", None, PointError::Beyond),
            ("holding:0", Some(1), PointError::Zero),
            ("40000", Some(1), PointError::Zero),
        ] {
            assert_eq!(Point::read(text, base), Err(error), "{text} {base:?}");
        }
        let error = Point::read("40013", None).unwrap_err();
        assert!(error.hint().contains(r#"`base = 1` if this is "holding:12""#), "{}", error.hint());
    }
}
