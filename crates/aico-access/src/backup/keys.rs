//! Which keys the databases in an archive are under: the manifest numbers them as the registry does.

use aico_store::NumberedKey;
use aico_vault::{KeyId, PersonKeyError, PersonKeys, Vault};

use crate::HomeError;

/// 0 is the first there was.
fn named(number: u64) -> KeyId {
    KeyId::from_number(number).unwrap_or(KeyId::first_of(1))
}

/// A key of the system's database, by a vault that has it.
pub(crate) fn system_key(vault: &Vault, number: u64) -> Result<NumberedKey, HomeError> {
    let id = named(number);
    let key = vault.store_key(id).ok_or(HomeError::Crypto)?;
    Ok(NumberedKey::new(key.expose(), id.number()))
}

/// A key of a person's database.
pub(crate) fn person_key(keys: &PersonKeys, number: u64) -> Result<NumberedKey, HomeError> {
    let id = named(number);
    let key = keys.store_key(id).ok_or(HomeError::Crypto)?;
    Ok(NumberedKey::new(key.expose(), id.number()))
}

/// A person's key, where it opens without them.
pub(crate) fn person_keys(vault: &Vault, person: [u8; 16]) -> Result<PersonKeys, HomeError> {
    vault.open_person(person).map_err(|error| match error {
        PersonKeyError::Sealed { .. } => HomeError::PersonLocked,
        other => HomeError::Keyring(other),
    })
}
