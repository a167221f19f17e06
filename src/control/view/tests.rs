//! What is shown of thousands is as short as what is shown of hundreds.

use super::*;
use crate::{supervisor, uplink::Parked};
use adapter_api::CancellationToken;

const MANY: usize = 10_000;

#[test]
fn the_status_of_an_adapter_with_ten_thousand_devices_stays_small() {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let run = move || {
        let stopped = stopped.clone();
        async move {
            stopped.cancelled().await;
            Ok::<(), &str>(())
        }
    };
    let unit = supervisor::start("test.site".into(), stop, run).unwrap();
    let (board, report) = Board::new();
    for n in 0..MANY {
        let silent = Fault::new(Code::Silent, "it does not answer at all", format!("device {n}"));
        let presence = if n < MANY / 2 { Presence::Online } else { Presence::Offline(silent) };
        report.presence(&EndpointName::new(&format!("device-{n:05}")).unwrap(), presence);
    }
    let view = UnitView {
        name: "test.site".into(),
        unit: unit.watch(),
        board,
        desk: Desk::default(),
        starts: Arc::default(),
    };
    let shown = view.json();
    assert_eq!(shown["presence"], json!({ "online": MANY / 2, "asleep": 0, "offline": MANY / 2 }));
    assert_eq!(shown["offline_codes"], json!({ Code::Silent.id(): MANY / 2 }));
    let devices = shown["devices"].as_object().unwrap();
    assert_eq!((devices.len(), &devices["device-05000"]["presence"]), (LISTED, &json!("offline")));
    let bytes = shown.to_string().len();
    assert!(bytes < 16 << 10, "{bytes} bytes");
}

#[test]
fn what_an_uplink_that_does_not_answer_has_parked_is_not_known() {
    assert_eq!(session_json(SessionStatus::default())["parked_codes"], json!({}));
    let unheard = SessionStatus { unheard: true, ..SessionStatus::default() };
    assert_eq!(session_json(unheard)["parked_codes"], Json::Null);
}

#[test]
fn of_ten_thousand_refused_endpoints_the_first_are_listed_and_all_are_counted() {
    let parked = |n| {
        let (endpoint, why) = (format!("device-{n:05}"), "404 no such endpoint".to_owned());
        Parked { endpoint, why, code: if n % 4 == 0 { Code::NotAuthorized } else { Code::EndpointRefused } }
    };
    let session = SessionStatus { parked: (0..MANY).map(parked).collect(), ..SessionStatus::default() };
    let shown = session_json(session);
    let codes = json!({ Code::NotAuthorized.id(): MANY / 4, Code::EndpointRefused.id(): MANY / 4 * 3 });
    assert_eq!(shown["parked_codes"], codes);
    assert_eq!(shown["parked"].as_array().unwrap().len(), LISTED);
    let bytes = shown.to_string().len();
    assert!(bytes < 16 << 10, "{bytes} bytes");
}
