//! What a person sees meanwhile: a table redrawn in place on a terminal, else a line now and then.

use super::{
    meter::{QUANTITIES, Quantity},
    platform::Platform,
    setup::Simulated,
};
use crate::control::view::{View, ViewError};
use serde_json::Value;
use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    time::Duration,
};

/// Endpoints shown one by one, and lines for all of them: the whole fits on 24 lines.
const ENDPOINTS: usize = 4;
const LINES: usize = 16;

/// Where it is shown.
pub(super) struct Screen {
    out: Box<dyn Write + Send>,
    mode: Mode,
    /// Lines of the last table, to be drawn over.
    drawn: usize,
}

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Table,
    Lines,
    Nothing,
}

/// Where the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Since when, and for how long.
    Polling(Duration, Duration),
    /// Nothing new comes in.
    Draining,
}

/// One look at everything.
#[derive(Debug)]
pub(super) struct Look {
    stage: Stage,
    platform_open: bool,
    uplink: String,
    endpoints: usize,
    offered: u64,
    queued: u64,
    landed: u64,
    resent: u64,
    shown: Vec<Shown>,
}

/// An endpoint that is shown.
#[derive(Debug)]
struct Shown {
    endpoint: String,
    queued: u64,
    landed: u64,
    /// Resource, value with its unit, age.
    values: Vec<(&'static str, String, String)>,
}

impl Screen {
    /// Standard output; nothing is shown there if `quiet`, and nothing is drawn over if `log` shares it.
    pub(super) fn stdout(quiet: bool, log: bool) -> Self {
        let out = io::stdout();
        let mode = match (quiet, out.is_terminal() && !log) {
            (true, _) => Mode::Nothing,
            (false, true) => Mode::Table,
            (false, false) => Mode::Lines,
        };
        Self { out: Box::new(out), mode, drawn: 0 }
    }

    /// Nowhere.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        Self { out: Box::new(io::sink()), mode: Mode::Nothing, drawn: 0 }
    }

    /// How often it is worth a look; `None` if nobody looks.
    pub(super) fn pace(&self) -> Option<Duration> {
        match self.mode {
            Mode::Table => Some(Duration::from_millis(500)),
            Mode::Lines => Some(Duration::from_secs(1)),
            Mode::Nothing => None,
        }
    }

    /// Shows it.
    pub(super) fn show(&mut self, look: &Look) {
        let text = match self.mode {
            Mode::Table => {
                let lines = look.table();
                let mut text = match self.drawn {
                    0 => String::new(),
                    drawn => format!("\x1b[{drawn}F"),
                };
                self.drawn = lines.len();
                lines.iter().for_each(|line| text += &format!("{line}\x1b[K\n"));
                text + "\x1b[J"
            }
            Mode::Lines => look.line() + "\n",
            Mode::Nothing => return,
        };
        if self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).is_err() {
            // Whoever looked has gone; the counts are still wanted.
            self.mode = Mode::Nothing;
        }
    }
}

impl Look {
    /// Asks the gateway, as `tidegate status` would, and the platform.
    pub(super) async fn take(
        view: &View,
        platform: &Platform,
        endpoints: &[Simulated],
        stage: Stage,
    ) -> Result<Self, ViewError> {
        let status = view.status().await?;
        let queue = view.queue().await?;
        let mut queued = HashMap::new();
        for lane in queue.get("lanes").and_then(Value::as_array).into_iter().flatten() {
            let endpoint = lane.get("endpoint").and_then(Value::as_str).unwrap_or_default();
            *queued.entry(endpoint).or_default() += number(lane.get("queued"));
        }
        let some = endpoints.len().min(ENDPOINTS);
        let lines = LINES.checked_div(some).unwrap_or_default();
        let mut shown = Vec::new();
        for Simulated { endpoint, token } in endpoints.iter().take(some) {
            let values = values(&view.latest(endpoint, None).await?, lines);
            shown.push(Shown {
                endpoint: endpoint.clone(),
                queued: queued.get(endpoint.as_str()).copied().unwrap_or_default(),
                // The platform's own figure: the ledger has none per endpoint.
                landed: platform.book().samples_of(token),
                values,
            });
        }
        let offered = number(status.get("ledger").and_then(|ledger| ledger.get("offered")));
        let uplink = status.get("uplink").and_then(|uplink| uplink.get("state")).and_then(Value::as_str);
        let received = platform.book().received();
        Ok(Self {
            stage,
            platform_open: platform.is_open(),
            uplink: uplink.unwrap_or_default().to_owned(),
            endpoints: endpoints.len(),
            offered,
            // Of the lanes: the ledger learns of a confirmation with the delete, up to a second later.
            queued: queued.values().sum(),
            landed: received.samples,
            resent: received.resent,
            shown,
        })
    }

    fn table(&self) -> Vec<String> {
        let meters = if self.endpoints == 1 { "1 meter" } else { &format!("{} meters", self.endpoints) };
        let title = format!("{meters} -> Modbus TCP -> gateway -> MQTT/TLS -> platform");
        let mut lines = vec![format!("{title:<60}{:>19}", self.stage.text()), String::new()];
        let row = |endpoint: &str, resource: &str, value: &str, age: &str, queued: &str, landed: &str| {
            format!("{endpoint:<14}{resource:<12}{value:>14}{age:>10}{queued:>12}{landed:>17}")
        };
        lines.push(row("ENDPOINT", "RESOURCE", "VALUE", "AGE", "QUEUED", "LANDED"));
        for shown in &self.shown {
            let (mut endpoint, mut queued) = (shown.endpoint.as_str(), shown.queued.to_string());
            let mut landed = shown.landed.to_string();
            if shown.values.is_empty() {
                lines.push(row(endpoint, "-", "", "", &queued, &landed));
            }
            for (resource, value, age) in &shown.values {
                lines.push(row(endpoint, resource, value, age, &queued, &landed));
                endpoint = "";
                queued.clear();
                landed.clear();
            }
        }
        let all = match self.endpoints - self.shown.len() {
            0 => "all".to_owned(),
            more => format!("all, with {more} more"),
        };
        lines.push(format!("{all:<50}{:>12}{:>17}", self.queued, self.landed));
        lines.push(String::new());
        let platform = match self.platform_open {
            true => "up",
            false => "\x1b[7m AWAY \x1b[0m it drops and refuses connections: the backlog grows",
        };
        lines.push(format!("platform  {platform}"));
        lines.push(format!("gateway   {}; samples sent again so far: {}", self.uplink, self.resent));
        lines
    }

    fn line(&self) -> String {
        let platform = if self.platform_open { "up" } else { "AWAY" };
        let mut line = format!("{:<21} platform {platform:<5}uplink {:<11}", self.stage.text(), self.uplink);
        for (name, count) in [("offered", self.offered), ("queued", self.queued), ("landed", self.landed)] {
            // Writing to a string cannot fail.
            let _infallible = write!(line, " {name} {count:<6}");
        }
        line.trim_end().to_owned()
    }
}

impl Stage {
    fn text(self) -> String {
        match self {
            Self::Polling(since, length) => format!("{} s of {} s", since.as_secs(), length.as_secs()),
            Self::Draining => "polling has stopped".to_owned(),
        }
    }
}

fn values(latest: &Value, lines: usize) -> Vec<(&'static str, String, String)> {
    let all = || latest.get("values").and_then(Value::as_array).into_iter().flatten();
    let of =
        |quantity: &Quantity| all().find(|value| value.get("resource") == Some(&Value::from(quantity.name)));
    let shown = |quantity: &Quantity| {
        let latest = of(quantity)?;
        let value = latest.get("value").map(ToString::to_string).unwrap_or_default();
        let age_ms = number(latest.get("age_ms"));
        let age = format!("{}.{} s", age_ms / 1_000, age_ms % 1_000 / 100);
        Some((quantity.name, format!("{value} {:<2}", quantity.unit), age))
    };
    QUANTITIES.iter().filter_map(shown).take(lines).collect()
}

fn number(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn look(endpoints: usize) -> Look {
        let latest = json!({ "values": QUANTITIES.map(|q| json!({ "resource": q.name, "value": 230.25, "age_ms": 1_234 })) });
        let some = endpoints.min(ENDPOINTS);
        let shown = |n| Shown {
            endpoint: format!("meter-{n:04}"),
            queued: 12,
            landed: 3_456,
            values: values(&latest, LINES / some),
        };
        Look {
            stage: Stage::Polling(Duration::from_millis(3_599_999), Duration::from_secs(3_600)),
            platform_open: false,
            uplink: "connecting".into(),
            endpoints,
            offered: 7_200_000,
            queued: 1_800_000,
            landed: 5_400_000,
            resent: 100_000,
            shown: (0..some).map(shown).collect(),
        }
    }

    #[test]
    fn the_table_fits_on_a_small_terminal() {
        for endpoints in [1, 2, 3, 4, 5, 2_000] {
            let table = look(endpoints).table();
            assert!(table.len() < 24, "{endpoints}: {} lines", table.len());
            for line in &table {
                let width = line.replace("\x1b[7m", "").replace("\x1b[0m", "").len();
                assert!(width < 80, "{endpoints}: {width} columns: {line}");
            }
        }
        assert_eq!(look(1).table().len(), 3 + QUANTITIES.len() + 4);
    }

    #[test]
    fn it_is_drawn_over_and_a_line_is_one_line() {
        let mut screen = Screen { mode: Mode::Table, ..Screen::nowhere() };
        screen.show(&look(4));
        assert_eq!(screen.drawn, look(4).table().len());
        assert_eq!(
            look(4).line(),
            "3599 s of 3600 s      platform AWAY uplink connecting  offered 7200000 queued 1800000 landed 5400000"
        );
    }
}
