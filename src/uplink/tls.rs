//! TLS 1.2 and 1.3 by rustls with ring: system roots or own CA, client certificate, server name.
//!
//! Certificates are judged by the clock's `judging_us`: a gateway that boots in 1970 remembers how late it was.
//!
//! Files are read for each connection, so that a renewed certificate is used without a restart.

use crate::{
    config::{
        Address, TlsConfig,
        pem::{self, Age, PemError},
    },
    fault::{Code, Fault},
};
use adapter_api::Clock;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::SingleCertAndKey,
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
        .map_err(|_| Fault::new(Code::TlsFiles, "this build offers no version of TLS", "uplink.tls"))?
        .with_root_certificates(roots(tls)?);
    let mut config = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => {
            let chain = pem::certificates(cert).map_err(unusable("uplink.tls.cert_file", cert))?;
            let private = pem::private_key(key).map_err(unusable("uplink.tls.key_file", key))?;
            let identity = pem::identity(chain, private).map_err(unusable("uplink.tls.key_file", key))?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
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

/// Of these certificates the one that ends first.
pub(super) fn first_to_end(clock: &Clock, certificates: &[CertificateDer<'_>]) -> Option<Age> {
    let now = Duration::from_micros(u64::try_from(clock.judging_us()).ok()?);
    let ages = certificates.iter().filter_map(|certificate| pem::age(certificate, now).ok());
    ages.min_by_key(|age| if let Age::Good(days) = age { *days } else { 0 })
}

fn roots(tls: &TlsConfig) -> Result<RootCertStore, Fault> {
    let roots = match &tls.ca_file {
        Some(file) => pem::authorities(file).map_err(unusable("uplink.tls.ca_file", file))?,
        // A root that cannot be parsed is one less, as in every other program of the system.
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    if roots.is_empty() {
        return Err(Fault::new(
            Code::NoAuthorities,
            "there is no certificate authority to trust",
            "uplink.tls.ca_file",
        ));
    }
    Ok(roots)
}

fn unusable(key: &'static str, file: &Path) -> impl Fn(PemError) -> Fault {
    move |why| Fault::new(Code::TlsFiles, why.to_string(), format!("{key}: {}", file.display()))
}
