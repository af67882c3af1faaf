//! The bytes of a record, and the names of files. `docs/formats/bus-journal.md` tells them.

use aico_contracts::ids::PersonId;
use aico_vault::append::next_id;

/// First byte of a record whose body stands as it is under the record's own seal.
const PLAIN: u8 = 1;
/// First byte of a record whose body is sealed once more under its person's key.
const SEALED: u8 = 2;
/// First byte of a record that was written anew while nobody had its person's key: the body is
/// still sealed as it was, in the segment whose random bytes stand before it.
const CARRIED: u8 = 3;
/// Random bytes of a segment.
pub(crate) const CONTEXT: usize = 32;
/// Kind, time, id, person.
const FIXED: usize = 1 + 8 + 16 + 16;

/// Longest encoded envelope that the journal takes: 4 MiB.
pub(crate) const MAX_BODY: usize = 4 * 1024 * 1024;
/// Longest name of a sender, topic or payload type in bytes.
pub(crate) const MAX_NAME: usize = 255;

/// What a record says outside of its body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) stamped_ns: u64,
    pub(crate) id: [u8; 16],
    /// Whose it is; then the body is sealed under their key.
    pub(crate) person: Option<PersonId>,
    pub(crate) sender: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) payload_type: &'a str,
}

impl<'a> Head<'a> {
    /// Appends the head to an empty record; the body follows.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(if self.person.is_some() { SEALED } else { PLAIN });
        out.extend_from_slice(&self.stamped_ns.to_be_bytes());
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&self.person.map_or([0; 16], |person| *person.as_bytes()));
        for text in [self.sender, self.topic, self.payload_type] {
            let text = &text.as_bytes()[..text.len().min(MAX_NAME)];
            out.push(text.len() as u8);
            out.extend_from_slice(text);
        }
    }

    /// Reads a record's head and says where its body begins. `None`: it is none.
    pub(crate) fn decode(record: &'a [u8]) -> Option<(Self, usize)> {
        let (fixed, mut rest) = record.split_first_chunk::<FIXED>()?;
        let kind = fixed[0];
        let person: [u8; 16] = *fixed[25..].first_chunk()?;
        let person = match kind {
            PLAIN if person == [0; 16] => None,
            SEALED | CARRIED => Some(PersonId::from_slice(&person).ok()?),
            _ => return None,
        };
        let mut text = || {
            let (len, after) = rest.split_first()?;
            let (text, after) = after.split_at_checked(usize::from(*len))?;
            rest = after;
            std::str::from_utf8(text).ok()
        };
        let (sender, topic, payload_type) = (text()?, text()?, text()?);
        if kind == CARRIED {
            rest = rest.get(CONTEXT..)?;
        }
        let head = Self {
            stamped_ns: u64::from_be_bytes(*fixed[1..].first_chunk()?),
            id: *fixed[9..].first_chunk()?,
            person,
            sender,
            topic,
            payload_type,
        };
        Some((head, record.len() - rest.len()))
    }
}

/// The record as it was before it was carried over, and the segment of then; `None` when it was
/// not. `body` is where its body begins.
pub(crate) fn before_carrying(record: &[u8], body: usize) -> Option<(Vec<u8>, [u8; CONTEXT])> {
    if record.first() != Some(&CARRIED) {
        return None;
    }
    let (head, context) = record.get(..body)?.split_last_chunk::<CONTEXT>()?;
    let mut before = head.to_vec();
    *before.first_mut()? = SEALED;
    before.extend_from_slice(record.get(body..)?);
    Some((before, *context))
}

/// A sealed record, to be put into another segment by somebody who can't open it.
pub(crate) fn carried(record: &[u8], body: usize, segment: &[u8; CONTEXT]) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.len() + CONTEXT);
    out.extend_from_slice(&record[..body]);
    if let Some(kind) = out.first_mut() {
        *kind = CARRIED;
    }
    out.extend_from_slice(segment);
    out.extend_from_slice(&record[body..]);
    out
}

/// A file of the journal, as its name tells it:
/// `<first sequence>-<seconds since 1970>-<id>.journal`, all in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileName {
    /// Sequence of its first record.
    pub(crate) first: u64,
    /// When it was made: what is before it is older.
    pub(crate) made_s: u64,
    /// Random, or [`next_id`] of one that was; part of its key.
    pub(crate) id: [u8; 16],
}

const ENDING: &str = ".journal";
/// More often than this no file is expected to be written anew before its time is over.
const TIMES_ANEW: usize = 256;

impl FileName {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(ENDING)?.split('-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            u128::from_str_radix(part, 16).ok()
        };
        let file = Self {
            first: u64::try_from(number(16)?).ok().filter(|first| *first > 0)?,
            made_s: u64::try_from(number(10)?).ok()?,
            id: number(32)?.to_be_bytes(),
        };
        (parts.next().is_none() && file.to_string() == name).then_some(file)
    }

    /// The same file under the id that it is written anew under when it is to have another key.
    pub(crate) fn next(&self) -> Self {
        Self {
            id: next_id(self.id),
            ..*self
        }
    }

    /// The same file as it is called after each time that it is written anew under another id.
    pub(crate) fn anew(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.next()), |file| Some(file.next())).take(TIMES_ANEW)
    }

    /// Under which name the registry knows how far it got.
    pub(crate) fn mark(&self) -> String {
        format!("{MARK}{:032x}", u128::from_be_bytes(self.id))
    }
}

/// How the names of the journal's marks in the registry begin.
pub(crate) const MARK: &str = "bus-journal/";

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Ten digits of seconds last for 34,000 years.
        let (first, made_s) = (self.first, self.made_s & 0xff_ffff_ffff);
        let id = u128::from_be_bytes(self.id);
        write!(f, "{first:016x}-{made_s:010x}-{id:032x}{ENDING}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(person: Option<PersonId>) -> Head<'static> {
        Head {
            stamped_ns: 0x0102_0304_0506_0708,
            id: [9; 16],
            person,
            sender: "weather",
            topic: "a.b",
            payload_type: "aico.v1.Empty",
        }
    }

    #[test]
    fn a_head_comes_back_and_says_where_the_body_begins() {
        for person in [None, Some(PersonId::new())] {
            let mut record = Vec::new();
            head(person).encode(&mut record);
            let body = record.len();
            record.extend_from_slice(b"body");
            let (read, at) = Head::decode(&record).unwrap();
            assert!(read == head(person));
            assert_eq!(at, body);
            for cut in 0..body {
                assert!(Head::decode(&record[..cut]).is_none(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_record_that_is_carried_over_says_what_it_was() {
        let mut record = Vec::new();
        head(Some(PersonId::new())).encode(&mut record);
        let body = record.len();
        record.extend_from_slice(b"sealed body");
        assert!(before_carrying(&record, body).is_none());
        let over = carried(&record, body, &[5; CONTEXT]);
        let (read, at) = Head::decode(&over).unwrap();
        assert!(read == Head::decode(&record).unwrap().0);
        assert_eq!(&over[at..], b"sealed body");
        assert_eq!(before_carrying(&over, at), Some((record, [5; CONTEXT])));
        for cut in 0..at {
            assert!(Head::decode(&over[..cut]).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn a_head_has_the_documented_bytes() {
        let mut record = Vec::new();
        head(None).encode(&mut record);
        let mut expected = vec![1, 1, 2, 3, 4, 5, 6, 7, 8];
        expected.extend_from_slice(&[9; 16]);
        expected.extend_from_slice(&[0; 16]);
        expected.extend_from_slice(b"\x07weather\x03a.b\x0daico.v1.Empty");
        assert_eq!(record, expected);
    }

    #[test]
    fn a_name_comes_back_and_others_are_none() {
        let file = FileName {
            first: 17,
            made_s: 1_800_000_000,
            id: [0xab; 16],
        };
        let name = file.to_string();
        assert_eq!(
            name,
            "0000000000000011-006b49d200-abababababababababababababababab.journal"
        );
        assert_eq!(FileName::parse(&name), Some(file));
        for other in [
            name.to_uppercase(),
            name.replace("11-", "00-"),
            name.replace(".journal", ".damaged"),
            format!("{name}.tmp"),
            name.replacen('0', "+", 1),
        ] {
            assert_eq!(FileName::parse(&other), None, "{other}");
        }
    }
}
