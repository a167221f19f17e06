//! TLS 1.2 and 1.3 by rustls with ring: system roots or own CA, client certificate, server name.
//!
//! Certificates are judged by the clock's `judging_us`: a gateway that boots in 1970 remembers how late it was.
//!
//! Files are read for each connection, so that a renewed certificate is used without a restart.

use super::link::LinkError;
use crate::config::{Address, TlsConfig};
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
) -> Result<(Arc<ClientConfig>, ServerName<'static>), LinkError> {
    let name = tls.server_name.clone().unwrap_or_else(|| address.host.clone());
    let name = ServerName::try_from(name.clone()).map_err(|_| LinkError::ServerName(name))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Judging(clock.clone())))
        .with_safe_default_protocol_versions()
        .map_err(LinkError::Tls)?
        .with_root_certificates(roots(tls)?);
    let config = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => {
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|_| unreadable("uplink.tls.key_file", key))?;
            builder
                .with_client_auth_cert(certificates("uplink.tls.cert_file", cert)?, key)
                .map_err(LinkError::Tls)?
        }
        _ => builder.with_no_client_auth(),
    };
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

fn roots(tls: &TlsConfig) -> Result<RootCertStore, LinkError> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(file) => {
            for certificate in certificates("uplink.tls.ca_file", file)? {
                roots.add(certificate).map_err(LinkError::Tls)?;
            }
        }
        // A root that cannot be parsed is one less, as in every other program of the system.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() { Err(LinkError::NoRoots) } else { Ok(roots) }
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(unreadable(key, file)),
    }
}

fn unreadable(key: &'static str, file: &Path) -> LinkError {
    LinkError::File { key, path: file.to_owned() }
}
