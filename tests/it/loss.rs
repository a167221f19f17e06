//! Packets that are lost on the way, by a rule of the kernel. `tests/run --system` gives these tests a
//! network and file systems of their own and says so (`TIDEGATE_TEST_NET`); without, they are skipped.

use crate::{
    arrivals::Platform,
    gateway::{Config, Gateway},
    links::{Patient, SCALE, soon},
    peers::{Broker, WITH_CERTIFICATE},
    site::{PATIENCE, Site, free_port, until},
};
use rcgen::SanType;
use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
    time::Instant,
};

/// Where the gateway finds the broker, and nobody else.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// The way to the broker. Rules match both directions: on this device both ends have the one address.
struct Way;

impl Way {
    fn open() -> Option<Self> {
        if env::var_os("TIDEGATE_TEST_NET").is_none() {
            println!("SKIPPED packets lost: tests/run --system makes a network for them");
            return None;
        }
        run("ip link set lo up mtu 1500");
        run(&format!("ip addr replace {FAR}/32 dev lo"));
        run("nft add table inet way");
        run("nft add chain inet way input { type filter hook input priority 0 ; }");
        let way = Self;
        way.clear();
        Some(way)
    }

    /// Drops what matches.
    fn drop(&self, rule: &str) {
        run(&format!("nft add rule inet way input {rule} counter drop"));
    }

    /// Whether something was dropped.
    fn has_dropped(&self) -> bool {
        let list = Command::new("nft").args(["list", "chain", "inet", "way", "input"]).output().unwrap();
        let text = String::from_utf8(list.stdout).unwrap();
        assert!(text.contains("counter packets "), "{text}");
        !text.contains("counter packets 0 ")
    }

    fn clear(&self) {
        run("nft flush chain inet way input");
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.clear();
    }
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status();
    assert!(status.unwrap().success(), "{line}");
}

/// Another file in the place of this one, for these tests alone.
fn put(site: &Site, place: &str, text: &str) {
    let own = site.path(&Path::new(place).file_name().unwrap().to_string_lossy());
    let there = own.exists();
    fs::write(&own, text).unwrap();
    if !there {
        run(&format!("mount --bind {} {place}", own.display()));
    }
}

/// A broker that is at [`FAR`], too, and by its certificate.
fn far_broker(site: &Site) -> Broker {
    let mut broker = Broker::start_everywhere(site);
    site.identity_for("broker", "localhost", |params| {
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(FAR)));
        params.subject_alt_names.push(SanType::DnsName("broker.far".try_into().unwrap()));
    });
    broker.restart_for(WITH_CERTIFICATE);
    broker
}

fn address(broker: &Broker) -> String {
    format!("mqtts://{FAR}:{}", broker.port())
}

#[test]
fn with_40_per_cent_of_all_packets_lost_it_takes_longer_and_nothing_is_lost() {
    const SAMPLES: u64 = 200;
    let Some(way) = Way::open() else { return };
    let site = Site::new();
    let broker = far_broker(&site);
    let mut platform = Platform::start(&site, broker.port());
    let config = Config::kaa(&site, broker.port()).at(&[&address(&broker)]);
    way.drop(&format!("ip daddr {FAR} numgen random mod 100 < 40"));
    let since = Instant::now();
    let mut patient = Patient::start_at(&site, config, 1);
    until("it is up", PATIENCE * 5, || {
        patient.gateway.ask(&["status"]).filter(|status| status["uplink"]["state"] == "up")
    });
    println!("FIGURE loss: 40 % of packets: up after {:.1} s", since.elapsed().as_secs_f64());
    let since = Instant::now();
    for _ in 0..SAMPLES {
        patient.push();
    }
    until("all have arrived", PATIENCE * 5, || {
        patient.gateway.assert_alive();
        (patient.gateway.outbox_rows() == 0).then_some(())
    });
    let took = since.elapsed().as_secs_f64();
    assert!(way.has_dropped());
    way.clear();
    let since = Instant::now();
    patient.push();
    patient.gateway.until_drained();
    let after = since.elapsed().as_secs_f64();
    let connections = patient.gateway.status()["uplink"]["connections"].clone();
    let arrivals = platform.arrivals();
    println!(
        "FIGURE loss: 40 % of packets: {SAMPLES} samples in {took:.1} s, {connections} connection(s), {} resent; \
         one more without loss after {after:.1} s",
        arrivals.resent,
    );
    arrivals.assert_exactly("TP1", 1..=SAMPLES + 1);
    patient.ends_well();
}

#[test]
fn when_no_packet_passes_any_more_it_is_found_and_mends_itself() {
    let Some(way) = Way::open() else { return };
    let site = Site::new();
    let broker = far_broker(&site);
    let mut platform = Platform::start(&site, broker.port());
    let config = soon(Config::kaa(&site, broker.port())).at(&[&address(&broker)]);
    let mut patient = Patient::start(&site, config);
    patient.push();
    patient.gateway.until_drained();
    way.drop(&format!("ip daddr {FAR}"));
    let since = Instant::now();
    patient.push();
    patient.gateway.until_status("it has left the dead link", |s| s["uplink"]["state"] == "connecting");
    let found = since.elapsed().as_secs_f64();
    way.clear();
    let since = Instant::now();
    patient.gateway.until_up();
    patient.gateway.until_drained();
    let up = since.elapsed().as_secs_f64();
    let arrivals = platform.arrivals();
    println!(
        "FIGURE loss: half-open: found after {found:.1} s, delivered {up:.1} s after it was mended, {} resent \
         (waits {SCALE} times faster)",
        arrivals.resent,
    );
    arrivals.assert_exactly("TP1", 1..=2);
    patient.ends_well();
}

#[test]
fn a_name_whose_ipv6_address_is_dead_works_by_its_ipv4_address() {
    let Some(way) = Way::open() else { return };
    let site = Site::new();
    let broker = far_broker(&site);
    put(&site, "/etc/hosts", &format!("127.0.0.1 localhost\n::1 broker.far\n{FAR} broker.far\n"));
    // Not refused: silent, as behind a tunnel that is gone.
    way.drop("ip6 daddr ::1");
    let url = format!("mqtts://broker.far:{}", broker.port());
    let config = soon(Config::plain(&site, broker.port())).at(&[&url]).pushed(1, free_port());
    let mut gateway = Gateway::new(&site, &config, 1);
    let since = Instant::now();
    gateway.start();
    gateway.until_up();
    let up = since.elapsed().as_secs_f64();
    println!("FIGURE loss: IPv6 address of the name dead: up after {up:.1} s");
    assert!(way.has_dropped(), "the dead address was not tried");
    assert!(gateway.terminate().success());
    run("umount /etc/hosts");
}

#[test]
fn a_name_server_that_is_silent_is_told_and_mends_itself() {
    let Some(way) = Way::open() else { return };
    let site = Site::new();
    let broker = far_broker(&site);
    put(&site, "/etc/hosts", "127.0.0.1 localhost\n");
    put(&site, "/etc/resolv.conf", &format!("nameserver {FAR}\n"));
    way.drop("udp dport 53");
    let url = format!("mqtts://broker.far:{}", broker.port());
    let mut patient = Patient::start(&site, soon(Config::plain(&site, broker.port())).at(&[&url]));
    patient.push();
    patient.gateway.until_fault("TG-101");
    put(&site, "/etc/hosts", &format!("127.0.0.1 localhost\n{FAR} broker.far\n"));
    let since = Instant::now();
    patient.gateway.until_up();
    let up = since.elapsed().as_secs_f64();
    println!(
        "FIGURE loss: name server silent: up {up:.1} s after the name was known (waits {SCALE} times faster)"
    );
    patient.gateway.until_drained();
    patient.ends_well();
    run("umount /etc/hosts");
    run("umount /etc/resolv.conf");
}
