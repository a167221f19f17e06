//! A first configuration, as a text with comments. Sans-IO.
//!
//! Without a device and a platform it is the file of the package, `packaging/tidegate.toml`.

use crate::cli::modbus::Wire;
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// What is to be written.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) state_dir: PathBuf,
    pub(super) control_socket: PathBuf,
    /// Nobody here says whether the clock is right.
    pub(super) in_container: bool,
    pub(super) platform: Option<Platform>,
    pub(super) device: Option<Device>,
}

/// Where readings go.
#[derive(Debug, Clone)]
pub(super) struct Platform {
    pub(super) url: String,
    /// Kaa's application version; without it any broker.
    pub(super) kaa: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
}

/// What is read.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) wire: Wire,
    pub(super) unit: u8,
    pub(super) endpoint: String,
    /// In place of a token that is the endpoint's name.
    pub(super) token_file: Option<PathBuf>,
    pub(super) profile: Option<String>,
    /// Without a profile.
    pub(super) register: &'static str,
}

/// Where the packaged service has its files.
const PACKAGED: &str = "/etc/tidegate";

impl Draft {
    /// For this file: one of the package or of an instance has the directories of its service, any other one beside it.
    pub(super) fn of(file: &Path) -> Self {
        let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or("tidegate");
        let packaged = file.parent() == Some(Path::new(PACKAGED));
        let (state_dir, control_socket) = match (packaged, name) {
            (true, "tidegate") => ("/var/lib/tidegate".into(), "/run/tidegate/control.sock".into()),
            (true, _) => (
                PathBuf::from(format!("/var/lib/tidegate/{name}")),
                PathBuf::from(format!("/run/tidegate-{name}/control.sock")),
            ),
            (false, _) => ("state".into(), "state/control.sock".into()),
        };
        Self { state_dir, control_socket, in_container: false, platform: None, device: None }
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        let mut text = self.heading();
        self.gateway(&mut text);
        match &self.platform {
            Some(platform) => platform.write(&mut text),
            None => text.push_str(NO_PLATFORM),
        }
        match &self.device {
            Some(device) => device.write(&mut text),
            None => text.push_str(NO_DEVICE),
        }
        text
    }

    fn heading(&self) -> String {
        let what = match (&self.device, &self.platform) {
            (None, None) => "a gateway that reads nothing yet and has no platform.",
            (None, Some(_)) => "a gateway that reads nothing yet.",
            (Some(_), None) => "one device, and no platform yet.",
            (Some(_), Some(_)) => "one device, and a platform.",
        };
        let mut text = format!(
            "# The configuration of tidegate: {what}\n\
             # Every key is explained in /usr/share/doc/tidegate/config.example.toml.gz.\n\
             # After a change:  tidegate check && systemctl reload tidegate\n\
             # Then:            tidegate status, and tidegate doctor if something is wrong\n"
        );
        if self.device.is_none() && self.platform.is_none() {
            text.push_str(
                "# Anew:            tidegate init --force, which asks, and tries device and platform\n",
            );
            text.push_str(
                "# To play with:    tidegate simulate modbus --profile sdm230    (on 127.0.0.1:5020)\n",
            );
        }
        text
    }

    fn gateway(&self, text: &mut String) {
        put(text, "\n[gateway]\n# Readings wait here until the platform has confirmed them.");
        put(text, &format!("state_dir = {}", quoted(&self.state_dir.to_string_lossy())));
        put(text, &format!("control_socket = {}\n", quoted(&self.control_socket.to_string_lossy())));
        if self.in_container {
            put(
                text,
                "[clock]\ntrust = \"always\"          # in a container nobody says whether the clock is right\n",
            );
        }
    }
}

const NO_PLATFORM: &str = "\
[uplink]
# \"kaa\" (Kaa 1/KP), \"plain\" (any MQTT broker), or \"none\": readings are kept and go nowhere.
kind = \"none\"
# urls = [\"mqtts://mqtt.example.com:8883\"]
# username = \"gateway-1\"
# password_file = \"password\"             # beside this file: only root and the gateway look in here

# [uplink.plain]
# topic = \"site/{endpoint}/telemetry\"
";

const NO_DEVICE: &str = "
# A line of devices: by network (host), or on a serial port (port, baud, parity).
# [adapters.modbus.site]
# host = \"192.0.2.10:502\"
# port = \"/dev/ttyUSB0\"
# baud = 9600
# parity = \"none\"

# A device on it. `tidegate profiles` lists the models that are known.
# [endpoints.meter-1]
# token = \"meter-1\"
# [endpoints.meter-1.modbus]
# unit = 1
# profile = \"sdm230\"
";

impl Platform {
    fn write(&self, text: &mut String) {
        put(text, "[uplink]");
        let kind = if self.kaa.is_some() { "kaa" } else { "plain" };
        put(text, &format!("kind = \"{kind}\"\nurls = [{}]", quoted(&self.url)));
        if self.url.starts_with("mqtt://") {
            put(
                text,
                "insecure = true                         # without TLS: tokens too can be read on the way",
            );
        }
        match (&self.username, &self.password_file) {
            (Some(name), file) => {
                put(text, &format!("username = {}", quoted(name)));
                if let Some(file) = file {
                    put(text, &format!("password_file = {}", quoted(&file.to_string_lossy())));
                }
            }
            (None, _) => put(text, "# username = \"gateway-1\"\n# password_file = \"password\""),
        }
        if let Some(file) = &self.ca_file {
            let file = quoted(&file.to_string_lossy());
            put(
                text,
                &format!("\n[uplink.tls]\nca_file = {file}        # in place of the system's authorities"),
            );
        }
        match &self.kaa {
            Some(version) => put(text, &format!("\n[uplink.kaa]\napp_version = {}", quoted(version))),
            None => put(text, "\n[uplink.plain]\ntopic = \"site/{endpoint}/telemetry\""),
        }
    }
}

impl Device {
    fn write(&self, text: &mut String) {
        put(text, "\n[adapters.modbus.site]");
        match &self.wire {
            Wire::Tcp(host) => put(text, &format!("host = {}", quoted(host))),
            Wire::Rtu { port, baud, parity, stop_bits } => {
                put(text, &format!("port = {}", quoted(port)));
                put(text, &format!("baud = {baud}\nparity = {}", quoted(parity)));
                if let Some(bits) = stop_bits {
                    put(text, &format!("stop_bits = {bits}"));
                }
            }
        }
        // A name of letters, digits, '.', '_' and '-'; a dot would begin another table.
        let name = if self.endpoint.contains('.') { quoted(&self.endpoint) } else { self.endpoint.clone() };
        put(text, &format!("\n[endpoints.{name}]"));
        match &self.token_file {
            Some(file) => put(text, &format!("token_file = {}", quoted(&file.to_string_lossy()))),
            None => put(text, &format!("token = {}", quoted(&self.endpoint))),
        }
        put(text, &format!("[endpoints.{name}.modbus]\nunit = {}", self.unit));
        match &self.profile {
            Some(profile) => put(text, &format!("profile = {}", quoted(profile))),
            None => {
                put(text, &format!("[endpoints.{name}.modbus.resources]"));
                let found = "by what the display shows: tidegate modbus find 231.4 ...";
                put(
                    text,
                    &format!("value = {{ register = \"{}\", type = \"u16\" }}  # {found}", self.register),
                );
            }
        }
    }
}

fn put(text: &mut String, lines: &str) {
    let _infallible = writeln!(text, "{lines}");
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        let _infallible = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            c if adapter_api::steers(c) => write!(quoted, "\\u{:04X}", u32::from(c)),
            c => write!(quoted, "{c}"),
        };
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const PACKAGED_FILE: &str = include_str!("../../../packaging/tidegate.toml");

    #[test]
    fn the_packaged_file_is_what_is_written_without_device_and_platform() {
        let text = Draft::of(Path::new("/etc/tidegate/tidegate.toml")).text();
        assert_eq!(text, PACKAGED_FILE, "packaging/tidegate.toml is to be written anew");
    }

    #[test]
    fn every_draft_is_short_and_good() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["ca.pem", "password", "token"] {
            std::fs::write(dir.path().join(file), "SECRET").unwrap();
        }
        let ca = rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap().cert.pem();
        std::fs::write(dir.path().join("ca.pem"), ca).unwrap();
        let serial = Wire::Rtu {
            port: "/dev/serial/by-id/a \"b\"".to_owned(),
            baud: 9_600,
            parity: "none".to_owned(),
            stop_bits: Some(1),
        };
        let files = ["/etc/tidegate/tidegate.toml", "/etc/tidegate/second.toml", "gateway.toml"];
        let mut longest = 0;
        for n in 0..96_usize {
            let is = |bit: usize| n >> bit & 1 == 1;
            let mut draft = Draft::of(Path::new(files[n / 32]));
            draft.in_container = is(0);
            let full = |file: &str| is(1).then(|| file.into());
            draft.platform = is(2).then(|| Platform {
                url: if is(3) { "mqtts://h\u{e9}" } else { "mqtt://localhost" }.replace('\u{e9}', ""),
                kaa: full("demo_v1"),
                username: full("a\"b"),
                password_file: full("password").map(|file: String| file.into()),
                ca_file: full("ca.pem").map(|file: String| file.into()),
            });
            draft.device = is(4).then(|| Device {
                wire: if is(3) { serial.clone() } else { Wire::Tcp("192.0.2.1:502".to_owned()) },
                unit: 7,
                endpoint: "meter.1".to_owned(),
                token_file: full("token").map(|file: String| file.into()),
                profile: is(1).then(|| "sdm230".to_owned()),
                register: "input:0",
            });
            let text = draft.text();
            longest = longest.max(text.lines().count());
            let parsed = Config::parse(&text, "F", dir.path());
            let (config, _) = parsed.unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
            assert_eq!(config.endpoints.len(), usize::from(is(4)), "{text}");
        }
        assert!((30..40).contains(&longest), "{longest} lines");
    }
}
