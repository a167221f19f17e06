//! TLS 1.2 and 1.3 by rustls with ring: system roots or own CA, client certificate, server name.
//!
//! Certificates are judged by the clock's `judging_us`: a gateway that boots in 1970 remembers how late it was.
//!
//! Files are read for each connection, so that a renewed certificate is used without a restart.

use crate::{
    config::{Address, TlsConfig},
    fault::{Code, Fault},
};
use adapter_api::Clock;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    time_provider::TimeProvider,
};
use std::{path::Path, sync::Arc, time::Duration};

/// What a handshake with this address needs.
pub(super) fn configure(
    clock: &Clock,
    tls: &TlsConfig,
    address: &Address,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), Fault> {
    let (key, name) = match &tls.server_name {
        Some(name) => ("uplink.tls.server_name", name),
        None => ("uplink.urls", &address.host),
    };
    let what = || format!("{name} cannot be the name in a certificate");
    let name = ServerName::try_from(name.clone()).map_err(|_| Fault::new(Code::WrongName, what(), key))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Judging(clock.clone())))
        .with_safe_default_protocol_versions()
        .map_err(|_| unusable("uplink.tls", "this build offers no version of TLS"))?
        .with_root_certificates(roots(tls)?);
    let mut config = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => {
            let private =
                PrivateKeyDer::from_pem_file(key).map_err(|_| unreadable("uplink.tls.key_file", key))?;
            builder
                .with_client_auth_cert(certificates("uplink.tls.cert_file", cert)?, private)
                .map_err(|_| unusable("uplink.tls.cert_file", "the key does not belong to the certificate"))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = tls.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    Ok((Arc::new(config), name))
}

/// The time by which certificates are judged.
#[derive(Debug)]
struct Judging(Clock);

impl TimeProvider for Judging {
    fn current_time(&self) -> Option<UnixTime> {
        let us = u64::try_from(self.0.judging_us()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_micros(us)))
    }
}

fn roots(tls: &TlsConfig) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(file) => {
            for certificate in certificates("uplink.tls.ca_file", file)? {
                roots.add(certificate).map_err(|_| unreadable("uplink.tls.ca_file", file))?;
            }
        }
        // A root that cannot be parsed is one less, as in every other program of the system.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(Fault::new(
            Code::NoAuthorities,
            "there is no certificate authority to trust",
            "uplink.tls.ca_file",
        ));
    }
    Ok(roots)
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(unreadable(key, file)),
    }
}

fn unreadable(key: &'static str, file: &Path) -> Fault {
    unusable(key, &format!("nothing usable in {}", file.display()))
}

fn unusable(key: &'static str, what: &str) -> Fault {
    Fault::new(Code::TlsFiles, what, key)
}
