//! Where a measurement takes place: a directory on a real file system, certificates, mosquitto.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

/// How long to wait for what should come soon.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A directory with the broker's certificate. Removed when dropped.
pub struct Site {
    dir: PathBuf,
}

/// Mosquitto with TLS on loopback. Killed when dropped.
pub struct Broker {
    pub port: u16,
    config: PathBuf,
    child: Option<Child>,
}

impl Site {
    /// A fresh directory below `TIDEGATE_BENCH_DIR`, else below the system's temporary one.
    pub fn new() -> Self {
        let root = std::env::var_os("TIDEGATE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = root.join(format!("tidegate-bench-{:08x}", fastrand::u32(..)));
        fs::create_dir_all(&dir).expect("a directory to work in");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "tidegate bench CA");
        let key = || KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(params, key()).expect("a CA");
        fs::write(dir.join("ca.pem"), ca.pem()).expect("written");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let key = key();
        let cert = params.signed_by(&key, &ca).expect("a certificate");
        fs::write(dir.join("broker.pem"), cert.pem()).expect("written");
        fs::write(dir.join("broker.key"), key.serialize_pem()).expect("written");
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// TLS as the references and peers use it: the same versions and suites as the daemon.
    pub fn tls(ca: &Path) -> Arc<rustls::ClientConfig> {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).expect("the CA")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("TIDEGATE_BENCH_KEEP").is_some() {
            eprintln!("kept: {}", self.dir.display());
        } else {
            let _left = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Broker {
    pub fn start(site: &Site) -> Self {
        let port = free_port();
        let config = site.path("mosquitto.conf");
        let text = format!(
            "per_listener_settings false\nuser root\nlistener {port} 127.0.0.1\nallow_anonymous true\n\
             cafile {0}/ca.pem\ncertfile {0}/broker.pem\nkeyfile {0}/broker.key\n\
             set_tcp_nodelay true\nmax_queued_messages 0\nmax_inflight_messages 0\n\
             persistence false\nlog_dest none\n",
            site.dir.display(),
        );
        fs::write(&config, text).expect("written");
        let mut broker = Self { port, config, child: None };
        broker.start_again();
        broker
    }

    /// Starts it on the port it had; returns when it listens.
    pub fn start_again(&mut self) {
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
        let program = program.iter().find(|p| Path::new(p).exists()).expect("mosquitto is not installed");
        let mut command = Command::new(program);
        command.arg("-c").arg(&self.config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("mosquitto starts"));
        until("mosquitto listens", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            end(&mut child);
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn end(child: &mut Child) {
    let _gone = child.kill();
    let _status = child.wait();
}

/// Asks again and again until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "still waiting until {what}");
        sleep(Duration::from_millis(5));
    }
}

/// A port nobody listens on, outside the range of outgoing connections.
pub fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
