//! What an operator can see go wrong: the codes `TG-xxx` with their likely causes and remedies.
//!
//! The tables are next to each other, so that they are read and weighed side by side; what exactly
//! happened, and where, is filled in by whoever noticed it. Those of devices (4xx) are in
//! `adapter_api::field` and in the adapters. A code is never given to another meaning.

mod config;
mod link;
mod store;

use adapter_api::journal;
pub use adapter_api::{Fault, FaultKind};
use serde::{Serialize, Serializer};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// What kind of fault it is. 1xx: the way to the platform; 2xx: this machine; 3xx: the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the tables say it")]
pub enum Code {
    NameUnknown,
    Refused,
    Unreachable,
    Silent,
    Lost,
    Closed,
    NoConfirmation,
    NotMqtt,
    NoReplies,
    PayloadTooLarge,
    Expired,
    NotYetValid,
    WrongName,
    UnknownAuthority,
    ClientCertificateMissing,
    ClientCertificateRefused,
    TlsTooOld,
    HandshakeCut,
    NotTls,
    CertificateUnusable,
    NoCommonAlpn,
    TlsFiles,
    NoAuthorities,
    Handshake,
    LoginWrong,
    NotAuthorized,
    ClientIdRefused,
    BrokerBusy,
    MqttVersion,
    EverythingRefused,
    SubscriptionRefused,
    AllSubscriptionsRefused,
    EndpointRefused,
    SessionRefused,
    DeadLetters,
    DatabaseNewer,
    DatabaseForeign,
    DatabaseLocked,
    DirectoryUnusable,
    DirectoryReadOnly,
    DiskFull,
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseFault,
    LedgerOff,
    ControlSocket,
    NoThread,
    UnitEnded,
    HttpListener,
    NotWatched,
    UnitStalled,
    UnitLeftBehind,
    EndpointOverQuota,
    StoreFull,
    FileUnreadable,
    NotToml,
    UnknownKey,
    TokenTwice,
    CredentialFile,
    NamedFile,
    UnusableFile,
    CertificateAge,
    FileRefused,
}

/// Code, likely cause, what to do.
type Row = (Code, &'static str, &'static str, &'static str);

const TABLES: [&[Row]; 3] = [link::TABLE, store::TABLE, config::TABLE];

impl Code {
    /// `TG-101`
    pub fn id(self) -> &'static str {
        FaultKind::from(self).code
    }

    /// All of them, in the order of the tables.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLES.into_iter().flatten().map(|row| row.0)
    }
}

/// Whether a fault means that data is lost or that something never goes on without a person. All others are tried
/// again and may mend themselves: what is down, cut or busy may come back, and what a quota refuses was to be refused.
pub fn is_grave(code: &str) -> bool {
    use Code as C;
    const GRAVE: [Code; 36] = [
        C::NotMqtt,
        C::PayloadTooLarge,
        C::Expired,
        C::WrongName,
        C::UnknownAuthority,
        C::ClientCertificateMissing,
        C::ClientCertificateRefused,
        C::TlsTooOld,
        C::NotTls,
        C::CertificateUnusable,
        C::NoCommonAlpn,
        C::TlsFiles,
        C::NoAuthorities,
        C::LoginWrong,
        C::NotAuthorized,
        C::ClientIdRefused,
        C::MqttVersion,
        C::EverythingRefused,
        C::SubscriptionRefused,
        C::AllSubscriptionsRefused,
        C::EndpointRefused,
        C::DeadLetters,
        C::DatabaseNewer,
        C::DatabaseForeign,
        C::DatabaseLocked,
        C::DirectoryUnusable,
        C::DirectoryReadOnly,
        C::DiskFull,
        C::DatabaseDamaged,
        C::DatabaseFault,
        C::LedgerOff,
        C::ControlSocket,
        C::NoThread,
        C::UnitStalled,
        C::UnitLeftBehind,
        C::StoreFull,
    ];
    // Of devices: a port that may not be opened or cannot do what it should; samples that are not taken; registers
    // and settings that are not the device's.
    const OF_DEVICES: [&str; 9] =
        ["TG-407", "TG-409", "TG-421", "TG-422", "TG-438", "TG-441", "TG-442", "TG-443", "TG-447"];
    // 3xx: somebody has to edit a file.
    code.starts_with("TG-3") || OF_DEVICES.contains(&code) || GRAVE.iter().any(|grave| grave.id() == code)
}

/// What is wrong with one thing, for `status` and from there the journal. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Notice(Arc<Mutex<Option<Fault>>>);

impl Notice {
    /// What is wrong now.
    pub fn fault(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether it is another one than before.
    pub(crate) fn set(&self, fault: Option<Fault>) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *known != fault;
        if changed {
            *known = fault;
            journal::stir();
        }
        changed
    }
}

impl From<Code> for FaultKind {
    fn from(code: Code) -> Self {
        let row = TABLES.into_iter().flatten().find(|row| row.0 == code);
        let (id, cause, todo) = row.map_or(("TG-000", "", ""), |row| (row.1, row.2, row.3));
        Self { code: id, cause, todo }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// An error of the system in words.
pub fn words(error: &io::Error) -> &'static str {
    use io::ErrorKind as K;
    match error.kind() {
        K::ConnectionRefused => "the connection was refused",
        K::ConnectionReset | K::BrokenPipe | K::ConnectionAborted => "the connection was cut",
        K::HostUnreachable => "there is no way to this host",
        K::NetworkUnreachable | K::NetworkDown | K::AddrNotAvailable => "the network cannot be reached",
        K::TimedOut => "nothing came back in time",
        K::UnexpectedEof => "the connection was closed",
        K::PermissionDenied => "this user may not do that",
        K::NotFound | K::NotADirectory => "there is no such file or directory",
        K::AlreadyExists => "a file of that name is in the way",
        K::ReadOnlyFilesystem => "the file system is read-only",
        K::StorageFull | K::QuotaExceeded => "the disk is full",
        _ => "the system refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Of the daemon, of devices, of the adapters.
    fn every_kind() -> Vec<FaultKind> {
        let mut kinds: Vec<FaultKind> = Code::all().map(FaultKind::from).collect();
        kinds.extend(adapter_api::field::ALL);
        #[cfg(feature = "modbus")]
        kinds.extend(adapter_modbus::FAULTS);
        kinds
    }

    #[test]
    fn every_code_is_given_once_and_says_what_to_do() {
        let kinds = every_kind();
        let ids: BTreeSet<_> = kinds.iter().map(|kind| kind.code).collect();
        assert_eq!(ids.len(), kinds.len());
        for FaultKind { code, cause, todo } in kinds {
            assert!(code.starts_with("TG-") && code.len() == 6, "{code}");
            for text in [cause, todo] {
                assert!(
                    text.len() > 10 && !text.ends_with('.') && !text.contains("os error"),
                    "{code}: {text}"
                );
            }
        }
        // The last one of the enum: whoever adds one, adds its line.
        assert_eq!(Code::all().count(), Code::FileRefused as usize + 1);
        assert_eq!(Code::all().collect::<BTreeSet<_>>().len(), Code::all().count());
    }

    /// Whoever adds a code judges it here.
    #[test]
    fn every_code_is_judged_and_those_that_need_a_person_are_grave() {
        let mend_themselves = "101 102 103 104 105 106 107 109 122 128 134 144 155 207 213 221 231 232 \
                               401 402 403 404 405 406 408 423 424 431 432 433 434 435 439 444 445 446 448 449";
        let grave = "108 110 121 123 124 125 126 127 129 130 131 132 133 141 142 143 145 151 152 153 154 156 \
                     201 202 203 204 205 206 208 209 210 211 212 218 219 222 \
                     301 302 303 304 305 306 307 308 309 407 409 421 422 438 441 442 443 447";
        let judged = |codes: &'static str| codes.split_whitespace().map(|code| format!("TG-{code}"));
        for code in judged(mend_themselves) {
            assert!(!is_grave(&code), "{code} may mend itself");
        }
        for code in judged(grave) {
            assert!(is_grave(&code), "{code} needs a person");
        }
        if cfg!(feature = "modbus") {
            let all: BTreeSet<String> = every_kind().iter().map(|kind| kind.code.to_owned()).collect();
            assert_eq!(judged(mend_themselves).chain(judged(grave)).collect::<BTreeSet<_>>(), all);
        }
    }
}
