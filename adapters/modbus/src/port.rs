//! Opening a serial port: its speed and characters, whose it is, and who switches its direction.

use crate::{
    fault,
    line::{Characters, Line, Parity},
    rs485,
    wire::Stream,
    wiring::{Direction, Driven, Rs485, Switched},
};
use adapter_api::{Fault, field};
use std::{
    io,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_serial::{DataBits, SerialPort as _, SerialPortBuilderExt as _, SerialStream, StopBits};

/// Opens it, or says for people why not.
pub(crate) fn open(path: &str, line: &Line) -> Result<Box<dyn Stream>, Fault> {
    let Some(characters) = line.characters else {
        // The configuration does not let it come so far.
        return Err(Fault::new(field::PORT_FAILED, "the speed of the line is not known", path));
    };
    let port = set_up(path, characters).map_err(|error| refused(&error, path))?;
    match line.wiring.direction {
        Direction::Itself => Ok(Box::new(Port(port))),
        Direction::Nobody => match rs485::disable(&port) {
            Ok(()) => Ok(Box::new(Port(port))),
            Err(error) => Err(fault::direction("its driver goes on switching RS-485", &error, path)),
        },
        Direction::Kernel(wiring) => match rs485::enable(&port, &wiring) {
            Ok(()) => Ok(Box::new(Port(port))),
            Err(error) => Err(fault::direction("its driver does not switch RS-485", &error, path)),
        },
        Direction::Rts(wiring) => match by_rts(port, wiring, characters) {
            Ok(driven) => Ok(Box::new(driven)),
            Err(error) => Err(fault::direction("its driver does not switch RTS", &error, path)),
        },
    }
}

/// With a driver that still switches as it was told before there would be two.
fn by_rts(port: SerialStream, wiring: Rs485, characters: Characters) -> io::Result<Driven<Port>> {
    rs485::disable(&port)?;
    Driven::new(Port(port), wiring, characters.time())
}

fn set_up(path: &str, characters: Characters) -> tokio_serial::Result<SerialStream> {
    let port = tokio_serial::new(path, characters.baud)
        .data_bits(if characters.data_bits == 7 { DataBits::Seven } else { DataBits::Eight })
        .parity(match characters.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        })
        .stop_bits(if characters.stop_bits == 2 { StopBits::Two } else { StopBits::One })
        .open_native_async()?;
    // A driver takes the nearest speed it has. Characters are read wrongly from 5 % on, of both sides.
    match port.baud_rate() {
        Ok(taken) if taken.abs_diff(characters.baud) > characters.baud / 40 => {
            let kind = tokio_serial::ErrorKind::InvalidInput;
            Err(tokio_serial::Error::new(kind, format!("{taken} baud")))
        }
        // A driver that does not say it.
        _ => Ok(port),
    }
}

fn refused(error: &tokio_serial::Error, path: &str) -> Fault {
    use tokio_serial::ErrorKind as K;
    let (kind, what) = match error.kind {
        K::Io(io::ErrorKind::PermissionDenied) => {
            (field::PORT_FORBIDDEN, "the service may not open the serial port".to_owned())
        }
        K::InvalidInput => {
            let taken = &error.description;
            (field::PORT_FAILED, format!("the serial port has not this speed: its driver takes {taken}"))
        }
        // It may have been unplugged while it was opened.
        _ if !Path::new(path).exists() => (field::PORT_MISSING, "there is no such serial port".to_owned()),
        // So the library calls one in use.
        K::NoDevice => (field::PORT_IN_USE, "another program uses the serial port".to_owned()),
        _ if is_kept_from_us(path) => {
            let what = "the service may not open a port of this driver";
            let fault = Fault::new(field::PORT_FORBIDDEN, what, path).with_remedy(LET_IN.to_owned());
            return Fault {
                cause: "the unit of the service lists the drivers it may use, and not this one",
                ..fault
            };
        }
        _ => (field::PORT_FAILED, "the serial port cannot be set up".to_owned()),
    };
    Fault::new(kind, what, path)
}

/// What helps against `DevicePolicy=` of a unit.
const LET_IN: &str = "restart the service, if the driver was loaded after it began; else find the driver's name \
    in /proc/devices by the port's major number (`ls -lL PORT`), and by `systemctl edit` of the unit write \
    `[Service]` and below it `DeviceAllow=char-NAME rw`";

/// Whether the service's control group forbids the device (systemd.resource-control(5), DeviceAllow=), which is
/// EPERM, whatever its owner and mode; the library knows only EACCES.
fn is_kept_from_us(path: &str) -> bool {
    use rustix::fs::{Mode, OFlags};
    let how = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, how, Mode::empty()).err() == Some(rustix::io::Errno::PERM)
}

/// A port whose flush waits for nothing: the library's waits until all is sent, and keeps the thread
/// meanwhile, which is that of the adapter's other wires as well.
struct Port(SerialStream);

impl Switched for Port {
    fn set_rts(&mut self, level: bool) -> io::Result<()> {
        Ok(self.0.write_request_to_send(level)?)
    }

    fn unsent(&self) -> u32 {
        self.0.bytes_to_write().unwrap_or(0)
    }
}

impl AsyncRead for Port {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl AsyncWrite for Port {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[path = "port_tests.rs"]
mod tests;
