//! Integration tests: the real binary between real peers (mosquitto with TLS, pymodbus, a 1/KP
//! platform in Python), each test in a directory and on ports of its own.
//!
//! `tests/run` installs the peers and starts this; it needs the feature `test-hooks`. Figures come
//! on lines that begin with `FIGURE`.
//!
//! Environment: `TIDEGATE_TEST_PYTHON` (interpreter of the peers), `TIDEGATE_TEST_BIN` (another
//! build of the daemon), `TIDEGATE_TEST_ROUNDS`, `TIDEGATE_TEST_SECONDS`, `TIDEGATE_TEST_SEED`,
//! `TIDEGATE_TEST_LONG` (slow tests too), `TIDEGATE_BLESS` (writes `tests/data/faults.txt`, `modbus-tools.txt` and `cli-json.txt` anew),
//! `TIDEGATE_TEST_DISK` (a small file system), `TIDEGATE_TEST_NET` (a network of its own).
#![cfg(feature = "test-hooks")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "tests: a failed step is a failed test, and they wait for other processes on the real clock"
)]

mod agreed;
mod arrivals;
mod bundle;
mod by_hand;
mod cli;
mod cli_json;
mod clock;
mod crash;
mod cutter;
mod day;
mod disk;
mod doctor;
mod faults;
mod gateway;
mod hostile;
mod hostile_devices;
mod http;
mod init;
mod isolation;
mod links;
mod loss;
mod machine;
mod modbus;
mod modbus_line;
mod outage;
#[path = "../bench/src/paced.rs"]
mod paced;
mod pacer;
mod peers;
mod peers_alone;
mod profiles;
mod pusher;
mod quota;
mod reload;
mod replay;
mod report;
mod road;
mod salvage;
mod secrets;
mod site;
mod stale;
mod stub;
mod tools;
mod weather;
