//! `tidegate queue`: what is queued, the dead letters, and what is decided over them by hand.

use super::{Ask, PATIENCE, print, show, socket};
use crate::control::client;
use adapter_api::clock;
use anyhow::{Context, bail};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};
use std::{
    io::{self, IsTerminal, Write},
    pin::pin,
    process::ExitCode,
};

/// What is queued.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Queue {
    #[command(flatten)]
    ask: Ask,
    /// Show what the platform refused for good
    #[arg(long)]
    dead: bool,
    #[command(subcommand)]
    deed: Option<Deed>,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// Queue dead letters again, behind what is queued, with the stamps they had
    #[command(group = ArgGroup::new("which").required(true))]
    Requeue {
        #[command(flatten)]
        letters: Letters,
        #[command(flatten)]
        ask: Ask,
    },
    /// Delete dead letters for good, or queued samples of endpoints that left the configuration
    #[command(group = ArgGroup::new("which").required(true))]
    Discard {
        #[command(flatten)]
        letters: Letters,
        /// Queued samples of this endpoint, which left the configuration; without a name, of all that did
        #[arg(long, group = "which", value_name = "NAME", num_args = 0..=1)]
        orphaned: Option<Option<String>>,
        /// Do not ask; needed where nobody can be asked
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        ask: Ask,
    },
}

#[derive(Debug, Args)]
struct Letters {
    /// Numbers of dead letters, as `tidegate queue --dead` shows them
    #[arg(group = "which", value_name = "ID")]
    ids: Vec<i64>,
    /// All dead letters of this endpoint
    #[arg(long, group = "which", value_name = "NAME")]
    endpoint: Option<String>,
    /// All dead letters
    #[arg(long, group = "which")]
    all: bool,
}

impl Letters {
    /// As the control socket takes them, and in words.
    fn said(&self) -> (Value, String) {
        match (&self.endpoint, self.ids.as_slice()) {
            (Some(name), _) => (json!({ "endpoint": name }), format!("all dead letters of {name}")),
            (None, []) => (json!("all"), "all dead letters".to_owned()),
            (None, [id]) => (json!({ "ids": [id] }), format!("dead letter {id}")),
            (None, ids) => (json!({ "ids": ids }), format!("{} dead letters", ids.len())),
        }
    }
}

/// Does what was typed.
pub(super) async fn run(queue: Queue) -> anyhow::Result<ExitCode> {
    match queue.deed {
        None if queue.dead => show(queue.ask, "/v1/dead".into(), client::dead_text).await,
        None => show(queue.ask, "/v1/queue".into(), client::queue_text).await,
        Some(Deed::Requeue { letters, ask }) => {
            order(&ask, "/v1/dead/requeue", &letters.said().0, client::decided_text).await
        }
        Some(Deed::Discard { orphaned: Some(endpoint), yes, ask, .. }) => {
            let of = endpoint.as_deref().unwrap_or("all endpoints");
            agree(yes, &format!("the queued samples of {of} that left the configuration"))?;
            order(&ask, "/v1/queue/discard", &json!({ "endpoint": endpoint }), client::discarded_text).await
        }
        Some(Deed::Discard { letters, orphaned: None, yes, ask }) => {
            let (which, words) = letters.said();
            agree(yes, &words)?;
            order(&ask, "/v1/dead/discard", &which, client::decided_text).await
        }
    }
}

/// Asks for something to be done, and prints what was. A part that was not done is a failure.
async fn order(
    ask: &Ask,
    path: &str,
    what: &Value,
    people: fn(&Value) -> String,
) -> anyhow::Result<ExitCode> {
    let socket = socket(ask)?;
    let answer = patiently(&mut io::stderr(), client::order(&socket, path, what)).await??;
    print(ask, &answer, people)?;
    let whole = |key: &str| answer.get(key).and_then(Value::as_array).is_none_or(Vec::is_empty);
    let all = ["orphaned", "too_old", "missing"].into_iter().all(whole);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits to its end: a million rows take their time, and whoever goes away before cuts it off half-way.
async fn patiently<T>(words: &mut impl Write, deed: impl Future<Output = T>) -> io::Result<T> {
    let mut deed = pin!(deed);
    loop {
        if let Ok(done) = clock::timeout(PATIENCE, &mut deed).await {
            return Ok(done);
        }
        writeln!(
            words,
            "not done yet; Ctrl-C ends it after the step under way, and what is done by then stays done"
        )?;
    }
}

/// What is deleted does not come back: somebody has to say yes.
fn agree(yes: bool, what: &str) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        bail!("nothing was discarded: this deletes {what} for good; say --yes");
    }
    write!(io::stderr(), "Delete {} for good? Type yes: ", adapter_api::shown(what))?;
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("no answer")?;
    if answer.trim() != "yes" {
        bail!("nothing was discarded");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deed_that_takes_long_is_waited_for() {
        let mut words = Vec::new();
        let deed = async {
            clock::sleep(PATIENCE * 5 / 2).await;
            7
        };
        assert_eq!(patiently(&mut words, deed).await.unwrap(), 7);
        assert_eq!(String::from_utf8(words).unwrap().matches("not done yet").count(), 2);
    }
}
