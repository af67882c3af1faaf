//! What is left of a person's data elsewhere, when it is damaged here.

use std::path::PathBuf;

use aico_contracts::ids::PersonId;
use aico_vault::Vault;
use aico_vault::archive::{Preface, Scope};
use aico_vault::fs::OsFilesystem;
use jiff::Timestamp;

use crate::Home;
use crate::backup::{self, Listed};
use crate::home::{Open, blocking};

/// The newest backup that holds a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescue {
    /// Where it was made; `None` when there is none.
    pub archive: Option<PathBuf>,
    /// When.
    pub created_at: Option<Timestamp>,
    /// Whether it is there now, as far as its head tells.
    pub within_reach: bool,
    /// The root key was changed after it was made: only all of it opens, in a folder of its own.
    pub earlier_key: bool,
}

impl Rescue {
    /// What the person of this name can do, whose data is damaged.
    #[must_use]
    pub fn advice(&self, name: &str) -> String {
        let Some(archive) = &self.archive else {
            return "Nothing was changed, and nobody else is affected. No backup holds this data: \
                    copy the data folder before anything else is tried."
                .to_owned();
        };
        let archive = archive.display();
        let when = self.created_at.map_or_else(String::new, |at| {
            format!(" of {}", at.strftime("%Y-%m-%d %H:%M UTC"))
        });
        if self.earlier_key {
            return format!(
                "Nothing was changed, and nobody else is affected. The backup{when} holds this \
                 data. The keys were changed after it, so it can't be put back here: restore all \
                 of it to a folder of its own, start that, and look there. \
                 aico restore '{archive}' --to NEW_FOLDER, then aico serve --data NEW_FOLDER"
            );
        }
        let bring = match self.within_reach {
            true => "",
            false => ", which has to be brought back to where it was",
        };
        format!(
            "Nothing was changed, and nobody else is affected. What the backup{when} holds can be \
             put back{bring}: stop AICO, then aico restore '{archive}' --person {name}"
        )
    }
}

impl Home {
    /// The newest backup of everything in the usual folder, for when nothing says where others are.
    #[must_use]
    pub fn newest_backup(&self) -> Option<Listed> {
        let all = backup::list(&self.inner.config.backups).ok()?;
        // Without a header there is nothing to tell ours from others by.
        let vault = Vault::id_of(self.root()).ok();
        all.into_iter().find(|one| {
            one.wrong.is_none() && !one.one_person && (vault.is_none() || one.vault == vault)
        })
    }

    /// Where this person can be put back from: the newest archive within reach that holds them and
    /// is of the present root key, one of everybody from before that, or the newest of all.
    pub(crate) async fn rescue(&self, open: &Open, person: PersonId) -> Rescue {
        let noted = open.system.read(move |db| {
            let sql = "SELECT a.path, a.created_ms FROM backup_archive AS a
                       JOIN backup_archive_person AS p ON p.archive = a.id
                       WHERE p.person = ?1 ORDER BY a.created_ms DESC";
            let mut query = db.prepare(sql)?;
            let rows = query.query_map([person.as_bytes()], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        });
        let noted = match noted.await {
            Ok(noted) => noted,
            Err(error) => {
                tracing::warn!(%error, "which backups there are could not be read");
                return Rescue::default();
            }
        };
        let (vault, epoch) = (open.vault.id(), open.vault.key_epoch());
        let chosen = blocking(move || {
            let all: Vec<_> = noted
                .into_iter()
                .map(|(path, ms)| (PathBuf::from(path), Timestamp::from_millisecond(ms).ok()))
                .collect();
            let there: Vec<_> = all
                .iter()
                .filter_map(|one| {
                    let preface = Preface::read(&OsFilesystem, &one.0).ok()?;
                    (preface.vault() == vault).then_some((one, preface.key_epoch(), preface.scope))
                })
                .collect();
            let present = there.iter().find(|(_, key, _)| *key == epoch);
            let within =
                present.or_else(|| there.iter().find(|(_, _, scope)| *scope == Scope::Whole));
            let chosen = within.map(|(one, _, _)| *one).or(all.first());
            Ok(chosen.map(|(path, created_at)| Rescue {
                archive: Some(path.clone()),
                created_at: *created_at,
                within_reach: within.is_some(),
                earlier_key: within.is_some() && present.is_none(),
            }))
        });
        chosen.await.ok().flatten().unwrap_or_default()
    }
}
