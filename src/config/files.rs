//! The files a configuration names: credentials, which are read here, and certificates, which are
//! only tried (the TLS client reads them at each connection).

use super::{
    check::{Half, KeyPath, Notes},
    pem::{self, Age, PemError},
};
use crate::fault::Code;
use adapter_api::Clock;
use rustls::pki_types::CertificateDer;
use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, ErrorKind, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Longer than any password or token.
const CREDENTIAL_BYTES: u64 = 4_096;

/// No file is larger that is of use.
const FILE_BYTES: u64 = 16 << 20;

/// What a relative path of a file is relative to: the directory the file is in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base<'p>(pub(super) &'p Path);

impl Base<'_> {
    /// An absolute path stays as it is.
    pub(super) fn path(self, path: &Path) -> PathBuf {
        self.0.join(path)
    }

    /// The content of a credential file, without its final newline.
    pub(super) fn credential(self, notes: &mut Notes<'_>, key: &KeyPath, path: &Path) -> Option<String> {
        match read(&self.path(path)) {
            Ok(text) => {
                private(notes, key, &self.path(path));
                Some(text)
            }
            Err(why) => {
                let hint = match why {
                    FORBIDDEN => LET_READ,
                    MISSING if path.starts_with(CREDENTIALS) => AT_START,
                    _ => CREATE,
                };
                let about = self.about(path, why);
                notes.fault(Code::CredentialFile, key, Half::Value, about, Some(hint.to_owned()));
                None
            }
        }
    }

    /// A PEM file. What is wrong with it is noted; `None` then.
    pub(super) fn pem<T>(
        self,
        notes: &mut Notes<'_>,
        key: &KeyPath,
        path: &Path,
        read: impl FnOnce(&Path) -> Result<T, PemError>,
    ) -> Option<T> {
        let (code, why, hint) = match open(&self.path(path)).map(|_| read(&self.path(path))) {
            Ok(Ok(read)) => return Some(read),
            Ok(Err(error)) => (Code::UnusableFile, error.to_string(), mend(error)),
            Err(error) => {
                (Code::NamedFile, why(&error).to_owned(), "name a PEM file that the gateway's user may read")
            }
        };
        notes.unusable(code, key, self.about(path, &why), hint);
        None
    }

    /// What is wrong with a file. A lone word is not repeated: it may be the password itself, written where
    /// the name of its file belongs (I11).
    fn about(self, path: &Path, why: &str) -> String {
        let plainly = path.is_absolute() && path.components().count() > 2;
        match (plainly, self.0.as_os_str().is_empty()) {
            (true, _) => format!("{}: {why}", path.display()),
            (false, true) => format!("{why} (looked for in the working directory)"),
            (false, false) => format!("{why} (looked for in {})", self.0.display()),
        }
    }
}

/// Tells the contents of some files from others; of no use for anything else.
pub(crate) fn digest<'p>(files: impl Iterator<Item = &'p PathBuf>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in files {
        let mut bytes = Vec::new();
        let read = open(path).and_then(|file| file.take(FILE_BYTES).read_to_end(&mut bytes));
        (path, bytes, read.map_err(|error| error.kind()).ok()).hash(&mut hasher);
    }
    hasher.finish()
}

/// Warns of a secret that every user of the machine can read.
pub(super) fn private(notes: &mut Notes<'_>, key: &KeyPath, path: &Path) {
    let open_to_all = path.metadata().is_ok_and(|m| m.permissions().mode() & 0o004 != 0);
    if open_to_all {
        notes.warn(key, format!("{} can be read by every user", path.display()), kept_private(path));
    }
}

/// How a secret becomes one that the gateway may read and nobody else. What is root's and its group's alone, the user
/// of the service may not read, so that taking away the others' rights is not enough.
fn kept_private(path: &Path) -> String {
    let file = shell_word(path);
    if path.starts_with(PACKAGED) {
        return format!("chown root:{SERVICE} {file} && chmod 640 {file}");
    }
    format!("`chmod o= {file}`, and let the gateway's user be its owner or in its group")
}

/// A path as it is written in a shell.
pub(crate) fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,".contains(c);
    if text.chars().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Where the packaged service, and each further one, has its files.
pub(crate) const PACKAGED: &str = "/etc/tidegate";
/// The packaged service's own.
pub(crate) const PACKAGED_FILE: &str = "/etc/tidegate/tidegate.toml";
/// The user and the group that they run as.
pub(crate) const SERVICE: &str = "tidegate";

/// Warns of a certificate that is not good now, or soon will not be.
pub(super) fn in_time(notes: &mut Notes<'_>, key: &KeyPath, certificate: &CertificateDer<'_>) {
    let now = u64::try_from(Clock::trusting().judging_us()).map(Duration::from_micros).unwrap_or_default();
    let (what, hint) = match pem::age(certificate, now) {
        Ok(Age::Good(days)) if days < SOON => (format!("the certificate expires in {days} days"), RENEW),
        Ok(Age::Good(_)) => return,
        Ok(Age::Expired(days)) => (format!("the certificate expired {days} days ago"), RENEW),
        Ok(Age::Early(days)) => {
            (format!("by the clock here the certificate is good in {days} days only"), CLOCK)
        }
        Err(error) => (error.to_string(), mend(error)),
    };
    notes.warn_of(Code::CertificateAge, key, what, hint);
}

/// A certificate that ends within so many days is spoken of.
const SOON: u64 = 30;
const RENEW: &str =
    "get a new one from the platform; it is used from the next connection on, without a restart";
const CLOCK: &str = "see whether the clock of this machine is right: `date`";

/// What helps against a PEM file of no use.
fn mend(error: PemError) -> &'static str {
    match error {
        PemError::NoCertificate | PemError::BrokenCertificate => {
            "put the PEM file there that begins with -----BEGIN; try `openssl x509 -in FILE -noout -text`"
        }
        PemError::NoKey | PemError::BrokenKey => {
            "put the PEM file there that begins with -----BEGIN; try `openssl pkey -in FILE -noout`"
        }
        PemError::LockedKey => {
            "take the passphrase off: `openssl pkey -in FILE -out NEW`; the rights of the file keep the key then"
        }
        PemError::Mismatch => {
            "name the two that were made together: `openssl x509 -in CERT -noout -pubkey` and \
             `openssl pkey -in KEY -pubout` print the same"
        }
    }
}

const CREATE: &str =
    "create the file with nothing but the credential in it, readable by the gateway's user (mode 0640)";

/// Where systemd puts what a unit's LoadCredential= names, systemd.exec(5).
pub(crate) const CREDENTIALS: &str = "/run/credentials";
const AT_START: &str = "systemd makes it when the service starts, if its unit has LoadCredential=: \
                        `systemctl daemon-reload`, then `systemctl restart` of the unit";

/// Not named: it may be the password itself, written where the name of its file belongs.
const LET_READ: &str = "let the gateway's user read it: for the service `chown root:tidegate FILE && chmod 640 FILE`; \
                        `tidegate doctor` as root names the directory that is in the way, if one is";
const FORBIDDEN: &str = "this user may not read it";
const MISSING: &str = "there is no such file";

/// A credential: without the end of its line.
pub(super) fn read(path: &Path) -> Result<String, &'static str> {
    let mut bytes = Vec::new();
    let read = open(path).and_then(|file| file.take(CREDENTIAL_BYTES).read_to_end(&mut bytes));
    read.map_err(|error| why(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|n| n >= CREDENTIAL_BYTES) {
        return Err("the file is longer than any credential");
    }
    let text = String::from_utf8(bytes).map_err(|_| "the file is not text")?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() { Err("the file is empty") } else { Ok(text.to_owned()) }
}

fn open(path: &Path) -> io::Result<File> {
    // Opening a pipe or device could wait for ever.
    if path.metadata()?.is_file() { File::open(path) } else { Err(ErrorKind::InvalidInput.into()) }
}

fn why(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => MISSING,
        ErrorKind::PermissionDenied => FORBIDDEN,
        ErrorKind::InvalidInput => "not a file",
        _ => "cannot be read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_secret_private_does_not_keep_it_from_the_service() {
        for (path, hint) in [
            (
                "/etc/tidegate/password",
                "chown root:tidegate /etc/tidegate/password && chmod 640 /etc/tidegate/password",
            ),
            (
                "/srv/it's mine",
                "`chmod o= '/srv/it'\\''s mine'`, and let the gateway's user be its owner or in its group",
            ),
        ] {
            assert_eq!(kept_private(Path::new(path)), hint);
        }
    }
}
