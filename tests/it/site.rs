//! What every test starts from: a directory, certificates, free ports, and waiting with a deadline.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::{
    collections::HashSet,
    env,
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a test waits for something that should come soon: the machine may be slow and shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A test's directory with a CA and the certificates it signed. Kept where the test fails.
pub(crate) struct Site {
    dir: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Site {
    /// A fresh directory, with a fresh CA.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("tidegate-it-").tempdir().unwrap();
        let mut params = CertificateParams::default();
        // Gateways without a clock of their own start in 1970.
        params.not_before = date_time_ymd(1970, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "tidegate test CA");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        Self { dir, ca }
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate for this name, good since 1970; a server's is for `localhost` as well.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        self.identity_since(name, 1970)
    }

    /// One that is good since the beginning of a year.
    pub(crate) fn identity_since(&self, name: &str, year: i32) -> Identity {
        self.identity_for(name, "localhost", |params| params.not_before = date_time_ymd(year, 1, 1))
    }

    /// A certificate for this host, changed before it is signed.
    pub(crate) fn identity_for(
        &self,
        name: &str,
        host: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(1970, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.ca).unwrap();
        let identity = Identity {
            ca: self.path("ca.pem"),
            cert: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        };
        fs::write(&identity.cert, cert.pem()).unwrap();
        fs::write(&identity.key, key.serialize_pem()).unwrap();
        fs::set_permissions(&identity.key, Permissions::from_mode(0o600)).unwrap();
        identity
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if thread::panicking() {
            self.dir.disable_cleanup(true);
            println!("everything this test wrote is kept in {}", self.dir.path().display());
        }
    }
}

/// A serial line of two ends.
pub(crate) struct Pty {
    socat: Child,
    pub(crate) ours: PathBuf,
    pub(crate) theirs: PathBuf,
}

impl Pty {
    pub(crate) fn new(site: &Site) -> Self {
        let (ours, theirs) = (site.path("ttyA"), site.path("ttyB"));
        let end = |path: &Path| format!("pty,rawer,link={}", path.display());
        let socat = Command::new("socat").args([end(&ours), end(&theirs)]).stdin(Stdio::null()).spawn();
        let socat = socat.expect("socat is not installed; tests/run installs it");
        until("both ends are there", PATIENCE, || (ours.exists() && theirs.exists()).then_some(()));
        Self { socat, ours, theirs }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.socat.kill();
        let _status = self.socat.wait();
    }
}

/// Asks again and again until there is an answer; panics with `what` after `patience`.
pub(crate) fn until<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "after {} s still waiting until {what}", patience.as_secs());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Lets others work for a while, where a random moment is what the test is about.
pub(crate) fn let_pass(time: Duration) {
    thread::sleep(time);
}

/// A port nobody listens on, outside the range the kernel gives to outgoing connections, and never
/// given twice: what stops on it can be started on it again.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap();
    let given = given.get_or_insert_default();
    loop {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            return port;
        }
    }
}

/// A number from the environment.
pub(crate) fn asked_for<T: FromStr>(variable: &str, default: T) -> T {
    env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// The repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
