//! What a run needs and nobody has to bring: a directory, certificates, a configuration.

use super::{
    book::{APP_VERSION, INSTANCE, TIMESTAMP},
    field::Field,
    meter::QUANTITIES,
};
use crate::{backoff::Rng, config::Config};
use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use std::{
    fmt::Write,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The platform's name, in its certificate.
const NAME: &str = "localhost";
const CA_FILE: &str = "ca.pem";
const STATE_DIR: &str = "state";

/// A directory of its own, gone with this value.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

/// A simulated endpoint, as all three sides know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Simulated {
    /// On the gateway.
    pub(super) endpoint: String,
    /// On the platform.
    pub(super) token: String,
}

/// A platform's certificate, and the authority that vouches for it.
pub(super) struct Identity {
    /// The authority, in PEM.
    pub(super) authority: String,
    /// The server's side of TLS.
    pub(super) server: Arc<ServerConfig>,
}

impl Scratch {
    /// A fresh directory where temporary files belong, closed to others.
    pub(super) fn new() -> anyhow::Result<Self> {
        let name = format!("tidegate-demo-{}-{:08x}", std::process::id(), Rng::new().u32(..));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("no directory {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where the gateway's database is.
    pub(super) fn state_dir(&self) -> PathBuf {
        self.0.join(STATE_DIR)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "the demo's directory is left behind");
        }
    }
}

impl Identity {
    /// Makes both.
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "tidegate demo authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let mut params = CertificateParams::new(vec![NAME.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "tidegate demo platform");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Self { authority: authority.pem(), server: Arc::new(server) })
    }
}

/// So many endpoints.
pub(super) fn endpoints(count: usize) -> Vec<Simulated> {
    let digits = count.to_string().len();
    let simulated =
        |n| Simulated { endpoint: format!("meter-{n:0digits$}"), token: format!("token{n:0digits$}") };
    (1..=count).map(simulated).collect()
}

/// The gateway's configuration, read and checked like a file.
pub(super) fn configuration(
    scratch: &Scratch,
    endpoints: &[Simulated],
    field: &Field,
    authority: &str,
    port: u16,
) -> anyhow::Result<Config> {
    let ca = scratch.path().join(CA_FILE);
    fs::write(&ca, authority).with_context(|| format!("{} cannot be written", ca.display()))?;
    let text = text(endpoints, field, port)?;
    match Config::parse(&text, "demo.toml", scratch.path()) {
        Ok((config, _)) => Ok(config),
        Err(findings) => anyhow::bail!("the demo's own configuration is wrong\n{findings}"),
    }
}

fn text(endpoints: &[Simulated], field: &Field, port: u16) -> anyhow::Result<String> {
    let mut text = format!(
        r#"[clock]
trust = "always"
[gateway]
state_dir = "{STATE_DIR}"
control_socket = "control.sock"

[uplink]
kind = "kaa"
urls = ["mqtts://127.0.0.1:{port}"]

[uplink.tls]
ca_file = "{CA_FILE}"
server_name = "{NAME}"

[uplink.kaa]
app_version = "{APP_VERSION}"
dcx = "{INSTANCE}"
timestamp_field = "{TIMESTAMP}"

[adapters.modbus.site]
# A busy machine is no dead meter.
timeout = "5s"
"#
    );
    for (n, Simulated { endpoint, token }) in endpoints.iter().enumerate() {
        let (host, unit) = field.place(n).context("no place for a meter")?;
        let modbus = format!("endpoints.{endpoint}.modbus");
        write!(
            text,
            "\n[endpoints.{endpoint}]\ntoken = \"{token}\"\n\n[{modbus}]\nhost = \"{host}\"\nunit = {unit}\n"
        )?;
        writeln!(text, "period = \"1s\"\n\n[{modbus}.resources]")?;
        for quantity in QUANTITIES {
            let (name, register, kind) = (quantity.name, quantity.register, quantity.kind);
            writeln!(text, "{name} = {{ register = \"input:{register}\", type = \"{kind}\" }}")?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_configuration_holds_and_the_directory_goes() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        let field = Field::start(45).await.unwrap();
        let endpoints = endpoints(45);
        assert_eq!(endpoints[0], Simulated { endpoint: "meter-01".into(), token: "token01".into() });
        let identity = Identity::new().unwrap();
        let config = configuration(&scratch, &endpoints, &field, &identity.authority, 1).unwrap();
        assert_eq!(config.endpoints.len(), 45);
        assert_eq!(config.gateway.state_dir, scratch.state_dir());
        drop(scratch);
        assert!(!path.exists());
    }
}
