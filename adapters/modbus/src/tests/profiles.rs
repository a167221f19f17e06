//! Devices with a profile: what is said of registers that they refuse.

use super::{Slave, config, devices};
use crate::{Modbus, tests::slave::Reply};
use adapter_api::{
    Health,
    testkit::{Rig, run, wait_for},
};

#[test]
fn a_refused_register_is_told_in_the_numbers_of_whoever_named_it() {
    // A profile counts from 0, whatever the device's own keys do.
    let own = "{ register = 'input:1', type = 'f32' }";
    for (resources, said) in [
        ("profile = 'sdm120'\nonly = ['voltage']".to_owned(), "the device has no register input:0: "),
        (format!("resources.u = {own}"), "the device has no register input:1: "),
        (format!("profile = 'sdm120'\nonly = ['voltage']\nresources.voltage = {own}"), "register input:1: "),
        (
            "profile = 'sdm120'\nonly = ['voltage']\nresources.voltage = { decimals = 1 }".to_owned(),
            "register input:0: ",
        ),
    ] {
        run(refused(&resources, said));
    }
}

/// A device that counts from 1 and refuses everything.
async fn refused(resources: &str, said: &str) {
    let slave = Slave::start(|_| Reply::Exception(2)).await;
    let text = format!("host = '{}'\nperiod = '20ms'\nbase = 1\n{resources}", slave.address);
    let rig = Rig::<Modbus>::start(config(""), devices([("d", toml::from_str(&text).unwrap())]));
    let faults = || match rig.board.read().0 {
        Health::Degraded(faults) => faults.into_iter().find(|fault| fault.code == "TG-442"),
        _ => None,
    };
    wait_for("it is told", || faults().is_some()).await;
    let told = faults().map(|fault| fault.what).unwrap_or_default();
    assert!(told.contains(said), "{resources}: {told}");
    rig.stop().await;
}
