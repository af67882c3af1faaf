//! The bytes of an archive: preface, parts, index, end.

use std::collections::HashSet;

use crate::aead::{Cipher, Forged, NONCE, TAG, sha256};
use crate::codec::{Fields, Short};
use crate::container::MAX_BYTES;
use crate::derive::{self, Owner};
use crate::key::{Key, random_array};

pub(super) const MAGIC: &[u8; 8] = b"AICOBAK\0";
pub(super) const END: &[u8; 8] = b"AICOEND\0";
/// The version that is written, and the newest that is read.
pub(super) const VERSION: u16 = 1;
/// Bytes before the vault header.
pub(super) const FIXED: usize = 8 + 2 + 16 + 8 + 1 + 4;
/// Bytes of the sealed archive key.
pub(super) const SEALED_KEY: usize = crate::sealed::HEAD + Key::LEN + TAG;
/// Bytes after the index.
pub(super) const TRAILER: usize = 8 + 8 + 8;
/// Bytes of plain text in a chunk.
pub(super) const CHUNK: usize = 64 * 1024;
/// Bytes of a full chunk in the file.
pub(super) const SEALED_CHUNK: usize = CHUNK + TAG;
/// Bytes of a part's header before the commitment.
const PART_FIXED: usize = 1 + 17 + 4 + 32;
/// Bytes of a part's header.
pub(super) const PART_HEADER: usize = PART_FIXED + 32;
/// Largest index that is read, in bytes of plain text.
pub(super) const MOST_INDEX: u64 = 64 << 20;
/// Most chunks in a part: 256 TiB, and far below what one key may encrypt.
pub(super) const MOST_CHUNKS: u64 = 1 << 32;
/// Number of the index.
pub(super) const INDEX: u32 = u32::MAX;

const SALT: &[u8] = b"aico archive v1";
const INFO: &[u8] = b"aico/archive/1\0";
/// Begins the name under which an archive's key is sealed.
const KEY_NAME: &[u8] = b"archive-key\0";

/// What an archive is a backup of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything: it can be restored to an empty folder.
    Whole,
    /// One person: it can be put back into the home that it came from.
    OnePerson,
}

/// What a part holds. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PartKind {
    /// The system's database.
    System,
    /// What is one person's: keyring and database.
    Person,
    /// The configuration file.
    Configuration,
    /// One that this program does not know.
    Unknown(u8),
}

impl PartKind {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::System => 1,
            Self::Person => 2,
            Self::Configuration => 3,
            Self::Unknown(number) => number,
        }
    }

    pub(super) const fn of(number: u8) -> Self {
        match number {
            1 => Self::System,
            2 => Self::Person,
            3 => Self::Configuration,
            other => Self::Unknown(other),
        }
    }
}

/// The kind of the index itself.
pub(super) const INDEX_KIND: PartKind = PartKind::Unknown(255);

/// A part as the index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it holds.
    pub kind: PartKind,
    /// Whose it is.
    pub owner: Owner,
    /// Its number in this archive, which stays when others are dropped.
    pub number: u32,
    /// Bytes of plain text.
    pub plain: u64,
    pub(super) offset: u64,
    /// Bytes in the file, with the header.
    pub(super) length: u64,
    /// Of these bytes.
    pub(super) sha256: [u8; 32],
}

/// Bytes in the file of a part with this much plain text.
pub(super) fn length_of(plain: u64) -> u64 {
    let chunks = plain.div_ceil(CHUNK as u64).max(1);
    PART_HEADER as u64 + plain + chunks * TAG as u64
}

/// The preface before the sealed key.
pub(super) fn preface(id: [u8; 16], created_ms: u64, scope: Scope, header: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&id);
    out.extend_from_slice(&created_ms.to_be_bytes());
    out.push(match scope {
        Scope::Whole => 0,
        Scope::OnePerson => 1,
    });
    // A vault header is bounded, far below.
    out.extend_from_slice(&(header.len().min(MAX_BYTES) as u32).to_be_bytes());
    out.extend_from_slice(header);
    out
}

/// The name under which the key is sealed: everything that stands before it.
pub(super) fn key_name(before: &[u8]) -> Vec<u8> {
    let mut name = KEY_NAME.to_vec();
    name.extend_from_slice(&sha256(before));
    name
}

/// The header and the chunks of one part.
pub(super) struct Stream {
    header: [u8; PART_HEADER],
    cipher: Cipher,
}

impl Stream {
    /// A new part, with a fresh salt and hence a fresh key.
    pub(super) fn begin(
        archive: &Key,
        id: &[u8; 16],
        kind: PartKind,
        owner: Owner,
        number: u32,
    ) -> Self {
        let mut header = [0; PART_HEADER];
        header[0] = kind.number();
        header[1..18].copy_from_slice(&owner.encode());
        header[18..22].copy_from_slice(&number.to_be_bytes());
        header[22..PART_FIXED].copy_from_slice(&random_array::<32>());
        let (key, commitment) = part_key(archive, id, &header);
        header[PART_FIXED..].copy_from_slice(&commitment);
        Self {
            header,
            cipher: Cipher::new(&key),
        }
    }

    /// The part behind this header, if it is the expected one.
    pub(super) fn read(
        archive: &Key,
        id: &[u8; 16],
        kind: PartKind,
        owner: Owner,
        number: u32,
        header: [u8; PART_HEADER],
    ) -> Result<Self, Forged> {
        let expected = header[0] == kind.number()
            && header[1..18] == owner.encode()
            && header[18..22] == number.to_be_bytes();
        let (key, commitment) = part_key(archive, id, &header);
        if !expected || !crate::aead::same(&commitment, &header[PART_FIXED..]) {
            return Err(Forged);
        }
        Ok(Self {
            header,
            cipher: Cipher::new(&key),
        })
    }

    pub(super) fn header(&self) -> &[u8; PART_HEADER] {
        &self.header
    }

    pub(super) fn seal(&self, index: u64, last: bool, data: &mut [u8]) -> [u8; TAG] {
        self.cipher.seal(nonce(index, last), &[], data)
    }

    pub(super) fn open<'a>(
        &self,
        index: u64,
        last: bool,
        data: &'a mut [u8],
    ) -> Result<&'a mut [u8], Forged> {
        self.cipher.open(nonce(index, last), &[], data)
    }
}

fn part_key(archive: &Key, id: &[u8; 16], header: &[u8; PART_HEADER]) -> (Key, [u8; 32]) {
    derive::derive_committing(archive, SALT, &[INFO, id, &header[..PART_FIXED]])
}

/// Three zero bytes, the chunk's index, and whether it is the last one.
fn nonce(index: u64, last: bool) -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    nonce[3..11].copy_from_slice(&index.to_be_bytes());
    nonce[11] = u8::from(last);
    nonce
}

/// The text of the index: the parts, and what its maker says of them.
pub(super) fn encode_index(parts: &[Part], manifest: &[u8]) -> Vec<u8> {
    let mut out = (parts.len() as u32).to_be_bytes().to_vec();
    for part in parts {
        out.push(part.kind.number());
        out.extend_from_slice(&part.owner.encode());
        out.extend_from_slice(&part.number.to_be_bytes());
        for field in [part.offset, part.length, part.plain] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out.extend_from_slice(&part.sha256);
    }
    out.extend_from_slice(&(manifest.len() as u64).to_be_bytes());
    out.extend_from_slice(manifest);
    out
}

/// Reads the index. The parts have to follow each other without a gap from `from` to `to`.
pub(super) fn decode_index(
    bytes: &[u8],
    from: u64,
    to: u64,
) -> Result<(Vec<Part>, Vec<u8>), &'static str> {
    let short = |Short| "its index is cut off";
    let mut fields = Fields(bytes);
    let mut parts: Vec<Part> = Vec::new();
    let mut numbers = HashSet::new();
    let mut next = from;
    for _ in 0..fields.u32().map_err(short)? {
        let kind = PartKind::of(fields.u8().map_err(short)?);
        let owner = match fields.u8().map_err(short)? {
            0 => fields.array::<16>().map(|_| Owner::System).map_err(short)?,
            1 => Owner::Person(fields.array().map_err(short)?),
            _ => return Err("its index names an owner that there can't be"),
        };
        let part = Part {
            kind,
            owner,
            number: fields.u32().map_err(short)?,
            offset: fields.u64().map_err(short)?,
            length: fields.u64().map_err(short)?,
            plain: fields.u64().map_err(short)?,
            sha256: fields.array().map_err(short)?,
        };
        let fits = part.offset == next
            && part.plain <= MOST_CHUNKS * CHUNK as u64
            && part.length == length_of(part.plain)
            && part.number != INDEX
            && numbers.insert(part.number);
        if !fits {
            return Err("its index does not fit");
        }
        next = next
            .checked_add(part.length)
            .ok_or("its index does not fit")?;
        parts.push(part);
    }
    if next != to {
        return Err("there are bytes in it that belong to nothing");
    }
    let length = fields.u64().map_err(short)?;
    let length = usize::try_from(length).map_err(|_| "its index does not fit")?;
    let manifest = fields.take(length).map_err(short)?.to_vec();
    if !fields.is_empty() {
        return Err("its index does not fit");
    }
    Ok((parts, manifest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_vectors_hold() {
        let archive = Key::fill_with(|out| {
            for (at, byte) in out.iter_mut().enumerate() {
                *byte = at as u8;
            }
        });
        let range = |from: u8| std::array::from_fn::<u8, 16, _>(|at| from + at as u8);
        let mut header = [0; PART_HEADER];
        header[0] = PartKind::Person.number();
        header[1..18].copy_from_slice(&Owner::Person(range(0xa0)).encode());
        header[18..22].copy_from_slice(&1_u32.to_be_bytes());
        header[22..38].copy_from_slice(&range(0x80));
        header[38..54].copy_from_slice(&range(0x90));
        let (key, commitment) = part_key(&archive, &range(0x50), &header);
        header[PART_FIXED..].copy_from_slice(&commitment);
        let (kind, owner) = (PartKind::Person, Owner::Person(range(0xa0)));
        let stream = Stream::read(&archive, &range(0x50), kind, owner, 1, header).unwrap();
        let mut found = vec![hex::encode(key.expose()), hex::encode(commitment)];
        for text in ["", "hello"] {
            let mut chunk = text.as_bytes().to_vec();
            let tag = stream.seal(0, true, &mut chunk);
            chunk.extend_from_slice(&tag);
            found.push(hex::encode(&chunk));
        }
        let document = include_str!("../../../../docs/formats/backup-archive.md");
        for value in found {
            assert!(
                document.contains(&value),
                "docs/formats/backup-archive.md lacks {value}"
            );
        }
    }

    #[test]
    fn an_index_with_gaps_overlaps_or_twice_the_same_number_is_refused() {
        let part = |number, offset, plain| Part {
            kind: PartKind::Person,
            owner: Owner::System,
            number,
            plain,
            offset,
            length: length_of(plain),
            sha256: [0; 32],
        };
        let read = |parts: &[Part], to| decode_index(&encode_index(parts, b"m"), 100, to);
        let first = part(0, 100, 5);
        let second = part(1, 100 + first.length, 0);
        let end = second.offset + second.length;
        let (parts, manifest) = read(&[first.clone(), second.clone()], end).unwrap();
        assert_eq!((parts.len(), &manifest[..]), (2, &b"m"[..]));
        assert_eq!(read(&[], 100).unwrap().0, []);
        for (parts, to) in [
            (vec![first.clone()], end),
            (vec![second.clone()], end),
            (vec![first.clone(), part(0, second.offset, 0)], end),
            (vec![first.clone(), part(1, second.offset + 1, 0)], end + 1),
            (vec![first.clone(), part(INDEX, second.offset, 0)], end),
            // Lengths that no file has, and a sum that no number holds.
            (
                vec![Part {
                    plain: u64::MAX - 500,
                    ..first.clone()
                }],
                end,
            ),
        ] {
            assert!(read(&parts, to).is_err());
        }
        let text = encode_index(&[first, second], b"manifest");
        for cut in 0..text.len() {
            assert!(decode_index(&text[..cut], 100, end).is_err(), "{cut}");
        }
    }
}
