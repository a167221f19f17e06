//! How many bytes go over the connections of all sessions, in the life of the process: beneath TLS, with its handshakes,
//! failed ones as well. What TCP and IP add, and what they send again, is not seen from here.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What went over all connections so far. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Traffic(Arc<Totals>);

#[derive(Debug, Default)]
struct Totals {
    sent: AtomicU64,
    received: AtomicU64,
}

/// A connection whose bytes are counted.
pub(super) struct Counted {
    stream: TcpStream,
    traffic: Traffic,
}

impl Traffic {
    /// Bytes the kernel has taken.
    pub(super) fn sent(&self) -> u64 {
        self.0.sent.load(Relaxed)
    }

    /// Bytes the kernel has handed over.
    pub(super) fn received(&self) -> u64 {
        self.0.received.load(Relaxed)
    }

    /// Counts what goes over this one from now on.
    pub(super) const fn count(self, stream: TcpStream) -> Counted {
        Counted { stream, traffic: self }
    }
}

impl Counted {
    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = result {
            self.traffic.0.sent.fetch_add(u64::try_from(*bytes).unwrap_or_default(), Relaxed);
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let bytes = buf.filled().len().saturating_sub(before);
        self.traffic.0.received.fetch_add(u64::try_from(bytes).unwrap_or_default(), Relaxed);
        result
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(&result);
        result
    }

    // TLS hands over several records at a time.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    #[tokio::test]
    async fn what_goes_over_all_connections_is_counted_both_ways() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let traffic = Traffic::default();
        for round in 1..=2 {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut other, _) = listener.accept().await.unwrap();
            let mut counted = traffic.clone().count(stream);
            counted.write_all(b"hello").await.unwrap();
            let parts = [IoSlice::new(b"to "), IoSlice::new(b"you")];
            assert_eq!(counted.write_vectored(&parts).await.unwrap(), 6, "taken as a whole");
            counted.flush().await.unwrap();
            other.read_exact(&mut [0; 11]).await.unwrap();
            other.write_all(b"yes").await.unwrap();
            drop(other);
            let mut answer = Vec::new();
            counted.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"yes");
            assert_eq!((traffic.sent(), traffic.received()), (11 * round, 3 * round));
        }
    }
}
