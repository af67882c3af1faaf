//! The reader of GGUF heads against whole, cut and forged files. Not one may panic, pass, or
//! make it allocate what a file merely claims.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../../../fuzz/src/gguf.rs"]
mod fuzzing;
#[path = "support/gguf_writer.rs"]
mod gguf_writer;

use aico_models::capable;
use aico_models::gguf::{Description, GgufError};
use gguf_writer::{Head, Shape};

fn whole() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let shape = Shape {
        layers: 1,
        ..Shape::tiny()
    };
    gguf_writer::write(
        &path,
        &Shape {
            template: Some("{{ messages }}".into()),
            ..shape
        },
    );
    std::fs::read(path).unwrap()
}

fn read(bytes: &[u8]) -> Result<Description, GgufError> {
    Description::read(bytes, bytes.len() as u64)
}

/// A head with an architecture, padded with this many bytes of data.
fn forged(change: impl FnOnce(&mut Head), data: usize) -> Result<Description, GgufError> {
    let mut head = Head::default();
    head.text("general.architecture", "llama");
    change(&mut head);
    let mut bytes = head.bytes();
    bytes.resize(bytes.len() + data, 0);
    read(&bytes)
}

#[test]
fn whole_file_is_described() {
    let bytes = whole();
    let about = read(&bytes).unwrap();
    let parameters = 2 * 300 * 64 + 4 * 64 * 64 + 3 * 64 * 128 + 3 * 64;
    assert_eq!(
        about,
        Description {
            architecture: "llama".into(),
            name: "Random".into(),
            license: "CC0-1.0".into(),
            parameters,
            quantization: "F32".into(),
            context_length: 1024,
            chat_template: true,
            tools: false,
            thinking: false,
            pooling: false,
            size: bytes.len() as u64,
            bytes_per_token: 4 * 2 * 16 * 2,
        }
    );
    assert!(about.speaks());
}

#[test]
fn file_cut_at_any_length_is_refused() {
    let bytes = whole();
    let head = bytes.len() - 1024;
    for length in (0..bytes.len()).filter(|n| *n < 4000 || *n > head || n % 101 == 0) {
        match read(&bytes[..length]) {
            Err(GgufError::Cut(..) | GgufError::Magic) => {}
            other => panic!("{length} of {} bytes: {other:?}", bytes.len()),
        }
    }
}

#[test]
fn file_that_ends_early_while_it_is_read_is_refused() {
    let bytes = whole();
    for length in (0..2000).step_by(7) {
        let found = Description::read(&bytes[..length], bytes.len() as u64);
        assert!(
            matches!(found, Err(GgufError::Cut(..) | GgufError::Magic)),
            "{length}"
        );
    }
}

#[test]
fn any_byte_of_the_head_may_be_flipped_without_a_panic() {
    let mut bytes = whole();
    let head = 9000.min(bytes.len());
    for index in 0..head {
        for bit in [0, 3, 7] {
            bytes[index] ^= 1 << bit;
            let _either = read(&bytes);
            bytes[index] ^= 1 << bit;
        }
    }
    assert!(read(&bytes).is_ok());
}

#[test]
fn other_files_and_versions_are_refused() {
    assert!(matches!(read(b""), Err(GgufError::Magic)));
    assert!(matches!(
        read(b"PK\x03\x04aaaaaaaaaaaaaaa"),
        Err(GgufError::Magic)
    ));
    for (version, big_endian) in [(1_u32, false), (4, false), (3, true)] {
        let mut bytes = whole();
        let written = if big_endian {
            version.to_be_bytes()
        } else {
            version.to_le_bytes()
        };
        bytes[4..8].copy_from_slice(&written);
        assert!(matches!(read(&bytes), Err(GgufError::Version(_))));
    }
}

#[test]
fn claimed_counts_are_bounded() {
    for (at, count) in [
        (8, u64::MAX),
        (8, 1_000_000_000),
        (16, u64::MAX),
        (16, 1 << 40),
    ] {
        let mut bytes = whole();
        bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
        assert!(
            matches!(read(&bytes), Err(GgufError::Limit(..))),
            "{count} at {at}"
        );
    }
    // Within the limits, yet more than the file can hold.
    let mut bytes = whole();
    bytes[8..16].copy_from_slice(&100_000_u64.to_le_bytes());
    assert!(read(&bytes).is_err());
}

#[test]
fn claimed_lengths_are_compared_with_the_file() {
    let long = |length: u64| {
        move |head: &mut Head| {
            head.key("general.name", 8);
            head.entries.extend(length.to_le_bytes());
        }
    };
    for length in [u64::MAX, u64::MAX - 100, 1 << 40, 100_000] {
        assert!(
            matches!(forged(long(length), 64), Err(GgufError::Cut(..))),
            "{length}"
        );
    }
    let array = |kind: u32, count: u64| {
        move |head: &mut Head| {
            head.key("a", 9);
            head.entries.extend(kind.to_le_bytes());
            head.entries.extend(count.to_le_bytes());
        }
    };
    for kind in [0, 4, 5, 8, 10] {
        for count in [u64::MAX, u64::MAX / 4 + 1, 1 << 40, 100_000] {
            assert!(
                matches!(forged(array(kind, count), 64), Err(GgufError::Cut(..))),
                "{kind}"
            );
        }
    }
    assert!(
        matches!(forged(array(9, 1), 64), Err(GgufError::Invalid(_))),
        "array of arrays"
    );
    assert!(
        matches!(forged(array(77, 1), 64), Err(GgufError::Invalid(_))),
        "unknown type"
    );
}

#[test]
fn a_key_twice_and_a_tensor_twice_are_refused() {
    let twice = forged(|head| head.text("general.architecture", "bert"), 0);
    assert!(matches!(twice, Err(GgufError::Invalid(_))));
    let twice = forged(
        |head| {
            head.tensor("t", &[8], 0, 32);
            head.tensor("t", &[8], 0, 32);
        },
        64,
    );
    assert!(matches!(twice, Err(GgufError::Invalid(_))));
}

#[test]
fn tensors_beyond_the_file_are_refused() {
    assert!(forged(|head| head.tensor("t", &[8], 0, 32), 32).is_ok());
    assert!(matches!(
        forged(|head| head.tensor("t", &[8], 0, 32), 31),
        Err(GgufError::Cut(..))
    ));
    for offset in [1, 31, 32, 1 << 40, u64::MAX, u64::MAX - 31] {
        let found = forged(|head| head.tensor_at("t", &[8], 0, offset), 64);
        assert!(found.is_err(), "offset {offset}");
    }
    for shape in [
        vec![u64::MAX],
        vec![1 << 62, 4],
        vec![1 << 32, 1 << 32],
        vec![1 << 61],
        vec![u64::MAX, u64::MAX, u64::MAX, u64::MAX],
        vec![0, u64::MAX, u64::MAX],
        vec![1 << 40, 1 << 10],
    ] {
        let found = forged(|head| head.tensor_at("t", &shape, 0, 0), 64);
        assert!(found.is_err() || shape.contains(&0), "{shape:?}");
    }
    let found = forged(|head| head.tensor_at("t", &[2, 2, 2, 2, 2], 0, 0), 64);
    assert!(matches!(found, Err(GgufError::Limit(..))));
    let found = forged(|head| head.tensor_at("t", &[33], 2, 0), 64);
    assert!(
        matches!(found, Err(GgufError::Invalid(_))),
        "not whole blocks"
    );
    for kind in [4, 31, 36, 43, u32::MAX] {
        let found = forged(|head| head.tensor_at("t", &[8], kind, 0), 64);
        assert!(matches!(found, Err(GgufError::Invalid(_))), "type {kind}");
    }
}

#[test]
fn alignments_that_can_not_be_are_refused() {
    for alignment in [0, 3, 33, 1 << 20, u32::MAX] {
        let found = forged(|head| head.number("general.alignment", alignment), 64);
        assert!(matches!(found, Err(GgufError::Invalid(_))), "{alignment}");
    }
}

#[test]
fn split_models_and_models_of_other_kinds_are_told_apart() {
    let split = forged(|head| head.number("split.count", 3), 0);
    assert!(matches!(split, Err(GgufError::Split(3))));
    let mut head = Head::default();
    head.text("general.architecture", "nomic-bert");
    assert!(!read(&head.bytes()).unwrap().speaks());
    assert!(matches!(
        read(&Head::default().bytes()),
        Err(GgufError::Invalid(_))
    ));
}

#[test]
fn what_a_model_is_good_for_shows_in_its_file() {
    let of = |architecture: &str, template: &str, pooling: Option<u32>| {
        let mut head = Head::default();
        head.text("general.architecture", architecture);
        if !template.is_empty() {
            head.text("tokenizer.chat_template", template);
        }
        if let Some(pooling) = pooling {
            head.number(&format!("{architecture}.pooling_type"), pooling);
        }
        let all = capable::of_description(&read(&head.bytes()).unwrap());
        all.iter().map(|one| one.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of("llama", "", None), ["chat"]);
    let long = format!("{}{{{{ tools }}}}<think>", "x".repeat(5000));
    assert_eq!(of("qwen3", &long, Some(0)), ["chat", "tools", "thinking"]);
    assert_eq!(of("qwen3", "", Some(3)), ["chat", "embeddings"]);
    assert_eq!(of("bert", "{{ tools }}", Some(1)), ["embeddings"]);
}

#[test]
fn names_are_shown_on_one_line_and_bounded() {
    let name = format!("a\u{1b}[2J\n{}", "b".repeat(400));
    let about = forged(|head| head.text("general.name", &name), 0).unwrap();
    assert_eq!(about.name, format!("a[2J{}", "b".repeat(124)));
}

#[test]
fn what_fuzzing_kept_goes_through_its_checks() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/gguf");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        fuzzing::any(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 10);
    fuzzing::any(&whole());
}
