//! What a failed connection means: errors of the system, of TLS and of MQTT become faults. Sans-IO.
//!
//! Not here: causes and remedies, which are in the table of `fault.rs`.

use super::mqtt::{Broken, Denied};
use crate::fault::{self, Code, Fault};
use rustls::{
    AlertDescription as Alert, CertificateError, Error as TlsError, PeerIncompatible, pki_types::UnixTime,
};
use std::io;

/// How far a connection had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// TCP.
    Connect,
    /// TLS; whether with a certificate of our own.
    Handshake { own_certificate: bool },
    /// CONNECT is sent; whether with a certificate of our own. (TLS 1.3 refuses certificates here.)
    Login { own_certificate: bool },
    /// It was in use.
    Use,
}

/// What an error of a socket or of TLS means.
pub(super) fn io(error: &io::Error, phase: Phase, place: &str) -> Fault {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        return tls(error, phase, place);
    }
    use io::ErrorKind as K;
    let over = is_over(error.kind());
    let (code, what) = match (error.kind(), phase) {
        (K::ConnectionRefused, _) => (Code::Refused, "no broker listens there: the connection was refused"),
        (K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown | K::AddrNotAvailable, _) => {
            (Code::Unreachable, fault::words(error))
        }
        (K::TimedOut, Phase::Use) => (Code::NoConfirmation, "what was sent was not taken in time"),
        (K::TimedOut, _) => (Code::Silent, "nothing came back in time"),
        (_, Phase::Handshake { .. }) if over => {
            (Code::HandshakeCut, "the connection was cut during the TLS handshake")
        }
        (_, Phase::Login { .. }) if over => {
            (Code::Closed, "the broker closed the connection without an answer to the login")
        }
        (K::UnexpectedEof, _) => (Code::Closed, "the broker closed the connection"),
        (_, Phase::Connect) if !over => (Code::Unreachable, fault::words(error)),
        _ => (Code::Lost, fault::words(error)),
    };
    Fault::new(code, what, place)
}

/// Whether the other side ended a connection: nothing on the way failed, and nothing took too long.
pub(super) fn is_hang_up(error: &io::Error) -> bool {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(error) => matches!(error, TlsError::AlertReceived(_)),
        None => is_over(error.kind()),
    }
}

fn is_over(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as K;
    matches!(
        kind,
        K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::UnexpectedEof | K::NotConnected
    )
}

/// What the end of a connection means that the broker closed.
pub(super) fn closed(phase: Phase, place: &str) -> Fault {
    io(&io::ErrorKind::UnexpectedEof.into(), phase, place)
}

/// The broker closes again and again on what is sent, with so many bytes in the air.
pub(super) fn cut_off(bytes: usize, place: &str) -> Fault {
    let what = format!("the broker closes the connection on what is sent ({bytes} bytes in the air)");
    Fault::new(Code::PayloadTooLarge, what, place)
}

/// What an MQTT connection broke on.
pub(super) fn broken(broken: &Broken, place: &str) -> Fault {
    let code = match broken {
        Broken::Denied(Denied::Version) => Code::MqttVersion,
        Broken::Denied(Denied::ClientId) => Code::ClientIdRefused,
        Broken::Denied(Denied::Unavailable) => Code::BrokerBusy,
        Broken::Denied(Denied::Login) => Code::LoginWrong,
        Broken::Denied(Denied::NotAuthorized) => Code::NotAuthorized,
        Broken::Protocol(_) => Code::NotMqtt,
        Broken::Missing(_) => Code::NoConfirmation,
    };
    let what = match broken {
        Broken::Denied(_) => broken.to_string(),
        Broken::Protocol(what) => format!("what answers there does not speak MQTT 3.1.1: {what}"),
        Broken::Missing(what) => format!("the connection is silent: {what} did not come in time"),
    };
    Fault::new(code, what, place)
}

/// What a TLS error means.
fn tls(error: &TlsError, phase: Phase, place: &str) -> Fault {
    let unknown = || (Code::Handshake, "no TLS connection can be agreed on".to_owned());
    let (code, what) = match error {
        TlsError::InvalidCertificate(certificate) => refused_by_us(certificate),
        TlsError::AlertReceived(alert) => {
            let (Phase::Handshake { own_certificate } | Phase::Login { own_certificate }) = phase else {
                return Fault::new(Code::Lost, "the platform ended the TLS connection", place);
            };
            refused_by_them(*alert, own_certificate)
        }
        TlsError::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => too_old(),
        TlsError::InvalidMessage(_) if phase != Phase::Use => {
            (Code::NotTls, "what answers there does not speak TLS".to_owned())
        }
        TlsError::InvalidMessage(_) | TlsError::DecryptError => {
            (Code::Lost, "the TLS connection was damaged on the way".to_owned())
        }
        TlsError::NoApplicationProtocol => no_alpn(),
        _ => unknown(),
    };
    Fault::new(code, what, place)
}

fn too_old() -> (Code, String) {
    (Code::TlsTooOld, "the platform's TLS is too old".to_owned())
}

fn no_alpn() -> (Code, String) {
    (Code::NoCommonAlpn, "the platform accepts none of the ALPN names offered".to_owned())
}

/// The platform's certificate does not satisfy us.
fn refused_by_us(error: &CertificateError) -> (Code, String) {
    use CertificateError as E;
    match error {
        E::ExpiredContext { not_after, .. } => {
            (Code::Expired, format!("the platform's certificate expired on {}", date(*not_after)))
        }
        E::Expired => (Code::Expired, "the platform's certificate has expired".to_owned()),
        E::NotValidYetContext { time, not_before } => {
            let (from, now) = (date(*not_before), date(*time));
            let what = format!(
                "the platform's certificate is valid from {from} on, and the clock here says it is {now}"
            );
            (Code::NotYetValid, what)
        }
        E::NotValidYet => {
            (Code::NotYetValid, "by the clock here the platform's certificate is not valid yet".to_owned())
        }
        E::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            let what =
                format!("the platform's certificate is for {names}, and not for {}", expected.to_str());
            (Code::WrongName, what)
        }
        E::NotValidForName => (Code::WrongName, "the platform's certificate is for another name".to_owned()),
        // A bad signature: an authority that was made anew under its old name.
        E::UnknownIssuer | E::BadSignature => (
            Code::UnknownAuthority,
            "the platform's certificate is signed by an authority that is not known here".to_owned(),
        ),
        _ => (Code::CertificateUnusable, "the platform's certificate cannot be used".to_owned()),
    }
}

/// Something of ours does not satisfy the platform.
fn refused_by_them(alert: Alert, own_certificate: bool) -> (Code, String) {
    let refused = |why: &str| {
        (Code::ClientCertificateRefused, format!("the platform refused this gateway's certificate{why}"))
    };
    match alert {
        Alert::ProtocolVersion | Alert::InsufficientSecurity => too_old(),
        Alert::NoApplicationProtocol => no_alpn(),
        Alert::UnrecognisedName => (Code::WrongName, "the platform knows no server of this name".to_owned()),
        Alert::CertificateRequired | Alert::NoCertificate => missing(),
        Alert::BadCertificate | Alert::CertificateUnknown | Alert::AccessDenied if !own_certificate => {
            missing()
        }
        Alert::UnknownCA => refused(": its authority is not known there"),
        Alert::CertificateExpired => refused(": it has expired"),
        Alert::CertificateRevoked => refused(": it was revoked"),
        Alert::UnsupportedCertificate => refused(": it is for another purpose"),
        Alert::BadCertificate | Alert::CertificateUnknown | Alert::DecryptError | Alert::AccessDenied => {
            refused("")
        }
        _ => (Code::Handshake, "the platform ended the TLS handshake".to_owned()),
    }
}

fn missing() -> (Code, String) {
    (Code::ClientCertificateMissing, "the platform asks for a certificate of this gateway".to_owned())
}

/// The name in the verifier's words `DnsName("name")` or `IpAddress(1.2.3.4)`.
fn bare(presented: &str) -> &str {
    let inner = presented.split_once('(').map_or(presented, |(_, inner)| inner);
    inner.strip_suffix(')').unwrap_or(inner).trim_matches('"')
}

/// `2026-01-31 13:05 UTC`
fn date(time: UnixTime) -> String {
    let known =
        i64::try_from(time.as_secs()).ok().and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok());
    let Some(at) = known else { return "a date that cannot be read".to_owned() };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02} UTC",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const WITH: Phase = Phase::Login { own_certificate: true };
    const WITHOUT: Phase = Phase::Handshake { own_certificate: false };

    fn said(error: TlsError, phase: Phase) -> String {
        io(&io::Error::new(io::ErrorKind::InvalidData, error), phase, "broker port 8883").to_string()
    }

    #[test]
    fn tls_errors_are_told_apart() {
        let at = |days: u64| UnixTime::since_unix_epoch(Duration::from_secs(days * 86_400));
        let not_yet = CertificateError::NotValidYetContext { time: at(1), not_before: at(20_000) };
        let expired = CertificateError::ExpiredContext { time: at(20_000), not_after: at(10_957) };
        let name = CertificateError::NotValidForNameContext {
            expected: "broker".try_into().unwrap(),
            presented: vec!["DnsName(\"other\")".into(), "IpAddress(10.0.0.1)".into()],
        };
        for (error, phase, start) in [
            (
                TlsError::InvalidCertificate(expired),
                WITH,
                "TG-121 the platform's certificate expired on 2000-01-01",
            ),
            (
                TlsError::InvalidCertificate(not_yet),
                WITH,
                "TG-122 the platform's certificate is valid from 2024-10-04 00:00 UTC on, and the clock here says it is \
                 1970-01-02",
            ),
            (
                TlsError::InvalidCertificate(name),
                WITH,
                "TG-123 the platform's certificate is for other, 10.0.0.1, and not for broker",
            ),
            (TlsError::InvalidCertificate(CertificateError::UnknownIssuer), WITH, "TG-124"),
            (TlsError::InvalidCertificate(CertificateError::BadSignature), WITH, "TG-124"),
            (TlsError::InvalidCertificate(CertificateError::Revoked), WITH, "TG-130"),
            (TlsError::AlertReceived(Alert::CertificateRequired), WITH, "TG-125"),
            (TlsError::AlertReceived(Alert::BadCertificate), WITHOUT, "TG-125"),
            (TlsError::AlertReceived(Alert::BadCertificate), WITH, "TG-126"),
            (TlsError::AlertReceived(Alert::UnknownCA), WITH, "TG-126"),
            (TlsError::AlertReceived(Alert::ProtocolVersion), WITH, "TG-127"),
            (PeerIncompatible::ServerDoesNotSupportTls12Or13.into(), WITH, "TG-127"),
            (TlsError::AlertReceived(Alert::NoApplicationProtocol), WITH, "TG-131"),
            (TlsError::AlertReceived(Alert::HandshakeFailure), WITH, "TG-134"),
            (TlsError::AlertReceived(Alert::InternalError), Phase::Use, "TG-105"),
        ] {
            let said = said(error, phase);
            assert!(said.starts_with(start) && said.ends_with(" (broker port 8883)"), "{start}: {said}");
        }
    }

    #[test]
    fn the_same_error_means_something_else_at_each_stage() {
        use io::ErrorKind as K;
        for (kind, phase, code) in [
            (K::ConnectionRefused, Phase::Connect, Code::Refused),
            (K::NetworkUnreachable, Phase::Connect, Code::Unreachable),
            (K::PermissionDenied, Phase::Connect, Code::Unreachable),
            (K::ConnectionReset, Phase::Connect, Code::Lost),
            (K::ConnectionReset, WITHOUT, Code::HandshakeCut),
            (K::UnexpectedEof, WITHOUT, Code::HandshakeCut),
            (K::ConnectionReset, WITH, Code::Closed),
            (K::ConnectionReset, Phase::Use, Code::Lost),
            (K::UnexpectedEof, Phase::Use, Code::Closed),
            (K::TimedOut, Phase::Connect, Code::Silent),
            (K::TimedOut, Phase::Use, Code::NoConfirmation),
        ] {
            assert_eq!(io(&kind.into(), phase, "x").code, code.id(), "{kind} at {phase:?}");
        }
        assert_eq!(closed(Phase::Use, "x").code, Code::Closed.id());
    }

    #[test]
    fn who_hangs_up_is_told_from_a_way_that_fails() {
        use io::ErrorKind as K;
        for kind in [K::ConnectionReset, K::BrokenPipe, K::UnexpectedEof] {
            assert!(is_hang_up(&kind.into()), "{kind}");
        }
        for kind in [K::TimedOut, K::HostUnreachable, K::NetworkDown] {
            assert!(!is_hang_up(&kind.into()), "{kind}");
        }
        let tls = |error: TlsError| is_hang_up(&io::Error::new(K::InvalidData, error));
        assert!(tls(TlsError::AlertReceived(Alert::InternalError)));
        assert!(!tls(TlsError::DecryptError));
    }

    #[test]
    fn a_refused_login_has_a_code_for_each_reason() {
        for (why, code) in [
            (Denied::Version, Code::MqttVersion),
            (Denied::ClientId, Code::ClientIdRefused),
            (Denied::Unavailable, Code::BrokerBusy),
            (Denied::Login, Code::LoginWrong),
            (Denied::NotAuthorized, Code::NotAuthorized),
        ] {
            let fault = broken(&Broken::Denied(why), "x");
            assert_eq!(fault.code, code.id());
            assert!(fault.what.starts_with("the broker refused the connection: "), "{fault}");
        }
    }
}
