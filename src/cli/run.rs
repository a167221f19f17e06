//! `tidegate run`: the daemon in the foreground, the signals, and what makes it read its configuration anew.

use super::EX_CONFIG;
use crate::{
    config::Config,
    control::errand::{Done, Errand},
    daemon::{Daemon, ReloadError, SwitchError, tell},
    log, memory,
    notify::Notifier,
    reload::{Plan, watch::Watcher},
    store::Closed,
};
use serde_json::json;
use std::{
    io::{self, Write},
    path::Path,
    pin::pin,
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};

/// What makes the daemon do something.
enum Call {
    /// SIGHUP, or the file changed.
    Reload,
    /// The control socket.
    Errand(Errand),
}

/// Runs until a signal, or until it cannot go on.
pub(super) async fn run(file: &Path) -> anyhow::Result<ExitCode> {
    log::start();
    // Before it is read: what changes from now on is read again.
    let mut watcher = Watcher::new(file);
    // As well before it is read: with many files that takes a while, and SIGHUP ends who does not listen.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let config = match Config::load(file) {
        Ok((config, warnings)) => {
            log::keep_to(&config.log);
            tell(&warnings);
            config
        }
        Err(findings) => {
            if log::is_journal() {
                // With its priority: `journalctl -p err` shows what needs a person.
                findings.excerpt().iter().for_each(|finding| tracing::error!(%finding, "not started"));
            } else {
                writeln!(io::stderr(), "{findings}")?;
            }
            return Ok(ExitCode::from(EX_CONFIG));
        }
    };
    let mut daemon = match Daemon::start(config, Some(file.to_owned())).await {
        Ok(daemon) => daemon,
        Err(error) => {
            match error.fault() {
                Some(fault) => fault.log_error("not started"),
                None => tracing::error!(%error, "not started"),
            }
            return Ok(ExitCode::from(if error.is_config() { EX_CONFIG } else { 1 }));
        }
    };
    daemon.watched_by(watcher.late());
    memory::give_back();
    let (systemd, live, mut errands) = (Notifier::from_env(), daemon.live().clone(), daemon.errands());
    systemd.ready().await;
    let lives = async || live.now().store.lives().await;
    let mut telling = pin!(systemd.keep_telling(lives, async || live.now().status().await.ok()));
    loop {
        let errand = async {
            match &mut errands {
                Some(errands) => errands.recv().await,
                None => None,
            }
        };
        let call = tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = daemon.store_died() => return Ok(store_has_died()),
            _ = hangup.recv() => Call::Reload,
            () = watcher.changed() => Call::Reload,
            Some(errand) = errand => Call::Errand(errand),
            never = &mut telling => match never {},
        };
        // It is not told of two things at once, and says meanwhile that it is alive.
        let answering = async {
            tokio::select! {
                answered = answer(&mut daemon, &mut watcher, file, call, &systemd) => answered,
                never = &mut telling => match never {},
            }
        };
        let told_to_stop = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        match to_its_end(answering, told_to_stop).await {
            Some((Err(Closed), _)) => return Ok(store_has_died()),
            Some((Ok(()), false)) => {}
            Some((Ok(()), true)) => break,
            // Impatience is allowed: what was answered is on disk.
            None => return Ok(ExitCode::FAILURE),
        }
    }
    systemd.stopping().await;
    tracing::info!("stopping");
    tokio::select! {
        stopped = daemon.stop() => Ok(if stopped.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        // Impatience is allowed: what was answered is on disk.
        _ = terminate.recv() => Ok(ExitCode::FAILURE),
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
    }
}

/// Does something to its end, and whether somebody told to stop meanwhile. `None`: who told so twice, and it was not
/// at its end.
async fn to_its_end<T>(
    work: impl Future<Output = T>,
    mut told_to_stop: impl AsyncFnMut(),
) -> Option<(T, bool)> {
    let (mut work, mut stop) = (pin!(work), false);
    loop {
        tokio::select! {
            done = &mut work => return Some((done, stop)),
            () = told_to_stop() => {}
        }
        if std::mem::replace(&mut stop, true) {
            return None;
        }
    }
}

fn store_has_died() -> ExitCode {
    // Nothing can be kept without it: a new process is the only way on.
    tracing::error!("the store has died");
    ExitCode::FAILURE
}

/// Does what was called for, and tells whoever asked.
async fn answer(
    daemon: &mut Daemon,
    watcher: &mut Watcher,
    file: &Path,
    call: Call,
    systemd: &Notifier,
) -> Result<(), Closed> {
    let (done, to) = match call {
        Call::Reload => {
            reload(daemon, watcher, file, systemd).await?;
            return Ok(());
        }
        Call::Errand(Errand::Reload(to)) => (reload(daemon, watcher, file, systemd).await?, to),
        Call::Errand(Errand::Switch { endpoint, enabled, answer }) => {
            let done = match daemon.switch(&endpoint, enabled).await {
                Ok(plan) => applied(&plan),
                Err(SwitchError::Reload(error)) => not_applied(error, daemon, watcher)?,
                Err(error) => Done { good: false, answer: json!({ "error": error.to_string() }) },
            };
            (done, answer)
        }
    };
    // Whoever asked may have gone.
    let _gone = to.send(done);
    Ok(())
}

async fn reload(
    daemon: &mut Daemon,
    watcher: &mut Watcher,
    file: &Path,
    systemd: &Notifier,
) -> Result<Done, Closed> {
    systemd.reloading().await;
    watcher.note();
    let outcome = daemon.reload(file).await;
    systemd.ready().await;
    match outcome {
        Ok(plan) => Ok(applied(&plan)),
        Err(error) => not_applied(error, daemon, watcher),
    }
}

fn applied(plan: &Plan) -> Done {
    Done { good: true, answer: json!({ "applied": true, "words": plan.words(), "plan": plan.json() }) }
}

fn not_applied(error: ReloadError, daemon: &Daemon, watcher: &mut Watcher) -> Result<Done, Closed> {
    if daemon.is_unfinished() {
        watcher.again();
    }
    let text = error.to_string();
    let findings: Vec<String> = match error {
        ReloadError::File(findings) => findings.iter().map(ToString::to_string).collect(),
        ReloadError::Fault(_) | ReloadError::Partly(_) => Vec::new(),
        ReloadError::Closed(closed) => return Err(closed),
    };
    let answer = json!({ "applied": false, "error": text, "findings": findings });
    Ok(Done { good: false, answer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn who_tells_to_stop_is_heard_at_the_end_of_what_is_done_and_twice_at_once() {
        let (tell, mut told) = mpsc::channel::<()>(2);
        let none = async || std::future::pending().await;
        assert_eq!(to_its_end(async { 7 }, none).await, Some((7, false)));
        tell.send(()).await.unwrap();
        let work = async {
            // Until it was heard.
            while tell.capacity() < 2 {
                tokio::task::yield_now().await;
            }
            7
        };
        assert_eq!(to_its_end(work, async || told.recv().await.unwrap()).await, Some((7, true)));
        tell.send(()).await.unwrap();
        tell.send(()).await.unwrap();
        let hear = async || told.recv().await.unwrap();
        assert_eq!(to_its_end(std::future::pending::<u32>(), hear).await, None);
    }
}
