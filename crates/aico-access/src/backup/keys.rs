//! Which keys the databases are under, in one place for making and for restoring.

use aico_vault::{Key, Label, Owner, PersonKeyError, PersonKeys, Purpose, Vault};

use crate::HomeError;

/// The label of the system's database.
pub(crate) fn system_label() -> Label {
    Label::new(Purpose::SystemDatabase, Owner::System)
}

/// The key of the system's database.
pub(crate) fn system_key(vault: &Vault) -> Key {
    vault.derive(system_label())
}

/// The key of a person's database.
pub(crate) fn person_key(keys: &PersonKeys) -> Key {
    keys.derive(Purpose::PersonDatabase)
}

/// A person's key, where it opens without them.
pub(crate) fn person_keys(vault: &Vault, person: [u8; 16]) -> Result<PersonKeys, HomeError> {
    vault.open_person(person).map_err(|error| match error {
        PersonKeyError::Sealed { .. } => HomeError::PersonLocked,
        other => HomeError::Keyring(other),
    })
}
