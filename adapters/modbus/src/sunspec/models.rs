//! The points of the SunSpec models that are read. Sans-IO.
//!
//! Source: the SunSpec model definitions (models 1, 101 to 103, 201 to 204) of the SunSpec Alliance.
//! Offsets count from a model's own identifier; scale factors are given by their offset.

use Kind::{Acc32, Bits32, Enum16, I16, Text, U16};
use std::fmt;

/// Models with the same points at the same places.
#[derive(Debug, PartialEq)]
pub(crate) struct Model {
    /// Their numbers.
    pub ids: &'static [u16],
    /// What their resources begin with.
    pub group: &'static str,
    /// What they have.
    pub points: &'static [Point],
}

/// A quantity of a model.
#[derive(Debug, PartialEq)]
pub(crate) struct Point {
    /// Its name in the definition.
    pub name: &'static str,
    /// Where it begins.
    pub at: u16,
    /// Its type.
    pub kind: Kind,
    /// Where its scale factor is.
    pub scale_at: Option<u16>,
    /// What it is measured in, after the scale factor.
    pub unit: &'static str,
}

/// The type of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    I16,
    U16,
    Acc32,
    Enum16,
    Bits32,
    /// So many registers of two characters.
    Text(u16),
}

impl Kind {
    /// How many registers it takes.
    pub(crate) fn length(self) -> u16 {
        match self {
            I16 | U16 | Enum16 => 1,
            Acc32 | Bits32 => 2,
            Text(length) => length,
        }
    }
}

/// As the definitions call it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            I16 => "int16",
            U16 => "uint16",
            Acc32 => "acc32",
            Enum16 => "enum16",
            Bits32 => "bitfield32",
            Text(_) => "string",
        })
    }
}

/// All models that are read.
pub(crate) static MODELS: [Model; 3] = [
    Model { ids: &[1], group: "common", points: &COMMON },
    Model { ids: &[101, 102, 103], group: "inverter", points: &INVERTER },
    // Model 201 calls the voltages between lines PPVph.., the others PhVph..; here they have one name.
    Model { ids: &[201, 202, 203, 204], group: "meter", points: &METER },
];

const fn point(name: &'static str, at: u16, kind: Kind) -> Point {
    Point { name, at, kind, scale_at: None, unit: "" }
}

const fn scaled(name: &'static str, at: u16, kind: Kind, scale_at: u16, unit: &'static str) -> Point {
    Point { name, at, kind, scale_at: Some(scale_at), unit }
}

static COMMON: [Point; 6] = [
    point("Mn", 2, Text(16)),
    point("Md", 18, Text(16)),
    point("Opt", 34, Text(8)),
    point("Vr", 42, Text(8)),
    point("SN", 50, Text(16)),
    point("DA", 66, U16),
];

static INVERTER: [Point; 31] = [
    scaled("A", 2, U16, 6, "A"),
    scaled("AphA", 3, U16, 6, "A"),
    scaled("AphB", 4, U16, 6, "A"),
    scaled("AphC", 5, U16, 6, "A"),
    scaled("PPVphAB", 7, U16, 13, "V"),
    scaled("PPVphBC", 8, U16, 13, "V"),
    scaled("PPVphCA", 9, U16, 13, "V"),
    scaled("PhVphA", 10, U16, 13, "V"),
    scaled("PhVphB", 11, U16, 13, "V"),
    scaled("PhVphC", 12, U16, 13, "V"),
    scaled("W", 14, I16, 15, "W"),
    scaled("Hz", 16, U16, 17, "Hz"),
    scaled("VA", 18, I16, 19, "VA"),
    scaled("VAr", 20, I16, 21, "var"),
    scaled("PF", 22, I16, 23, "%"),
    scaled("WH", 24, Acc32, 26, "Wh"),
    scaled("DCA", 27, U16, 28, "A"),
    scaled("DCV", 29, U16, 30, "V"),
    scaled("DCW", 31, I16, 32, "W"),
    scaled("TmpCab", 33, I16, 37, "°C"),
    scaled("TmpSnk", 34, I16, 37, "°C"),
    scaled("TmpTrns", 35, I16, 37, "°C"),
    scaled("TmpOt", 36, I16, 37, "°C"),
    point("St", 38, Enum16),
    point("StVnd", 39, Enum16),
    point("Evt1", 40, Bits32),
    point("Evt2", 42, Bits32),
    point("EvtVnd1", 44, Bits32),
    point("EvtVnd2", 46, Bits32),
    point("EvtVnd3", 48, Bits32),
    point("EvtVnd4", 50, Bits32),
];

static METER: [Point; 62] = [
    scaled("A", 2, I16, 6, "A"),
    scaled("AphA", 3, I16, 6, "A"),
    scaled("AphB", 4, I16, 6, "A"),
    scaled("AphC", 5, I16, 6, "A"),
    scaled("PhV", 7, I16, 15, "V"),
    scaled("PhVphA", 8, I16, 15, "V"),
    scaled("PhVphB", 9, I16, 15, "V"),
    scaled("PhVphC", 10, I16, 15, "V"),
    scaled("PPV", 11, I16, 15, "V"),
    scaled("PhVphAB", 12, I16, 15, "V"),
    scaled("PhVphBC", 13, I16, 15, "V"),
    scaled("PhVphCA", 14, I16, 15, "V"),
    scaled("Hz", 16, I16, 17, "Hz"),
    scaled("W", 18, I16, 22, "W"),
    scaled("WphA", 19, I16, 22, "W"),
    scaled("WphB", 20, I16, 22, "W"),
    scaled("WphC", 21, I16, 22, "W"),
    scaled("VA", 23, I16, 27, "VA"),
    scaled("VAphA", 24, I16, 27, "VA"),
    scaled("VAphB", 25, I16, 27, "VA"),
    scaled("VAphC", 26, I16, 27, "VA"),
    scaled("VAR", 28, I16, 32, "var"),
    scaled("VARphA", 29, I16, 32, "var"),
    scaled("VARphB", 30, I16, 32, "var"),
    scaled("VARphC", 31, I16, 32, "var"),
    scaled("PF", 33, I16, 37, "%"),
    scaled("PFphA", 34, I16, 37, "%"),
    scaled("PFphB", 35, I16, 37, "%"),
    scaled("PFphC", 36, I16, 37, "%"),
    scaled("TotWhExp", 38, Acc32, 54, "Wh"),
    scaled("TotWhExpPhA", 40, Acc32, 54, "Wh"),
    scaled("TotWhExpPhB", 42, Acc32, 54, "Wh"),
    scaled("TotWhExpPhC", 44, Acc32, 54, "Wh"),
    scaled("TotWhImp", 46, Acc32, 54, "Wh"),
    scaled("TotWhImpPhA", 48, Acc32, 54, "Wh"),
    scaled("TotWhImpPhB", 50, Acc32, 54, "Wh"),
    scaled("TotWhImpPhC", 52, Acc32, 54, "Wh"),
    scaled("TotVAhExp", 55, Acc32, 71, "VAh"),
    scaled("TotVAhExpPhA", 57, Acc32, 71, "VAh"),
    scaled("TotVAhExpPhB", 59, Acc32, 71, "VAh"),
    scaled("TotVAhExpPhC", 61, Acc32, 71, "VAh"),
    scaled("TotVAhImp", 63, Acc32, 71, "VAh"),
    scaled("TotVAhImpPhA", 65, Acc32, 71, "VAh"),
    scaled("TotVAhImpPhB", 67, Acc32, 71, "VAh"),
    scaled("TotVAhImpPhC", 69, Acc32, 71, "VAh"),
    scaled("TotVArhImpQ1", 72, Acc32, 104, "varh"),
    scaled("TotVArhImpQ1PhA", 74, Acc32, 104, "varh"),
    scaled("TotVArhImpQ1PhB", 76, Acc32, 104, "varh"),
    scaled("TotVArhImpQ1PhC", 78, Acc32, 104, "varh"),
    scaled("TotVArhImpQ2", 80, Acc32, 104, "varh"),
    scaled("TotVArhImpQ2PhA", 82, Acc32, 104, "varh"),
    scaled("TotVArhImpQ2PhB", 84, Acc32, 104, "varh"),
    scaled("TotVArhImpQ2PhC", 86, Acc32, 104, "varh"),
    scaled("TotVArhExpQ3", 88, Acc32, 104, "varh"),
    scaled("TotVArhExpQ3PhA", 90, Acc32, 104, "varh"),
    scaled("TotVArhExpQ3PhB", 92, Acc32, 104, "varh"),
    scaled("TotVArhExpQ3PhC", 94, Acc32, 104, "varh"),
    scaled("TotVArhExpQ4", 96, Acc32, 104, "varh"),
    scaled("TotVArhExpQ4PhA", 98, Acc32, 104, "varh"),
    scaled("TotVArhExpQ4PhB", 100, Acc32, 104, "varh"),
    scaled("TotVArhExpQ4PhC", 102, Acc32, 104, "varh"),
    point("Evt", 105, Bits32),
];
