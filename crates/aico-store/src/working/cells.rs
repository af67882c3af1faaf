//! What lies in the table: names that are keyed, values that are sealed.
//!
//! The layout is described in `docs/formats/working-memory.md`.

use aico_vault::{Key, PersonKeys, Purpose};
use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac, rand,
};
use zeroize::Zeroizing;

/// The random salt of an environment, in bytes.
pub(crate) const SALT: usize = 32;
const NONCE: usize = 12;
const TAG: usize = 16;
/// Begins what is authenticated beside a value.
const FORMAT: &[u8] = b"aico/working-memory/1\0";
const NAME_KEY: &[u8] = b"aico/working-memory/name/1\0";
const VALUE_KEY: &[u8] = b"aico/working-memory/value/1\0";
/// Longest name of an entry, in bytes.
pub(crate) const LONGEST_NAME: usize = 1024;

/// The keyed name of an entry, as the file shows it.
pub(crate) type Name = [u8; 32];

/// What an entry says.
pub(crate) struct Entry {
    /// When it was written, in milliseconds since 1970.
    pub(crate) written: u64,
    /// When it is over.
    pub(crate) expires: u64,
    pub(crate) space: String,
    pub(crate) name: Vec<u8>,
    pub(crate) value: Zeroizing<Vec<u8>>,
}

/// The keys of one environment.
pub(crate) struct Cells {
    name: Key,
    value: Key,
}

/// The system has no random numbers.
#[derive(Debug)]
pub(crate) struct NoRandomness;

/// A salt for a new environment.
pub(crate) fn new_salt() -> Result<[u8; SALT], NoRandomness> {
    let mut salt = [0; SALT];
    rand::fill(&mut salt).map_err(|_| NoRandomness)?;
    Ok(salt)
}

impl Cells {
    /// The keys of the environment with this salt.
    pub(crate) fn new(keys: &PersonKeys, salt: &[u8; SALT]) -> Self {
        let environment = keys.derive_with(Purpose::WorkingMemory, salt);
        Self::of(&environment)
    }

    pub(crate) fn of(environment: &Key) -> Self {
        let part = |label| {
            let bytes = Zeroizing::new(mac(environment, &[label]));
            Key::from_bytes(&bytes)
        };
        Self {
            name: part(NAME_KEY),
            value: part(VALUE_KEY),
        }
    }

    /// The name of an entry.
    pub(crate) fn name(&self, space: &str, name: &[u8]) -> Name {
        let length = u8::try_from(space.len()).unwrap_or(u8::MAX);
        mac(&self.name, &[&[length], space.as_bytes(), name])
    }

    /// What all entries of a space have in common, in memory only.
    pub(crate) fn space(&self, space: &str) -> Name {
        mac(&self.name, &[&[0], space.as_bytes()])
    }

    /// Seals an entry under its name.
    pub(crate) fn seal(&self, name: &Name, entry: &Entry) -> Result<Vec<u8>, NoRandomness> {
        let mut nonce = [0; NONCE];
        rand::fill(&mut nonce).map_err(|_| NoRandomness)?;
        self.seal_with(name, entry, nonce)
    }

    fn seal_with(
        &self,
        name: &Name,
        entry: &Entry,
        nonce: [u8; NONCE],
    ) -> Result<Vec<u8>, NoRandomness> {
        let (space, own) = (entry.space.as_bytes(), &entry.name);
        let room = 8 + 8 + 1 + space.len() + 2 + own.len() + entry.value.len() + TAG;
        // As long as it gets: growing would leave copies behind.
        let mut plain = Zeroizing::new(Vec::with_capacity(room));
        plain.extend_from_slice(&entry.written.to_be_bytes());
        plain.extend_from_slice(&entry.expires.to_be_bytes());
        plain.push(u8::try_from(space.len()).map_err(|_| NoRandomness)?);
        plain.extend_from_slice(space);
        let length = u16::try_from(own.len()).map_err(|_| NoRandomness)?;
        plain.extend_from_slice(&length.to_be_bytes());
        plain.extend_from_slice(own);
        plain.extend_from_slice(&entry.value);
        let tag = cipher(&self.value)
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from([FORMAT, name].concat()),
                &mut plain,
            )
            .map_err(|_| NoRandomness)?;
        let mut sealed = Vec::with_capacity(NONCE + room);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&plain);
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what lies under a name; `None`: it was not sealed under it with these keys.
    pub(crate) fn open(&self, name: &Name, sealed: &[u8]) -> Option<Entry> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let opened = cipher(&self.value)
            .open_in_place(nonce, Aad::from([FORMAT, name].concat()), &mut plain)
            .ok()?;
        let (written, rest) = opened.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first()?;
        let (space, rest) = rest.split_at_checked(usize::from(*length))?;
        let (length, rest) = rest.split_first_chunk()?;
        let (own, value) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let entry = Entry {
            written: u64::from_be_bytes(*written),
            expires: u64::from_be_bytes(*expires),
            space: std::str::from_utf8(space).ok()?.to_owned(),
            name: own.to_vec(),
            value: Zeroizing::new(value.to_vec()),
        };
        (self.name(&entry.space, &entry.name) == *name).then_some(entry)
    }
}

/// Made for each call: while nothing is read or written its schedule lies nowhere.
fn cipher(key: &Key) -> LessSafeKey {
    match UnboundKey::new(&AES_256_GCM_SIV, key.expose()) {
        Ok(key) => LessSafeKey::new(key),
        // Only a key of another length can fail, and `Key` has no other length.
        Err(_) => std::process::abort(),
    }
}

fn mac(key: &Key, parts: &[&[u8]]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(from: u8) -> [u8; 32] {
        std::array::from_fn(|index| from + index as u8)
    }

    fn entry() -> Entry {
        Entry {
            written: 1_800_000_000_000,
            expires: 1_800_000_060_000,
            space: "presence".to_owned(),
            name: b"device".to_vec(),
            value: Zeroizing::new(b"here".to_vec()),
        }
    }

    fn cells() -> Cells {
        Cells::of(&Key::from_bytes(&counted(0x20)))
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_formats_chapter_tells_names_and_sealed_values() {
        let chapter = include_str!("../../../../docs/formats/working-memory.md");
        let cells = cells();
        let name = cells.name("presence", b"device");
        let sealed = cells.seal_with(&name, &entry(), [7; NONCE]).unwrap();
        let keys = [cells.name.expose(), cells.value.expose()];
        for vector in [hex(keys[0]), hex(keys[1]), hex(&name), hex(&sealed)] {
            assert!(chapter.contains(&vector), "not in the chapter: {vector}");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_length_is_refused() {
        let cells = cells();
        let name = cells.name("presence", b"device");
        let sealed = cells.seal(&name, &entry()).unwrap();
        assert_eq!(
            cells.open(&name, &sealed).unwrap().value.as_slice(),
            b"here"
        );
        for bit in 0..sealed.len() * 8 {
            let mut other = sealed.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(cells.open(&name, &other).is_none(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(cells.open(&name, &sealed[..length]).is_none());
        }
    }

    #[test]
    fn a_value_under_another_name_or_another_salt_is_refused() {
        let cells = cells();
        let name = cells.name("presence", b"device");
        let sealed = cells.seal(&name, &entry()).unwrap();
        let other = cells.name("presence", b"another");
        assert!(cells.open(&other, &sealed).is_none());
        let elsewhere = Cells::of(&Key::from_bytes(&counted(0x21)));
        assert!(elsewhere.open(&name, &sealed).is_none());
        assert_ne!(
            cells.name("presence", b"device"),
            cells.name("presenc", b"edevice")
        );
    }

    #[test]
    fn equal_values_do_not_look_equal() {
        let cells = cells();
        let name = cells.name("presence", b"device");
        let (one, two) = (
            cells.seal(&name, &entry()).unwrap(),
            cells.seal(&name, &entry()).unwrap(),
        );
        assert_ne!(one, two);
        assert_ne!(one[NONCE..], two[NONCE..]);
    }
}
