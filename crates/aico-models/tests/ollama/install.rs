//! Installing from a server of files, good ones and bad ones.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aico_models::backend::ollama::install::{
    self, InstallError, Installed, Packed, Release, install, installed, remove,
};
use aico_models::backend::ollama::{Place, find};
use aico_models::pull::single::Fetched;
use aico_models::pull::url::Url;
use aico_models::pull::{Limits, PullConfig, PullError};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::disk::SmallDisk;
use crate::file_server::{FileServer, Reply, Way};

/// An entry of an archive.
enum Part<'a> {
    File(&'a str, &'a [u8], u32),
    Link(&'a str, &'a str),
    Hard(&'a str, &'a str),
    Device(&'a str),
}

/// A tar archive, with names as they are given.
fn archive(parts: &[Part<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut put = |name: &str, kind, to: &str, content: &[u8], mode| {
        let mut header = tar::Header::new_gnu();
        // Past the checks of the library that writes: a hostile one has none.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + to.len()].copy_from_slice(to.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    };
    for part in parts {
        match part {
            Part::File(name, content, mode) => {
                put(name, tar::EntryType::Regular, "", content, *mode);
            }
            Part::Link(name, to) => put(name, tar::EntryType::Symlink, to, b"", 0o777),
            Part::Hard(name, to) => put(name, tar::EntryType::Link, to, b"", 0o755),
            Part::Device(name) => put(name, tar::EntryType::Char, "", b"", 0o666),
        }
    }
    tar.into_inner().unwrap()
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    let mut number = 88_172_645_463_325_252_u64;
    while bytes.len() < length {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// What a release holds, in small.
fn good(version: &str) -> Vec<u8> {
    let program = format!("#!/bin/sh\necho {version}\n");
    let library = noise(3 << 20);
    archive(&[
        Part::File("./bin/ollama", program.as_bytes(), 0o4755),
        Part::File("./lib/ollama/libx.so.1.2", &library, 0o644),
        Part::File("./lib/ollama/liby.so", &[0; 8 << 20], 0o644),
        Part::Link("./lib/ollama/libx.so.1", "libx.so.1.2"),
        Part::Hard("./lib/ollama/copy.so", "./lib/ollama/libx.so.1.2"),
        Part::Link("./lib/ollama/cuda/libx.so", "../libx.so.1"),
    ])
}

fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(tar).unwrap();
    packer.finish().unwrap()
}

/// A zip archive of files (name, content, mode), with names as they are given.
fn zip(files: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content, mode) in files {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(*mode);
        archive.start_file(*name, options).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn zstd(tar: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(tar, ruzstd::encoding::CompressionLevel::Fastest)
}

fn release(version: &str, packed: Packed, content: &[u8]) -> Release {
    release_for("linux", version, packed, content)
}

fn release_for(system: &str, version: &str, packed: Packed, content: &[u8]) -> Release {
    let ending = match packed {
        Packed::Gzip => "tgz",
        Packed::Zstandard => "tar.zst",
        Packed::Zip => "zip",
    };
    let list = serde_json::json!({
        "version": 1, "date": "2026-11-27", "release": version, "license": "MIT",
        "license_url": "https://hub.test/LICENSE",
        "archives": [{
            "system": system, "machine": "x86_64",
            "source": format!("https://hub.test/v{version}/ollama.{ending}"),
            "size": content.len(), "sha256": hex::encode(Sha256::digest(content)),
        }],
    });
    Release::parse(&list.to_string(), system, "x86_64").unwrap()
}

fn config(server: &FileServer, folder: &Path) -> PullConfig {
    let mut config = PullConfig::new("", folder.to_owned());
    config.mirror = Some(Url::parse(&server.url()).unwrap());
    config.limits = Limits {
        connect: Duration::from_secs(5),
        head: Duration::from_secs(5),
        silence: Duration::from_secs(5),
        window: Duration::from_secs(5),
        least: 1,
        wait: Duration::from_millis(20),
        longest_wait: Duration::from_millis(50),
        tries: 2,
    };
    config
}

async fn run(
    folder: &Path,
    release: &Release,
    server: &FileServer,
) -> Result<Installed, InstallError> {
    let stop = CancellationToken::new();
    install(folder, release, &config(server, folder), stop, |_| {}).await
}

fn serve(content: Vec<u8>) -> FileServer {
    FileServer::start(move |asked| Reply::file(&content, asked))
}

fn names(folder: &Path) -> Vec<String> {
    let all = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = all
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn both_kinds_of_archives_are_installed_and_used() {
    for packed in [Packed::Gzip, Packed::Zstandard] {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("engines/ollama");
        let tar = good("0.12.10");
        let content = match packed {
            Packed::Gzip => gzip(&tar),
            _ => zstd(&tar),
        };
        let release = release("0.12.10", packed, &content);
        let server = serve(content);
        assert_eq!(installed(&home), None);
        let mut told: Vec<Fetched> = Vec::new();
        let stop = CancellationToken::new();
        let config = config(&server, &home);
        let done = install(&home, &release, &config, stop, |now| told.push(now))
            .await
            .unwrap();
        assert_eq!(done.version, "0.12.10");
        assert_eq!(installed(&home), Some(done.clone()));
        let said = Command::new(&done.program).output().unwrap();
        assert_eq!(said.stdout, b"0.12.10\n");
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&done.program)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o700, "for its owner, and no more than that");
        let libraries = done.program.parent().unwrap().join("../lib/ollama");
        let library = std::fs::read(libraries.join("libx.so.1")).unwrap();
        assert_eq!(library, noise(3 << 20));
        assert_eq!(std::fs::read(libraries.join("copy.so")).unwrap(), library);
        let linked = std::fs::read(libraries.join("cuda/libx.so")).unwrap();
        assert_eq!(linked, library);
        // Nothing of the way there is left.
        assert_eq!(names(&home.join("downloads")), Vec::<String>::new());
        let found = find(&home, None).unwrap();
        assert_eq!(
            (found.program, found.place),
            (done.program.clone(), Place::Ours)
        );
        // A second time there is nothing to do.
        server.forget_asked();
        assert_eq!(run(&home, &release, &server).await.unwrap(), done);
        assert!(server.asked().is_empty());

        let removed = remove(&home, false).unwrap();
        assert_eq!(removed.version.as_deref(), Some("0.12.10"));
        assert_eq!(installed(&home), None);
        assert!(matches!(
            remove(&home, false),
            Err(InstallError::NotInstalled)
        ));
    }
}

/// As Ollama is packed for macOS and for Windows: the program lies at the top.
#[tokio::test]
async fn archives_of_other_systems_are_installed_and_used() {
    let program = b"#!/bin/sh\necho 0.35.0\n";
    let library = noise(1 << 20);
    let macos = gzip(&archive(&[
        Part::File("ollama", program, 0o755),
        Part::File("libggml.dylib", &library, 0o644),
        Part::File("mlx_metal_v3/mlx.metallib", &library, 0o644),
    ]));
    let windows = zip(&[
        ("ollama", program, 0o755),
        ("lib/ollama/ggml.dll", &library, 0o644),
        ("lib/ollama/cuda_v13/", b"", 0o755),
    ]);
    for (system, packed, content, beside) in [
        ("macos", Packed::Gzip, macos, "mlx_metal_v3/mlx.metallib"),
        ("windows", Packed::Zip, windows, "lib/ollama/ggml.dll"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let release = release_for(system, "0.35.0", packed, &content);
        let done = run(folder.path(), &release, &serve(content)).await.unwrap();
        assert_eq!(installed(folder.path()), Some(done.clone()));
        let said = Command::new(&done.program).output().unwrap();
        assert_eq!(said.stdout, b"0.35.0\n");
        let top = done.program.parent().unwrap();
        assert_eq!(
            std::fs::read(top.join(beside)).unwrap(),
            library,
            "{system}"
        );
        assert_eq!(
            remove(folder.path(), true).unwrap().version.unwrap(),
            "0.35.0"
        );
        assert_eq!(names(folder.path()), ["lock"]);
    }
}

#[tokio::test]
async fn a_zip_archive_that_is_none_of_ollama_is_refused() {
    let program = ("ollama", &b"#!/bin/sh\n"[..], 0o755);
    let mut links = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let plain = zip::write::SimpleFileOptions::default();
    links.add_symlink("ollama", "/bin/sh", plain).unwrap();
    let links = links.finish().unwrap().into_inner();
    // A content that is not what its checksum says.
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut altered = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    altered.start_file("ollama", stored).unwrap();
    altered.write_all(b"#!/bin/sh\nfind-me\n").unwrap();
    let mut altered = altered.finish().unwrap().into_inner();
    let at = altered
        .windows(7)
        .position(|bytes| bytes == b"find-me")
        .unwrap();
    altered[at] = b'F';
    let whole = zip(&[program, ("lib/x", &noise(100_000), 0o644)]);
    let all: Vec<(&str, Vec<u8>)> = vec![
        ("up", zip(&[program, ("lib/../../x", b"x", 0o644)])),
        ("absolute", zip(&[program, ("/x", b"x", 0o644)])),
        (
            "stream of a file",
            zip(&[program, ("ollama:x", b"x", 0o644)]),
        ),
        ("backslash", zip(&[program, ("..\\x", b"x", 0o644)])),
        ("deep", zip(&[program, ("a/b/c/d/e/f/g/h/i", b"x", 0o644)])),
        ("below a file", zip(&[program, ("ollama/x", b"x", 0o644)])),
        ("no program", zip(&[("lib/x", b"x", 0o644)])),
        ("link", links),
        ("altered", altered),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("no zip", gzip(&good("0.35.0"))),
    ];
    for (what, content) in all {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let release = release_for("windows", "0.35.0", Packed::Zip, &content);
        let failed = run(&home, &release, &serve(content)).await;
        let fault = failed.unwrap_err().to_fault();
        assert_eq!(fault.code, "download-wrong", "{what}: {fault:?}");
        assert_eq!(installed(&home), None, "{what}");
        assert_eq!(names(&home), ["downloads", "lock"], "{what}");
        assert_eq!(names(folder.path()), ["home"], "{what}");
    }
}

/// As made by another program: the strongest level, whose window is the largest.
#[tokio::test]
async fn an_archive_of_the_real_packer_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("a.tar");
    std::fs::write(&tar, good("0.32.7")).unwrap();
    // From a pipe, as it is made: it does not know how long it will be.
    let packed = Command::new("zstd")
        .args(["-q", "--ultra", "-22", "-T0"])
        .stdin(std::fs::File::open(&tar).unwrap())
        .output();
    let Ok(packed) = packed else {
        eprintln!("skipped: there is no zstd on this machine");
        return;
    };
    assert!(packed.status.success());
    let content = packed.stdout;
    let release = release("0.32.7", Packed::Zstandard, &content);
    let server = serve(content);
    let done = run(&folder.path().join("o"), &release, &server)
        .await
        .unwrap();
    assert_eq!(done.version, "0.32.7");
}

#[tokio::test]
async fn a_newer_one_takes_the_place_of_the_older_in_one_step() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_owned();
    let (old, new) = (gzip(&good("0.12.10")), gzip(&good("0.13.0")));
    let first = release("0.12.10", Packed::Gzip, &old);
    run(&home, &first, &serve(old)).await.unwrap();
    // One that can't be had leaves what is there.
    let second = release("0.13.0", Packed::Gzip, &new);
    let gone = FileServer::start(|_| Reply::status(404));
    let failed = run(&home, &second, &gone).await.unwrap_err();
    assert!(
        matches!(failed, InstallError::Pull(PullError::Gone(_))),
        "{failed:?}"
    );
    assert_eq!(installed(&home).unwrap().version, "0.12.10");
    // What came of a release that is wanted no more goes with it.
    std::fs::write(home.join("downloads/ollama-0.12.9-0123abcd.part"), "x").unwrap();
    let done = run(&home, &second, &serve(new)).await.unwrap();
    assert_eq!(installed(&home), Some(done));
    assert_eq!(names(&home.join("downloads")), Vec::<String>::new());
    let versions = names(&home)
        .into_iter()
        .filter(|name| name.starts_with('0'));
    assert_eq!(versions.count(), 1, "{:?}", names(&home));
}

#[tokio::test]
async fn the_wrong_bytes_are_never_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_owned();
    let content = gzip(&good("0.12.10"));
    let release = release("0.12.10", Packed::Gzip, &content);
    let mut altered = content.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    let failed = run(&home, &release, &serve(altered)).await.unwrap_err();
    assert!(
        matches!(failed, InstallError::Pull(PullError::WrongHash(_))),
        "{failed:?}"
    );
    assert_eq!(failed.to_fault().code, "download-wrong");
    assert_eq!(names(&home.join("downloads")), Vec::<String>::new());
    // Another size is told before anything is fetched.
    let mut longer = content.clone();
    longer.push(0);
    let failed = run(&home, &release, &serve(longer)).await.unwrap_err();
    assert!(
        matches!(failed, InstallError::Pull(PullError::WrongSize { .. })),
        "{failed:?}"
    );
    assert_eq!(installed(&home), None);
    assert!(
        !names(&home).iter().any(|name| name.starts_with('0')),
        "nothing was unpacked"
    );
    run(&home, &release, &serve(content)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_owned();
    let content = gzip(&good("0.12.10"));
    let release = release("0.12.10", Packed::Gzip, &content);
    let (served, size) = (content.clone(), content.len());
    let broken = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&broken);
    let server = FileServer::start(move |asked| {
        let reply = Reply::file(&served, asked);
        // What reaches into the second half never comes as a whole.
        let late = asked.range.is_none_or(|(_, last)| last > size as u64 / 2);
        match fails.load(Ordering::Relaxed) && late {
            // So little that it takes seconds: how far it is, is told now and then.
            true => reply.way(Way::Cut(500)),
            false => reply,
        }
    });
    // Each try brings a little, and is gone on with by itself; then the server is gone.
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    let mut config = config(&server, &home);
    config.limits.wait = Duration::from_secs(5);
    let failed = install(&home, &release, &config, stop, |now| {
        if now.done > size as u64 / 4 {
            cancel.cancel();
        }
    });
    let failed = failed.await.unwrap_err();
    assert!(
        matches!(failed, InstallError::Pull(PullError::Stopped)),
        "{failed:?}"
    );
    let kept = install::kept(&home, &release);
    assert!(kept > 0, "what came is kept");
    assert_eq!(installed(&home), None);
    broken.store(false, Ordering::Relaxed);
    server.settle();
    server.forget_asked();
    run(&home, &release, &server).await.unwrap();
    let fetched: u64 = server
        .asked()
        .iter()
        .filter_map(|asked| asked.range)
        .map(|(first, last)| last - first + 1)
        .sum();
    assert!(
        fetched <= size as u64 - kept,
        "{fetched} of {size}, {kept} were kept"
    );
}

#[tokio::test]
async fn content_that_changes_on_its_way_is_told_from_the_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_owned();
    let content = gzip(&good("0.12.10"));
    let release = release("0.12.10", Packed::Gzip, &content);
    let other: Vec<u8> = content.iter().map(|byte| byte ^ 0x55).collect();
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    // The first parts are of another version of the file.
    let server = FileServer::start(move |asked| {
        let first = count.fetch_add(1, Ordering::Relaxed) < 3;
        let (bytes, tag) = if first {
            (&other, "one")
        } else {
            (&content, "two")
        };
        Reply::file(bytes, asked).with(format!("ETag: \"{tag}\""))
    });
    let done = run(&home, &release, &server).await.unwrap();
    assert_eq!(done.version, "0.12.10");
    let program = std::fs::read(done.program).unwrap();
    assert!(program.starts_with(b"#!/bin/sh"));
}

#[tokio::test]
async fn what_is_no_archive_of_ollama_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().join("taken");
    let taken = path.to_str().unwrap();
    let program = || Part::File("bin/ollama", b"#!/bin/sh\n", 0o755);
    let many: Vec<String> = (0..10_001).map(|n| format!("lib/{n}")).collect();
    let mut all: Vec<(&str, Vec<u8>)> = vec![
        (
            "up",
            archive(&[program(), Part::File("lib/../../x", b"x", 0o644)]),
        ),
        (
            "absolute",
            archive(&[program(), Part::File(taken, b"x", 0o644)]),
        ),
        (
            "elsewhere",
            archive(&[program(), Part::File("etc/passwd", b"x", 0o644)]),
        ),
        (
            "link out",
            archive(&[program(), Part::Link("lib/x", "../../x")]),
        ),
        (
            "link absolute",
            archive(&[program(), Part::Link("lib/x", taken)]),
        ),
        (
            "link to other files than Ollama's",
            archive(&[program(), Part::Link("lib/x", "../share")]),
        ),
        (
            "link through a folder",
            archive(&[program(), Part::Link("lib/x", "y/../../bin")]),
        ),
        (
            "behind a link",
            archive(&[
                program(),
                Part::Link("lib/x", "y"),
                Part::File("lib/x/z", b"x", 0o644),
            ]),
        ),
        (
            "behind a link in other letters",
            archive(&[
                program(),
                Part::Link("lib/x", "y"),
                Part::File("lib/X/z", b"x", 0o644),
            ]),
        ),
        (
            "over a link",
            archive(&[
                program(),
                Part::Link("lib/x", "y"),
                Part::File("lib/x", b"x", 0o644),
            ]),
        ),
        (
            "hard link out",
            archive(&[program(), Part::Hard("lib/x", "/etc/passwd")]),
        ),
        (
            "hard link to nothing",
            archive(&[program(), Part::Hard("lib/x", "lib/y")]),
        ),
        ("device", archive(&[program(), Part::Device("lib/null")])),
        ("twice", archive(&[program(), program()])),
        ("no program", archive(&[Part::File("lib/x", b"x", 0o644)])),
        (
            "program is a link",
            archive(&[Part::Link("bin/ollama", "sh")]),
        ),
        (
            "deep",
            archive(&[Part::File("lib/a/b/c/d/e/f/g/h/i", b"x", 0o644)]),
        ),
        ("cut", good("0.12.10")[..100_000].to_vec()),
        (
            "many",
            archive(
                &many
                    .iter()
                    .map(|name| Part::File(name, b"", 0o644))
                    .collect::<Vec<_>>(),
            ),
        ),
    ];
    // Says that it is larger than anything may be.
    let mut huge = archive(&[program(), Part::File("lib/x", b"x", 0o644)]);
    huge[1024 + 124..1024 + 136].copy_from_slice(b"77777777777\0");
    let mut sum: u32 = huge[1024..1536].iter().map(|byte| u32::from(*byte)).sum();
    sum -= huge[1024 + 148..1024 + 156]
        .iter()
        .map(|byte| u32::from(*byte))
        .sum::<u32>();
    sum += 8 * 32;
    let sum = format!("{sum:06o}\0 ");
    huge[1024 + 148..1024 + 156].copy_from_slice(sum.as_bytes());
    all.push(("huge", huge));
    for (what, tar) in all {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_owned();
        let content = gzip(&tar);
        let release = release("0.12.10", Packed::Gzip, &content);
        let failed = run(&home, &release, &serve(content)).await;
        assert!(
            matches!(failed, Err(InstallError::Archive(_))),
            "{what}: {failed:?}"
        );
        assert_eq!(installed(&home), None, "{what}");
        assert_eq!(names(&home), ["downloads", "lock"], "{what}");
        assert_eq!(
            names(&home.join("downloads")),
            Vec::<String>::new(),
            "{what}"
        );
        let fault = failed.unwrap_err().to_fault();
        assert_eq!(fault.code, "download-wrong");
    }
    assert!(!path.exists());
    assert_eq!(names(outside.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_full_disk_is_told_and_gone_on_with() {
    let test = "install::a_full_disk_is_told_and_gone_on_with";
    let content = gzip(&good("0.12.10"));
    let release = release("0.12.10", Packed::Gzip, &content);
    let server = serve(content);
    // Room for the archive and not for what is in it; then not even for the archive.
    for (size, kept) in [("8m", true), ("2m", false)] {
        let Some(disk) = SmallDisk::mount(test, size) else {
            return;
        };
        let home = disk.0.path().join("ollama");
        let failed = run(&home, &release, &server).await.unwrap_err();
        let full = matches!(
            failed,
            InstallError::Full | InstallError::Pull(PullError::Full { .. })
        );
        assert!(full, "{failed:?}");
        assert_eq!(failed.to_fault().code, "storage-full");
        assert_eq!(installed(&home), None);
        let there = names(&home.join("downloads"))
            .iter()
            .any(|name| name.ends_with(".archive"));
        assert_eq!(there, kept, "{size}");
        assert_eq!(
            install::kept(&home, &release) == release.size,
            kept,
            "{size}"
        );
        assert!(
            !names(&home).iter().any(|name| name.starts_with('0')),
            "{size}"
        );
        if kept {
            let grown = Command::new("mount")
                .args(["-o", "remount,size=40m"])
                .arg(disk.0.path())
                .status();
            assert!(grown.unwrap().success());
            server.forget_asked();
            run(&home, &release, &server).await.unwrap();
            assert!(server.asked().is_empty(), "the archive was there already");
        }
    }
}

#[tokio::test]
async fn one_installation_at_a_time_and_none_is_removed_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_owned();
    // A program that runs: a real one, copied into an archive.
    let sleep = std::fs::read("/bin/sleep").unwrap();
    let content = gzip(&archive(&[Part::File("bin/ollama", &sleep, 0o755)]));
    let release = release("0.12.10", Packed::Gzip, &content);
    let slow = content.clone();
    let server = FileServer::start(move |asked| {
        Reply::file(&slow, asked).way(Way::Slow(4096, Duration::from_millis(20)))
    });
    let first = run(&home, &release, &server);
    let second = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        run(&home, &release, &server).await
    };
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(second, Err(InstallError::Busy)), "{second:?}");
    let program = first.unwrap().program;
    let mut running = Command::new(&program).arg("60").spawn().unwrap();
    let refused = remove(&home, true);
    let process = running.id();
    assert!(matches!(refused, Err(InstallError::Running { process: of }) if of == process));
    running.kill().unwrap();
    running.wait().unwrap();
    std::fs::create_dir_all(home.join("models/blobs")).unwrap();
    let removed = remove(&home, false).unwrap();
    assert!(removed.models, "its models stay");
    remove(&home, true).unwrap();
    assert_eq!(names(&home), ["lock"]);
}

#[test]
fn a_pointer_that_leads_elsewhere_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let home: PathBuf = folder.path().to_owned();
    for text in [
        r#"{"format":1,"version":"1","folder":"../..","size":1,"sha256":""}"#,
        r#"{"format":1,"version":"1","folder":"/bin","size":1,"sha256":""}"#,
        r#"{"format":2,"version":"1","folder":"a","size":1,"sha256":""}"#,
        "nonsense",
        "",
    ] {
        std::fs::write(home.join("current.json"), text).unwrap();
        assert_eq!(installed(&home), None, "{text}");
    }
}
