//! The contract test kit: runs any adapter between a scripted store and devices its test plays, and
//! checks what every adapter has promised.
//!
//! It speaks by panics, as a test does. Not here: anything about one protocol; that is its [`Field`].

use crate::{
    Adapter, AdapterCx, Board, CancellationToken, Clock, Devices, Failure, Health, Offer, Presence, Refused,
    Submission,
    clock::{Bell, now, sleep, timeout},
    inquiry::Desk,
};
use std::{cell::Cell, collections::VecDeque, future::Future, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinSet, LocalSet},
};

/// How long the kit waits for anything that has to happen.
const PATIENCE: Duration = Duration::from_secs(10);
/// Silence after which nothing more is expected to happen.
const QUIET: Duration = Duration::from_millis(400);
/// What an adapter has for its end.
const STOP: Duration = Duration::from_secs(2);
/// A limit no sample of a test reaches.
const AMPLE: usize = 256 * 1024;

/// The device side of an adapter, played by its test. Its devices talk all the time, or let
/// themselves be polled at least ten times a second.
pub trait Field {
    /// Whose devices these are.
    type Adapter: Adapter;
    /// The most samples the adapter may have outstanding with them.
    const OUTSTANDING: usize;
    /// Sets the devices up and says how the adapter reaches them.
    fn arrange(
        &mut self,
    ) -> impl Future<Output = (<Self::Adapter as Adapter>::Config, Devices<<Self::Adapter as Adapter>::Device>)>;
    /// Plays the devices until it is dropped; counts what they are answered.
    fn play(&mut self, answers: Answers) -> impl Future<Output = ()>;
}

/// What the devices were answered, in the order of their data.
#[derive(Debug, Clone, Default)]
pub struct Answers(Rc<(Cell<usize>, Cell<usize>)>);

impl Answers {
    /// A device was told that its data is kept.
    pub fn count_kept(&self) {
        self.0.0.set(self.kept() + 1);
    }
    /// A device was told that its data is not kept.
    pub fn count_refused(&self) {
        self.0.1.set(self.refused() + 1);
    }
    /// How many were told that their data is kept.
    pub fn kept(&self) -> usize {
        self.0.0.get()
    }
    /// How many were told that their data is not kept.
    pub fn refused(&self) -> usize {
        self.0.1.get()
    }
}

/// The store's end of an intake: answers only when the test says so.
#[derive(Debug)]
pub struct Store {
    rx: Option<mpsc::Receiver<Submission>>,
    /// Taken, and not answered yet.
    pub held: VecDeque<Submission>,
    /// Whether adapters are told that it is full.
    pub full: watch::Sender<bool>,
}

impl Store {
    /// The next submission; panics if none comes.
    pub async fn next(&mut self) -> Submission {
        let next = timeout(PATIENCE, self.receive()).await;
        assert!(matches!(next, Ok(Some(_))), "the adapter submits something");
        next.ok().flatten().unwrap_or_else(|| unreachable!("asserted above"))
    }

    /// Holds whatever comes, until nothing came for some time.
    pub async fn hold_until_quiet(&mut self) {
        let end = now() + PATIENCE;
        while let Ok(Some(submission)) = timeout(QUIET, self.receive()).await {
            self.held.push_back(submission);
            assert!(now() < end, "an adapter that is not answered must stop submitting");
        }
    }

    /// Answers whatever comes, until nothing came for some time.
    pub async fn answer_until_quiet(&mut self, result: Result<(), Refused>) {
        let end = now() + PATIENCE;
        while let Ok(Some(submission)) = timeout(QUIET, self.receive()).await {
            submission.answer(result);
            assert!(now() < end, "the adapter goes on reading");
        }
    }

    /// Answers everything that is held.
    pub fn answer_held(&mut self, result: Result<(), Refused>) {
        for submission in self.held.drain(..) {
            submission.answer(result);
        }
    }

    /// Answers whatever comes; to be dropped.
    pub async fn answer_all(&mut self, result: Result<(), Refused>) {
        while let Some(submission) = self.receive().await {
            submission.answer(result);
        }
    }

    /// Ends as a store whose thread has died: nothing held is answered, nothing more is taken.
    pub fn close(&mut self) {
        self.rx = None;
        self.held.clear();
    }

    /// How many samples are held.
    pub fn samples_held(&self) -> usize {
        let samples = |submission: &Submission| match &submission.offer {
            Offer::Samples(samples) => samples.len(),
            Offer::TooLarge { .. } => 0,
        };
        self.held.iter().map(samples).sum()
    }

    async fn receive(&mut self) -> Option<Submission> {
        match &mut self.rx {
            Some(rx) => rx.recv().await,
            None => std::future::pending().await,
        }
    }
}

/// An adapter that runs between a store and the field.
#[derive(Debug)]
pub struct Rig<A: Adapter> {
    /// Its store.
    pub store: Store,
    /// What it reports.
    pub board: Board,
    /// Where it can be asked.
    pub desk: Desk,
    /// Its devices, to be changed live.
    pub devices: watch::Sender<Arc<Devices<A::Device>>>,
    shutdown: CancellationToken,
    running: JoinSet<Result<(), Failure>>,
}

impl<A: Adapter> Rig<A> {
    /// Starts the adapter; inside [`run`].
    pub fn start(config: A::Config, devices: Devices<A::Device>) -> Self {
        Self::limited(config, devices, AMPLE)
    }

    /// Starts it with this limit for a sample.
    pub fn limited(config: A::Config, devices: Devices<A::Device>, max_sample_bytes: usize) -> Self {
        let (full, is_full) = watch::channel(false);
        let (intake, rx) = crate::channel(Arc::new(Bell::default()), max_sample_bytes, is_full);
        let (board, report) = Board::new();
        let (devices, watched) = watch::channel(Arc::new(devices));
        let shutdown = CancellationToken::new();
        let desk = Desk::default();
        let cx = AdapterCx {
            inquiries: desk.open(),
            name: "test".into(),
            devices: watched,
            intake,
            report,
            clock: Clock::trusting(),
            shutdown: shutdown.clone(),
        };
        let mut running = JoinSet::new();
        running.spawn_local(A::run(config, cx));
        let store = Store { rx: Some(rx), held: VecDeque::new(), full };
        Self { store, board, desk, devices, shutdown, running }
    }

    /// Waits until the board shows what is asked for; panics if it does not come.
    pub async fn until(&self, what: &str, seen: impl Fn(&Board) -> bool) {
        wait_for(what, || seen(&self.board)).await;
    }

    /// Panics if the adapter has ended.
    pub fn assert_running(&mut self) {
        let ended = self.running.try_join_next();
        assert!(ended.is_none(), "the adapter goes on, but it ended: {ended:?}");
    }

    /// Tells the adapter to stop.
    pub fn shut_down(&self) {
        self.shutdown.cancel();
    }

    /// Stops the adapter; panics if it takes too long or fails. Gives back the store with what was
    /// submitted to the very end.
    pub async fn stop(mut self) -> Store {
        self.shut_down();
        let ended = timeout(STOP, self.running.join_next()).await;
        assert!(ended.is_ok(), "it stops within {STOP:?}");
        assert!(matches!(ended, Ok(Some(Ok(Ok(()))))), "it stops in good order: {ended:?}");
        self.store
    }
}

/// Runs a test as the supervisor runs a unit: on a runtime of one thread.
#[expect(clippy::expect_used, reason = "a test cannot go on without a runtime")]
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, test)
}

/// Waits for a condition; panics if it does not come about.
pub async fn wait_for(what: &str, mut seen: impl FnMut() -> bool) {
    let end = now() + PATIENCE;
    while !seen() {
        assert!(now() < end, "waited in vain: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// All checks, each with a fresh field.
pub fn contract<F: Field>(field: impl Fn() -> F) {
    check(field(), AMPLE, async |rig, answers| answers_after_the_commit_only::<F>(rig, answers).await);
    check(field(), AMPLE, async |rig, answers| survives_a_full_store::<F>(rig, answers).await);
    check(field(), AMPLE, async |rig, answers| reads_nothing_while_full::<F>(rig, answers).await);
    check(field(), 1, async |rig, answers| survives_too_large::<F>(rig, answers).await);
    check(field(), AMPLE, async |rig, _| survives_a_closed_store::<F>(rig).await);
    check(field(), AMPLE, async |rig, _| keeps_few_outstanding::<F>(rig).await);
    check(field(), AMPLE, async |rig, _| reports_presence::<F>(rig).await);
}

fn check<F: Field>(mut field: F, limit: usize, check: impl AsyncFnOnce(Rig<F::Adapter>, Answers)) {
    run(async {
        let (config, devices) = field.arrange().await;
        assert_eq!(F::Adapter::check(&config, &devices), [], "the field's configuration is right");
        let rig = Rig::limited(config, devices, limit);
        let answers = Answers::default();
        tokio::select! {
            () = check(rig, answers.clone()) => {}
            () = async { field.play(answers.clone()).await; std::future::pending().await } => {}
        }
    });
}

/// I1: a device is answered when its own data is on disk, not before. And an adapter ends in good
/// order when its last receipts come in after the shutdown.
async fn answers_after_the_commit_only<F: Field>(mut rig: Rig<F::Adapter>, answers: Answers) {
    rig.store.hold_until_quiet().await;
    let held = rig.store.held.len();
    assert!(held > 0, "something is submitted");
    assert_eq!((answers.kept(), answers.refused()), (0, 0), "nobody is answered before the commit");
    for committed in 1..held {
        let Some(submission) = rig.store.held.pop_front() else { break };
        submission.answer(Ok(()));
        if F::Adapter::ANSWERS_DEVICES {
            wait_for("the device is answered after the commit", || answers.kept() >= committed).await;
        }
        assert!(answers.kept() <= committed, "one commit, one answer");
        rig.assert_running();
    }
    rig.shut_down();
    rig.store.answer_held(Ok(()));
    rig.stop().await;
}

async fn survives_a_full_store<F: Field>(mut rig: Rig<F::Adapter>, answers: Answers) {
    for refusal in [Refused::Full, Refused::Failed, Refused::Full] {
        for _ in 0..4 {
            rig.store.next().await.answer(Err(refusal));
        }
    }
    if F::Adapter::ANSWERS_DEVICES {
        wait_for("devices are told of the refusal", || answers.refused() >= 12).await;
    }
    assert_eq!(answers.kept(), 0, "what is not kept is not confirmed");
    for _ in 0..12 {
        rig.store.next().await.answer(Ok(()));
    }
    if F::Adapter::ANSWERS_DEVICES {
        wait_for("devices are answered again", || answers.kept() >= 12).await;
    }
    rig.assert_running();
    rig.stop().await;
}

/// Nothing is read that cannot be kept: while the store is full, who polls leaves off, says why, and goes on
/// by itself. Who is pushed to answers each device with the refusal.
async fn reads_nothing_while_full<F: Field>(mut rig: Rig<F::Adapter>, answers: Answers) {
    rig.store.next().await.answer(Ok(()));
    rig.store.full.send_replace(true);
    if F::Adapter::ANSWERS_DEVICES {
        for _ in 0..4 {
            rig.store.next().await.answer(Err(Refused::Full));
        }
        wait_for("devices are told of the refusal", || answers.refused() >= 4).await;
    } else {
        rig.store.answer_until_quiet(Ok(())).await;
        let says_so = |health: &Health| matches!(health, Health::Degraded(faults) if faults.iter().any(|fault| fault.what.contains("the store is full")));
        rig.until("it says why it does not read", |board| says_so(&board.read().0)).await;
        let silent = |presence: &Presence| matches!(presence, Presence::Offline(_));
        assert!(!rig.board.read().1.values().any(silent), "no device is to blame: {:?}", rig.board.read().1);
    }
    rig.store.full.send_replace(false);
    for _ in 0..4 {
        rig.store.next().await.answer(Ok(()));
    }
    rig.until("it is well again", |board| board.read().0 == Health::Up).await;
    rig.assert_running();
    rig.stop().await;
}

async fn survives_too_large<F: Field>(mut rig: Rig<F::Adapter>, answers: Answers) {
    for _ in 0..4 {
        let submission = rig.store.next().await;
        assert!(matches!(submission.offer, Offer::TooLarge { .. }), "the limit is one byte");
        submission.answer(Ok(()));
    }
    if F::Adapter::ANSWERS_DEVICES {
        wait_for("devices are told of the refusal", || answers.refused() >= 4).await;
    }
    assert_eq!(answers.kept(), 0, "what is too large is not confirmed");
    rig.assert_running();
    rig.stop().await;
}

async fn survives_a_closed_store<F: Field>(mut rig: Rig<F::Adapter>) {
    rig.store.next().await.answer(Ok(()));
    rig.store.close();
    // There is nothing to wait for: the adapter has to do nothing special.
    sleep(QUIET).await;
    rig.assert_running();
    rig.stop().await;
}

async fn keeps_few_outstanding<F: Field>(mut rig: Rig<F::Adapter>) {
    rig.store.hold_until_quiet().await;
    let held = rig.store.samples_held();
    assert!(held > 0, "something is submitted");
    assert!(held <= F::OUTSTANDING, "{held} outstanding, at most {} are allowed", F::OUTSTANDING);
    rig.store.answer_held(Ok(()));
    rig.store.next().await.answer(Ok(()));
    // The store does not answer any more: the adapter has to end all the same.
    rig.store.hold_until_quiet().await;
    rig.stop().await;
}

async fn reports_presence<F: Field>(mut rig: Rig<F::Adapter>) {
    let endpoints: Vec<_> = rig.devices.borrow().keys().cloned().collect();
    let online = |board: &Board| {
        let (_, presence) = board.read();
        endpoints.iter().all(|endpoint| presence.get(endpoint) == Some(&Presence::Online))
    };
    tokio::select! {
        () = wait_for("every device is online", || online(&rig.board)) => {}
        () = rig.store.answer_all(Ok(())) => {}
    }
    rig.devices.send_replace(Arc::default());
    tokio::select! {
        () = wait_for("a removed device is forgotten", || rig.board.read().1.is_empty()) => {}
        () = rig.store.answer_all(Err(Refused::Unknown)) => {}
    }
    rig.assert_running();
    rig.stop().await;
}
