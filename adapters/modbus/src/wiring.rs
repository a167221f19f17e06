//! What is special about a line of two wires: who switches its direction, and whether it echoes.
//!
//! Not here: the kernel's own switching ([`crate::rs485`]).

use crate::frame::Echo;
use adapter_api::clock::sleep;
use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How the lines of an adapter are wired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wiring {
    /// Who switches.
    pub direction: Direction,
    /// Whether requests come back.
    pub echo: Echo,
}

/// Who switches the direction of an RS-485 line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Direction {
    /// The converter itself; or there is no direction to switch.
    #[default]
    Itself,
    /// The converter itself, and certainly not the driver: what it was told before is taken back.
    Nobody,
    /// The driver of the port.
    Kernel(Rs485),
    /// We, by RTS: late by up to 2 ms, and so only for devices that take longer for an answer.
    Rts(Rs485),
}

/// What RTS does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rs485 {
    /// Its level while something is sent.
    pub rts_on_send: bool,
    /// Its level while nothing is.
    pub rts_after_send: bool,
    /// From switching to the first character.
    pub delay_before: Duration,
    /// From the last character to switching back.
    pub delay_after: Duration,
}

impl Default for Rs485 {
    fn default() -> Self {
        Self {
            rts_on_send: true,
            rts_after_send: false,
            delay_before: Duration::ZERO,
            delay_after: Duration::ZERO,
        }
    }
}

/// A port whose RTS can be switched.
pub(crate) trait Switched: AsyncRead + AsyncWrite + Unpin + Send {
    /// Sets RTS.
    fn set_rts(&mut self, level: bool) -> io::Result<()>;
    /// Bytes that were written and not yet sent, as far as the driver knows.
    fn unsent(&self) -> u32;
}

/// A port that sends while RTS says so. Whoever writes has to flush: that is when it switches back.
pub(crate) struct Driven<P> {
    port: P,
    rs485: Rs485,
    /// Of one character.
    character: Duration,
    sending: Option<Sending>,
}

/// RTS is switched to sending.
struct Sending {
    /// Written, and not yet waited for.
    count: u32,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Only what comes after the last character is waited for.
    ending: bool,
}

impl Sending {
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        Poll::Ready(())
    }

    /// Waits until all is sent, and for the delay after it.
    fn poll_sent<P: Switched>(
        &mut self,
        port: &P,
        character: Duration,
        after: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            ready!(self.poll_wait(cx));
            if self.ending {
                return Poll::Ready(());
            }
            let left = match std::mem::take(&mut self.count) {
                0 => port.unsent(),
                count => count,
            };
            self.ending = left == 0;
            // The last one may still be in the shift register.
            let length = if self.ending { character + after } else { character * left };
            self.wait = Some(Box::pin(sleep(length)));
        }
    }
}

impl<P: Switched> Driven<P> {
    /// Takes a port over, listening. The error is the driver's.
    pub(crate) fn new(mut port: P, rs485: Rs485, character: Duration) -> io::Result<Self> {
        port.set_rts(rs485.rts_after_send)?;
        Ok(Self { port, rs485, character, sending: None })
    }
}

impl<P: Switched> AsyncRead for Driven<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port).poll_read(cx, to)
    }
}

impl<P: Switched> AsyncWrite for Driven<P> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let sending = match &mut this.sending {
            Some(sending) => sending,
            none => {
                this.port.set_rts(this.rs485.rts_on_send)?;
                let wait: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(sleep(this.rs485.delay_before));
                none.insert(Sending { count: 0, wait: Some(wait), ending: false })
            }
        };
        ready!(sending.poll_wait(cx));
        let count = ready!(Pin::new(&mut this.port).poll_write(cx, bytes))?;
        sending.count = sending.count.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(sending) = &mut this.sending {
            ready!(sending.poll_sent(&this.port, this.character, this.rs485.delay_after, cx));
            this.sending = None;
            this.port.set_rts(this.rs485.rts_after_send)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
#[path = "wiring_tests.rs"]
mod tests;
