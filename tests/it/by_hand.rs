//! What an operator does by hand on a running gateway: look on, requeue, discard.

use crate::{
    arrivals::Platform,
    gateway::{Config, Gateway},
    peers::{Broker, end},
    pusher::Pusher,
    site::{PATIENCE, Site, free_port, until},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStdout},
};

/// `tidegate tail` under way.
struct Tail {
    child: Ended,
    lines: BufReader<ChildStdout>,
}

/// A process that does not outlive the test.
struct Ended(Child);

impl Tail {
    /// Looks on, and has heard the first reading of `p1`.
    fn start(gateway: &Gateway, pusher: &mut Pusher, arguments: &[&str], number: &mut u64) -> Self {
        let mut child = gateway.begin(&[&["tail"], arguments].concat());
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut tail = Self { child: Ended(child), lines };
        // It listens from some moment on: pushed until one is heard.
        let mut heard = false;
        std::thread::scope(|scope| {
            let listening = scope.spawn(|| tail.line());
            until("a reading is heard", PATIENCE, || {
                *number += 1;
                pusher.push("p1", &number.to_string());
                heard |= listening.is_finished();
                heard.then_some(())
            });
        });
        tail
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    /// The next line that is about this number of `p1`.
    fn until_number(&mut self, number: u64) -> Value {
        loop {
            let line: Value = serde_json::from_str(&self.line()).unwrap();
            if line["value"] == number {
                return line;
            }
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

#[test]
fn whoever_looks_on_hears_each_reading_once_it_is_committed_and_of_the_end() {
    let site = Site::new();
    let port = free_port();
    let config = Config::plain(&site, free_port()).pushed(2, port);
    let mut gateway = Gateway::new(&site, &config, 1);
    gateway.start();
    let (mut pusher, mut number) = (Pusher::connect(port), 0);
    let mut tail = Tail::start(&gateway, &mut pusher, &["--json"], &mut number);
    let mut of_p1 = Tail::start(&gateway, &mut pusher, &["p1"], &mut number);
    pusher.push("p1", "1000001");
    let line = tail.until_number(1_000_001);
    assert_eq!(
        (&line["endpoint"], &line["resource"], &line["quality"]),
        (&json!("p1"), &json!("n"), &json!("good"))
    );
    pusher.push("p2", "1000002-1000003");
    assert_eq!(tail.until_number(1_000_002)["endpoint"], "p2");
    assert_eq!(tail.until_number(1_000_003)["endpoint"], "p2");
    assert!(!pusher.try_push("nobody", "1"));
    let refused: Value = serde_json::from_str(&tail.line()).unwrap();
    assert_eq!(refused, json!({"endpoint": "nobody", "refused": 1, "why": "the endpoint is not configured"}));
    // Of one endpoint only, and as people read it.
    pusher.push("p1", "1000004");
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &String| !line.contains("1000004")) {
        lines.push(of_p1.line());
    }
    assert!(lines.iter().all(|line| line.contains("  p1  n  ") && line.starts_with("20")), "{lines:?}");
    // Ctrl-C is a good end, and the daemon does not notice.
    let mut interrupted = Tail::start(&gateway, &mut pusher, &[], &mut number);
    kill_process(Pid::from_child(&interrupted.child.0), Signal::INT).unwrap();
    assert!(interrupted.child.0.wait().unwrap().success());
    // So is a reader that has had enough.
    let Tail { mut child, lines } = Tail::start(&gateway, &mut pusher, &[], &mut number);
    drop(lines);
    let ended = until("it ends", PATIENCE, || {
        pusher.push("p1", "7");
        child.0.try_wait().unwrap()
    });
    assert!(ended.success());
    let (said, good) = gateway.say(&["tail", "nobody"]);
    assert!(!good && said.contains("no endpoint \"nobody\" in the configuration"), "{said}");
    assert!(gateway.terminate().success());
    let last = tail.lines.by_ref().lines().last().unwrap().unwrap();
    assert_eq!(last, r#"{"ended":"the gateway stops"}"#);
    assert!(tail.child.0.wait().unwrap().success());
    let mut word = String::new();
    of_p1.child.0.stderr.take().unwrap().read_to_string(&mut word).unwrap();
    assert_eq!(word, "the gateway stops\n");
}

#[test]
fn dead_letters_fly_again_or_go_for_good_and_the_ledger_balances() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut platform = Platform::start(&site, broker.port());
    let port = free_port();
    let config = Config::kaa(&site, broker.port()).pushed(2, port);
    let mut gateway = Gateway::new(&site, &config, 5);
    gateway.start();
    let mut pusher = Pusher::connect(port);
    gateway.until_up();
    platform.rules(&json!({"poison_key": "poison"}));
    for number in [1, 2] {
        pusher.push("p1", &format!("{}", 10 * number));
        pusher.poison("p1", number);
        gateway.until_status("it is dead", |status| status["dead_letters"].as_u64() == Some(number));
    }
    let letters = gateway.dead();
    assert_eq!(letters.iter().map(|letter| letter["id"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 1]);
    platform.rules(&json!({}));
    // Not where nobody can be asked.
    let (said, good) = gateway.say(&["queue", "discard", "--all"]);
    assert!(!good && said.contains("say --yes"), "{said}");
    let (said, good) = gateway.say(&["queue", "requeue", "1", "99"]);
    assert!(!good && said.contains("1 dead letters requeued") && said.contains("99 are not there"), "{said}");
    gateway.until_status("it has landed", |status| status["ledger"]["landed"].as_u64() == Some(3));
    // Killed before the next word: what was done is done.
    gateway.kill();
    gateway.start();
    gateway.until_up();
    let answer = gateway.ask(&["queue", "discard", "--endpoint", "p1", "--yes"]).unwrap();
    let wanted = json!({"done": "discarded", "letters": 1, "orphaned": [], "too_old": [], "missing": []});
    assert_eq!(answer, wanted);
    let ledger = gateway.ledger();
    assert_eq!((ledger.stored, ledger.landed, ledger.dead, ledger.discarded), (4, 3, 0, 1));
    assert_eq!(platform.accepted(), 3, "two good ones, and a bad one at last");
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(gateway.says(&format!("peer=uid {uid}, pid ")), 4, "{}", gateway.journal());
    assert!(gateway.terminate().success());
}

#[test]
fn rows_of_an_endpoint_that_left_the_configuration_are_discarded_by_name() {
    let site = Site::new();
    let port = free_port();
    // Nobody listens there.
    let broker = free_port();
    let mut gateway = Gateway::new(&site, &Config::plain(&site, broker).pushed(2, port), 1);
    gateway.start();
    let mut pusher = Pusher::connect(port);
    pusher.push("p1", "1-5");
    pusher.push("p2", "1-7");
    assert!(gateway.terminate().success());
    gateway.configure(&site, &Config::plain(&site, broker).pushed(1, port));
    gateway.start();
    gateway.status();
    let (said, good) = gateway.say(&["queue", "discard", "--orphaned", "p1", "--yes"]);
    assert!(!good && said.contains("endpoint p1 is in the configuration"), "{said}");
    let (said, good) = gateway.say(&["queue", "discard", "--orphaned", "p3", "--yes"]);
    assert!(!good && said.contains("nothing is queued of an endpoint p3"), "{said}");
    let (said, good) = gateway.say(&["queue", "discard", "--orphaned", "p2", "--yes"]);
    assert!(good && said == "7 queued samples discarded\n", "{said}");
    assert_eq!((gateway.outbox_rows_of("p1"), gateway.outbox_rows_of("p2")), (5, 0));
    let ledger = gateway.ledger();
    assert_eq!((ledger.stored, ledger.queued, ledger.discarded), (12, 5, 7));
    assert!(gateway.terminate().success());
}
