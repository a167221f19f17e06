//! The direction of a half-duplex line, switched by the kernel: ioctl TIOCSRS485 (Linux, `serial.h`
//! and `serial-rs485.rst`). The only unsafe code of the adapter.
#![expect(unsafe_code, reason = "the system libraries have no call for it")]

use crate::wiring::Rs485;
use rustix::{
    io::Errno,
    ioctl::{Opcode, Updater, ioctl},
};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

#[cfg(not(any(target_arch = "mips", target_arch = "mips64", target_arch = "sparc64")))]
const TIOCSRS485: Opcode = 0x542F;
// _IOWR('T', 0x2f, struct serial_rs485)
#[cfg(any(target_arch = "mips", target_arch = "mips64"))]
const TIOCSRS485: Opcode = 0xC020_542F;
#[cfg(target_arch = "sparc64")]
const TIOCSRS485: Opcode = 0xC020_5442;

const ENABLED: u32 = 1;
const RTS_ON_SEND: u32 = 1 << 1;
const RTS_AFTER_SEND: u32 = 1 << 2;

/// `struct serial_rs485`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct SerialRs485 {
    flags: u32,
    /// In ms.
    delay_before: u32,
    /// In ms.
    delay_after: u32,
    /// Addresses and reserve.
    rest: [u32; 5],
}

/// Lets the driver switch. The error is the driver's: most know nothing of it (`ENOTTY`).
pub(crate) fn enable(port: &impl AsRawFd, wiring: &Rs485) -> io::Result<()> {
    // It is given back as the driver took it.
    if set(port, wiring.into())?.is_on() { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// Lets the driver switch no longer: it goes on for as long as the port is there, whoever told it to.
pub(crate) fn disable(port: &impl AsRawFd) -> io::Result<()> {
    is_off(set(port, SerialRs485::default()))
}

/// Whether that is what came of switching it off. A driver that knows nothing of it never was on.
fn is_off(taken: io::Result<SerialRs485>) -> io::Result<()> {
    match taken {
        Ok(taken) if taken.is_on() => Err(io::ErrorKind::Unsupported.into()),
        Err(error) if error.raw_os_error() != Some(Errno::NOTTY.raw_os_error()) => Err(error),
        _ => Ok(()),
    }
}

/// What the driver made of it.
fn set(port: &impl AsRawFd, mut wanted: SerialRs485) -> io::Result<SerialRs485> {
    // SAFETY: `port` outlives the borrow, and keeps its descriptor open.
    let fd = unsafe { BorrowedFd::borrow_raw(port.as_raw_fd()) };
    // SAFETY: the kernel reads a `struct serial_rs485` here and writes it back, and this is one.
    unsafe { ioctl(fd, Updater::<'_, TIOCSRS485, _>::new(&mut wanted)) }?;
    Ok(wanted)
}

impl SerialRs485 {
    fn is_on(&self) -> bool {
        self.flags & ENABLED != 0
    }
}

impl From<&Rs485> for SerialRs485 {
    fn from(wiring: &Rs485) -> Self {
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let ms = |delay: Duration| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
        Self {
            flags: ENABLED
                | flag(wiring.rts_on_send, RTS_ON_SEND)
                | flag(wiring.rts_after_send, RTS_AFTER_SEND),
            delay_before: ms(wiring.delay_before),
            delay_after: ms(wiring.delay_after),
            rest: [0; 5],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_structure_of_the_kernel() {
        assert_eq!((size_of::<SerialRs485>(), align_of::<SerialRs485>()), (32, 4));
        let usual = SerialRs485::from(&Rs485::default());
        assert_eq!(usual, SerialRs485 { flags: 0b011, delay_before: 0, delay_after: 0, rest: [0; 5] });
        let other = Rs485 {
            rts_on_send: false,
            rts_after_send: true,
            delay_before: Duration::from_millis(1),
            delay_after: Duration::from_millis(2),
        };
        let expected = SerialRs485 { flags: 0b101, delay_before: 1, delay_after: 2, rest: [0; 5] };
        assert_eq!(SerialRs485::from(&other), expected);
    }

    #[test]
    fn what_is_no_serial_port_refuses() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let refused = enable(&file, &Rs485::default()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::NOTTY.raw_os_error()));
        assert!(disable(&file).is_ok(), "it never was on");
    }

    #[test]
    fn what_stays_on_is_told() {
        let taken = |flags| SerialRs485 { flags, ..SerialRs485::default() };
        assert!(!SerialRs485::default().is_on(), "that is what is asked for");
        assert!(is_off(Ok(taken(RTS_AFTER_SEND))).is_ok());
        assert_eq!(is_off(Ok(taken(ENABLED))).unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(is_off(Err(Errno::IO.into())).unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
    }
}
