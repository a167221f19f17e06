//! PEM files: certificates and keys, read and put together. Used by `check` and by every connection.
//!
//! Not here: whom to trust, and how a handshake is made (`uplink/tls`).

use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::{fs, path::Path, time::Duration};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a file is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PemError {
    /// Not PEM, or of something else.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// It looks like one.
    #[error("a certificate in it cannot be understood")]
    BrokenCertificate,
    /// Not PEM, or of something else.
    #[error("there is no private key in it")]
    NoKey,
    /// Somebody would have to type something at every connection.
    #[error("the key in it is locked with a passphrase, which nobody can type here")]
    LockedKey,
    /// It looks like one.
    #[error("the key in it is of a kind that cannot be used")]
    BrokenKey,
    /// Each is good by itself.
    #[error("the key does not belong to the certificate")]
    Mismatch,
}

/// How long a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// It is good, and will be for so many days.
    Good(u64),
    /// It is not good yet, but in so many days.
    Early(u64),
    /// It has not been good for so many days.
    Expired(u64),
}

/// The certificates of a file, at least one.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    all.ok().filter(|all| !all.is_empty()).ok_or(PemError::NoCertificate)
}

/// The authorities of a file.
pub(crate) fn authorities(file: &Path) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|_| PemError::BrokenCertificate)?;
    }
    Ok(roots)
}

/// The key of a file.
pub(crate) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_file(file).map_err(|_| {
        // RFC 5958 §3 and RFC 1421 §4.6.1.1; the library passes over both.
        let locked = |text: String| {
            text.lines().any(|line| {
                line.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY")
                    || line.starts_with("Proc-Type: 4,ENCRYPTED")
            })
        };
        if fs::read_to_string(file).is_ok_and(locked) { PemError::LockedKey } else { PemError::NoKey }
    })
}

/// A certificate with its key.
pub(crate) fn identity(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, PemError> {
    CertifiedKey::from_der(certificates, key, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => PemError::Mismatch,
        rustls::Error::InvalidCertificate(_) => PemError::BrokenCertificate,
        _ => PemError::BrokenKey,
    })
}

/// Whether a certificate is good at this time since 1970.
pub(crate) fn age(certificate: &CertificateDer<'_>, now: Duration) -> Result<Age, PemError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate.as_ref()).map_err(|_| PemError::BrokenCertificate)?;
    let since_1970 = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let from = since_1970(parsed.validity().not_before.timestamp());
    let until = since_1970(parsed.validity().not_after.timestamp());
    let days = |time: Duration| time.as_secs() / 86_400;
    Ok(match (from.checked_sub(now), now.checked_sub(until)) {
        (Some(wait), _) if !wait.is_zero() => Age::Early(days(wait)),
        (_, Some(late)) if !late.is_zero() => Age::Expired(days(late)),
        _ => Age::Good(days(until.saturating_sub(now))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    /// A certificate of the year 2024 and its key, as PEM.
    fn made() -> (String, String) {
        let mut params = CertificateParams::new(vec!["h".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2024, 1, 1), date_time_ymd(2025, 1, 1));
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = dir.path().join("file.pem");
            fs::write(&path, text).unwrap();
            path
        };
        let ((cert, key), (_, other)) = (made(), made());
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, why) in [
            ("", PemError::NoCertificate),
            ("no PEM", PemError::NoCertificate),
            (key.as_str(), PemError::NoCertificate),
            (cert.get(..100).unwrap(), PemError::NoCertificate),
            (broken, PemError::BrokenCertificate),
        ] {
            assert_eq!(authorities(&file(text)).err(), Some(why), "{text}");
        }
        assert_eq!(authorities(&file(&(cert.clone() + &cert))).unwrap().len(), 2);
        for text in ["", "no PEM", &cert, key.get(..60).unwrap()] {
            assert_eq!(private_key(&file(text)).err(), Some(PemError::NoKey), "{text}");
        }
        for (begin, header) in [
            ("ENCRYPTED PRIVATE KEY", ""),
            ("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n"),
        ] {
            let text = format!("-----BEGIN {begin}-----\n{header}AAAA\n-----END {begin}-----\n");
            assert_eq!(private_key(&file(&text)).err(), Some(PemError::LockedKey), "{text}");
        }
        let pair = |cert: &str, key: &str| {
            identity(certificates(&file(cert)).unwrap(), private_key(&file(key)).unwrap()).map(drop)
        };
        assert_eq!(pair(&cert, &key), Ok(()));
        assert_eq!(pair(&cert, &other), Err(PemError::Mismatch));
        assert_eq!(pair(broken, &key), Err(PemError::BrokenCertificate));
    }

    #[test]
    fn the_days_of_a_certificate_are_counted() {
        let der = CertificateDer::from_pem_slice(made().0.as_bytes()).unwrap();
        // 2024 began 19,723 days after 1970, and has 366.
        for (day, expected) in [
            (0, Age::Early(19_723)),
            (19_722, Age::Early(1)),
            (19_723, Age::Good(366)),
            (20_079, Age::Good(10)),
            (20_089, Age::Good(0)),
            (20_091, Age::Expired(2)),
        ] {
            assert_eq!(age(&der, Duration::from_secs(day * 86_400)), Ok(expected), "day {day}");
        }
        assert_eq!(age(&vec![0; 9].into(), Duration::ZERO), Err(PemError::BrokenCertificate));
    }
}
