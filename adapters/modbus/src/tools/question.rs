//! What may be asked, as it goes over the control socket. Sans-IO.

use adapter_api::Span;
use serde::{Deserialize, Serialize};

/// One question to a Modbus adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Which wires and devices it has.
    Wires,
    /// Values of registers, each once.
    Read(Read),
    /// Ranges of raw registers; what the device refuses is left out.
    Sweep(Sweep),
    /// Which units answer.
    Scan(Scan),
    /// What a device is.
    Identify(Identify),
    /// The traffic of a wire as it goes.
    Trace(Trace),
}

/// Where a device is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// A configured one, by its endpoint.
    pub endpoint: Option<String>,
    /// A wire, as [`Question::Wires`] names it; the adapter's own if not given.
    pub wire: Option<String>,
    /// Its unit identifier; 1, or the endpoint's, if not given.
    pub unit: Option<u8>,
    /// How long it may take to begin an answer; as configured if not given.
    pub timeout: Option<Span>,
}

/// How registers are to be understood; as in the configuration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// The type; `u16`, or `bool` for tables of bits, if not given.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The order of its bytes.
    pub order: Option<String>,
    /// Registers of a string or of raw bytes.
    pub length: Option<i64>,
    /// Factor.
    pub scale: Option<f64>,
    /// The number of the first register, 0 or 1.
    pub base: Option<i64>,
}

/// [`Question::Read`]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// Where.
    pub at: At,
    /// `holding:0`, `input:10..20` (both ends are read), `40001`; for an endpoint also names of its
    /// resources. None: all resources of the endpoint.
    pub registers: Vec<String>,
    /// How they are to be understood.
    pub form: Form,
}

/// [`Question::Sweep`]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Where.
    pub at: At,
    /// `holding:0..199`
    pub ranges: Vec<String>,
    /// The number of the first register, 0 or 1.
    pub base: Option<i64>,
}

/// [`Question::Scan`]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scan {
    /// Where; the unit counts for nothing.
    pub at: At,
    /// First and last unit.
    pub units: (u8, u8),
    /// Speeds and parities to try, on a free serial port; none: those of the adapter.
    pub settings: Vec<Setting>,
    /// Stop at the first that answers.
    pub first: bool,
}

/// How a serial line is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Bits per second.
    pub baud: i64,
    /// `even`, `odd` or `none`.
    pub parity: String,
    /// 1 or 2; 1 with a parity and 2 without if not given, as the standard has it.
    pub stop_bits: Option<i64>,
}

/// [`Question::Identify`]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identify {
    /// Where.
    pub at: At,
}

/// [`Question::Trace`]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// Which wire; the unit counts for nothing. All wires of the adapter if neither endpoint nor wire is given.
    pub at: At,
    /// For how long; until the asker goes if not given.
    pub length: Option<Span>,
}
