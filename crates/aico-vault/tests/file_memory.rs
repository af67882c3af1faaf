//! An encrypted file takes the same memory whatever its size. Alone in its program: it counts
//! every allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use aico_vault::{EncryptedFile, FileKey, Key, Owner, Purpose};

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is the system's allocator's; numbers are kept beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(now, Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most bytes that were in use at once during something, beyond those before it.
fn most(work: impl FnOnce()) -> usize {
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    work();
    MOST.load(Relaxed) - before
}

#[test]
fn memory_stays_the_same_for_any_size() {
    let folder = tempfile::tempdir().unwrap();
    let key = || {
        let key = Key::from_bytes(&[1; 32]);
        FileKey::from_derived(key, 1, Purpose::Log, Owner::System, [2; 16])
    };
    let piece = [7; 1000];
    for appended in [false, true] {
        let mut used = Vec::new();
        for megabytes in [2_u64, 64] {
            let path = folder.path().join(format!("{appended}{megabytes}"));
            used.push(most(|| {
                let mut options = EncryptedFile::options();
                let options = match appended {
                    true => options.append(true).create(true),
                    false => options.write(true).create_new(true),
                };
                let mut file = options.open(&key(), &path).unwrap();
                for line in 0..megabytes * 1000 {
                    file.write_all(&piece).unwrap();
                    // Short records: many more of them than there are places to remember.
                    if appended && line % 10 == 0 {
                        file.flush().unwrap();
                    }
                }
                file.finish().unwrap();
            }));
            used.push(most(|| {
                let mut file = EncryptedFile::open(&key(), &path).unwrap();
                let mut here = [0; 5000];
                while file.read(&mut here).unwrap() > 0 {}
                assert_eq!(file.plain_len().unwrap(), megabytes * 1_000_000);
                file.seek(SeekFrom::Start(megabytes * 500_000)).unwrap();
                file.read_exact(&mut here).unwrap();
                file.verify().unwrap();
            }));
        }
        // Written and read, the small one and the one that is 32 times as long.
        assert!(used.iter().all(|bytes| *bytes < 1 << 20), "{used:?}");
    }
}
