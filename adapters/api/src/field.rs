//! Faults on the side of the devices that any adapter may have: TG-4xx.
//!
//! Not here: those of one protocol, which are its adapter's.

use crate::{FaultKind, Refused, SubmitError};

/// Nobody listens.
pub const HOST_REFUSED: FaultKind = FaultKind {
    code: "TG-401",
    cause: "the machine is there, but nothing listens on this port: the protocol is switched off in the device, or the \
            port is another",
    todo: "compare address and port with the device's settings; switch its network protocol on",
};
/// No route.
pub const HOST_UNREACHABLE: FaultKind = FaultKind {
    code: "TG-402",
    cause: "a cable is unplugged, the device is off, or its address is in another network than this machine's",
    todo: "look at the device's lights and cable, and at `ip addr` and `ip route` here; try `ping ADDRESS`",
};
/// Nothing comes back.
pub const HOST_SILENT: FaultKind = FaultKind {
    code: "TG-403",
    cause: "the device is off or has another address, a firewall drops what is sent, or it has no connection left to give",
    todo: "try `ping ADDRESS`; see how many connections the device allows and who else uses them",
};
/// A name that does not resolve.
pub const HOST_UNKNOWN: FaultKind = FaultKind {
    code: "TG-404",
    cause: "the name is misspelt, or this machine has no name server that knows it",
    todo: "compare `host` with the device's name, try `getent hosts NAME` here, or give the address itself",
};
/// It was there and is gone.
pub const LINK_LOST: FaultKind = FaultKind {
    code: "TG-405",
    cause: "the device was restarted, closes connections that it finds too many, or the network was interrupted",
    todo: "nothing, if it comes back; if it happens again and again, see who else is connected to the device",
};
/// A serial port that is not there.
pub const PORT_MISSING: FaultKind = FaultKind {
    code: "TG-406",
    cause: "the converter is unplugged, or the path in `port` is another's",
    todo: "plug it in; compare `port` with `ls -l /dev/serial/by-id`; it is opened by itself when it is there",
};
/// A serial port without rights.
pub const PORT_FORBIDDEN: FaultKind = FaultKind {
    code: "TG-407",
    cause: "the user of the service is not in the group the port belongs to, mostly dialout",
    todo: "see the port's group with `ls -l`, and add the user of the service to it",
};
/// A serial port that somebody else has.
pub const PORT_IN_USE: FaultKind = FaultKind {
    code: "TG-408",
    cause: "a terminal program, a modem service or a second adapter has the port open",
    todo: "find it with `fuser -v PORT` and end it; a port belongs to one adapter",
};
/// A serial port that cannot do what it should.
pub const PORT_FAILED: FaultKind = FaultKind {
    code: "TG-409",
    cause: "the converter does not know this speed or parity, or the path is no serial port",
    todo: "compare `baud`, `parity`, `stop_bits` and `data_bits` with what the converter can do",
};
/// One sample is over the limit.
pub const SAMPLE_TOO_LARGE: FaultKind = FaultKind {
    code: "TG-421",
    cause: "the device has more resources than fit one sample, or one of them is a very long text",
    todo: "raise store.max_sample_bytes, and uplink.max_payload with it; or give some resources another period",
};
/// The store may not grow, by its policy or for want of space.
pub const STORE_FULL: FaultKind = FaultKind {
    code: "TG-422",
    cause: "the disk is full, or the queue has reached store.max_bytes and store.when_full is \"refuse\"",
    todo: "look at `tidegate queue` and `df`; free some space or raise store.max_bytes; nothing that is queued is lost",
};
/// A transaction failed, or the endpoint is not wanted.
pub const NOT_KEPT: FaultKind = FaultKind {
    code: "TG-423",
    cause: "the database could not be written, or the gateway is stopping",
    todo: "look at `tidegate status`: it says what is wrong with the database",
};
/// More than was planned for one device.
pub const OVER_QUOTA: FaultKind = FaultKind {
    code: "TG-424",
    cause: "the device sends more than its quota, or the quota is too small for it",
    todo: "slow the device down, or raise the quota in [quota] or [endpoints.NAME.quota]; no other endpoint is concerned",
};
/// All of them.
pub const ALL: [FaultKind; 13] = [
    HOST_REFUSED,
    HOST_UNREACHABLE,
    HOST_SILENT,
    HOST_UNKNOWN,
    LINK_LOST,
    PORT_MISSING,
    PORT_FORBIDDEN,
    PORT_IN_USE,
    PORT_FAILED,
    SAMPLE_TOO_LARGE,
    STORE_FULL,
    NOT_KEPT,
    OVER_QUOTA,
];

impl From<&SubmitError> for FaultKind {
    fn from(error: &SubmitError) -> Self {
        match error {
            SubmitError::TooLarge { .. } => SAMPLE_TOO_LARGE,
            SubmitError::Empty | SubmitError::Closed => NOT_KEPT,
        }
    }
}

impl From<Refused> for FaultKind {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => STORE_FULL,
            Refused::OverQuota(_) => OVER_QUOTA,
            Refused::Unknown | Refused::Failed | Refused::Closed => NOT_KEPT,
        }
    }
}
