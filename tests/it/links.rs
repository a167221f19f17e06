//! Every fault of the link, of TLS and of the login: provoked, told in words for people, and mended
//! without touching the gateway, which then goes on by itself. Times to recover are `FIGURE`s.

use crate::{
    agreed::assert_agreed,
    arrivals::Recorder,
    cutter::Cutter,
    gateway::{Config, Gateway},
    pacer,
    peers::{Broker, WITH_CERTIFICATE},
    pusher::Pusher,
    site::{PATIENCE, Site, free_port, until},
    stub::{Manners, Stub},
};
use std::{
    env, fs,
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How much faster the gateway waits.
pub(crate) const SCALE: u32 = 10;

/// A gateway whose uplink is broken and mended, again and again.
pub(crate) struct Patient {
    pub(crate) gateway: Gateway,
    pusher: Pusher,
    port: u16,
    pushed: u64,
}

impl Patient {
    /// With a device that pushes to `p1`.
    pub(crate) fn start(site: &Site, config: Config) -> Self {
        Self::start_at(site, config, SCALE)
    }

    /// Waits so many times faster.
    pub(crate) fn start_at(site: &Site, config: Config, scale: u32) -> Self {
        let port = free_port();
        let mut gateway = Gateway::new(site, &config.pushed(1, port), scale);
        gateway.start();
        let pusher = Pusher::connect(port);
        Self { gateway, pusher, port, pushed: 0 }
    }

    /// It tells this fault, as agreed; then the cause goes away, and what waited is delivered.
    fn recovers(&mut self, name: &str, code: &str, mend: impl FnOnce()) {
        self.push();
        assert_agreed(name, &self.gateway.until_fault(code));
        mend();
        let since = Instant::now();
        self.gateway.until_status("it recovers by itself", |s| {
            s["uplink"]["state"] == "up"
                && s["uplink"]["fault"].is_null()
                && s["uplink"]["last_error"].is_null()
        });
        let up = since.elapsed().as_secs_f64();
        self.gateway.until_drained();
        println!("FIGURE links: {name}: up after {up:.1} s (waits {SCALE} times faster)");
    }

    /// Another life of the gateway.
    fn restart(&mut self) {
        assert!(self.gateway.terminate().success());
        self.gateway.start();
        self.pusher = Pusher::connect(self.port);
    }

    /// One more sample.
    pub(crate) fn push(&mut self) {
        self.pushed += 1;
        self.pusher.push("p1", &self.pushed.to_string());
    }

    /// All that was pushed has landed.
    pub(crate) fn ends_well(mut self) {
        let ledger = self.gateway.ledger();
        assert_eq!((ledger.landed, ledger.dropped, ledger.dead), (self.pushed, 0, 0), "{ledger:?}");
        assert!(self.gateway.terminate().success());
    }
}

/// Keys that make faults show soon. A handshake still has 3 s of real time.
pub(crate) fn soon(config: Config) -> Config {
    config
        .set("keep_alive", "10s")
        .set("confirm_timeout", "30s")
        .set("probe_min", "5s")
        .set("probe_max", "10s")
}

/// Ends with its value.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        crate::peers::end(&mut self.0);
    }
}

#[test]
fn each_fault_of_certificates_is_told_and_mends_itself() {
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    let config = soon(Config::plain(&site, broker.port()));
    let mut patient = Patient::start(&site, config);
    patient.gateway.until_up();
    let other = Site::new();
    let good = |broker: &mut Broker| {
        site.identity("broker");
        broker.restart_for(WITH_CERTIFICATE);
    };
    broker.stop();
    patient.recovers("broker stopped", "TG-102", || broker.start_again());

    let past = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let future = (rcgen::date_time_ymd(2090, 1, 1), rcgen::date_time_ymd(2091, 1, 1));
    for (name, code, (from, to)) in
        [("certificate expired", "TG-121", past), ("certificate not yet valid", "TG-122", future)]
    {
        site.identity_for("broker", "localhost", |params| {
            (params.not_before, params.not_after) = (from, to);
        });
        broker.restart_for(WITH_CERTIFICATE);
        patient.recovers(name, code, || good(&mut broker));
    }
    site.identity_for("broker", "platform.example", |_| {});
    broker.restart_for(WITH_CERTIFICATE);
    patient.recovers("certificate for another name", "TG-123", || good(&mut broker));

    let stranger = other.identity("broker");
    fs::copy(&stranger.cert, site.path("broker.pem")).unwrap();
    fs::copy(&stranger.key, site.path("broker.key")).unwrap();
    broker.restart_for(WITH_CERTIFICATE);
    patient.recovers("certificate of an unknown authority", "TG-124", || good(&mut broker));

    // A broken connection makes it read its own files anew.
    let own = ["gateway.pem", "gateway.key"];
    let kept = own.map(|name| fs::read(site.path(name)).unwrap());
    let put_back =
        || own.iter().zip(&kept).for_each(|(name, kept)| fs::write(site.path(name), kept).unwrap());
    let stranger = other.identity("gateway");
    fs::copy(&stranger.cert, site.path("gateway.pem")).unwrap();
    fs::copy(&stranger.key, site.path("gateway.key")).unwrap();
    broker.restart_for(WITH_CERTIFICATE);
    patient.recovers("own certificate of an unknown authority", "TG-126", put_back);

    fs::copy(&stranger.key, site.path("gateway.key")).unwrap();
    broker.restart_for(WITH_CERTIFICATE);
    patient.recovers("own key of another certificate", "TG-132", put_back);

    // A restart with it as well: readings are kept until it is put right.
    fs::copy(&stranger.key, site.path("gateway.key")).unwrap();
    patient.restart();
    patient.recovers("own key of another certificate", "TG-132", put_back);
    patient.ends_well();
}

#[test]
fn a_login_that_is_refused_is_told_and_mends_itself() {
    let site = Site::new();
    let mut broker = Broker::start(&site, true);
    let password = site.path("password");
    fs::write(&password, "SECRET-right\n").unwrap();
    let mut patient =
        Patient::start(&site, soon(Config::plain(&site, broker.port())).login("gateway-1", &password));
    let lines = |password: &str| {
        Broker::write_password(&site, "gateway-1", password);
        format!("allow_anonymous false\npassword_file {}\n", site.path("passwords").display())
    };
    patient.recovers("no certificate where one is needed", "TG-125", || {
        broker.restart_for(&lines("SECRET-right"));
    });
    broker.restart_for(&lines("SECRET-other"));
    patient.recovers("login not authorized", "TG-142", || broker.restart_for(&lines("SECRET-right")));
    patient.ends_well();
}

#[test]
fn tls_1_1_alone_is_told_and_mends_itself() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let relay = Cutter::start(broker.port());
    let config =
        soon(Config::plain(&site, broker.port())).at(&[&format!("mqtts://localhost:{}", relay.port())]);
    let old = free_port();
    let identity = site.identity("old");
    let server = Command::new("openssl")
        .args(["s_server", "-quiet", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0", "-accept"])
        .args([&old.to_string(), "-cert"])
        .arg(&identity.cert)
        .arg("-key")
        .arg(&identity.key)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(server) = server else {
        println!("SKIPPED TLS 1.1 alone: there is no openssl here");
        return;
    };
    let _server = Program(server);
    until("openssl listens", PATIENCE, || TcpStream::connect(("127.0.0.1", old)).ok());
    relay.lead_to(old);
    let mut patient = Patient::start(&site, config);
    patient.recovers("TLS 1.1 alone", "TG-127", || relay.lead_to(broker.port()));
    patient.ends_well();
}

#[test]
fn what_cuts_or_holds_the_link_is_told_and_mends_itself() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let relay = Cutter::start(broker.port());
    let config =
        soon(Config::plain(&site, broker.port())).at(&[&format!("mqtts://localhost:{}", relay.port())]);
    let mut patient = Patient::start(&site, config);
    patient.gateway.until_up();
    let stub = Stub::start(Manners::Reset);
    let back = || relay.lead_to(broker.port());
    relay.lead_to(stub.port());
    patient.recovers("reset in the handshake", "TG-128", back);
    stub.behave(Manners::Http);
    relay.lead_to(stub.port());
    patient.recovers("no TLS on the port", "TG-129", back);
    stub.behave(Manners::Mute);
    relay.lead_to(stub.port());
    patient.recovers("handshake never answered", "TG-104", back);
    // Half-open: the connection stays, and nothing passes any more.
    for (name, due) in [("something due", true), ("nothing due", false)] {
        relay.hold(true);
        let since = Instant::now();
        if due {
            patient.push();
        }
        let told = patient.gateway.until_fault("TG-107");
        let found = since.elapsed().as_secs_f64();
        if !due {
            assert_agreed("half-open link", &told);
        }
        relay.hold(false);
        relay.cut();
        let since = Instant::now();
        patient.gateway.until_up();
        patient.gateway.until_drained();
        let up = since.elapsed().as_secs_f64();
        println!(
            "FIGURE links: half-open, {name}: found after {found:.1} s, up {up:.1} s after it was mended (waits {SCALE} times faster)"
        );
    }
    patient.ends_well();
}

#[test]
fn what_a_broker_refuses_is_told_and_mends_itself() {
    let site = Site::new();
    let stub = Stub::start(Manners::ConnAck(1));
    let address = format!("mqtt://127.0.0.1:{}", stub.port());
    let mut patient = Patient::start(&site, soon(Config::plain(&site, 1)).at(&[&address]));
    for (manners, name, code) in [
        (Manners::ConnAck(1), "another version of MQTT", "TG-145"),
        (Manners::ConnAck(2), "client id refused", "TG-143"),
        (Manners::ConnAck(3), "broker unavailable", "TG-144"),
        (Manners::ConnAck(4), "user name or password wrong", "TG-141"),
        (Manners::Http, "no MQTT on the port", "TG-108"),
        (Manners::Close, "closed before the login is answered", "TG-106"),
    ] {
        stub.behave(manners);
        if patient.pushed > 0 {
            // The connection in use ends first.
            stub.behave(Manners::Close);
            patient.push();
            patient.gateway.until_status("the connection is gone", |s| s["uplink"]["state"] == "connecting");
            stub.behave(manners);
        }
        patient.recovers(name, code, || stub.behave(Manners::Good));
    }
    patient.ends_well();
}

#[test]
fn a_refused_subscription_is_told_and_mends_itself() {
    for (subscribe, name, code) in [
        ("per-endpoint", "subscription refused", "TG-152"),
        ("per-extension", "every subscription refused", "TG-153"),
    ] {
        let site = Site::new();
        let stub = Stub::start(Manners::NoFilter);
        let address = format!("mqtt://127.0.0.1:{}", stub.port());
        let config = Config::kaa(&site, 1).at(&[&address]).line(&format!("subscribe = {subscribe:?}"));
        let mut patient = Patient::start(&site, soon(config));
        patient.push();
        assert_agreed(name, &patient.gateway.until_fault(code));
        stub.behave(Manners::Good);
        let since = Instant::now();
        patient.gateway.until_status("it is heard", |s| {
            s["uplink"]["fault"].is_null() && s["uplink"]["parked"].as_array().is_some_and(Vec::is_empty)
        });
        patient.gateway.until_drained();
        let up = since.elapsed().as_secs_f64();
        println!("FIGURE links: {name}: granted after {up:.1} s (waits {SCALE} times faster)");
        let status = patient.gateway.status();
        assert_eq!(status["uplink"]["connections"], 1, "it asks again on the same connection: {status}");
        patient.ends_well();
    }
}

#[test]
fn addresses_are_tried_in_turn() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut recorder = Recorder::start(&site, broker.port());
    let good = format!("mqtts://localhost:{}", broker.port());
    // A listener whose queue is full takes no more connections and says nothing: a silent address.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let silent = full.local_addr().unwrap().as_socket_ipv4().unwrap().port();
    let fill =
        || TcpStream::connect_timeout(&([127, 0, 0, 1], silent).into(), Duration::from_millis(300)).ok();
    let _queue: Vec<TcpStream> = std::iter::from_fn(fill).take(8).collect();
    for (name, code, first) in [
        ("first address silent", "TG-104", format!("mqtts://127.0.0.1:{silent}")),
        ("first address unknown", "TG-101", "mqtts://no-such-host.invalid".to_owned()),
        ("first address unreachable", "TG-103", "mqtts://255.255.255.255".to_owned()),
    ] {
        let config = soon(Config::plain(&site, broker.port()));
        // Twice, so that its fault can be looked at before the second address works.
        let mut patient = Patient::start(&site, config.at(&[&first, &first]));
        assert_agreed(name, &patient.gateway.until_fault(code));
        patient.gateway.terminate();
        let config = soon(Config::plain(&site, broker.port())).at(&[&first, &good]);
        drop(patient);
        let mut gateway = Gateway::new(&site, &config.pushed(1, free_port()), SCALE);
        let since = Instant::now();
        gateway.start();
        gateway.until_up();
        let up = since.elapsed().as_secs_f64();
        println!("FIGURE links: {name}, the second good: up after {up:.1} s (waits {SCALE} times faster)");
        gateway.terminate();
    }
    assert!(recorder.arrivals().first.is_empty());
}

#[test]
fn an_address_that_lets_in_and_confirms_nothing_is_left_for_the_next() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let mut recorder = Recorder::start(&site, broker.port());
    let stub = Stub::start(Manners::Host);
    let first = format!("mqtt://127.0.0.1:{}", stub.port());
    let good = format!("mqtts://localhost:{}", broker.port());
    let config = soon(Config::plain(&site, broker.port())).at(&[&first, &good]);
    let mut patient = Patient::start(&site, config);
    patient.gateway.until_up();
    let since = Instant::now();
    patient.push();
    patient.gateway.until_drained();
    let drained = since.elapsed().as_secs_f64();
    println!(
        "FIGURE links: first address confirms nothing, the second good: drained after {drained:.1} s (waits {SCALE} times \
         faster)"
    );
    recorder.arrivals().assert_exactly("p1", 1..=1);
    patient.ends_well();
}

#[test]
fn ipv6_without_a_broker_is_told_and_ipv4_works() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        println!("SKIPPED IPv6: there is none here");
        return;
    }
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let (v6, v4) =
        (format!("mqtts://[::1]:{}", broker.port()), format!("mqtts://localhost:{}", broker.port()));
    let mut patient = Patient::start(&site, soon(Config::plain(&site, broker.port())).at(&[&v6, &v4]));
    patient.push();
    patient.gateway.until_drained();
    patient.ends_well();
}

/// 100 samples over such a line, in real time.
fn deliver_over(name: &str, line: pacer::Line) {
    if env::var_os("TIDEGATE_TEST_LONG").is_none() {
        println!("SKIPPED {name}: takes minutes; tests/run --long");
        return;
    }
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let port = pacer::start(broker.port(), line);
    let config = Config::plain(&site, broker.port()).at(&[&format!("mqtts://localhost:{port}")]);
    let since = Instant::now();
    let mut patient = Patient::start_at(&site, config, 1);
    patient.gateway.until_up();
    let up = since.elapsed().as_secs_f64();
    println!("FIGURE links: {name}: up after {up:.1} s");
    let since = Instant::now();
    for _ in 0..100 {
        patient.push();
    }
    patient.gateway.until_drained();
    let took = since.elapsed().as_secs_f64();
    let status = patient.gateway.status();
    let connections = &status["uplink"]["connections"];
    println!("FIGURE links: {name}: 100 samples in {took:.1} s, {connections} connection(s)");
    patient.ends_well();
}

#[test]
fn a_slow_link_far_away_delivers() {
    let line = pacer::Line { bytes_per_s: 1_000, delay: Duration::from_secs(1), loss: 0.0, segment: 128 };
    deliver_over("8 kbit/s, 2 s round trip", line);
}

#[test]
fn a_link_that_stalls_as_with_40_per_cent_loss_delivers() {
    let line =
        pacer::Line { bytes_per_s: 20_000, delay: Duration::from_millis(50), loss: 0.4, segment: 1_400 };
    deliver_over("stalls as of 40 % loss", line);
}
