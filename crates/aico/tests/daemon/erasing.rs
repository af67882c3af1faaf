//! An erased person stays gone: here, in the backups within reach, and after a restore.

use crate::backups::{
    add_ben, backup, ben_says, names_in, opened, restore, rotate, string, verify,
};
use crate::support::{World, fails, text};

fn erase(world: &World) -> String {
    let password = world.path("password");
    let done = world.aico(&[
        "person",
        "erase",
        "Ben",
        "--password-file",
        string(&password),
    ]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    text(&done.stderr)
}

fn is_gone(world: &World) {
    let all = world.said(&["person", "list"]);
    assert!(all.contains("Mia") && !all.contains("Ben"), "{all}");
}

#[test]
fn their_pieces_go_from_every_archive_within_reach_and_the_others_are_told() {
    let mut world = World::ready();
    let ben = add_ben(&world);
    ben_says(&world, &ben, "I keep bees");
    let said = world.chat(None, "Mine");
    let mine = said["conversation"].as_str().unwrap().to_owned();
    let (near, far) = (world.path("near"), world.path("far"));
    let first = backup(&world, &["--to", string(&near)]);
    let only_his = backup(&world, &["--to", string(&near), "--person", "Ben"]);
    let away = backup(&world, &["--to", string(&far)]);
    // Somebody takes copies, and one disk away.
    let copy = world.path("copy.aicobackup");
    std::fs::copy(&first, &copy).unwrap();
    let mut other = World::new();
    let elsewhere = other.path("copy.aicobackup");
    std::fs::copy(&first, &elsewhere).unwrap();
    std::fs::rename(&far, world.path("taken-away")).unwrap();
    // And there is what an earlier restore kept.
    world.stop();
    restore(&world, &first);
    world.serve();
    let kept = names_in(&world.data())
        .into_iter()
        .find(|name| name.starts_with("before-restore-"))
        .unwrap();
    let kept = world.data().join(kept).join("home/persons");
    assert_eq!(names_in(&kept).len(), 2);

    let notes = erase(&world);
    assert!(
        notes.contains(string(&first)) && notes.contains(string(&only_his)),
        "{notes}"
    );
    is_gone(&world);
    assert_eq!(names_in(&kept).len(), 1);
    for archive in [&first, &only_his] {
        let told = verify(&world, archive);
        assert!(!told.contains("Ben"), "{told}");
    }
    assert!(verify(&world, &first).contains("Mia"));
    // The one that was taken away was made after that backup: the restored home never knew it.
    assert!(!away.exists());

    // The copy, with no list beside it: the home that is there knows.
    let told = verify(&world, &copy);
    assert!(told.contains("Ben"), "{told}");
    world.stop();
    restore(&world, &copy);
    world.serve();
    is_gone(&world);
    // On another machine the copy is in the place of the archive: the list beside it is obeyed.
    let folder = other.path("near");
    std::fs::create_dir(&folder).unwrap();
    for name in names_in(&near) {
        std::fs::copy(near.join(&name), folder.join(&name)).unwrap();
    }
    std::fs::copy(&elsewhere, folder.join(first.file_name().unwrap())).unwrap();
    restore(&other, &folder.join(first.file_name().unwrap()));
    other.serve();
    is_gone(&other);
    assert!(crate::backups::shown(&other, &mine).contains("Mine"));
    // The list itself, altered: refused, with what to do.
    other.stop();
    let list = names_in(&folder)
        .into_iter()
        .find(|name| name.starts_with("erasures-"))
        .unwrap();
    let list = folder.join(list);
    let mut bytes = std::fs::read(&list).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    std::fs::write(&list, bytes).unwrap();
    let archive = folder.join(first.file_name().unwrap());
    let password = other.path("password");
    let again = [
        "restore",
        string(&archive),
        "--password-file",
        string(&password),
    ];
    fails(&other, &again, 10, "who was erased");
}

#[test]
fn an_archive_that_was_out_of_reach_is_cleaned_when_it_is_back() {
    let world = World::ready();
    let ben = add_ben(&world);
    ben_says(&world, &ben, "I keep bees");
    let far = world.path("far");
    let away = backup(&world, &["--to", string(&far)]);
    let taken = world.path("taken-away");
    std::fs::rename(&far, &taken).unwrap();
    let notes = erase(&world);
    assert!(
        notes.contains(string(&away)) && notes.contains("not there"),
        "{notes}"
    );
    assert!(notes.contains("20"), "no date is told: {notes}");
    std::fs::rename(&taken, &far).unwrap();
    assert!(verify(&world, &away).contains("Ben"));
    // Restored to a folder of its own it brings nobody back, though AICO runs meanwhile.
    let drill = world.path("drill");
    let restored = opened(&world, &["restore", string(&away), "--to", string(&drill)]);
    assert!(restored.contains("erased since"), "{restored}");
    // The next backup, to wherever, finishes it.
    backup(&world, &[]);
    assert!(!verify(&world, &away).contains("Ben"));
}

#[test]
fn an_archive_from_before_a_change_of_keys_brings_nobody_back() {
    let mut world = World::ready();
    let ben = add_ben(&world);
    ben_says(&world, &ben, "I keep bees");
    let stick = world.path("stick");
    let archive = backup(&world, &["--to", string(&stick)]);
    let taken = world.path("taken-away");
    std::fs::rename(&stick, &taken).unwrap();
    let archive = taken.join(archive.file_name().unwrap());
    let copy = world.path("copy.aicobackup");
    std::fs::copy(&archive, &copy).unwrap();
    rotate(&world);
    erase(&world);
    world.stop();

    // No list anywhere; the password still opens the home that is there.
    let drill = world.path("drill");
    let restored = opened(&world, &["restore", string(&copy), "--to", string(&drill)]);
    assert!(restored.contains("erased since"), "{restored}");
    restore(&world, &copy);
    world.serve();
    is_gone(&world);
    // The logs of after the change of keys are under the other key: they went with what it replaced.
    world.said(&["store", "check", "--full"]);
    world.stop();

    // Back to the home as it was, which then has another password.
    let kept = names_in(&world.data())
        .into_iter()
        .find(|name| name.starts_with("before-restore-"))
        .unwrap();
    std::fs::rename(world.home(), world.path("aside")).unwrap();
    std::fs::rename(world.data().join(kept).join("home"), world.home()).unwrap();
    world.serve();
    let (first, second) = (
        world.path("password"),
        world.write("second", "amber window pencil harvest cloud"),
    );
    let (old, new) = (string(&first), string(&second));
    let change = ["vault", "password", "--password-file", old];
    world.said(&[&change[..], &["--new-password-file", new]].concat());
    world.stop();
    let header = std::fs::read(world.home().join("vault.hdr")).unwrap();
    let put = ["restore", string(&archive), "--password-file", old];
    fails(&world, &put, 10, "who was erased");
    assert_eq!(
        std::fs::read(world.home().join("vault.hdr")).unwrap(),
        header
    );

    // A backup in the usual folder has the list beside it.
    world.serve_with(&["--password-file", new]);
    backup(&world, &[]);
    world.stop();
    restore(&world, &archive);
    world.serve();
    is_gone(&world);
}

#[test]
fn a_home_restored_beside_another_leaves_the_backups_to_that_one() {
    let world = World::ready();
    let ben = add_ben(&world);
    ben_says(&world, &ben, "I keep bees");
    let near = world.path("near");
    let archive = backup(&world, &["--to", string(&near)]);
    let mut drill = World::new();
    let to = drill.data();
    let notes = opened(&world, &["restore", string(&archive), "--to", string(&to)]);
    assert!(notes.contains("stay with the AICO"), "{notes}");
    drill.serve();
    let notes = erase(&drill);
    assert!(
        notes.contains(string(&archive)) && notes.contains("left to the AICO"),
        "{notes}"
    );
    // Nor does the next start reach for them.
    drill.stop();
    drill.serve();
    is_gone(&drill);
    assert!(verify(&world, &archive).contains("Ben"));
    let [only] = &names_in(&near)[..] else {
        panic!("something was noted beside the backup")
    };
    assert_eq!(near.join(only), archive);
    // Unless it is told to use that folder.
    backup(&drill, &["--to", string(&near)]);
    assert!(!verify(&world, &archive).contains("Ben"));
}

#[test]
fn a_home_restored_in_place_of_a_lost_one_reaches_its_backups() {
    let mut world = World::ready();
    let ben = add_ben(&world);
    ben_says(&world, &ben, "I keep bees");
    let near = world.path("near");
    let archive = backup(&world, &["--to", string(&near)]);
    world.stop();
    std::fs::remove_dir_all(world.data()).unwrap();
    let mut next = World::new();
    let to = next.data();
    let notes = opened(&world, &["restore", string(&archive), "--to", string(&to)]);
    assert!(!notes.contains("stay with the AICO"), "{notes}");
    next.serve();
    erase(&next);
    assert!(!verify(&next, &archive).contains("Ben"));
}

#[test]
fn erasing_is_what_removing_was() {
    let world = World::ready();
    let ben = add_ben(&world);
    ben_says(&world, &ben, "I keep bees");
    let password = world.path("password");
    world.said(&[
        "person",
        "remove",
        "Ben",
        "--password-file",
        string(&password),
    ]);
    is_gone(&world);
    fails(
        &world,
        &[
            "person",
            "erase",
            "Ben",
            "--password-file",
            string(&password),
        ],
        13,
        "Nobody",
    );
    fails(
        &world,
        &[
            "person",
            "erase",
            "Mia",
            "--password-file",
            string(&password),
        ],
        15,
        "owner",
    );
}
