//! The bytes of segment headers and records, and the keys behind them.

use crate::aead::{Cipher, Forged, NONCE, TAG, mac, same};
use crate::derive::{self, Label, Owner, Purpose};
use crate::key::{Key, random_array};
use crate::person::PersonKeys;
use crate::vault::Vault;

/// Longest record in bytes.
pub const MAX_RECORD: usize = 16 * 1024 * 1024;

/// First bytes of a segment.
pub(crate) const MAGIC: &[u8; 8] = b"AICOSEG\0";
pub(crate) const VERSION: u16 = 1;
/// Magic, version, key epoch.
const PREFIX: usize = 8 + 2 + 4;
/// Purpose, owner, file id.
pub(crate) const IDENTITY: usize = 32 + 17 + 16;
/// Bytes of a header before the commitment.
const FIXED: usize = PREFIX + IDENTITY + 4 + 8 + 32 + 32;
/// Bytes of a header.
pub(crate) const HEADER: usize = FIXED + 32;

/// First byte of a data record.
pub(crate) const DATA: u8 = 0x01;
/// First byte of a data record before which everything in the file had been synced.
pub(crate) const DATA_AFTER_SYNC: u8 = 0x03;
/// First byte of the mark that closes a segment.
pub(crate) const CLOSE: u8 = 0x10;
/// Bytes before a record's ciphertext: kind, length.
pub(crate) const RECORD_HEAD: usize = 1 + 4;
/// Bytes of a record beside its data.
pub(crate) const RECORD_OVERHEAD: usize = RECORD_HEAD + TAG;
/// Bytes of a closing mark: kind, number of records, tag.
pub(crate) const CLOSE_LEN: usize = 1 + 8 + TAG;

const SALT: &[u8] = b"aico append v1";
const SEGMENT_INFO: &[u8] = b"aico/append/segment/1\0";
const CHAIN_INFO: &[u8] = b"aico/append/chain/1\0";

/// What seals one file: its key, and the identity that is bound into every segment.
///
/// From [`Vault::log_key`] or [`PersonKeys::log_key`].
pub struct LogKey {
    base: Key,
    chain: Key,
    epoch: u32,
    identity: [u8; IDENTITY],
    /// The same file's key under the parent key before this one: segments of its epoch are read,
    /// none is begun.
    earlier: Option<Box<LogKey>>,
}

impl Vault {
    /// The key of a sealed append file under the root key.
    #[must_use]
    pub fn log_key(&self, purpose: Purpose, owner: Owner, file: [u8; 16]) -> LogKey {
        self.0.roots().log_key(purpose, owner, file)
    }
}

impl PersonKeys {
    /// The key of a sealed append file under this person's key.
    #[must_use]
    pub fn log_key(&self, purpose: Purpose, file: [u8; 16]) -> LogKey {
        let label = Label::new(purpose, Owner::Person(self.0.id)).with_context(&file);
        LogKey::new(
            self.derive_label(label),
            self.0.epoch,
            purpose,
            Owner::Person(self.0.id),
            file,
        )
    }
}

impl LogKey {
    pub(crate) fn under_root(
        root: &Key,
        epoch: u32,
        purpose: Purpose,
        owner: Owner,
        file: [u8; 16],
    ) -> Self {
        let label = Label::new(purpose, owner).with_context(&file);
        Self::new(
            derive::derive(root, derive::ROOT_SALT, &label),
            epoch,
            purpose,
            owner,
            file,
        )
    }

    pub(crate) fn new(
        base: Key,
        epoch: u32,
        purpose: Purpose,
        owner: Owner,
        file: [u8; 16],
    ) -> Self {
        let mut identity = [0; IDENTITY];
        let name = purpose.as_str().as_bytes();
        identity[..name.len()].copy_from_slice(name);
        identity[32..49].copy_from_slice(&owner.encode());
        identity[49..].copy_from_slice(&file);
        let chain = Key::fill_with(|out| derive::hkdf(base.expose(), SALT, &[CHAIN_INFO], out));
        Self {
            base,
            chain,
            epoch,
            identity,
            earlier: None,
        }
    }

    /// This key, which also reads what was written under the one before it.
    pub(crate) fn after(mut self, earlier: Self) -> Self {
        self.earlier = Some(Box::new(earlier));
        self
    }

    /// The key that a header's epoch names.
    fn named_by(&self, header: &[u8; HEADER]) -> &Self {
        match &self.earlier {
            Some(earlier) if header[10..14] == earlier.epoch.to_be_bytes() => earlier,
            _ => self,
        }
    }

    /// What the keys of segments come from.
    pub(crate) fn base(&self) -> &Key {
        &self.base
    }

    /// Epoch of the key above it.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Purpose, owner and file id, as headers carry them.
    pub(crate) fn identity(&self) -> &[u8; IDENTITY] {
        &self.identity
    }

    /// Another handle to the same key.
    pub(crate) fn share(&self) -> Self {
        Self {
            base: Key::from_bytes(self.base.expose()),
            chain: Key::from_bytes(self.chain.expose()),
            epoch: self.epoch,
            identity: self.identity,
            earlier: self.earlier.as_ref().map(|key| Box::new(key.share())),
        }
    }

    /// A new segment after `previous`, with fresh random bytes and hence a fresh key.
    pub(crate) fn begin(&self, previous: Option<&Segment>, first_sequence: u64) -> Segment {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..10].copy_from_slice(&VERSION.to_be_bytes());
        header[10..14].copy_from_slice(&self.epoch.to_be_bytes());
        let mut rest = Field(&mut header[PREFIX..]);
        rest.put(&self.identity);
        rest.put(
            &previous
                .map_or(0, |segment| segment.number + 1)
                .to_be_bytes(),
        );
        rest.put(&first_sequence.to_be_bytes());
        rest.put(&random_array::<32>());
        rest.put(&self.chain(previous));
        let (key, commitment) = self.segment_key(&header);
        header[FIXED..].copy_from_slice(&commitment);
        Segment::new(header, &key)
    }

    /// Reads a header that claims to be one of this file. `None`: it is not, or is damaged.
    pub(crate) fn read(&self, header: [u8; HEADER]) -> Option<Segment> {
        let version = header[8..10] == VERSION.to_be_bytes();
        if !header.starts_with(MAGIC) || !version || !self.names(&header) {
            return None;
        }
        let (key, commitment) = self.named_by(&header).segment_key(&header);
        same(&commitment, &header[FIXED..]).then(|| Segment::new(header, &key))
    }

    /// A segment as it was at a place that was read before.
    pub(crate) fn resume(&self, place: &SegmentPlace) -> Option<Segment> {
        let mut segment = self.read(place.header)?;
        segment.records = place.records;
        segment.closed = place.closed;
        segment.last_tag = place.last_tag;
        Some(segment)
    }

    /// Whether an intact-looking header names another epoch, purpose, owner or file.
    pub(crate) fn is_foreign(&self, header: &[u8; HEADER]) -> bool {
        header.starts_with(MAGIC) && !self.names(header) && header[FIXED..] != [0; 32]
    }

    /// Whether a header names this epoch, purpose, owner and file.
    fn names(&self, header: &[u8; HEADER]) -> bool {
        header[10..14] == self.named_by(header).epoch.to_be_bytes()
            && header[PREFIX..PREFIX + IDENTITY] == self.identity
    }

    /// Whether some bytes were a header of this file before they were damaged.
    pub(crate) fn resembles(&self, header: &[u8; HEADER]) -> bool {
        header.starts_with(MAGIC) || header[PREFIX..PREFIX + IDENTITY] == self.identity
    }

    /// Whether `segment` is the one that follows `previous`.
    pub(crate) fn follows(&self, segment: &Segment, previous: Option<&Segment>) -> bool {
        segment.number == previous.map_or(0, |previous| previous.number.wrapping_add(1))
            && same(
                segment.chain_field(),
                &self.named_by(&segment.header).chain(previous),
            )
    }

    fn chain(&self, previous: Option<&Segment>) -> [u8; 32] {
        previous.map_or([0; 32], |segment| {
            mac(&self.chain, &[&segment.header, &segment.last_tag])
        })
    }

    fn segment_key(&self, header: &[u8; HEADER]) -> (Key, [u8; 32]) {
        derive::derive_committing(&self.base, SALT, &[SEGMENT_INFO, &header[..FIXED]])
    }
}

struct Field<'a>(&'a mut [u8]);

impl Field<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (here, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        here.copy_from_slice(bytes);
        self.0 = rest;
    }
}

/// A place in a segment that was read up to there.
#[derive(Clone)]
pub(crate) struct SegmentPlace {
    header: [u8; HEADER],
    records: u64,
    closed: bool,
    last_tag: [u8; TAG],
}

/// A segment while it is read or written.
pub(crate) struct Segment {
    header: [u8; HEADER],
    cipher: Cipher,
    pub(crate) number: u32,
    pub(crate) first_sequence: u64,
    /// How many records there are so far; the nonce of the next.
    pub(crate) records: u64,
    pub(crate) closed: bool,
    last_tag: [u8; TAG],
}

impl Segment {
    fn new(header: [u8; HEADER], key: &Key) -> Self {
        let at = PREFIX + IDENTITY;
        let mut number = [0; 4];
        number.copy_from_slice(&header[at..at + 4]);
        let mut first = [0; 8];
        first.copy_from_slice(&header[at + 4..at + 12]);
        Self {
            header,
            cipher: Cipher::new(key),
            number: u32::from_be_bytes(number),
            first_sequence: u64::from_be_bytes(first),
            records: 0,
            closed: false,
            last_tag: [0; TAG],
        }
    }

    pub(crate) fn header(&self) -> &[u8; HEADER] {
        &self.header
    }

    /// The fresh random bytes of its header.
    pub(crate) fn random(&self) -> [u8; 32] {
        let mut random = [0; 32];
        random.copy_from_slice(&self.header[FIXED - 64..FIXED - 32]);
        random
    }

    fn chain_field(&self) -> &[u8] {
        &self.header[FIXED - 32..FIXED]
    }

    /// The sequence of the next record.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.first_sequence.saturating_add(self.records)
    }

    /// Appends the next record to `out`.
    pub(crate) fn seal(&mut self, after_sync: bool, data: &[u8], out: &mut Vec<u8>) -> u64 {
        let sequence = self.next_sequence();
        let kind = if after_sync { DATA_AFTER_SYNC } else { DATA };
        let start = out.len();
        out.push(kind);
        out.extend_from_slice(&(data.len() as u32).to_be_bytes());
        out.extend_from_slice(data);
        let aad = record_aad(kind, data.len(), sequence);
        let secret = &mut out[start + RECORD_HEAD..];
        let tag = self.cipher.seal(data_nonce(self.records), &aad, secret);
        out.extend_from_slice(&tag);
        self.records += 1;
        self.last_tag = tag;
        sequence
    }

    /// Decrypts the record that is `ahead` places after the next, in place.
    pub(crate) fn open<'a>(
        &self,
        ahead: u64,
        kind: u8,
        body: &'a mut [u8],
    ) -> Result<&'a mut [u8], Forged> {
        let len = body.len().checked_sub(TAG).ok_or(Forged)?;
        let sequence = self.next_sequence().saturating_add(ahead);
        let aad = record_aad(kind, len, sequence);
        self.cipher
            .open(data_nonce(self.records.saturating_add(ahead)), &aad, body)
    }

    /// How far this segment has been read, to be gone on from with [`LogKey::resume`].
    pub(crate) fn place(&self) -> SegmentPlace {
        SegmentPlace {
            header: self.header,
            records: self.records,
            closed: self.closed,
            last_tag: self.last_tag,
        }
    }

    /// Moves past a record that opened.
    pub(crate) fn advance(&mut self, tag: [u8; TAG]) {
        self.records += 1;
        self.last_tag = tag;
    }

    /// The closing mark; afterwards the segment is closed.
    pub(crate) fn close(&mut self) -> [u8; CLOSE_LEN] {
        let mut out = [0; CLOSE_LEN];
        out[0] = CLOSE;
        out[1..9].copy_from_slice(&self.records.to_be_bytes());
        let tag = self
            .cipher
            .seal(close_nonce(self.records), &out[..9], &mut []);
        out[9..].copy_from_slice(&tag);
        self.closed = true;
        self.last_tag = tag;
        out
    }

    /// Reads a closing mark; `Some` with the number of records when it is this segment's.
    pub(crate) fn read_close(&self, mark: &[u8; CLOSE_LEN]) -> Option<u64> {
        let (head, tag) = mark.split_first_chunk::<9>()?;
        let (kind, count) = head.split_first_chunk::<1>()?;
        let count = u64::from_be_bytes(*count.first_chunk()?);
        let mut tag: [u8; TAG] = *tag.first_chunk()?;
        let opened =
            kind == &[CLOSE] && self.cipher.open(close_nonce(count), head, &mut tag).is_ok();
        opened.then_some(count)
    }

    /// Moves past a closing mark that was read.
    pub(crate) fn closed_by(&mut self, mark: &[u8; CLOSE_LEN]) {
        self.closed = true;
        self.last_tag.copy_from_slice(&mark[9..]);
    }
}

fn record_aad(kind: u8, len: usize, sequence: u64) -> [u8; 13] {
    let mut aad = [kind; 13];
    aad[1..5].copy_from_slice(&(len as u32).to_be_bytes());
    aad[5..].copy_from_slice(&sequence.to_be_bytes());
    aad
}

/// 4 zero bytes and the record's number in the segment.
fn data_nonce(record: u64) -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    nonce[4..].copy_from_slice(&record.to_be_bytes());
    nonce
}

/// A closing mark has nonces of its own, so that it can be found from the end of a file.
fn close_nonce(records: u64) -> [u8; NONCE] {
    let mut nonce = data_nonce(records);
    nonce[3] = 1;
    nonce
}
