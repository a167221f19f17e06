//! RTS around a frame, in paused time.

use super::*;
use adapter_api::clock::now;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What happened, in ms since the start.
type Journal = Arc<Mutex<Vec<(u128, String)>>>;

/// Takes at most five bytes at once, and holds back the last three for a while.
struct Port {
    began: adapter_api::Instant,
    journal: Journal,
    held_back: Mutex<u32>,
    refuses: bool,
}

impl Port {
    fn note(&self, what: String) {
        self.journal.lock().unwrap().push((now().since(self.began).as_millis(), what));
    }
}

impl Switched for Port {
    fn set_rts(&mut self, level: bool) -> io::Result<()> {
        if self.refuses {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.note(format!("rts {level}"));
        Ok(())
    }

    fn unsent(&self) -> u32 {
        std::mem::take(&mut *self.held_back.lock().unwrap())
    }
}

impl AsyncRead for Port {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        to.put_slice(b"answer");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(5);
        self.note(format!("{count} bytes"));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn port(refuses: bool) -> (Port, Journal) {
    let journal = Journal::default();
    (Port { began: now(), journal: journal.clone(), held_back: Mutex::new(3), refuses }, journal)
}

#[tokio::test(start_paused = true)]
async fn rts_is_up_from_before_the_first_character_until_after_the_last() {
    let (port, journal) = port(false);
    let rs485 = Rs485 {
        delay_before: Duration::from_millis(20),
        delay_after: Duration::from_millis(30),
        ..Rs485::default()
    };
    let mut driven = Driven::new(port, rs485, Duration::from_millis(10)).unwrap();
    for _ in 0..2 {
        driven.write_all(b"8 bytes.").await.unwrap();
        driven.flush().await.unwrap();
        let mut answer = [0; 6];
        driven.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
    }
    let expected = [
        (0, "rts false"),
        (0, "rts true"),
        (20, "5 bytes"),
        (20, "3 bytes"),
        // 8 characters, 3 that were held back, the one in the shift register, and the delay.
        (20 + 80 + 30 + 10 + 30, "rts false"),
        (170, "rts true"),
        (190, "5 bytes"),
        (190, "3 bytes"),
        (190 + 80 + 10 + 30, "rts false"),
    ];
    let journal = journal.lock().unwrap();
    // A wait may end a millisecond late.
    assert_eq!(journal.len(), expected.len(), "{journal:?}");
    for ((at, what), (due, expected)) in journal.iter().zip(&expected) {
        assert!(what == expected && (*due..due + 6).contains(at), "{journal:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_without_rts_is_not_used() {
    let (port, _) = port(true);
    assert!(Driven::new(port, Rs485::default(), Duration::from_millis(1)).is_err());
}
