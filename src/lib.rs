//! Tidegate: an edge gateway that carries the devices of a site to a cloud platform and loses nothing.
//!
//! # The code map
//!
//! ```text
//!  devices        adapters/* (one crate each)                     this crate                          platform
//!  Modbus ------- modbus --+                        +--------------------------------+
//!  (line test) -- test ----+-- intake.submit -----> | shape/   rules (sans-IO)       |
//!                          |   one bounded channel  | store/   one thread owns SQLite|
//!                          |   per unit             |   group -> COMMIT -> answer    |
//!      answered only now <-+-- receipt.committed()  |   outbox, dead, ledger, latest |
//!                                                   +---^-------------^--------------+
//!                                           next(lane)  |  Landed     |  Buried
//!                                                   +---+-------------+--------------+
//!                                                   | uplink/                        |
//!                                                   |   session (I/O) - link - tls   |=== one TLS connection ==>
//!                                                   |   engine (sans-IO)             |
//!                                                   |     outflow, parking, window,  |
//!                                                   |     suspects, pacing, budget,  |
//!                                                   |     subscribe, dialect/*       |
//!                                                   +--------------------------------+
//!  config/ file -> Config     supervisor: units on own threads     control/ <-- tidegate status | endpoints | tail ...
//! ```
//!
//! | where | responsible for |
//! |---|---|
//! | `adapters/api` | the contract: samples, intake and receipt, presence, health, inquiries of tools; `clock`; the contract test kit |
//! | `adapters/modbus` | Modbus over TCP, RTU and ASCII: what is read when, in which blocks, with which types; `tools` |
//! | `packaging/profiles` | models of devices and their registers, built into `adapters/modbus` |
//! | `packaging` | the Debian package: units, maintainer scripts, the configuration it begins with |
//! | [`config`] | the file, checked as a whole; secrets that are never printed |
//! | [`endpoints`] | the directory: endpoint <-> token |
//! | [`shape`] | rules between intake and store: what one endpoint may hand in, which readings are reported, expressions |
//! | [`store`] | durable before answered, deleted only with proof, within its quota (and for how long), salvaged when damaged; `letters`: what is decided by hand; `tail`: who looks on |
//! | [`dialect`] | what a platform wants on the wire, and what its refusals mean |
//! | [`uplink`] | flights, parts, confirmations; one connection at a time, for ever |
//! | [`trust`] | when the wall clock is believed; until then samples are stamped by the boot |
//! | [`supervisor`] | units, each on its own thread, restarted with backoff; one that stalls is told, and left behind at its stop |
//! | [`control`] | the control socket: what can be asked (`view`), what changes something (`errand`), who asks (`peer`), how it is printed (`client`) |
//! | [`http`] | the optional page for a browser, `/metrics`, `/healthz`: who is answered, and what |
//! | [`reload`] | what a change of the configuration means for what runs, and how it is noticed |
//! | [`daemon`] | start order, wiring, shutdown order, and a new configuration while all of it runs: the only file that knows every part |
//! | [`doctor`] | what is right and what is wrong with a gateway and around it |
//! | [`demo`] | a simulated site and a platform around the real daemon |
//! | [`fault`] | what an operator can see go wrong: codes, causes, remedies |
//! | `journal` | what stands wrong, told once, when it changes, and hourly |
//! | [`cli`], `main` | what can be typed; exit codes |
//! | `losses` | tells the platform what was dropped, as readings of the gateway's own endpoint |
//! | [`notify`] | what systemd is told: ready, alive, a line for `systemctl status` |
//! | [`backoff`], [`failpoint`], [`log`], [`memory`] | waits between tries; places to die in tests; the journal; memory given back |
//!
//! Dependencies point one way: `adapter-* -> adapter-api <- tidegate -> adapter-*`. Adapters know
//! endpoints, dialects know tokens, the store knows endpoints only.
//!
//! # The journey of a reading, from a register to its confirmation
//!
//! 1. `adapter_modbus::bus::poll`: the task of a connection reads a block when `schedule` says so
//! 2. `adapter_modbus::value`: registers become a `Reading`
//! 3. `adapter_api::Intake::submit`: the `Sample` waits for room, not for the commit
//! 4. `store::thread::Thread::gather`: taken in turn from the `units`' channels; refused at once if its
//!    endpoint is over its quota, `shape::quota`
//! 5. `store::thread::Thread::commit`: what has to go for it (I10), `shape::Shape::admit`, what its report
//!    rules leave of it, `shape::Shape::judge`, `store::outbox::insert`, COMMIT (I1)
//! 6. `adapter_api::Submission::answer`: now, and not before, the `Receipt` resolves
//! 7. `store::lanes::Lanes::announce`: the lane is `Event::Ready`
//! 8. `uplink::outflow::Outflow::poll_wish`: the lane's turn, if the window has room: `Command::Next`
//! 9. `store::thread::Thread::next`: its leading rows are read: `Event::Rows`
//! 10. `uplink::engine::Engine::fly`: `Dialect::encode` makes a part, `Outflow::launch` puts it in the air
//! 11. `uplink::mqtt::Connection::publish`, `uplink::session`: onto the wire
//! 12. `uplink::mqtt::Connection::handle_packet`: PUBACK; for 1/KP then `/status`, `Dialect::decode`
//! 13. `uplink::outflow::Outflow::handle_delivered`: `Landed`, the proof (I2)
//! 14. `store::thread::Thread::obey`: off the books; `write_gone`: counted with the next group and deleted, or
//!     `store::noted::Noted::land`: noted where such rows are scattered, and swept with all of their block
//!
//! # The journey of a backlog, with `replay.order = "live-first"`
//!
//! 1. `uplink::outflow::Outflow::poll_wish`: a lane of live rows would fly next: `Command::Next` with `live_age`
//! 2. `store::thread::Thread::is_behind`: its oldest row is older than that, and there is more than flies at once
//! 3. `store::thread::Thread::write_lanes`: it becomes a backlog lane, COMMIT: `Event::Behind`
//! 4. `store::lanes::Lanes::intake`: new samples open the endpoint's next lane
//! 5. `uplink::outflow::Outflow::is_turn`, `room`: one backlog lane of an endpoint at a time, the oldest
//!    first; beside live rows so much of them that they wait about a second
//! 6. `store::thread::Thread::settle_lanes`: drained with its last row, and gone: `Event::Drained`
//!
//! # The journey of a change of the configuration
//!
//! 1. `reload::watch::Watcher::changed`: the file, or one it names, has another content; or SIGHUP, or `tidegate reload`
//! 2. `config::Config::load`: all of it holds, or nothing changes and `status` says why (I9)
//! 3. `reload::plan`: what stops, starts, restarts, or changes live; what needs another process
//! 4. `store::thread::change`: names, rules and limits in one transaction, or nothing changes; `daemon::change`: adapters
//!    that go hand in their last samples; `uplink::engine`: endpoints join and leave on the connection there is;
//!    adapters start
//!
//! # Invariants
//!
//! Cited by number in code and tests; `tests/tidy.rs` keeps this list honest.
//!
//! - **I1** Nothing is answered to a device before its COMMIT returned. `store/thread.rs`, `Receipt`.
//! - **I2** A row leaves the outbox by a confirmation of its own flight, or by a counted drop.
//!   `uplink/outflow.rs` (`Landed` has no other constructor), `store/outbox.rs`,
//!   `store/noted.rs`.
//! - **I3** First deliveries of a lane are in order; no row is in two flights. `uplink/outflow.rs`.
//! - **I4** One bad item blocks neither its lane nor its batch; one refused endpoint no other.
//!   `uplink/outflow.rs`, `uplink/parking.rs`, `uplink/suspects.rs`.
//! - **I8** One adapter's crash, stall or flood reaches no other; one bad device no other device.
//!   `supervisor.rs`, `shape/quota.rs`, each adapter's schedule.
//! - **I9** An invalid file never replaces a valid configuration. `config/mod.rs`.
//! - **I10** Disk use stays under the quota; every loss is counted and reported. `store/quota.rs`,
//!   `store/lanes/share.rs`, `store/thread/room.rs`.
//! - **I11** A secret is never printed. `config/secret.rs`, `dialect/path.rs`, `dialect/words.rs`, `log.rs`.
//! - **I12** Only `clock.rs` reads a clock; tasks and threads have an owner; only `store/` touches
//!   SQLite. `.clippy.toml`, `tests/tidy.rs`.
//!
//! I5 (an order is acknowledged only when it is in the inbox), I6 (`begin` is committed before an
//! order touches a wire) and I7 (only a verified image reaches an adapter) come with orders and
//! firmware.

pub mod backoff;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod dialect;
pub mod doctor;
pub mod endpoints;
pub mod failpoint;
pub mod fault;
pub mod http;
pub(crate) mod journal;
pub mod log;
pub(crate) mod losses;
pub mod memory;
pub(crate) mod mutant;
pub mod notify;
pub mod reload;
pub mod shape;
pub mod store;
pub mod supervisor;
pub mod trust;
pub mod uplink;
