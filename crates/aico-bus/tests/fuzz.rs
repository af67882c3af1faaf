//! The corpus that fuzzing keeps (`fuzz/corpus`) goes through the checks that the fuzz targets
//! call, and what a hostile frame costs in memory is bounded.
//!
//! One test alone: what is held in memory is counted for the whole process.

use std::fs;
use std::path::Path;

use aico_bus::fuzzing;

#[path = "../../../fuzz/src/allocations.rs"]
mod allocations;
#[path = "../../../fuzz/src/contracts.rs"]
mod contracts;
#[path = "../../../fuzz/src/sealed_log.rs"]
mod sealed_log;

use allocations::{Counting, FRAME_EACH, FRAME_FIXED, bounded};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Check = fn(&[u8]);

/// Each target of `fuzz/Cargo.toml` with what it calls, but those that are replayed beside the readers of
/// models: `gguf`, `description` and `package`.
const TARGETS: [(&str, Check); 8] = [
    ("character", aico_characters::fuzzing::any),
    ("contracts", contracts::contracts),
    ("frame", fuzzing::frame),
    ("peer", fuzzing::peer),
    ("record", fuzzing::record),
    ("sealed_log", sealed_log::sealed_log),
    ("stamp", fuzzing::stamp),
    ("uplink", fuzzing::uplink),
];

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz"))
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A length-delimited field.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint(value.len(), &mut out);
    out.extend_from_slice(value);
    out
}

#[test]
fn the_corpus_holds_and_frames_cost_what_they_weigh() {
    // What a frame costs, as long as nothing else runs here: first.
    for (name, input) in files(&folder().join("corpus/frame")) {
        println!("frame/{name}");
        bounded(&input, FRAME_FIXED, FRAME_EACH, fuzzing::read);
    }
    let version = [8, 1];
    let empty = [field(3, b""), field(3, b"")].concat();
    let full = [&version[..], &field(2, b"a.b"), &empty.repeat(4 << 20)].concat();
    bounded(&full, FRAME_FIXED, FRAME_EACH, fuzzing::read);
    // A control message that is a list of eight million nothings.
    let published = field(15, &field(1, b"").repeat(8 << 20));
    let envelope = [
        field(2, b"$link"),
        field(12, b"aico.v1.Control"),
        field(13, &published),
    ];
    let control = [
        &version[..],
        &field(2, b"$link"),
        &field(3, &envelope.concat()),
    ]
    .concat();
    bounded(&control, FRAME_FIXED, FRAME_EACH, fuzzing::read);

    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len() + 3);
    for (target, check) in TARGETS {
        let inputs = files(&folder().join("corpus").join(target));
        assert!(!inputs.is_empty(), "{target} has no corpus");
        for (name, input) in inputs {
            println!("{target}/{name}");
            check(&input);
        }
    }
    let fixtures = folder().join("../crates/aico-contracts/tests/fixtures/v1");
    for (name, _) in files(&fixtures) {
        let name = name.strip_suffix(".bin").unwrap();
        assert!(
            contracts::NAMES.contains(&name),
            "{name} is in no fuzz target"
        );
    }
}
