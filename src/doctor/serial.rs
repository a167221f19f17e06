//! Serial ports of the configuration: whether they are there, whether the gateway may open them, who has them.

use super::{
    Finding,
    person::{self, Person},
    service::Service,
};
use adapter_api::{field, shown};
use std::{
    fs::{self, Metadata},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

const AREA: &str = "serial port";

pub(super) fn examine(
    ports: &[String],
    person: &Person,
    service: Option<&Service>,
    gateway: Option<u32>,
) -> Vec<Finding> {
    ports.iter().map(|port| examine_one(port, person, service, gateway)).collect()
}

fn examine_one(port: &str, person: &Person, service: Option<&Service>, gateway: Option<u32>) -> Finding {
    let Ok(rights) = fs::metadata(port) else {
        return Finding::kind(
            AREA,
            field::PORT_MISSING,
            "there is no such serial port".to_owned(),
            port,
            None,
        );
    };
    if !rights.file_type().is_char_device() {
        return Finding::kind(AREA, field::PORT_FAILED, "it is no serial port".to_owned(), port, None);
    }
    if !person.may_write(&rights) {
        let what =
            format!("the user {} may not open it: it belongs to {}", person.name(), person::rights(&rights));
        return Finding::kind(
            AREA,
            field::PORT_FORBIDDEN,
            what,
            port,
            Some(remedy(person, &rights, service)),
        );
    }
    let mut others = holders(Path::new(port));
    let has_it = others.iter().any(|(_, process)| Some(*process) == gateway);
    others.retain(|(_, process)| Some(*process) != gateway);
    if let Some((program, process)) = others.first() {
        let what = format!("another program has it open: {} (process {process})", shown(program));
        let todo = format!("end it (`kill {process}`); a port belongs to one adapter");
        return Finding::kind(AREA, field::PORT_IN_USE, what, port, Some(todo));
    }
    let state = if has_it { "the gateway has it open" } else { "there, and free" };
    Finding::ok(AREA, format!("{port}: {state}"))
}

fn remedy(person: &Person, rights: &Metadata, service: Option<&Service>) -> String {
    match (rights.gid(), rights.mode() & 0o060) {
        // The group of root is nobody's way in.
        (gid @ 1.., 0o060) => person.let_into(gid, service),
        _ => format!(
            "give the port to a group by a udev rule (GROUP=\"dialout\", MODE=\"0660\"), and the user {} to that group",
            person.name()
        ),
    }
}

/// Who has a port open, of the processes this user may look at: root can open a port that is in use, and two masters
/// on one line garble both. Names and numbers of processes.
pub fn holders(port: &Path) -> Vec<(String, u32)> {
    let Ok(port) = fs::canonicalize(port) else { return Vec::new() };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holders = numbers.filter(|process| {
        let open = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        let open: Vec<PathBuf> = open.filter_map(|file| fs::read_link(file.path()).ok()).collect();
        // Whoever made a pseudo-terminal has its other end, and is the line itself.
        let made_it = open.iter().any(|file| file.ends_with("ptmx"));
        *process != std::process::id() && !made_it && open.contains(&port)
    });
    let named = holders.map(|process| {
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        (name.trim().to_owned(), process)
    });
    named.collect()
}
