//! What a gateway does that has nothing to do.

use crate::{
    gateway::{Config, Gateway},
    site::{Broker, Site, free_port},
    table::Table,
};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread::{self, sleep},
    time::Duration,
};

const MINUTE: Duration = Duration::from_secs(60);

pub fn run() {
    let mut table = Table::new("Idle");
    let site = Site::new();
    let broker = Broker::start(&site);
    let slave = free_port();
    serve(slave);
    let mut config = Config::new(&site, "plain", broker.port);
    config.line(&format!("[adapters.modbus.site]\nhost = \"127.0.0.1:{slave}\""));
    for unit in 1..=10 {
        config.line(&format!(
            "[endpoints.m{unit}]\ntoken = \"TM{unit}\"\n[endpoints.m{unit}.modbus]\nunit = {unit}\nperiod = \"1h\"\n\
             [endpoints.m{unit}.modbus.resources]\nvalue = {{ register = \"holding:0\", type = \"u16\" }}"
        ));
    }
    let gateway = Gateway::start(&site, &config);
    gateway.until_up();
    sleep(MINUTE);
    let landed = gateway.term("landed");
    assert_eq!(landed, 10, "each endpoint was read once");
    // The question itself is over.
    sleep(Duration::from_secs(2));
    let before = gateway.usage();
    sleep(MINUTE);
    let used = gateway.usage() - before;
    gateway.stop();
    table.judge(
        "voluntary context switches in 60 s",
        &used.switches.to_string(),
        "at most 60",
        used.switches <= 60,
    );
    table.judge("`write_bytes` in 60 s", &used.written.to_string(), "0", used.written == 0);
    table.tell("CPU in 60 s", &format!("{:.2} s", used.cpu.as_secs_f64()));
}

/// A Modbus TCP slave with one register in each unit.
fn serve(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        // Transaction, protocol, length, unit; then function, address, count.
        let mut request = [0; 12];
        stream.read_exact(&mut request)?;
        let mut reply = request[..4].to_vec();
        reply.extend([0, 5, request[6], request[7], 2, 0, 42]);
        stream.write_all(&reply)?;
    }
}
