//! What `tidegate init` asks a person at a terminal for, where nothing was typed.

use super::Options;
use std::{
    fs,
    io::{self, BufRead, Write},
    ops::RangeInclusive,
    path::PathBuf,
};

/// A person: questions go out, answers come in.
pub(super) struct Person<R, W> {
    answers: R,
    questions: W,
}

/// What serial ports are called. Those by id stay the same when a converter is plugged in elsewhere.
const PORTS: [(&str, &str); 5] = [
    ("/dev/serial/by-id", ""),
    ("/dev", "ttyUSB"),
    ("/dev", "ttyACM"),
    ("/dev", "ttyAMA"),
    ("/dev", "ttymxc"),
];

/// No line is slower or faster.
const BAUD: RangeInclusive<i64> = 50..=4_000_000;

impl<R: BufRead, W: Write> Person<R, W> {
    pub(super) fn new(answers: R, questions: W) -> Self {
        Self { answers, questions }
    }

    /// Fills in what was not typed.
    pub(super) fn complete(&mut self, options: &mut Options) -> io::Result<()> {
        self.device(options)?;
        self.platform(options)
    }

    /// Yes or no; no at the end of the answers.
    pub(super) fn agrees(&mut self, question: &str) -> io::Result<bool> {
        Ok(self.answer(question, "no")?.to_lowercase().starts_with('y'))
    }

    fn device(&mut self, options: &mut Options) -> io::Result<()> {
        match self.choice(
            "Is there a Modbus device: on the network (tcp), on a serial line (rtu), or none?",
            "none",
            &["tcp", "rtu", "none"],
        )? {
            "tcp" => options.modbus_tcp = self.text("Its address, as HOST or HOST:PORT")?,
            "rtu" => {
                let port = serial_ports().into_iter().next().unwrap_or_else(|| "/dev/ttyUSB0".to_owned());
                options.modbus_rtu = Some(self.answer("The serial port", &port)?);
                options.baud = Some(self.number("Bits per second", "9600", BAUD)?);
                let parity = self.choice("Parity: even, odd or none?", "none", &["even", "odd", "none"])?;
                options.parity = Some(parity.to_owned());
            }
            _ => return Ok(()),
        }
        // Modbus over Serial Line V1.02 §2.2; over TCP a device without a line has any.
        let units = if options.modbus_rtu.is_some() { 1..=247 } else { 0..=255 };
        options.unit = Some(self.number("Its number on the line (unit)", "1", units)?);
        let profile = self.answer("Its profile, one of `tidegate profiles`", "found out")?;
        options.profile = Some(profile).filter(|profile| profile != "found out");
        Ok(())
    }

    fn platform(&mut self, options: &mut Options) -> io::Result<()> {
        let url = self.answer("The platform, as mqtts://HOST or mqtts://HOST:PORT", "none")?;
        if url == "none" {
            return Ok(());
        }
        if url.starts_with("mqtt://") && !super::is_local(&url) {
            options.insecure =
                self.agrees("Without TLS everything, tokens too, can be read on the way. Really?")?;
        }
        let has_tls = url.starts_with("mqtts://");
        options.uplink = Some(url);
        options.kaa = self.text("Kaa's application version; nothing for any other broker")?;
        options.username = self.text("User name; nothing for none")?;
        if options.username.is_some() {
            options.password_file = self.text("The file with its password")?.map(PathBuf::from);
        }
        if has_tls {
            let ca = "File of the authority that signed the platform's certificate; nothing for the system's";
            options.ca_file = self.text(ca)?.map(PathBuf::from);
        }
        if options.kaa.is_some() && (options.modbus_tcp.is_some() || options.modbus_rtu.is_some()) {
            options.token_file = self.text("The file with the device's token")?.map(PathBuf::from);
        }
        Ok(())
    }

    /// One of these.
    fn choice(&mut self, question: &str, default: &str, of: &[&'static str]) -> io::Result<&'static str> {
        loop {
            let answer = self.answer(question, default)?;
            if let Some(choice) = of.iter().find(|choice| **choice == answer) {
                return Ok(choice);
            }
            writeln!(self.questions, "  one of: {}", of.join(", "))?;
        }
    }

    /// One of these; what is typed wrong is not taken for the default.
    fn number<N: TryFrom<i64>>(
        &mut self,
        question: &str,
        default: &str,
        of: RangeInclusive<i64>,
    ) -> io::Result<N> {
        loop {
            let number = self.answer(question, default)?.parse().ok().filter(|number| of.contains(number));
            if let Some(number) = number.and_then(|number| N::try_from(number).ok()) {
                return Ok(number);
            }
            writeln!(self.questions, "  a number from {} to {}", of.start(), of.end())?;
        }
    }

    /// `None` for nothing.
    fn text(&mut self, question: &str) -> io::Result<Option<String>> {
        Ok(Some(self.answer(question, "")?).filter(|text| !text.is_empty()))
    }

    fn answer(&mut self, question: &str, default: &str) -> io::Result<String> {
        let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        write!(self.questions, "{question}{shown} ")?;
        self.questions.flush()?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            // Whoever closes the terminal wants nothing written.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim();
        Ok(if line.is_empty() { default } else { line }.to_owned())
    }
}

/// Those that are there, the most lasting names first.
fn serial_ports() -> Vec<String> {
    let mut ports = Vec::new();
    for (dir, prefix) in PORTS {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        let mut named: Vec<String> = named.map(|entry| entry.path().to_string_lossy().into_owned()).collect();
        named.sort();
        ports.extend(named);
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        options: Options,
    }

    fn asked(answers: &str) -> (Options, String) {
        let (mut options, mut questions) = (Typed::parse_from(["init"]).options, Vec::new());
        Person::new(answers.as_bytes(), &mut questions).complete(&mut options).unwrap();
        (options, String::from_utf8(questions).unwrap())
    }

    #[test]
    fn what_is_answered_is_as_if_it_was_typed() {
        let (options, _) = asked("\n\n");
        assert_eq!((options.modbus_tcp, options.modbus_rtu, options.uplink), (None, None, None));
        let (options, said) =
            asked("udp\ntcp\n192.0.2.1\n7\nsdm230\nmqtts://h\ndemo_v1\ngw\n/etc/p\n\n/etc/t\n");
        assert!(said.contains("one of: tcp, rtu, none"), "{said}");
        assert_eq!(options.modbus_tcp.as_deref(), Some("192.0.2.1"));
        assert_eq!((options.unit, options.profile.as_deref()), (Some(7), Some("sdm230")));
        assert_eq!((options.kaa.as_deref(), options.username.as_deref()), (Some("demo_v1"), Some("gw")));
        assert_eq!(options.password_file, Some(PathBuf::from("/etc/p")));
        assert_eq!((options.ca_file, options.token_file), (None, Some(PathBuf::from("/etc/t"))));
        let (options, said) = asked("rtu\n/dev/ttyS9\n19.200\n0\n19200\neven\n0x11\n256\n17\n\nnone\n");
        assert_eq!((options.baud, options.unit), (Some(19_200), Some(17)));
        assert_eq!(said.matches("a number from 1 to 247").count(), 2, "{said}");
        let (options, _) = asked("rtu\n/dev/ttyS9\n19200\neven\n\n\nmqtt://h\ny\n\n\n\n");
        assert_eq!((options.baud, options.parity.as_deref()), (Some(19_200), Some("even")));
        assert_eq!((options.unit, options.profile, options.insecure), (Some(1), None, true));
    }

    #[test]
    fn whoever_goes_away_has_answered_nothing() {
        let mut options = Typed::parse_from(["init"]).options;
        let asked = Person::new("tcp\n".as_bytes(), Vec::new()).complete(&mut options);
        assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
