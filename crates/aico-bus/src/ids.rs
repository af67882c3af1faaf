//! Ids of envelopes: UUIDv7, made without a system call for each.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

/// Makes ids that sort by time. The low 62 bits are a counter that starts at a random point in a
/// random space, so two sources do not collide and one never repeats. Ids need to be unique, not
/// secret: who may answer or cancel an exchange is decided by identity.
#[derive(Debug)]
pub(crate) struct IdSource {
    /// 12 random bits for the `rand_a` field, the same for all ids of this source.
    salt: u16,
    next: AtomicU64,
}

impl IdSource {
    pub(crate) fn new() -> Self {
        let random = Uuid::new_v4();
        let (high, low) = random.as_u64_pair();
        Self {
            salt: (high >> 52) as u16,
            next: AtomicU64::new(low),
        }
    }

    /// A fresh id for something that happens now.
    pub(crate) fn next(&self, unix_ns: u64) -> Bytes {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = [0; 16];
        id[..6].copy_from_slice(&(unix_ns / 1_000_000).to_be_bytes()[2..]);
        id[6..8].copy_from_slice(&(0x7000 | self.salt & 0x0fff).to_be_bytes());
        id[8..].copy_from_slice(&(count & (u64::MAX >> 2) | 1 << 63).to_be_bytes());
        shared(id)
    }
}

thread_local! {
    /// Room for ids: one allocation for many of them, for each message has one.
    static ROOM: RefCell<BytesMut> = RefCell::default();
}

/// How many ids share an allocation. It is freed when the last of them is.
const IDS: usize = 32;

fn shared(id: [u8; 16]) -> Bytes {
    ROOM.with_borrow_mut(|room| {
        if room.capacity() < id.len() {
            *room = BytesMut::with_capacity(IDS * id.len());
        }
        room.extend_from_slice(&id);
        room.split().freeze()
    })
}

/// Wall clock in nanoseconds since the Unix epoch.
pub(crate) fn now_ns() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_version_7_and_differ() {
        let source = IdSource::new();
        let now = now_ns();
        let ids: HashSet<_> = (0..1000).map(|_| source.next(now)).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let id = Uuid::from_slice(&id).unwrap();
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        }
    }
}
