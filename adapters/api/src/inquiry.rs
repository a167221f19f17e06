//! Inquiries: what a tool asks of a running adapter. JSON in, a stream of JSON lines out.
//!
//! What may be asked is the adapter's business. An inquiry ends when either side lets go of it: the
//! adapter has said everything, or the asker has gone.
//!
//! Not here: who may ask (the control socket's permissions).

use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Lines on their way to one asker: a reader that is slow slows its own inquiry, nothing else.
const LINES: usize = 64;
/// Inquiries that wait for the adapter to look at them.
const WAITING: usize = 4;

/// Where inquiries to one adapter are handed in, over all its restarts.
#[derive(Debug, Clone, Default)]
pub struct Desk(Arc<Mutex<Option<mpsc::Sender<Inquiry>>>>);

/// The adapter's end: what it is asked. Dropped or closed by those that answer nothing.
#[derive(Debug)]
pub struct Inquiries(mpsc::Receiver<Inquiry>);

/// One question.
#[derive(Debug)]
pub struct Inquiry {
    /// What is asked.
    pub question: Value,
    /// Where the answer goes.
    pub telling: Telling,
}

/// The answer in the making. Dropping it ends the answer.
#[derive(Debug, Clone)]
pub struct Telling(mpsc::Sender<Value>);

/// The answer, line by line.
pub type Lines = mpsc::Receiver<Value>;

/// Nobody listens any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the asker has gone")]
pub struct Gone;

/// The adapter answers no inquiries, or is not running at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the adapter answers no inquiries at present")]
pub struct NotAnswering;

/// An answer nobody has begun, and its reader.
pub fn telling() -> (Telling, Lines) {
    let (sender, lines) = mpsc::channel(LINES);
    (Telling(sender), lines)
}

impl Desk {
    /// For a start of the adapter: what was asked of an earlier one is forgotten.
    pub fn open(&self) -> Inquiries {
        let (sender, inquiries) = mpsc::channel(WAITING);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Inquiries(inquiries)
    }

    /// Asks. The answer ends when its last line was taken, or is cut short by dropping it.
    pub async fn ask(&self, question: Value) -> Result<Lines, NotAnswering> {
        let desk = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (telling, lines) = telling();
        desk.ok_or(NotAnswering)?.send(Inquiry { question, telling }).await.map_err(|_| NotAnswering)?;
        Ok(lines)
    }
}

impl Inquiries {
    /// The next question; `None` when nobody can ask any more. Cancel-safe.
    pub async fn next(&mut self) -> Option<Inquiry> {
        self.0.recv().await
    }

    /// Answers nothing from now on.
    pub fn close(&mut self) {
        self.0.close();
    }
}

impl Telling {
    /// Says a line; waits while the asker is slow. Cancel-safe: a line is said whole or not at all.
    pub async fn tell(&self, line: Value) -> Result<(), Gone> {
        self.0.send(line).await.map_err(|_| Gone)
    }

    /// Resolves when the asker has gone. Cancel-safe.
    pub async fn gone(&self) {
        self.0.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn an_answer_has_an_end_and_an_asker_may_go() {
        let desk = Desk::default();
        assert_eq!(desk.ask(json!(1)).await.err(), Some(NotAnswering), "not yet started");
        let mut inquiries = desk.open();
        let mut lines = desk.ask(json!({"tool": "read"})).await.unwrap();
        let Inquiry { question, telling } = inquiries.next().await.unwrap();
        assert_eq!(question["tool"], "read");
        telling.tell(json!("first")).await.unwrap();
        drop(telling);
        assert_eq!((lines.recv().await, lines.recv().await), (Some(json!("first")), None));

        let lines = desk.ask(json!(2)).await.unwrap();
        let inquiry = inquiries.next().await.unwrap();
        drop(lines);
        inquiry.telling.gone().await;
        assert_eq!(inquiry.telling.tell(json!("lost")).await, Err(Gone));

        let mut restarted = desk.open();
        desk.ask(json!(3)).await.unwrap();
        assert_eq!(restarted.next().await.unwrap().question, json!(3));
        restarted.close();
        assert_eq!(desk.ask(json!(4)).await.err(), Some(NotAnswering));
    }
}
