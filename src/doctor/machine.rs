//! The machine around the gateway: its clock, how many files it may watch.

use super::{Finding, person::Person, running::Running};
use crate::{config::Config, trust::watch::sign_now};
use std::{fs, os::unix::fs::MetadataExt as _};

const CLOCK: &str = "clock";
const WATCHES: &str = "watches";

/// Whether the time is known.
pub(super) async fn clock(config: &Config, running: &Running) -> Finding {
    let known = running.status("/clock/known").as_bool();
    let by = running.status("/clock/by").as_str().map(str::to_owned);
    let (known, by) = match known {
        Some(known) => (known, by),
        None => {
            let sign = sign_now(config.clock.trust).await;
            (sign.is_some(), sign.map(|sign| sign.words().to_owned()))
        }
    };
    if known {
        return Finding::ok(CLOCK, format!("the time is known by {}", by.unwrap_or_default()));
    }
    let todo = "see with `timedatectl` whether an NTP server can be reached; where the clock is right by other means, as \
                in a container: trust = \"always\" in [clock]";
    Finding {
        cause: "no time service has set the clock since the boot: there is none, or no way to its server"
            .to_owned(),
        place: "clock.trust".to_owned(),
        ..Finding::warning(CLOCK, "nobody says that the clock of this machine is right", todo)
    }
}

/// Whether the gateway can watch its configuration for changes.
pub(super) fn watches(person: &Person, gateway: Option<u32>, unit: &str) -> Finding {
    let limit = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
        text.trim().parse::<usize>().ok()
    };
    let (Some(instances), Some(watches)) = (limit("max_user_instances"), limit("max_user_watches")) else {
        let todo = format!("a changed configuration is taken over by `systemctl reload {unit}`");
        return Finding::warning(WATCHES, "this kernel has no inotify", todo);
    };
    let (mut used_instances, mut used_watches) = (0, 0);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes.filter(|entry| entry.metadata().is_ok_and(|m| m.uid() == person.uid())) {
        let is_gateway = process.file_name().to_str().and_then(|pid| pid.parse().ok()) == gateway;
        if gateway.is_some() && is_gateway {
            // What it has, it has.
            continue;
        }
        for file in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            if fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == "anon_inode:inotify") {
                used_instances += 1;
                let info = process.path().join("fdinfo").join(file.file_name());
                let info = fs::read_to_string(info).unwrap_or_default();
                used_watches += info.lines().filter(|line| line.starts_with("inotify")).count();
            }
        }
    }
    judged_watches((instances, used_instances), (watches, used_watches), &person.name(), unit)
}

fn judged_watches(instances: (usize, usize), watches: (usize, usize), name: &str, unit: &str) -> Finding {
    let left = |(limit, used): (usize, usize)| limit.saturating_sub(used);
    let what = format!(
        "{} of {} inotify instances and {} of {} watches are left to {name}",
        left(instances),
        instances.0,
        left(watches),
        watches.0
    );
    if left(instances) > 0 && left(watches) > 0 {
        return Finding::ok(WATCHES, what);
    }
    let key = if left(instances) == 0 { "max_user_instances" } else { "max_user_watches" };
    let todo = format!(
        "raise it: `sysctl fs.inotify.{key}=1024`, and for good in /etc/sysctl.d; until then changes of the \
         configuration are taken over by `systemctl reload {unit}` only"
    );
    Finding::warning(WATCHES, what, todo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn watches_are_missed_when_none_is_left() {
        for (instances, watches, verdict) in [
            ((128, 3), (8192, 20), Verdict::Ok),
            ((128, 128), (8192, 20), Verdict::Warning),
            ((128, 3), (20, 25), Verdict::Warning),
        ] {
            assert_eq!(judged_watches(instances, watches, "tidegate", "tidegate@second").verdict, verdict);
        }
    }
}
