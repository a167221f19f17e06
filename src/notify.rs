//! Tells systemd how the gateway is doing, as sd_notify(3) has it: ready, one line for `systemctl status`, alive,
//! stopping. Outside systemd nothing happens.
//!
//! It runs beside the main loop, and is alive only if that turned and the store's thread answered. The platform is
//! asked afterwards: no platform, and no fault of one, makes systemd restart the gateway. Nor does the salvage of a
//! damaged database, as long as it moves, though the store answers nobody meanwhile.

use adapter_api::{clock, shown};
use serde_json::Value;
use std::{
    convert::Infallible,
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram as Socket},
        },
    },
    time::Duration,
};
use tokio::net::UnixDatagram;

/// While something changes, it is told so often.
const SOON: Duration = Duration::from_secs(3);
/// An idle gateway is woken so often, unless the watchdog wants more.
const LATE: Duration = Duration::from_secs(15);
/// How long systemd's socket may be full, and the rest of the gateway be silent.
const PATIENCE: Duration = Duration::from_secs(2);
/// More of a fault is in `tidegate status`. Characters.
const FAULT: usize = 160;

/// The way to systemd.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// Silent for longer, we are killed.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub fn from_env() -> Self {
        let text = |name| env::var(name).ok();
        let watchdog = watchdog(text("WATCHDOG_USEC").as_deref(), text("WATCHDOG_PID").as_deref());
        let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Self { socket: None, watchdog: None } };
        let socket = connect(&path);
        if let Err(error) = &socket {
            let path = shown(&path.to_string_lossy()).to_string();
            tracing::warn!(%error, path, "NOTIFY_SOCKET: systemd will not learn that the gateway is ready");
        }
        Self { socket: socket.ok(), watchdog }
    }

    /// The store is open and the units are started.
    pub async fn ready(&self) {
        self.send("READY=1").await;
    }

    /// The configuration is read anew; [`Notifier::ready`] ends it.
    pub async fn reloading(&self) {
        self.send("RELOADING=1").await;
    }

    /// The orderly stop has begun.
    pub async fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping").await;
    }

    /// Says that the gateway is alive whenever `answered` has an answer of the store, and what `status` says of it
    /// when that has changed. For ever.
    pub async fn keep_telling(
        &self,
        answered: impl AsyncFn() -> bool,
        status: impl AsyncFn() -> Option<Value>,
    ) -> Infallible {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let longest = self.watchdog.map_or(LATE, |watchdog| LATE.min(watchdog / 3));
        let (mut told, mut pause) = (String::new(), SOON.min(longest));
        loop {
            if answered().await && self.watchdog.is_some() {
                self.send("WATCHDOG=1").await;
            }
            // A unit that does not answer is not the store.
            let now = clock::timeout(PATIENCE.min(longest), status()).await.ok().flatten();
            pause = (pause * 2).min(longest);
            let changed = now.as_ref().map(line).filter(|line| *line != told);
            if let Some(line) = changed
                && self.send(&format!("STATUS={line}")).await
            {
                (told, pause) = (line, SOON.min(longest));
            }
            clock::sleep(pause).await;
        }
    }

    /// Whether it was told.
    async fn send(&self, message: &str) -> bool {
        let Some(socket) = &self.socket else { return false };
        match clock::timeout(PATIENCE, socket.send(message.as_bytes())).await {
            Ok(Ok(_)) => return true,
            Ok(Err(error)) => tracing::debug!(%error, "systemd could not be told"),
            Err(_) => tracing::debug!("systemd could not be told: its socket is full"),
        }
        false
    }
}

/// A path, or with `@` a name in the abstract namespace.
fn connect(path: &OsStr) -> io::Result<UnixDatagram> {
    let address = match path.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    let socket = Socket::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}

/// sd_watchdog_enabled(3): microseconds, and whom they are meant for.
fn watchdog(micros: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let micros = micros?.parse().ok().filter(|micros| *micros > 0 && ours)?;
    Some(Duration::from_micros(micros))
}

/// A status, as the control socket tells it, in one line: the platform, what is queued, the first fault.
fn line(status: &Value) -> String {
    let text = |pointer| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let address = text("/uplink/address");
    let mut parts = vec![match text("/uplink/state") {
        "none" => "no platform".to_owned(),
        "" | "connecting" if address.is_empty() => "connecting".to_owned(),
        "connecting" => format!("connecting to {address}"),
        state => format!("{state}, {address}"),
    }];
    parts.push(format!("{} queued", status.pointer("/ledger/queued").and_then(Value::as_u64).unwrap_or(0)));
    if status.pointer("/clock/known").and_then(Value::as_bool) == Some(false) {
        parts.push("the time is not known yet".to_owned());
    }
    let faults = faults(status);
    let first = faults.first();
    if let Some(fault) = first {
        let text = |key| fault.get(key).and_then(Value::as_str).unwrap_or_default();
        let told = format!("{} {} ({})", text("code"), text("what"), text("where"));
        let cut: String = told.chars().take(FAULT).collect();
        parts.push(if cut.len() < told.len() { cut + "..." } else { cut });
    }
    let more = faults.len() + unlisted(status) - usize::from(first.is_some());
    if more > 0 {
        parts.push(format!("{more} more faults: see `tidegate status`"));
    }
    // A line break would begin another message to systemd.
    shown(&parts.join("; ")).to_string()
}

/// What is wrong: what is kept first, then the platform, endpoints and adapters.
pub(crate) fn faults(status: &Value) -> Vec<&Value> {
    let at = |pointer: &str| status.pointer(pointer).into_iter();
    let each = |pointer: &str| at(pointer).flat_map(Value::as_array).flatten();
    at("/store_full")
        .chain(at("/configuration/fault"))
        .chain(each("/faults"))
        .chain(at("/uplink/fault"))
        .chain(each("/uplink/faults"))
        .chain(each("/quotas").filter_map(|quota| quota.get("fault")))
        .chain(each("/units").filter_map(|unit| unit.get("faults")).flat_map(Value::as_array).flatten())
        .filter(|fault| !fault.is_null())
        .collect()
}

/// Endpoints over a quota that are counted, and not listed among the [`faults`].
pub(crate) fn unlisted(status: &Value) -> usize {
    let over = status.get("over_quota").and_then(Value::as_u64).and_then(|over| usize::try_from(over).ok());
    let quotas = status.get("quotas").and_then(Value::as_array).into_iter().flatten();
    let listed = quotas.filter(|quota| quota.get("fault").is_some_and(|fault| !fault.is_null())).count();
    over.unwrap_or_default().saturating_sub(listed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::{
        cell::{Cell, RefCell},
        io::ErrorKind,
    };

    const MINUTE: Duration = Duration::from_secs(60);

    /// systemd's end, and a notifier that leads to it.
    fn pair(watchdog: Option<Duration>) -> (tempfile::TempDir, Socket, Notifier) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = Socket::bind(&path).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let socket = Some(connect(path.as_os_str()).unwrap());
        (dir, systemd, Notifier { socket, watchdog })
    }

    /// What has come since the last look.
    fn came(systemd: &Socket) -> Vec<String> {
        let (mut messages, mut room) = (Vec::new(), [0; 4_096]);
        loop {
            match systemd.recv(&mut room) {
                Ok(length) => messages.push(String::from_utf8(room[..length].to_vec()).unwrap()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return messages,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// What comes within `length`. It is read as it comes, since systemd's end holds ten messages.
    async fn told_within(
        length: Duration,
        (systemd, notifier): (&Socket, &Notifier),
        answered: impl AsyncFn() -> bool,
        status: impl AsyncFn() -> Option<Value>,
    ) -> Vec<String> {
        let messages = RefCell::new(Vec::new());
        let answered = async || {
            messages.borrow_mut().extend(came(systemd));
            answered().await
        };
        clock::timeout(length, notifier.keep_telling(answered, status)).await.unwrap_err();
        messages.into_inner().into_iter().chain(came(systemd)).collect()
    }

    fn quiet() -> Value {
        json!({ "uplink": { "state": "none" }, "ledger": { "queued": 0 }, "clock": { "known": true } })
    }

    #[tokio::test]
    async fn what_is_said_arrives_at_a_path_and_at_a_name() {
        let (_dir, systemd, notifier) = pair(None);
        notifier.ready().await;
        notifier.stopping().await;
        assert_eq!(came(&systemd), ["READY=1", "STOPPING=1\nSTATUS=stopping"]);

        let name = format!("tidegate-test-{}", std::process::id());
        let systemd = Socket::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let socket = Some(connect(OsStr::new(&format!("@{name}"))).unwrap());
        Notifier { socket, watchdog: None }.ready().await;
        assert_eq!(came(&systemd), ["READY=1"]);
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        connect(dir.path().join("none").as_os_str()).unwrap_err();
        connect(OsStr::new("")).unwrap_err();
        connect(OsStr::new(&"x".repeat(200))).unwrap_err();
        Notifier { socket: None, watchdog: None }.ready().await;
        // And who was there has gone.
        let (_dir, systemd, notifier) = pair(Some(MINUTE));
        drop(systemd);
        notifier.ready().await;
    }

    #[tokio::test(start_paused = true)]
    async fn alive_is_said_only_when_the_store_has_answered() {
        let (_dir, systemd, notifier) = pair(Some(MINUTE));
        let ends = (&systemd, &notifier);
        let hangs = async || std::future::pending().await;
        let told = told_within(10 * MINUTE, ends, hangs, async || Some(quiet())).await;
        assert_eq!(told, Vec::<String>::new(), "it hangs");
        let told = told_within(10 * MINUTE, ends, async || false, async || None).await;
        assert_eq!(told, Vec::<String>::new(), "it has ended");
        let told = told_within(10 * MINUTE, ends, async || true, async || std::future::pending().await).await;
        assert!(told.iter().all(|message| message == "WATCHDOG=1"), "{told:?}");
        assert!((30..=60).contains(&told.len()), "{} in ten minutes", told.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_watchdog_is_fed_three_times_in_its_time_and_none_not_at_all() {
        for (watchdog, expected) in [(Some(Duration::from_secs(3)), 59..=61), (None, 0..=0)] {
            let (_dir, systemd, notifier) = pair(watchdog);
            let told =
                told_within(MINUTE, (&systemd, &notifier), async || true, async || Some(quiet())).await;
            let alive = told.iter().filter(|message| *message == "WATCHDOG=1").count();
            assert!(expected.contains(&alive), "{watchdog:?}: {alive} in a minute");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_gateway_is_asked_rarely_and_its_line_told_once() {
        let (_dir, systemd, notifier) = pair(Some(MINUTE));
        let asked = Cell::new(0);
        let answered = async || {
            asked.set(asked.get() + 1);
            true
        };
        let told = told_within(10 * MINUTE, (&systemd, &notifier), answered, async || Some(quiet())).await;
        assert!((38..=45).contains(&asked.get()), "asked {} times in ten minutes", asked.get());
        let lines: Vec<_> = told.into_iter().filter(|message| message != "WATCHDOG=1").collect();
        assert_eq!(lines, ["STATUS=no platform; 0 queued"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_is_told_every_few_seconds() {
        let (_dir, systemd, notifier) = pair(None);
        let queued = Cell::new(0);
        let status = async || {
            queued.set(queued.get() + 1);
            Some(json!({ "uplink": { "state": "none" }, "ledger": { "queued": queued.get() } }))
        };
        let told = told_within(MINUTE, (&systemd, &notifier), async || true, status).await;
        assert!((19..=21).contains(&told.len()), "{told:?}");
        assert_eq!(told[1], "STATUS=no platform; 2 queued");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_reading_holds_nothing_up() {
        let (_dir, systemd, notifier) = pair(Some(MINUTE));
        let asked = Cell::new(0);
        let answered = async || {
            asked.set(asked.get() + 1);
            true
        };
        let told = notifier.keep_telling(answered, async || None);
        clock::timeout(20 * MINUTE, told).await.unwrap_err();
        let kept = came(&systemd).len();
        assert!(kept < 60 && asked.get() > 60, "{kept} kept by the system, asked {} times", asked.get());
    }

    #[test]
    fn the_watchdog_is_ours_or_nobodys() {
        let pid = std::process::id();
        let check = |micros, pid: Option<&str>, expected| {
            assert_eq!(watchdog(micros, pid), expected, "{micros:?} {pid:?}");
        };
        check(Some("60000000"), None, Some(MINUTE));
        check(Some("60000000"), Some(&pid.to_string()), Some(MINUTE));
        check(Some("60000000"), Some(&(pid + 1).to_string()), None);
        check(Some("60000000"), Some("nobody"), None);
        check(Some("0"), None, None);
        check(Some("-1"), None, None);
        check(Some("99999999999999999999999"), None, None);
        check(Some("1 min"), None, None);
        check(None, Some(&pid.to_string()), None);
    }

    #[test]
    fn a_line_says_platform_queue_and_the_worst_fault() {
        let check = |status: Value, expected: &str| assert_eq!(line(&status), expected);
        let fault = |code: &str, what: &str| json!({ "code": code, "what": what, "where": "here" });
        check(json!({}), "connecting; 0 queued");
        check(
            json!({ "uplink": { "state": "up", "address": "h port 8883" }, "ledger": { "queued": 12 } }),
            "up, h port 8883; 12 queued",
        );
        check(
            json!({
                "uplink": {
                    "state": "connecting",
                    "address": "h port 8883",
                    "fault": fault("TG-102", "refused"),
                    "faults": [fault("TG-133", "parked")],
                },
                "ledger": { "queued": 3 },
                "clock": { "known": false },
                "faults": [fault("TG-201", "dead\nWATCHDOG=trigger")],
                "quotas": [{ "fault": null }, { "fault": fault("TG-215", "flood") }],
                "units": [{ "faults": [fault("TG-401", "silent")] }, { "faults": [] }],
                "store_full": null,
            }),
            "connecting to h port 8883; 3 queued; the time is not known yet; \
             TG-201 dead\\u{a}WATCHDOG=trigger (here); 4 more faults: see `tidegate status`",
        );
        check(
            json!({ "over_quota": 120, "quotas": [{ "fault": null }, { "fault": fault("TG-215", "flood") }] }),
            "connecting; 0 queued; TG-215 flood (here); 119 more faults: see `tidegate status`",
        );
        check(
            json!({ "configuration": { "fault": fault("TG-309", "not taken") } }),
            "connecting; 0 queued; TG-309 not taken (here)",
        );
        let long = line(&json!({ "faults": [fault("TG-201", &"\u{e4}".repeat(9_000))] }));
        assert!(long.chars().count() < 200 && long.ends_with("..."), "{long}");
    }
}
