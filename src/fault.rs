//! What an operator can see go wrong: a code `TG-xxx`, what it is, where, the likely cause, what to do.
//!
//! The table of causes and remedies is here, so that they are read and weighed side by side; what
//! exactly happened, and where, is filled in by whoever noticed it. No type names of the program, no
//! bare errors of the system, no secrets. A code is never given to another meaning.

use crate::config::escape::shown;
use serde::{Serialize, Serializer};
use std::{borrow::Cow, fmt, io};

/// What kind of fault it is. 1xx: the way to the platform; 2xx: the database; 3xx: the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the table below says it")]
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
    DatabaseNewer,
    DatabaseForeign,
    DatabaseLocked,
    DirectoryUnusable,
    DirectoryReadOnly,
    DatabaseFault,
    ControlSocket,
    EndpointOverQuota,
    StoreFull,
    FileUnreadable,
    NotToml,
    UnknownKey,
    TokenTwice,
    CredentialFile,
    NamedFile,
}

/// Code, likely cause, what to do.
type Row = (Code, &'static str, &'static str, &'static str);

const TABLE: &[Row] = &[
    (
        Code::NameUnknown,
        "TG-101",
        "the name is misspelt, or this machine has no name server or no way to it",
        "compare uplink.urls with the platform's documentation; try `getent hosts NAME` here",
    ),
    (
        Code::Refused,
        "TG-102",
        "the machine is there, but no broker listens on this port: it is being restarted, or the port is another",
        "compare the port in uplink.urls (8883 is usual with TLS, 1883 without); ask the platform's operator",
    ),
    (
        Code::Unreachable,
        "TG-103",
        "this machine has no network, no route to that address, or a wrong gateway address",
        "look at the cable, the modem and `ip route`; with IPv6 only, try an address that has IPv4",
    ),
    (
        Code::Silent,
        "TG-104",
        "a firewall drops what is sent, the machine is off, or the link is too slow",
        "ask whether this port is open towards the platform; on a slow link raise uplink.confirm_timeout",
    ),
    (
        Code::Lost,
        "TG-105",
        "the broker was restarted, or something on the way (modem, firewall, NAT) gave the connection up",
        "nothing, if it comes back; if it happens at regular intervals, lower uplink.keep_alive",
    ),
    (
        Code::Closed,
        "TG-106",
        "before the login is answered: login, certificate or client id are not accepted; later: the broker was stopped, \
         or another gateway uses the same uplink.client_id",
        "look into the broker's log; see that no two gateways share a client id",
    ),
    (
        Code::NoConfirmation,
        "TG-107",
        "the connection is open but dead on the way (half-open), or the link is slower than what is due on it",
        "nothing, if it comes back; on a slow link raise uplink.confirm_timeout",
    ),
    (
        Code::NotMqtt,
        "TG-108",
        "the address is not that of an MQTT broker, or a device on the way changes what is sent",
        "compare host and port in uplink.urls with the platform's documentation",
    ),
    (
        Code::NoReplies,
        "TG-109",
        "the broker takes what is sent, but the platform behind it is down, or listens on other topics",
        "ask the platform's operator; compare [uplink.kaa] app_version and dcx with the platform",
    ),
    (
        Code::Expired,
        "TG-121",
        "it was not renewed in time, or the clock of this machine is ahead",
        "look at `date`; if it is right, the platform's operator has to renew the certificate",
    ),
    (
        Code::NotYetValid,
        "TG-122",
        "the clock of this machine is behind, as it is after a power cut without a battery",
        "set the clock, or let it be set over the network (`timedatectl`); the gateway goes on by itself then",
    ),
    (
        Code::WrongName,
        "TG-123",
        "uplink.urls names the platform by an address or by another name than its certificate does",
        "use the name in the certificate, or set it as server_name in [uplink.tls]",
    ),
    (
        Code::UnknownAuthority,
        "TG-124",
        "the platform has an authority of its own, or something on the way (a proxy) shows its own certificate",
        "get the authority's certificate from the platform and name it in [uplink.tls] ca_file",
    ),
    (
        Code::ClientCertificateMissing,
        "TG-125",
        "the platform lets nobody in without a certificate",
        "get one from the platform and set cert_file and key_file in [uplink.tls]",
    ),
    (
        Code::ClientCertificateRefused,
        "TG-126",
        "it is of another authority than the platform expects, expired, revoked, or of another gateway",
        "look at it with `openssl x509 -in FILE -noout -text`; get a new one from the platform",
    ),
    (
        Code::TlsTooOld,
        "TG-127",
        "the platform offers TLS 1.1 or older only; this gateway speaks TLS 1.2 and 1.3",
        "the platform's operator has to allow TLS 1.2; there is no switch for less here",
    ),
    (
        Code::HandshakeCut,
        "TG-128",
        "the port is not one with TLS, or a firewall ends TLS connections that it cannot look into",
        "compare the port in uplink.urls; ask whether TLS to it is allowed; on port 443 try alpn in [uplink.tls]",
    ),
    (
        Code::NotTls,
        "TG-129",
        "the port is not one with TLS (1883 usually is not, 8883 is), or a proxy answers in place of the platform",
        "compare the port in uplink.urls with the platform's documentation",
    ),
    (
        Code::CertificateUnusable,
        "TG-130",
        "it is broken, revoked, made for another purpose, or an authority's certificate used for a server",
        "the platform's operator has to replace it by a certificate for servers, signed by an authority",
    ),
    (
        Code::NoCommonAlpn,
        "TG-131",
        "the platform knows none of the protocols in [uplink.tls] alpn",
        "use the name the platform documents for this port, or remove alpn",
    ),
    (
        Code::TlsFiles,
        "TG-132",
        "the file is missing, unreadable for the gateway's user, not PEM, or key and certificate do not belong together",
        "put the file right; it is read again at the next connection, without a restart",
    ),
    (
        Code::NoAuthorities,
        "TG-133",
        "neither [uplink.tls] ca_file nor the system names an authority",
        "install the package ca-certificates, or set ca_file in [uplink.tls]",
    ),
    (
        Code::Handshake,
        "TG-134",
        "both sides have no cipher in common, or the platform wants a client certificate",
        "look into the platform's log; ask its operator which TLS settings it needs",
    ),
    (
        Code::LoginWrong,
        "TG-141",
        "user name or password are misspelt, or were changed on the platform",
        "put uplink.username and the file of uplink.password_file right, and restart the gateway",
    ),
    (
        Code::NotAuthorized,
        "TG-142",
        "the platform knows no such login or certificate, or has blocked it",
        "look at this gateway's credentials on the platform",
    ),
    (
        Code::ClientIdRefused,
        "TG-143",
        "the platform prescribes the client id, or allows fewer characters in it",
        "set uplink.client_id as the platform prescribes it",
    ),
    (
        Code::BrokerBusy,
        "TG-144",
        "the platform is starting, overloaded or under maintenance",
        "nothing; if it lasts, ask the platform's operator",
    ),
    (
        Code::MqttVersion,
        "TG-145",
        "the broker speaks another version of MQTT only; this gateway speaks 3.1.1",
        "the platform's operator has to allow MQTT 3.1.1",
    ),
    (
        Code::EverythingRefused,
        "TG-151",
        "the application's version is not the one on the platform, or all tokens were revoked",
        "compare [uplink.kaa] app_version and the tokens with the platform; what is queued is kept",
    ),
    (
        Code::SubscriptionRefused,
        "TG-152",
        "the broker's access rules do not let this gateway hear the replies for this endpoint",
        "the platform's operator has to allow it; what is queued for the endpoint is kept",
    ),
    (
        Code::AllSubscriptionsRefused,
        "TG-153",
        "the broker's access rules do not allow the filter that all endpoints share",
        "set [uplink.kaa] subscribe = \"per-endpoint\", or have the filter allowed; what is queued is kept",
    ),
    (
        Code::EndpointRefused,
        "TG-154",
        "its token was revoked or never existed there, or the platform has removed the endpoint",
        "compare the endpoint's token with the platform; what is queued for it is kept",
    ),
    (
        Code::SessionRefused,
        "TG-155",
        "the platform wants this gateway to connect anew",
        "nothing, if it comes back; else ask the platform's operator",
    ),
    (
        Code::DatabaseNewer,
        "TG-201",
        "a newer version of the program ran here before, and this one would not understand its data",
        "install the newer version again; the database was not touched",
    ),
    (
        Code::DatabaseForeign,
        "TG-202",
        "gateway.state_dir names a directory in which another program keeps its data",
        "set gateway.state_dir to a directory of its own; the file was not touched",
    ),
    (
        Code::DatabaseLocked,
        "TG-203",
        "the gateway runs already, as a service or by hand",
        "stop the other one (`systemctl stop tidegate`), or give this one its own gateway.state_dir",
    ),
    (
        Code::DirectoryUnusable,
        "TG-204",
        "it does not exist and cannot be made, or belongs to another user",
        "create it and give it to the gateway's user, or set gateway.state_dir",
    ),
    (
        Code::DirectoryReadOnly,
        "TG-205",
        "the file system is mounted read-only, as Linux does by itself when the disk or card fails",
        "look at `mount` and `dmesg`; remount it writable or replace the card",
    ),
    (
        Code::DatabaseFault,
        "TG-209",
        "the file is damaged, or the disk full or failing",
        "look at `df` and `dmesg`; keep a copy of the file before anything else is tried",
    ),
    (
        Code::ControlSocket,
        "TG-211",
        "its directory does not exist or belongs to another user; the service makes /run/tidegate by itself",
        "create the directory and give it to the gateway's user, or set gateway.control_socket",
    ),
    (
        Code::EndpointOverQuota,
        "TG-221",
        "the device sends more than was planned for it, or the quota is too small for it",
        "slow the device down, or raise the quota in [quota] or [endpoints.NAME.quota]; no other endpoint is concerned",
    ),
    (
        Code::StoreFull,
        "TG-222",
        "the platform was away for so long, or the disk is full, and store.when_full is \"refuse\"",
        "bring the uplink back, or raise store.max_bytes if the disk allows it; reading goes on by itself",
    ),
    (
        Code::FileUnreadable,
        "TG-301",
        "the path is misspelt, or this user may not read it",
        "compare the path with `ls -l`; the packaged file is /etc/tidegate/tidegate.toml",
    ),
    (
        Code::NotToml,
        "TG-302",
        "a quote, bracket or equals sign is missing or too many, often a line above",
        "look at the line that is named and the one above; config.example.toml shows every form",
    ),
    (
        Code::UnknownKey,
        "TG-303",
        "the key is misspelt, stands in another table, or belongs to a newer version",
        "compare it with config.example.toml",
    ),
    (
        Code::TokenTwice,
        "TG-304",
        "an endpoint was copied and its token was not changed",
        "give each endpoint the token the platform issued for it",
    ),
    (
        Code::CredentialFile,
        "TG-305",
        "it was not created, lies elsewhere, or belongs to another user",
        "create the file with nothing but the credential in it, readable by the gateway's user (mode 0640)",
    ),
    (
        Code::NamedFile,
        "TG-306",
        "it was not created, lies elsewhere, or belongs to another user",
        "name a file that the gateway's user may read",
    ),
];

/// A fault as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Which one of the table.
    pub code: Code,
    /// What happened.
    pub what: String,
    /// A key, a device, an address.
    #[serde(rename = "where")]
    pub place: String,
    /// What it mostly comes from.
    pub cause: Cow<'static, str>,
    /// What a person can do.
    pub todo: Cow<'static, str>,
}

impl Code {
    /// `TG-101`
    pub fn id(self) -> &'static str {
        self.row().map_or("TG-000", |row| row.1)
    }

    /// All of them, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.0 == self)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl Fault {
    /// A fault with the cause and the remedy of the table.
    pub fn new(code: Code, what: impl Into<String>, place: impl Into<String>) -> Self {
        let (cause, todo) = code.row().map_or(("", ""), |row| (row.2, row.3));
        Self { code, what: what.into(), place: place.into(), cause: cause.into(), todo: todo.into() }
    }

    /// Into the journal: nothing goes on without a person.
    pub fn log_error(&self, result: &'static str) {
        let Self { code, what, place, cause, todo } = self;
        tracing::error!(
            code = code.id(),
            what,
            r#where = place,
            cause = &**cause,
            todo = &**todo,
            "{result}"
        );
    }

    /// Into the journal: it is worse than it was, and mends itself.
    pub fn log_warning(&self, result: &'static str) {
        let Self { code, what, place, cause, todo } = self;
        tracing::warn!(code = code.id(), what, r#where = place, cause = &**cause, todo = &**todo, "{result}");
    }

    /// The four parts on lines of their own, escaped.
    pub fn lines(&self) -> String {
        format!(
            "{} {}\n  where: {}\n  cause: {}\n  to do: {}",
            self.code.id(),
            shown(&self.what),
            shown(&self.place),
            shown(&self.cause),
            shown(&self.todo)
        )
    }
}

/// Code and what happened, on one line.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.code.id(), shown(&self.what), shown(&self.place))
    }
}

impl std::error::Error for Fault {}

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

    #[test]
    fn every_code_is_given_once_and_says_what_to_do() {
        let ids: BTreeSet<_> = TABLE.iter().map(|row| row.1).collect();
        let codes: BTreeSet<_> = Code::all().collect();
        assert_eq!((ids.len(), codes.len()), (TABLE.len(), TABLE.len()));
        for (_, id, cause, todo) in TABLE {
            assert!(id.starts_with("TG-") && id.len() == 6, "{id}");
            for text in [cause, todo] {
                assert!(
                    text.len() > 10 && !text.ends_with('.') && !text.contains("os error"),
                    "{id}: {text}"
                );
            }
        }
        // The last one of the enum: whoever adds one, adds its line.
        assert_eq!(Code::all().count(), Code::NamedFile as usize + 1);
    }

    #[test]
    fn a_fault_is_told_in_four_parts_and_escaped() {
        let fault = Fault::new(Code::Refused, "no\u{1b}[2J", "broker port 1");
        assert_eq!(fault.to_string(), "TG-102 no\\u{1b}[2J (broker port 1)");
        assert_eq!(fault.lines().lines().count(), 4);
        assert_eq!(serde_json::to_value(&fault).unwrap()["where"], "broker port 1");
    }
}
