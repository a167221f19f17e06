//! What the daemon is compared with: a bare MQTT client (A), a bare SQLite queue (B), a bare delete.

use crate::{
    load::{self, Order},
    site::Site,
};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use rusqlite::{Connection, params};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Publishes that may wait for their PUBACK.
const INFLIGHT: u16 = 100;
/// Rows in one commit.
const ROWS: i64 = 100;

/// Options of a client on this broker, as the references and peers use them.
pub fn options(id: &str, port: u16, ca: &Path) -> MqttOptions {
    let mut options = MqttOptions::new(id, "localhost", port);
    options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Site::tls(ca))));
    options.set_max_packet_size(2 << 20, 2 << 20);
    options.set_keep_alive(Duration::from_secs(60));
    options.set_inflight(INFLIGHT);
    options
}

/// Reference A: samples a second that rumqttc gets acknowledged, 200 bytes each, on 100 topics.
pub fn mqtt(site: &Site, port: u16, length: Duration) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let (client, mut connection) =
            AsyncClient::new(options("reference", port, &site.path("ca.pem")), usize::from(INFLIGHT));
        tokio::task::spawn_local(async move {
            let body = vec![b'x'; 200];
            for n in 0_u64.. {
                let topic = format!("site/p{}/telemetry", 1 + n % 100);
                if client.publish(topic, QoS::AtLeastOnce, false, body.clone()).await.is_err() {
                    return;
                }
            }
        });
        let (mut began, mut acknowledged) = (None, 0_u32);
        loop {
            match connection.poll().await.expect("the broker answers") {
                Event::Incoming(Packet::ConnAck(_)) => began = Some(Instant::now()),
                Event::Incoming(Packet::PubAck(_)) => acknowledged += 1,
                _ => {}
            }
            if let Some(past) = began.map(|began| began.elapsed()).filter(|past| *past >= length) {
                return f64::from(acknowledged) / past.as_secs_f64();
            }
        }
    })
}

/// Opens a database of the daemon's as the daemon does.
fn open(dir: &Path) -> Connection {
    let db = Connection::open(dir.join("tidegate.db")).expect("a database");
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA journal_size_limit=4194304;
         PRAGMA temp_store=MEMORY; PRAGMA cache_size=-2048;",
    )
    .expect("pragmas");
    db
}

/// Reference B: samples a second that pass through the outbox table, 100 inserts and 100 deletes a commit.
pub fn sqlite(site: &Site, length: Duration) -> f64 {
    let dir = site.path("reference");
    if !dir.exists() {
        load::fill(&dir, 100, 0, 0, Order::Turns);
    }
    let db = open(&dir);
    let mut insert =
        db.prepare("INSERT INTO outbox(lane, stamp, boot, item) VALUES (?1, ?2, NULL, ?3)").expect("SQL");
    let mut delete = db.prepare("DELETE FROM outbox WHERE id BETWEEN ?1 AND ?2").expect("SQL");
    let (item, began, mut samples) = (vec![b'x'; 200], Instant::now(), 0_u32);
    let mut oldest = 0;
    while began.elapsed() < length {
        db.execute_batch("BEGIN IMMEDIATE").expect("SQL");
        let first = (0..ROWS)
            .map(|n| {
                insert.execute(params![1 + n % 100, 1_700_000_000_000_000_i64, item]).expect("SQL");
                db.last_insert_rowid()
            })
            .min();
        // Those of ten commits ago: as in a daemon, what leaves is not what has just come.
        oldest = if oldest == 0 { first.unwrap_or(1) } else { oldest };
        if first.unwrap_or(0) - oldest >= 10 * ROWS {
            delete.execute([oldest, oldest + ROWS - 1]).expect("SQL");
            oldest += ROWS;
        }
        db.execute_batch("COMMIT").expect("SQL");
        samples += 100;
    }
    f64::from(samples) / began.elapsed().as_secs_f64()
}

/// Bytes written for each of these rows of 200 bytes when they are deleted lane by lane, as many at a
/// time as the daemon deletes in one transaction.
pub fn delete_by_lane(dir: &Path, rows: u64) -> f64 {
    let mut db = open(dir);
    let written = || crate::gateway::usage(std::process::id()).written;
    let before = written();
    let ids: Vec<i64> = {
        let mut select = db.prepare("SELECT id FROM outbox ORDER BY lane, id").expect("SQL");
        let ids = select.query_map([], |row| row.get(0)).expect("SQL");
        ids.collect::<Result<_, _>>().expect("SQL")
    };
    for some in ids.chunks(4_096) {
        let transaction = db.transaction().expect("SQL");
        {
            let mut delete = transaction.prepare_cached("DELETE FROM outbox WHERE id = ?1").expect("SQL");
            let mut some = some.to_vec();
            some.sort_unstable();
            for id in some {
                delete.execute([id]).expect("SQL");
            }
        }
        transaction.commit().expect("SQL");
    }
    (written() - before) as f64 / (rows * 200) as f64
}
