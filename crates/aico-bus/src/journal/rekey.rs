//! Writing the journal's files anew: after a key above them was changed, or under other keys while
//! those stay.
//!
//! Nobody has the journal open meanwhile. What a person's messages say is sealed anew under their
//! present key, where that can be opened; a sealed person's who has not signed in is carried over
//! as it is, and only they open it.

use std::path::Path;
use std::sync::Arc;

use aico_vault::append::{Rewritten, rewrite, rewrite_to};
use zeroize::Zeroizing;

use super::error::JournalError;
use super::files::Folder;
use super::format::{CONTEXT, FileName, Head, before_carrying, carried};
use super::keys::JournalKeys;
use super::store::is_damage;

/// What is to be written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anew {
    /// Files that are not under the present key of the system.
    Behind,
    /// All of them, for the bodies in them: each file is a segment with fresh random bytes, and
    /// bodies are under persons' present keys.
    Bodies,
    /// All of them, each under another id, which is another key; bodies as well.
    Files,
}

/// What became of the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rekeyed {
    /// Files that were written anew.
    pub files: usize,
    /// Files that could not be read: set aside, as the journal does when it meets one.
    pub damaged: usize,
    /// It was not to go on: there are more.
    pub stopped: bool,
}

/// Puts the files of a closed journal under the present keys, or under other ones. Before each of them
/// `go_on` is asked.
///
/// # Errors
/// When the disk does not let it; then go on by calling it again.
pub fn rekey(
    keys: Arc<dyn JournalKeys>,
    folder: &Path,
    what: Anew,
    go_on: &dyn Fn() -> bool,
) -> Result<Rekeyed, JournalError> {
    let fs = keys.filesystem();
    if fs.probe(folder).is_ok_and(|found| found.is_none()) {
        return Ok(Rekeyed::default());
    }
    let folder = Folder::open(Arc::clone(&keys), folder)?;
    let mut done = Rekeyed::default();
    for file in folder.whole()? {
        if !go_on() {
            done.stopped = true;
            break;
        }
        let written = match what {
            Anew::Behind | Anew::Bodies => in_place(&folder, &file, what == Anew::Bodies),
            Anew::Files => under_another_id(&folder, &file),
        };
        match written {
            Ok(true) => done.files += 1,
            Ok(false) => {}
            Err(JournalError::File(error)) if is_damage(&error) => {
                tracing::error!(
                    error = %error,
                    "A file of the bus's journal is damaged and was set aside. What it held can't \
                     be delivered to other processes again; the stores have it."
                );
                folder.set_aside(&file)?;
                done.damaged += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// `false`: it is under the present key.
fn in_place(folder: &Folder, file: &FileName, all: bool) -> Result<bool, JournalError> {
    let keys = &*folder.keys;
    let written = rewrite(
        &keys.filesystem(),
        &keys.file_key(file.id),
        &folder.path_of(file),
        folder.mark(file),
        file.first,
        all,
        &mut |record| sealed_anew(keys, record),
    );
    match written.map_err(JournalError::File)? {
        None => Ok(false),
        Some(last) => closed(keys, file, last),
    }
}

/// Cut off in between there are both, and the copy goes: [`Folder::whole`].
fn under_another_id(folder: &Folder, file: &FileName) -> Result<bool, JournalError> {
    let (keys, to) = (&*folder.keys, file.next());
    // One that was begun just before a crash may not be known yet: it is told from the copy by that.
    let noted = keys.registry().note_sequence(&file.mark(), file.first - 1);
    noted.map_err(JournalError::Registry)?;
    let last = rewrite_to(
        &keys.filesystem(),
        (
            &keys.file_key(file.id),
            &folder.path_of(file),
            folder.mark(file),
        ),
        (&keys.file_key(to.id), &folder.path_of(&to)),
        file.first,
        &mut |record| sealed_anew(keys, record),
    )
    .map_err(JournalError::File)?;
    closed(keys, &to, last)?;
    folder.remove(file)?;
    Ok(true)
}

fn closed(keys: &dyn JournalKeys, file: &FileName, last: u64) -> Result<bool, JournalError> {
    let noted = keys.registry().note_closed(&file.mark(), last);
    noted.map_err(JournalError::Registry)?;
    Ok(true)
}

/// A record as it goes into the new segment.
fn sealed_anew(keys: &dyn JournalKeys, it: &Rewritten<'_>) -> Zeroizing<Vec<u8>> {
    let data = &it.record.data;
    let as_it_is = || Zeroizing::new(data.to_vec());
    let Some((head, mut body)) = Head::decode(data) else {
        return as_it_is();
    };
    let Some(person) = head.person else {
        return as_it_is();
    };
    let (mut sealed, context) = match before_carrying(data, body) {
        Some((before, context)) => {
            body -= CONTEXT;
            (Zeroizing::new(before), context)
        }
        None => (as_it_is(), it.from),
    };
    let over = Zeroizing::new(carried(&sealed, body, &context));
    let (Ok(from), Ok(to)) = (
        keys.body_key(person, &context),
        keys.body_key(person, &it.to),
    ) else {
        return over;
    };
    let sequence = it.record.sequence;
    let mut fresh = Zeroizing::new(sealed[..body].to_vec());
    match from.open(sequence, &mut sealed, body) {
        Ok(opened) => {
            fresh.extend_from_slice(opened);
            to.seal(sequence, &mut fresh, body);
            fresh
        }
        Err(_) => over,
    }
}
