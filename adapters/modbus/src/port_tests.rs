//! Ports over pseudo-terminals: what the system says of them, and what they refuse. A pseudo-terminal
//! keeps neither parity nor data bits; that they are asked for is the library's.

use super::*;
use crate::{frame::Framing, wiring::Wiring};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{ControlModes, LocalModes, OutputModes, tcgetattr},
};
use std::{fs::File, os::fd::OwnedFd, time::Duration};

/// The far end, and the path of the near one.
fn pty() -> (OwnedFd, String) {
    let far = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&far).unwrap();
    unlockpt(&far).unwrap();
    let near = ptsname(&far, Vec::new()).unwrap();
    (far, near.into_string().unwrap())
}

fn line(baud: u32, parity: Parity, stop_bits: u8, wiring: Wiring) -> Line {
    Line {
        framing: Framing::Rtu,
        characters: Some(Characters { baud, data_bits: 8, parity, stop_bits }),
        gap: Duration::ZERO,
        timeout: "1s".parse().unwrap(),
        quarantine: Duration::ZERO,
        wiring,
    }
}

/// The code of the fault.
fn fault_of(path: &str, wiring: Wiring) -> Fault {
    open(path, &line(9_600, Parity::Even, 1, wiring)).err().expect("it is not opened")
}

#[tokio::test]
async fn the_system_has_what_was_asked_for() {
    for (baud, parity, stop_bits) in [
        (9_600, Parity::None, 1),
        (19_200, Parity::Even, 1),
        (38_400, Parity::Odd, 1),
        (1_200, Parity::None, 2),
        // No constant of termios.
        (12_345, Parity::Even, 1),
        (250_000, Parity::Odd, 2),
    ] {
        let (far, path) = pty();
        let port = open(&path, &line(baud, parity, stop_bits, Wiring::default())).unwrap();
        let near = File::options().read(true).open(&path);
        assert!(near.is_err() || rustix::process::getuid().is_root(), "it is ours alone");
        // Both ends of a pseudo-terminal are one; the far one tells of the near one.
        let set = tcgetattr(&far).unwrap();
        let near = near.map(|near| tcgetattr(near).unwrap()).unwrap_or(set);
        assert_eq!((near.output_speed(), near.input_speed()), (baud, baud));
        let two = near.control_modes.contains(ControlModes::CSTOPB);
        let odd = near.control_modes.contains(ControlModes::PARODD);
        assert_eq!((two, odd), (stop_bits == 2, parity == Parity::Odd), "{baud}");
        assert!(!near.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
        assert!(!near.output_modes.contains(OutputModes::OPOST), "bytes as they are");
        drop(port);
    }
}

#[tokio::test]
async fn a_driver_that_switches_nothing_says_so() {
    let (_far, path) = pty();
    for direction in [Direction::Kernel(Rs485::default()), Direction::Rts(Rs485::default())] {
        let fault = fault_of(&path, Wiring { direction, ..Wiring::default() });
        assert_eq!((fault.code, fault.place.as_str()), ("TG-438", path.as_str()), "{direction:?}");
    }
    // It was closed each time. What it cannot do needs no switching off.
    let never = Wiring { direction: Direction::Nobody, ..Wiring::default() };
    drop(open(&path, &line(9_600, Parity::Even, 1, never)).expect("it is opened"));
    assert!(open(&path, &line(9_600, Parity::Even, 1, Wiring::default())).is_ok());
}

#[tokio::test]
async fn what_is_wrong_with_a_port_is_told() {
    let (_far, path) = pty();
    let _ours = open(&path, &line(9_600, Parity::Even, 1, Wiring::default())).unwrap();
    assert_eq!(fault_of(&path, Wiring::default()).code, "TG-408", "in use");
    assert_eq!(fault_of("/dev/serial/by-id/none", Wiring::default()).code, "TG-406", "missing");
    assert_eq!(fault_of("/dev/null", Wiring::default()).code, "TG-409", "no port");
}

/// A control group refuses a device with EPERM, and so is a file that cannot be changed.
#[tokio::test]
async fn a_port_that_the_unit_keeps_from_the_service_is_told_apart() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ttyS9");
    let file = File::create(&path).unwrap();
    let set = |flags| {
        ioctl_getflags(&file).and_then(|old| ioctl_setflags(&file, (old - IFlags::IMMUTABLE) | flags))
    };
    if let Err(error) = set(IFlags::IMMUTABLE) {
        eprintln!(
            "SKIPPED a port that the unit keeps from the service: only root can, on some file systems: {error}"
        );
        return;
    }
    let fault = fault_of(path.to_str().unwrap(), Wiring::default());
    set(IFlags::empty()).unwrap();
    assert_eq!(fault.code, "TG-407", "{fault:?}");
    assert!(fault.todo.contains("DeviceAllow=char-NAME rw") && fault.cause.contains("unit"), "{fault:?}");
}
