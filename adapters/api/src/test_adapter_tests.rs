//! The test adapter's lines, and the contract with devices that push.

use super::*;
use crate::Quota;
use crate::testkit::{Answers, Field, Rig, contract, run, wait_for};
use tokio::io::Lines;

fn parsed(line: &str) -> Push {
    Push::parse(line).unwrap()
}

#[test]
fn lines_are_read_as_written() {
    let push = |numbers, urgency, pad, poison| Push {
        endpoint: EndpointName::new("m-1").unwrap(),
        numbers,
        urgency,
        pad,
        poison,
        name: None,
        text: None,
    };
    for (line, expected) in [
        ("m-1 7", push(7..=7, Urgency::Urgent, 0, false)),
        ("m-1 -7 relaxed", push(-7..=-7, Urgency::Relaxed, 0, false)),
        ("m-1 3-12 urgent", push(3..=12, Urgency::Urgent, 0, false)),
        ("m-1 7 bytes=100", push(7..=7, Urgency::Urgent, 100, false)),
        ("poison m-1 7", push(7..=7, Urgency::Urgent, 0, true)),
        ("poison m-1 1-2 bytes=5 relaxed\r", push(1..=2, Urgency::Relaxed, 5, true)),
    ] {
        assert_eq!(Push::parse(line), Ok(expected), "{line}");
    }
    for line in [
        "",
        "m-1",
        "m/1 7",
        "m-1 x",
        "m-1 3-",
        "m-1 5-4",
        "m-1 1-10001",
        "m-1 7 now",
        "m-1 7 bytes=9999999",
        "m-1 7 text=0",
    ] {
        assert!(Push::parse(line).is_err(), "{line}");
    }
}

#[test]
fn samples_hold_what_the_line_says() {
    let samples = parsed("poison m-1 3-4 bytes=2").samples(&Clock::trusting());
    let seen: Vec<Vec<_>> = samples
        .iter()
        .map(|s| s.readings.iter().map(|r| (r.resource.as_str(), r.value.clone())).collect())
        .collect();
    let expected = |n| vec![("n", Value::Int(n)), ("pad", Value::from("xx")), ("poison", Value::Bool(true))];
    assert_eq!(seen, [expected(3), expected(4)]);
    let samples = parsed("m-1 1 name=c3a9 text=78ff").samples(&Clock::trusting());
    let text = &samples[0].readings[1];
    assert_eq!((text.resource.as_str(), &text.value), ("\u{e9}", &Value::from("x\u{fffd}")));
}

/// A device that pushes without end, and counts its answers.
struct Pusher {
    port_file: PathBuf,
}

impl Pusher {
    fn new() -> Self {
        let name = format!("adapter-api-{}-{:016x}.port", std::process::id(), fastrand::u64(..));
        Self { port_file: std::env::temp_dir().join(name) }
    }

    async fn connected(&self) -> TcpStream {
        wait_for("the port is written", || self.port_file.exists()).await;
        let port: u16 = std::fs::read_to_string(&self.port_file).unwrap().parse().unwrap();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap()
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.port_file);
    }
}

impl Field for Pusher {
    type Adapter = Test;
    const OUTSTANDING: usize = PIPELINED;

    async fn arrange(&mut self) -> (Config, Devices<Device>) {
        let config = Config { listen: "127.0.0.1:0".to_owned(), port_file: Some(self.port_file.clone()) };
        (config, [(EndpointName::new("m-1").unwrap(), Device {})].into())
    }

    async fn play(&mut self, answers: Answers) {
        let mut stream = self.connected().await;
        let (reader, mut writer) = stream.split();
        let mut lines = BufReader::new(reader).lines();
        let push = async {
            for n in 0.. {
                if writer.write_all(format!("m-1 {n}\n").as_bytes()).await.is_err() {
                    break;
                }
            }
        };
        let hear = async {
            let mut expected = 0;
            while let Ok(Some(line)) = lines.next_line().await {
                let mut words = line.split(' ');
                match words.next() {
                    Some("ok") => answers.count_kept(),
                    Some("refused") => answers.count_refused(),
                    other => panic!("{other:?}"),
                }
                assert_eq!(words.next(), Some(expected.to_string().as_str()), "answers are in order");
                expected += 1;
            }
        };
        tokio::join!(push, hear);
    }
}

#[test]
fn it_keeps_the_contract() {
    contract(Pusher::new);
}

async fn said<R: tokio::io::AsyncBufRead + Unpin>(lines: &mut Lines<R>) -> String {
    timeout(Duration::from_secs(5), lines.next_line()).await.unwrap().unwrap().unwrap()
}

#[test]
fn bad_lines_are_answered_in_their_turn_and_the_connection_goes_on() {
    run(async {
        let mut pusher = Pusher::new();
        let (config, devices) = pusher.arrange().await;
        let mut rig = Rig::<Test>::start(config, devices);
        let mut stream = pusher.connected().await;
        let (reader, mut writer) = stream.split();
        let mut lines = BufReader::new(reader).lines();
        writer.write_all(b"m-1 1-3\nnonsense\nm-2 4 relaxed\n").await.unwrap();
        let (batch, other) = (rig.store.next().await, rig.store.next().await);
        assert_eq!(batch.urgency, Urgency::Urgent);
        assert!(matches!(&batch.offer, crate::Offer::Samples(samples) if samples.len() == 3));
        assert_eq!((other.endpoint.as_str(), other.urgency), ("m-2", Urgency::Relaxed));
        other.answer(Err(Refused::Unknown));
        batch.answer(Ok(()));
        assert_eq!(said(&mut lines).await, "ok 1-3");
        assert_eq!(said(&mut lines).await, "error a number is missing");
        assert_eq!(said(&mut lines).await, "refused 4 unknown");
        writer.write_all(b"m-1 4\n").await.unwrap();
        rig.store.next().await.answer(Err(Refused::OverQuota(Quota::BytesQueued)));
        assert_eq!(said(&mut lines).await, "refused 4 bytes_queued", "it says which quota");
        writer.write_all(b"m-1 5\n").await.unwrap();
        let last = rig.store.next().await;
        rig.shut_down();
        last.answer(Ok(()));
        assert_eq!(said(&mut lines).await, "ok 5", "what was taken before the shutdown is answered");
        rig.stop().await;
    });
}
