//! Writing the journal's files anew after a key above them was changed.
//!
//! Nobody has the journal open meanwhile. What a person's messages say is sealed anew under their
//! present key, where that can be opened; a sealed person's who has not signed in is carried over
//! as it is, and only they open it.

use std::path::Path;
use std::sync::Arc;

use aico_vault::append::{Rewritten, rewrite};
use zeroize::Zeroizing;

use super::error::JournalError;
use super::files::Folder;
use super::format::{CONTEXT, Head, before_carrying, carried};
use super::keys::JournalKeys;
use super::store::is_damage;

/// What became of the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rekeyed {
    /// Files that were written anew.
    pub files: usize,
    /// Files that could not be read: set aside, as the journal does when it meets one.
    pub damaged: usize,
}

/// Puts each file of a closed journal under the present keys; with `all`, also those that are
/// under the present key of the system already, for the bodies in them.
///
/// # Errors
/// When the disk does not let it; then go on by calling it again.
pub fn rekey(
    keys: Arc<dyn JournalKeys>,
    folder: &Path,
    all: bool,
) -> Result<Rekeyed, JournalError> {
    let fs = keys.filesystem();
    if fs.probe(folder).is_ok_and(|found| found.is_none()) {
        return Ok(Rekeyed::default());
    }
    let folder = Folder::open(Arc::clone(&keys), folder)?;
    let mut done = Rekeyed::default();
    for file in folder.list()? {
        let key = keys.file_key(file.id);
        let path = folder.path_of(&file);
        let written = rewrite(
            &fs,
            &key,
            &path,
            folder.mark(&file),
            file.first,
            all,
            &mut |record| sealed_anew(&*keys, record),
        );
        match written {
            Ok(None) => {}
            Ok(Some(last)) => {
                let noted = keys.registry().note_closed(&file.mark(), last);
                noted.map_err(JournalError::Registry)?;
                done.files += 1;
            }
            Err(error) if is_damage(&error) => {
                tracing::error!(
                    error = %error,
                    "A file of the bus's journal is damaged and was set aside. What it held can't \
                     be delivered to other processes again; the stores have it."
                );
                folder.set_aside(&file)?;
                done.damaged += 1;
            }
            Err(error) => return Err(JournalError::File(error)),
        }
    }
    Ok(done)
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
