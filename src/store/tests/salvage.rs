//! A damaged database where there is no room to copy what can be read of it.

use super::{
    damage::{copy_of, damage, overwrite, with_something_of_each},
    room::clock_until,
    *,
};

/// 16,000 large rows of `a`: more than the reserve has room for.
async fn filled() -> tempfile::TempDir {
    let site = site();
    for round in 0..160 {
        site.submit_large("a", round * 100..(round + 1) * 100).await.unwrap();
    }
    site.stop().await
}

/// What the file system is said to have from now on.
fn pretend(dir: &Path, name: &str, value: Option<u64>) {
    match value {
        Some(value) => std::fs::write(dir.join(name), value.to_string()).unwrap(),
        None => std::fs::remove_file(dir.join(name)).unwrap(),
    }
}

/// What it lacks. `None`: nothing, and the store is open.
fn lacks(dir: &Path) -> Option<u64> {
    let directory = Arc::new(Directory::new([endpoint("a")]));
    let options = Options {
        dir: dir.to_owned(),
        commit_within: Duration::ZERO,
        max_sample_bytes: 1_000,
        boot_id: "boot-1".into(),
        limits: Limits::default(),
    };
    match open(&options, &directory, Shape::new(directory.clone(), true)) {
        Ok(_) => None,
        Err(error @ OpenError::NoRoomToSalvage { lacks, .. }) => {
            let fault = error.fault();
            assert_eq!(fault.code, "TG-208");
            assert!(fault.what.contains(&format!("{} MiB more", lacks.div_ceil(1 << 20))), "{}", fault.what);
            Some(lacks)
        }
        Err(error) => panic!("{error}"),
    }
}

fn files(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn without_room_the_store_goes_on_and_salvages_when_there_is_some() {
    let site = open_in(filled().await, true);
    let dir = site.dir.path().to_owned();
    damage(&dir, 500);
    pretend(&dir, "free", Some(0));
    let before = files(&dir);
    let mut events = site.uplink().await;
    let lane = ready(&mut events).await;
    let mut flown = 0;
    loop {
        let (flying, more) = rows(&site.store, &mut events, lane.id, 1_000).await;
        assert!(more, "the lane waits");
        if flying.is_empty() {
            break;
        }
        flown += flying.len();
    }
    assert!(flown > 4_000, "{flown}");
    for number in 0..3 {
        site.submit("b", number..number + 1).await.unwrap();
        let fault = site.store.figures().await.unwrap().fault.unwrap();
        assert!(fault.code == "TG-208" && fault.what.contains("MiB more"), "{}", fault.what);
    }
    assert_eq!(files(&dir), before, "nothing is written beside it");
    assert!(reserve::held(&dir) > 0, "nor given up in vain");
    pretend(&dir, "free", None);
    clock_until(|| dir.join("tidegate.db.damaged").exists()).await;
    while site.store.figures().await.unwrap().fault.is_some() {
        tokio::task::yield_now().await;
    }
    let totals = site.totals().await;
    assert!(totals.queued > 15_000 && totals.dropped > 0, "{totals:?}");
    assert!(!rows(&site.store, &mut events, lane.id, 9).await.0.is_empty(), "the lane flies on");
}

#[tokio::test]
async fn a_start_without_room_says_how_much_is_lacking_and_writes_nothing() {
    let dir = filled().await;
    let path = dir.path();
    damage(path, 500);
    pretend(path, "free", Some(0));
    let lacking = lacks(path).expect("there is no room");
    let before = files(path);
    assert!(lacking > 4 << 20, "{lacking}");
    pretend(path, "free", Some(lacking - 1));
    assert_eq!(lacks(path), Some(1));
    assert_eq!(files(path), before);
    pretend(path, "free", Some(lacking));
    assert_eq!(lacks(path), None);
    assert!(path.join("tidegate.db.damaged").exists());
}

#[tokio::test]
async fn a_copy_that_does_not_fit_is_removed_and_the_store_goes_on() {
    let (whole, roots) = with_something_of_each().await;
    let dir = copy_of(&whole);
    pretend(dir.path(), "pages", Some(20));
    let site = open_in(dir, true);
    overwrite(site.dir.path(), &roots["keep"]);
    assert!(!site.store.put("test", "key", b"more".to_vec()).await.unwrap());
    assert_eq!(site.store.figures().await.unwrap().fault.unwrap().code, "TG-208");
    site.submit("a", 5_000..5_001).await.unwrap();
    let dir = site.stop().await;
    let left = |dir: &Path| files(dir).into_iter().any(|name| name.contains(".new"));
    assert!(!left(dir.path()));
    assert_eq!(lacks(dir.path()), Some(1 << 20));
    assert!(!left(dir.path()));
    pretend(dir.path(), "pages", None);
    let site = open_in(dir, true);
    assert_eq!(site.totals().await.queued, 1_000);
}
