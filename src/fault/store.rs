//! 2xx: the database and what else is on this machine.

use super::{Code, Row};

pub(super) const TABLE: &[Row] = &[
    (
        Code::DatabaseNewer,
        "TG-201",
        "a newer version of the program ran here before, and this one would not understand its data",
        "install the newer version again; the database was not touched",
    ),
    (
        Code::DatabaseForeign,
        "TG-202",
        "gateway.state_dir names a directory in which another program keeps its data",
        "set gateway.state_dir to a directory of its own; the file was not touched",
    ),
    (
        Code::DatabaseLocked,
        "TG-203",
        "the gateway runs already, as a service or by hand",
        "stop the other one (`systemctl stop tidegate`), or give this one its own gateway.state_dir",
    ),
    (
        Code::DirectoryUnusable,
        "TG-204",
        "it does not exist and cannot be made, or belongs to another user",
        "create it and give it to the gateway's user, or set gateway.state_dir",
    ),
    (
        Code::DirectoryReadOnly,
        "TG-205",
        "the file system is mounted read-only, as Linux does by itself when the disk or card fails",
        "look at `mount` and `dmesg`; remount it writable or replace the card",
    ),
    (
        Code::DiskFull,
        "TG-206",
        "the queue or another program has filled the file system",
        "look at `df`; free some space; until then what is queued goes up and new readings are refused and counted",
    ),
    (
        Code::DatabaseBusy,
        "TG-207",
        "somebody looks into the database with a tool, or a backup program holds it",
        "end the other program (`fuser` names it); the gateway goes on by itself then",
    ),
    (
        Code::DatabaseDamaged,
        "TG-208",
        "the disk or card fails, or something else has written into the file",
        "look at `dmesg`; what can be read is copied to a new file, and what is lost is counted; replace the card",
    ),
    (
        Code::DatabaseFault,
        "TG-209",
        "the disk is failing, or the gateway's user may no longer write there",
        "look at `df` and `dmesg`; keep a copy of the file before anything else is tried",
    ),
    (
        Code::LedgerOff,
        "TG-210",
        "a mistake of the program, or somebody has changed the database",
        "keep a copy of the database and report it; readings go on",
    ),
    (
        Code::ControlSocket,
        "TG-211",
        "its directory does not exist or belongs to another user; the service makes /run/tidegate by itself",
        "create the directory and give it to the gateway's user, or set gateway.control_socket",
    ),
    (
        Code::NoThread,
        "TG-212",
        "the system allows no more threads or memory to the gateway",
        "look at `systemctl status tidegate` (Tasks, Memory) and `free`; raise TasksMax or MemoryMax of the unit",
    ),
    (
        Code::UnitEnded,
        "TG-213",
        "the system refuses it something it needs, or a mistake of the program; the journal says where",
        "nothing, if it comes back: nothing that was kept is lost; else report it with the journal",
    ),
    (
        Code::HttpListener,
        "TG-231",
        "another program listens on that port, or the address is none of this machine",
        "look at `ss -ltnp`; set another address or port in http.listen; everything else runs without the page",
    ),
    (
        Code::NotWatched,
        "TG-232",
        "the system has no watch left (fs.inotify.max_user_watches, max_user_instances), or the file system is one of \
         another machine, which does not tell what is changed there",
        "nothing, if half a minute is soon enough; else raise these with `sysctl`, keep the file on a local file system, \
         or say `tidegate reload` after a change",
    ),
    (
        Code::UnitStalled,
        "TG-218",
        "it waits for something in the system that does not come, such as a serial port or a disk that hangs, or a \
         mistake of the program",
        "nothing, if it comes back, and the other units go on; else `systemctl restart tidegate`, and report it with \
         the journal",
    ),
    (
        Code::UnitLeftBehind,
        "TG-219",
        "it waits for something in the system that does not come, such as a serial port or a disk that hangs, or a \
         mistake of the program",
        "`systemctl restart tidegate`: only a new process ends it; nothing that was answered is lost",
    ),
    (
        Code::EndpointOverQuota,
        "TG-221",
        "the device sends more than was planned for it, or the quota is too small for it",
        "slow the device down, or raise the quota in [quota] or [endpoints.NAME.quota]; no other endpoint is concerned",
    ),
    (
        Code::StoreFull,
        "TG-222",
        "the platform was away for so long, or the disk is full, and store.when_full is \"refuse\"",
        "bring the uplink back, or raise store.max_bytes if the disk allows it; reading goes on by itself",
    ),
];
