//! The direction of a half-duplex line, switched by the kernel: ioctl TIOCSRS485 (Linux, `serial.h`
//! and `serial-rs485.rst`). The only unsafe code of the adapter.
#![expect(unsafe_code, reason = "the system libraries have no call for it")]

use crate::wiring::Rs485;
use rustix::ioctl::{Opcode, Updater, ioctl};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    let mut wanted = SerialRs485::from(wiring);
    // SAFETY: `port` outlives the borrow, and keeps its descriptor open.
    let fd = unsafe { BorrowedFd::borrow_raw(port.as_raw_fd()) };
    // SAFETY: the kernel reads a `struct serial_rs485` here and writes it back, and this is one.
    unsafe { ioctl(fd, Updater::<'_, TIOCSRS485, _>::new(&mut wanted)) }?;
    // It is given back as the driver took it.
    if wanted.flags & ENABLED == 0 { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
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
        assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::NOTTY.raw_os_error()));
    }
}
