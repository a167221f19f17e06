//! Units behind a converter whose connections end in mid-request: what it was given, it still puts.

use super::{
    config, device, devices, next_of,
    slave::{addresses, crc},
    values,
};
use crate::{Modbus, tests::slave::Ask};
use adapter_api::{
    Value,
    clock::sleep,
    testkit::{Rig, run, wait_for},
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    sync::mpsc,
    task::JoinSet,
};

/// RTU over TCP. Its units answer one after the other, to whatever connection is open by then.
pub(super) struct Converter {
    pub(super) address: SocketAddr,
    pub(super) asked: Arc<Mutex<Vec<Ask>>>,
    _tasks: JoinSet<()>,
}

/// The newest connection's number and its way out.
type Open = Arc<tokio::sync::Mutex<(usize, Option<OwnedWriteHalf>)>>;

impl Converter {
    /// A request takes its unit so long; `cuts` are requests, counted from 0, that end their connection
    /// when they have come in.
    pub(super) async fn start(takes: Duration, cuts: &'static [usize]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (to_line, mut line) = mpsc::unbounded_channel::<Ask>();
        let open = Open::default();
        let mut tasks = JoinSet::new();
        let (log, newest) = (asked.clone(), open.clone());
        tasks.spawn(async move {
            for connection in 0.. {
                let (mut from, to) = listener.accept().await.unwrap().0.into_split();
                *newest.lock().await = (connection, Some(to));
                let mut frame = [0; 8];
                while from.read_exact(&mut frame).await.is_ok() {
                    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
                    let ask = Ask {
                        connection,
                        unit: frame[0],
                        function: frame[1],
                        start: word(2),
                        quantity: word(4),
                    };
                    let count = {
                        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                        log.push(ask);
                        log.len() - 1
                    };
                    to_line.send(ask).unwrap();
                    if cuts.contains(&count) {
                        break;
                    }
                }
                newest.lock().await.1 = None;
            }
        });
        tasks.spawn(async move {
            while let Some(ask) = line.recv().await {
                sleep(takes).await;
                let mut answer = vec![ask.unit];
                answer.extend(addresses(ask));
                answer.extend(crc(&answer).to_le_bytes());
                if let Some(to) = &mut open.lock().await.1 {
                    // Whoever asked may be gone.
                    let _gone = to.write_all(&answer).await;
                }
            }
        });
        Self { address, asked, _tasks: tasks }
    }
}

#[test]
fn a_request_cut_off_on_a_line_is_not_put_again_while_its_answer_may_come() {
    run(async {
        // The first request of the second poll and of two later ones.
        let converter = Converter::start(Duration::from_millis(60), &[2, 6, 12]).await;
        let meter = device(converter.address, 1, "20ms", &[7, 900]);
        let config = config("framing = 'rtu'\ntimeout = '150ms'");
        let mut rig = Rig::<Modbus>::start(config, devices([("m", meter)]));
        while converter.asked.lock().unwrap().len() < 20 {
            let sample = next_of(&mut rig, "m").await;
            for (name, value) in values(&sample) {
                let register: i64 = name.strip_prefix('r').unwrap().parse().unwrap();
                let own = value == register.into();
                let asked = converter.asked.lock().unwrap();
                assert!(own || value == Value::None, "{name} is {value:?}: {asked:?}");
            }
            sample.answer(Ok(()));
        }
        let asked = converter.asked.lock().unwrap().clone();
        assert!(asked.iter().any(|ask| ask.connection == 3), "three connections ended: {asked:?}");
        rig.stop().await;
    });
}

/// What was asked before a restart is answered after it, on the new connection.
#[test]
fn an_answer_owed_to_a_process_before_is_not_taken_by_the_next() {
    run(async {
        let converter = Converter::start(Duration::from_millis(150), &[]).await;
        let mut before = TcpStream::connect(converter.address).await.unwrap();
        let mut request = vec![1, 3, 900_u16.to_be_bytes()[0], 900_u16.to_be_bytes()[1], 0, 1];
        request.extend(crc(&request).to_le_bytes());
        before.write_all(&request).await.unwrap();
        wait_for("it is asked", || !converter.asked.lock().unwrap().is_empty()).await;
        drop(before);
        let meter = device(converter.address, 1, "20ms", &[7]);
        let config = config("framing = 'rtu'\ntimeout = '300ms'");
        let mut rig = Rig::<Modbus>::start(config, devices([("m", meter)]));
        for _ in 0..3 {
            let sample = next_of(&mut rig, "m").await;
            assert_eq!(values(&sample), [("r00007".to_owned(), 7_i64.into())]);
            sample.answer(Ok(()));
        }
        rig.stop().await;
    });
}
