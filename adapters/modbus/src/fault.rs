//! What can go wrong with Modbus devices: TG-43x and TG-44x. Sans-IO.
//!
//! Not here: what any adapter may have (`adapter_api::field`).

use crate::{pdu::Exception, plan::Absence, point::Point, sunspec::Lack};
use adapter_api::{Fault, FaultKind, field};

/// A device is silent.
const UNIT_SILENT: FaultKind = FaultKind {
    code: "TG-431",
    cause: "the device is off, its unit identifier is another, or behind a gateway its serial line is interrupted or set \
            to another speed",
    todo: "compare `unit` with the device's own setting; look at its lights and its line; a slow device needs a longer \
           `timeout`",
};
/// An answer that is none to this request.
const WRONG_ANSWER: FaultKind = FaultKind {
    code: "TG-432",
    cause: "what listens there is no Modbus TCP device, or a gateway mixes up the answers of its units or of two masters",
    todo: "see that no other master uses the gateway; compare the port (502) with the device's settings",
};
/// A device that cannot be understood.
const UNIT_UNREADABLE: FaultKind = FaultKind {
    code: "TG-435",
    cause: "speed, parity or stop bits are not the device's, two devices have the same unit identifier, or A and B are \
            interchanged or without termination",
    todo: "compare `baud` and `parity` with the device's own setting; take the other devices off the line one by one",
};
/// A port whose driver cannot switch the direction.
const DIRECTION_REFUSED: FaultKind = FaultKind {
    code: "TG-438",
    cause: "most USB converters switch the direction by themselves and their drivers know nothing of it; other ports have \
            a line for it that the driver does not know",
    todo: "leave out `rs485` for a converter that switches by itself; for one that RTS switches write `rs485 = \"rts\"`",
};
/// A line that should echo and does not.
const ECHO_MISSING: FaultKind = FaultKind {
    code: "TG-439",
    cause: "this line does not give back what is sent over it, another master sends at the same time, or its wires are \
            interchanged or shorted",
    todo: "leave out `echo` and see whether the devices answer; take other masters off the line; look at A and B",
};
/// Exception 0A.
const GATEWAY_PATH: FaultKind = FaultKind {
    code: "TG-433",
    cause: "the gateway has no serial line for this unit identifier, or is overloaded",
    todo: "compare `unit` with the gateway's table of units and lines",
};
/// Exception 0B.
const GATEWAY_TARGET: FaultKind = FaultKind {
    code: "TG-434",
    cause: "behind the gateway the device is off, has another unit identifier, or its line is interrupted or set to \
            another speed",
    todo: "compare `unit` with the device's own setting; look at the serial line: speed, parity, A and B, termination",
};
/// Exception 01.
const ILLEGAL_FUNCTION: FaultKind = FaultKind {
    code: "TG-441",
    cause: "the device does not know this table: many have no coils, or serve everything as holding or as input registers",
    todo: "compare the table in `register` with the device's manual: input: is function 4, holding: function 3",
};
/// Exception 02.
const ILLEGAL_ADDRESS: FaultKind = FaultKind {
    code: "TG-442",
    cause: "the address is one too high, as manuals often count from 1, or in another table, or the model has no such value",
    todo: "compare `register` with the device's manual",
};
/// Exception 03.
const ILLEGAL_VALUE: FaultKind = FaultKind {
    code: "TG-443",
    cause: "the device does not allow so many registers at once, or a value of two registers is to be read at its second",
    todo: "compare `register` and `type` with the device's manual: a 32 bit value begins at the lower address",
};
/// Exceptions 04 and 08.
const DEVICE_FAILURE: FaultKind = FaultKind {
    code: "TG-444",
    cause: "the device itself has a fault, or cannot measure this value at present",
    todo: "look at the device's own display; switch it off and on; ask its maker",
};
/// Exceptions 05, 06 and 07.
const DEVICE_BUSY: FaultKind = FaultKind {
    code: "TG-445",
    cause: "the device is occupied with something longer, or is asked too often",
    todo: "nothing, if it passes; else read less often: raise `period`",
};
/// All others.
const UNKNOWN_EXCEPTION: FaultKind = FaultKind {
    code: "TG-446",
    cause: "the device gives a reason of its maker's own",
    todo: "look the exception's number up in the device's manual",
};
/// The configuration was not listened to.
const NOT_CONFIGURED: FaultKind = FaultKind {
    code: "TG-447",
    cause: "the configuration of this device was not taken",
    todo: "see what `tidegate check` says of it",
};

/// What a SunSpec device does not have.
const NOT_SUNSPEC: FaultKind = FaultKind {
    code: "TG-448",
    cause: "the device speaks SunSpec only after it was switched on in its settings, has it under another unit identifier, \
            or has other models than were expected; while it is starting it may not have all of them",
    todo: "look for SunSpec in the device's settings; compare `unit` with its manual, and `only` with what \
           `tidegate profiles sunspec` lists",
};

/// Registers that a device neither serves nor refuses.
const REGISTERS_SILENT: FaultKind = FaultKind {
    code: "TG-449",
    cause: "the device says nothing where others refuse: it has no such registers, or cannot send so many at once",
    todo: "compare `register` with the device's manual; try a smaller `max_registers`, and a longer `timeout`",
};

/// What to do about a chain without an end.
const UNENDED: &str = "nothing, if it passes: what there is is read, and the rest looked for again after a minute, at last \
                       once an hour; else ask the device's maker for a newer firmware";

/// All of them.
pub const FAULTS: [FaultKind; 16] = [
    UNIT_SILENT,
    WRONG_ANSWER,
    GATEWAY_PATH,
    GATEWAY_TARGET,
    UNIT_UNREADABLE,
    DIRECTION_REFUSED,
    ECHO_MISSING,
    ILLEGAL_FUNCTION,
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    DEVICE_FAILURE,
    DEVICE_BUSY,
    UNKNOWN_EXCEPTION,
    NOT_CONFIGURED,
    NOT_SUNSPEC,
    REGISTERS_SILENT,
];

/// Registers a device refuses: the first of them, the answer, and how many values are missing for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) point: Point,
    pub(crate) why: Absence,
    pub(crate) values: usize,
}

impl Refusal {
    /// For people, in the numbers of what names the register with this `base`.
    pub(crate) fn fault(&self, base: Option<u16>, place: String) -> Fault {
        let Self { point, why, values } = *self;
        let (kind, words) = match why {
            Absence::Silent => (REGISTERS_SILENT, "the device says nothing to a request for"),
            Absence::Refused(Exception(1)) => (ILLEGAL_FUNCTION, "the device does not serve the table of"),
            Absence::Refused(Exception(2)) => (ILLEGAL_ADDRESS, "the device has no register"),
            Absence::Refused(Exception(3)) => (ILLEGAL_VALUE, "the device does not allow this read at"),
            Absence::Refused(Exception(4 | 8)) => (DEVICE_FAILURE, "the device fails to read"),
            Absence::Refused(Exception(5..=7)) => (DEVICE_BUSY, "the device has no time for"),
            Absence::Refused(_) => (UNKNOWN_EXCEPTION, "the device refuses"),
        };
        let others = match values {
            0 | 1 => String::new(),
            2 => " and one more".to_owned(),
            more => format!(" and {} more", more - 1),
        };
        let what = format!("{words} {}{others}: {why}", numbered(point, base));
        let fault = Fault::new(kind, what, place);
        if kind == ILLEGAL_ADDRESS { fault.with_remedy(miscounted(point, base)) } else { fault }
    }
}

/// A register as the configuration of its device counts.
fn numbered(point: Point, base: Option<u16>) -> String {
    match base.unwrap_or(0) {
        0 => point.to_string(),
        base => format!("{}:{}", point.table.name(), u32::from(point.address) + u32::from(base)),
    }
}

/// A SunSpec device without what is wanted of it.
pub(crate) fn lacking(lack: &Lack, place: String) -> Fault {
    let fault = Fault::new(NOT_SUNSPEC, lack.to_string(), place);
    if let Lack::End(..) = lack { fault.with_remedy(UNENDED.to_owned()) } else { fault }
}

/// The hint for addresses of manuals, which count from 1 as often as from 0.
fn miscounted(point: Point, base: Option<u16>) -> String {
    let compare = "compare `register` with the device's manual";
    let asked = format!("`base = {}` makes it the address {}", base.unwrap_or(0), point.address);
    match base {
        Some(0) => return format!("{compare}: {asked}; if it counts from 1, write `base = 1`"),
        Some(_) => return format!("{compare}: {asked}; if it counts from 0, write `base = 0`"),
        None => {}
    }
    let Some(address) = point.address.checked_sub(1) else {
        return format!("{compare}: it may be in another table, or begin at a higher address");
    };
    let below = Point { address, ..point };
    let (number, manual) = (point.address, point.table.in_manuals(point.address));
    format!("{compare}: many count from 1, and if it says {number} or {manual}, try \"{below}\"")
}

/// A device that gives no answer.
pub(crate) fn silent(within: adapter_api::Span, place: String) -> Fault {
    Fault::new(UNIT_SILENT, format!("the device gives no answer within {within}"), place)
}

/// A device that says something else than an answer.
pub(crate) fn noise(within: adapter_api::Span, place: String) -> Fault {
    Fault::new(UNIT_UNREADABLE, format!("nothing readable came within {within}, only other bytes"), place)
}

/// A request that did not come back over a line that echoes.
pub(crate) fn unechoed(within: adapter_api::Span, place: String) -> Fault {
    Fault::new(ECHO_MISSING, format!("what was sent did not come back within {within}"), place)
}

/// A port whose direction nobody can switch.
pub(crate) fn direction(what: &str, error: &std::io::Error, path: &str) -> Fault {
    tracing::debug!(%error, path, "the direction cannot be switched");
    Fault::new(DIRECTION_REFUSED, what, path)
}

/// The connection ended in the middle of a question.
pub(crate) fn lost(place: String) -> Fault {
    Fault::new(field::LINK_LOST, "the connection was lost", place)
}

/// The answer is to something else.
pub(crate) fn mismatch(place: String) -> Fault {
    Fault::new(WRONG_ANSWER, "the answer does not fit the request", place)
}

/// A gateway speaks for a device that it does not reach.
pub(crate) fn unreachable(code: Exception, place: String) -> Fault {
    let kind = if code.0 == 0x0a { GATEWAY_PATH } else { GATEWAY_TARGET };
    Fault::new(kind, format!("the gateway cannot reach it: {code}"), place)
}

/// What is wrong with its tables.
pub(crate) fn not_configured(why: &str, place: String) -> Fault {
    Fault::new(NOT_CONFIGURED, format!("configuration: {why}"), place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(point: &str, number: u8, values: usize) -> Fault {
        let why = Absence::Refused(Exception(number));
        let point = Point::read(point, None).unwrap();
        Refusal { point, why, values }.fault(None, "boiler-7".to_owned())
    }

    fn told_as(point: Point, base: u16) -> Fault {
        let why = Absence::Refused(Exception(2));
        Refusal { point, why, values: 1 }.fault(Some(base), "here".to_owned())
    }

    #[test]
    fn registers_without_an_answer_are_told_from_refused_ones() {
        let point = Point::read("holding:13", None).unwrap();
        let fault = Refusal { point, why: Absence::Silent, values: 2 }.fault(None, "boiler-7".to_owned());
        assert_eq!(fault.code, "TG-449");
        let what = "the device says nothing to a request for holding:13 and one more: no answer";
        assert_eq!(fault.what, what);
    }

    #[test]
    fn every_exception_has_a_code_and_plain_words() {
        for (number, code, said) in [
            (1, "TG-441", "does not serve the table of holding:13: illegal function (exception 01)"),
            (2, "TG-442", "has no register holding:13: illegal data address (exception 02)"),
            (3, "TG-443", "does not allow this read at holding:13: illegal data value (exception 03)"),
            (4, "TG-444", "fails to read holding:13: device failure (exception 04)"),
            (5, "TG-445", "has no time for holding:13: acknowledged, still working (exception 05)"),
            (6, "TG-445", "has no time for holding:13: device busy (exception 06)"),
            (8, "TG-444", "fails to read holding:13: memory parity error (exception 08)"),
            (99, "TG-446", "refuses holding:13: exception (exception 63, decimal 99)"),
        ] {
            let fault = told("holding:13", number, 1);
            assert_eq!((fault.code, fault.what), (code, format!("the device {said}")));
        }
        assert!(told("coil:3", 1, 4).what.contains("coil:3 and 3 more: "));
    }

    #[test]
    fn an_address_a_manual_may_count_from_one_has_a_hint() {
        for (point, hint) in [
            ("holding:13", "if it says 13 or 40013, try \"holding:12\""),
            ("input:1", "if it says 1 or 30001, try \"input:0\""),
            ("coil:10000", "if it says 10000 or 010000, try \"coil:9999\""),
            ("holding:65535", "if it says 65535 or 465535, try \"holding:65534\""),
            ("discrete:0", "another table"),
        ] {
            assert!(told(point, 2, 1).todo.contains(hint), "{point}");
        }
    }

    #[test]
    fn a_device_that_says_how_it_counts_is_spoken_of_in_its_own_numbers() {
        for (register, base, number, hint) in [
            (
                "holding:13",
                0,
                "holding:13",
                "`base = 0` makes it the address 13; if it counts from 1, write `base = 1`",
            ),
            (
                "holding:13",
                1,
                "holding:13",
                "`base = 1` makes it the address 12; if it counts from 0, write `base = 0`",
            ),
            (
                "40013",
                1,
                "holding:13",
                "`base = 1` makes it the address 12; if it counts from 0, write `base = 0`",
            ),
            ("465536", 1, "holding:65536", "`base = 1` makes it the address 65535"),
        ] {
            let point = Point::read(register, Some(base)).unwrap();
            let fault = told_as(point, base);
            let what = format!("the device has no register {number}: illegal data address (exception 02)");
            assert_eq!(fault.what, what, "{register} {base}");
            assert!(fault.todo.contains(hint), "{register} {base}: {}", fault.todo);
        }
    }
}
