//! One table of all operations: what each asks `authorize` for, who passes, and which problems
//! belong to it. The OpenAPI document is completed from it; tests hold routes, document,
//! decisions and this table to each other, so that a route that is missing here fails them.

use aico_access::Action;

use crate::problem::Code;

/// Who passes, as the document tells it. What counts is `authorize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Anybody.
    Nothing,
    /// A signed-in person, on their own.
    Person,
    /// The owner.
    Owner,
    /// Another program, with a named token.
    Program,
}

/// One operation of the API.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Its id in the OpenAPI document.
    pub id: &'static str,
    /// What it asks for.
    pub action: Action,
    /// Who passes.
    pub needs: Needs,
    /// Problems of its own, beside those that follow from the rest.
    own: &'static [Code],
}

const fn line(id: &'static str, action: Action, needs: Needs, own: &'static [Code]) -> Operation {
    Operation {
        id,
        action,
        needs,
        own,
    }
}

use Needs::{Nothing, Owner, Person, Program};

/// What modules behind the bus can answer anything with.
const MODULE: &[Code] = &[
    Code::Invalid,
    Code::Unavailable,
    Code::Busy,
    Code::TookTooLong,
];
/// What talking to the companion can fail with.
const TALK: &[Code] = &[
    Code::NotFound,
    Code::Conflict,
    Code::Invalid,
    Code::PersonLocked,
    Code::AnswerInProgress,
    Code::NoModel,
    Code::ModelFailed,
    Code::Damaged,
    Code::Unavailable,
    Code::Busy,
    Code::StorageFull,
    Code::StorageReadOnly,
];
/// What a character can be refused for.
const CHARACTER: &[Code] = &[
    Code::NotFound,
    Code::Conflict,
    Code::Invalid,
    Code::NotACharacter,
    Code::PersonLocked,
    Code::Damaged,
    Code::Unavailable,
    Code::Busy,
    Code::StorageFull,
];
/// What a model file can be refused for.
const FILE: &[Code] = &[
    Code::NotFound,
    Code::Conflict,
    Code::NotAModel,
    Code::ModelMissing,
    Code::ModelDamaged,
    Code::ModelRefused,
    Code::ModelTemplate,
    Code::ModelTooLarge,
    Code::ModelFailed,
    Code::Invalid,
    Code::Unavailable,
    Code::Busy,
    Code::StorageFull,
    Code::StorageReadOnly,
];

/// What asking for a download can fail with. What a download itself fails with is told in it.
const DOWNLOAD: &[Code] = &[
    Code::NotFound,
    Code::CatalogueUnusable,
    Code::DownloadFailed,
    Code::Invalid,
    Code::Unavailable,
    Code::Busy,
    Code::StorageFull,
    Code::StorageReadOnly,
    Code::StorageFailing,
];

/// What keeping the models of another program can fail with.
const SHELF: &[Code] = &[
    Code::NotFound,
    Code::Conflict,
    Code::Invalid,
    Code::TooLong,
    Code::NotACharacter,
    Code::NotAModel,
    Code::ModelMissing,
    Code::ModelFailed,
    Code::Offline,
    Code::DownloadFailed,
    Code::AddressRefused,
    Code::Unavailable,
    Code::Busy,
    Code::TookTooLong,
    Code::StorageFull,
    Code::StorageReadOnly,
    Code::StorageFailing,
];

/// What asking a model about texts can fail with.
const TEXTS: &[Code] = &[
    Code::NotFound,
    Code::Invalid,
    Code::TooLong,
    Code::NoModel,
    Code::ModelMissing,
    Code::ModelDamaged,
    Code::ModelRefused,
    Code::ModelTooLarge,
    Code::ModelNotCapable,
    Code::ModelFailed,
    Code::EngineNotAllowed,
    Code::EngineElsewhere,
    Code::EngineAbsent,
    Code::EngineUnreachable,
    Code::EngineCertificate,
    Code::EngineUnencrypted,
    Code::EngineKey,
    Code::EngineOtherProgram,
    Code::EngineTooOld,
    Code::EngineRefused,
    Code::EngineNotStarted,
    Code::EngineFailed,
    Code::EngineCutOff,
    Code::EngineUnreadable,
    Code::EngineResting,
    Code::EngineTimeout,
    Code::Unavailable,
    Code::Busy,
    Code::TookTooLong,
];

/// What asking as another program can fail with.
const ASK: &[Code] = &[
    Code::NotFound,
    Code::Conflict,
    Code::Invalid,
    Code::TooManyRequests,
    Code::PersonLocked,
    Code::AnswerInProgress,
    Code::NoModel,
    Code::ModelMissing,
    Code::ModelDamaged,
    Code::ModelRefused,
    Code::ModelTooLarge,
    Code::ModelNotCapable,
    Code::ModelFailed,
    Code::EngineNotAllowed,
    Code::EngineElsewhere,
    Code::EngineAbsent,
    Code::EngineUnreachable,
    Code::EngineCertificate,
    Code::EngineUnencrypted,
    Code::EngineKey,
    Code::EngineOtherProgram,
    Code::EngineTooOld,
    Code::EngineRefused,
    Code::EngineNotStarted,
    Code::EngineFailed,
    Code::EngineCutOff,
    Code::EngineUnreadable,
    Code::EngineResting,
    Code::EngineTimeout,
    Code::Unavailable,
    Code::Busy,
    Code::StorageFull,
    Code::StorageReadOnly,
];
/// What looking as another program can fail with.
const LOOK: &[Code] = &[
    Code::EngineNotAllowed,
    Code::TooManyRequests,
    Code::Unavailable,
    Code::Busy,
];

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    line("livez", Action::ReadHealth, Nothing, &[]),
    line("readyz", Action::ReadHealth, Nothing, &[]),
    line("contract", Action::ReadContract, Nothing, &[]),
    line("state", Action::ReadState, Nothing, &[]),
    line("passphrase", Action::SuggestPassphrase, Nothing, &[]),
    line(
        "set_up",
        Action::SetUp,
        Nothing,
        &[
            Code::SetupCodeWrong,
            Code::SetupCodeExpired,
            Code::AlreadySetUp,
            Code::PasswordTooWeak,
            Code::NameInvalid,
            Code::SlowDown,
            Code::FolderUnusable,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line(
        "unlock",
        Action::Unlock,
        Nothing,
        &[
            Code::WrongPassword,
            Code::NotSetUp,
            Code::SlowDown,
            Code::Damaged,
            Code::NewerData,
            Code::FolderUnusable,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line("lock", Action::Lock, Owner, &[]),
    line(
        "recover",
        Action::Recover,
        Nothing,
        &[
            Code::WrongPhrase,
            Code::PhraseInvalid,
            Code::PasswordTooWeak,
            Code::NotSetUp,
            Code::SlowDown,
            Code::Damaged,
            Code::NewerData,
            Code::FolderUnusable,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line("vault", Action::ReadVault, Owner, &[Code::Damaged]),
    line(
        "remember",
        Action::RememberVault,
        Owner,
        &[
            Code::WrongPassword,
            Code::SlowDown,
            Code::NotFound,
            Code::KeychainLocked,
            Code::KeychainAbsent,
            Code::KeychainChanged,
            Code::KeychainWrong,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line(
        "forget",
        Action::RememberVault,
        Owner,
        &[
            Code::WrongPassword,
            Code::SlowDown,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line(
        "new_phrase",
        Action::ReissuePhrase,
        Owner,
        &[
            Code::WrongPassword,
            Code::SlowDown,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line(
        "rotate_vault",
        Action::RotateVault,
        Owner,
        &[
            Code::WrongPassword,
            Code::SlowDown,
            Code::NotFound,
            Code::Conflict,
            Code::Invalid,
            Code::Damaged,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line("read_rotation", Action::ReadVault, Owner, &[]),
    line(
        "seal_self",
        Action::SealSelf,
        Person,
        &[
            Code::WrongPassword,
            Code::SlowDown,
            Code::Conflict,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line(
        "unseal_self",
        Action::SealSelf,
        Person,
        &[
            Code::WrongPassword,
            Code::SlowDown,
            Code::Conflict,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line(
        "recover_person",
        Action::RecoverPerson,
        Nothing,
        &[
            Code::WrongPhrase,
            Code::PhraseInvalid,
            Code::PasswordTooWeak,
            Code::Locked,
            Code::NotSetUp,
            Code::SlowDown,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line(
        "sign_in",
        Action::SignIn,
        Nothing,
        &[
            Code::SignInFailed,
            Code::Locked,
            Code::NotSetUp,
            Code::SlowDown,
        ],
    ),
    line("list_sessions", Action::ListSessions, Person, &[]),
    line("end_all_sessions", Action::EndSession, Person, &[]),
    line(
        "end_current_session",
        Action::EndSession,
        Person,
        &[Code::NotFound],
    ),
    line("end_session", Action::EndSession, Person, &[]),
    line("me", Action::ReadSelf, Person, &[]),
    line(
        "change_password",
        Action::ChangePassword,
        Person,
        &[
            Code::WrongPassword,
            Code::PasswordTooWeak,
            Code::SlowDown,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line(
        "file_key",
        Action::ReadFileKey,
        Person,
        &[Code::PersonLocked, Code::Damaged],
    ),
    line(
        "export",
        Action::ExportSelf,
        Person,
        &[
            Code::WrongPassword,
            Code::SlowDown,
            Code::PersonLocked,
            Code::Damaged,
            Code::NotFound,
        ],
    ),
    line(
        "export_store_key",
        Action::ExportStoreKey,
        Person,
        &[
            Code::WrongPassword,
            Code::SlowDown,
            Code::PersonLocked,
            Code::Conflict,
            Code::Damaged,
            Code::NotFound,
            Code::StorageFull,
        ],
    ),
    line(
        "create_backup",
        Action::CreateBackup,
        Owner,
        &[
            Code::TargetUnusable,
            Code::Forbidden,
            Code::Conflict,
            Code::NotFound,
            Code::PersonLocked,
            Code::Damaged,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line(
        "check_stores",
        Action::CheckStores,
        Owner,
        &[Code::Conflict],
    ),
    line("list_persons", Action::ListPersons, Owner, &[]),
    line(
        "add_person",
        Action::AddPerson,
        Owner,
        &[
            Code::NameTaken,
            Code::NameInvalid,
            Code::PasswordTooWeak,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line(
        "erase_person",
        Action::ErasePerson,
        Owner,
        &[
            Code::WrongPassword,
            Code::Conflict,
            Code::SlowDown,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line("list_characters", Action::ListCharacters, Person, CHARACTER),
    line("create_character", Action::SaveCharacter, Person, CHARACTER),
    line(
        "import_character",
        Action::ImportCharacter,
        Person,
        CHARACTER,
    ),
    line("use_character", Action::UseCharacter, Person, CHARACTER),
    line("read_character", Action::ReadCharacter, Person, CHARACTER),
    line("change_character", Action::SaveCharacter, Person, CHARACTER),
    line(
        "remove_character",
        Action::RemoveCharacter,
        Person,
        CHARACTER,
    ),
    line("read_portrait", Action::ReadCharacter, Person, CHARACTER),
    line(
        "export_character",
        Action::ExportCharacter,
        Person,
        CHARACTER,
    ),
    line(
        "list_conversations",
        Action::ListConversations,
        Person,
        TALK,
    ),
    line(
        "create_conversation",
        Action::CreateConversation,
        Person,
        TALK,
    ),
    line("read_conversation", Action::ReadConversation, Person, TALK),
    line(
        "change_conversation",
        Action::ChangeConversation,
        Person,
        TALK,
    ),
    line(
        "delete_conversation",
        Action::DeleteConversation,
        Person,
        TALK,
    ),
    line(
        "search",
        Action::Search,
        Person,
        &[
            Code::TooLong,
            Code::Invalid,
            Code::PersonLocked,
            Code::Unavailable,
            Code::Busy,
        ],
    ),
    line("send_message", Action::SendMessage, Person, TALK),
    line("regenerate_answer", Action::Regenerate, Person, TALK),
    line("edit_message", Action::EditMessage, Person, TALK),
    line("cancel_answer", Action::CancelAnswer, Person, TALK),
    line("list_models", Action::ListModels, Person, MODULE),
    line("add_model", Action::AddModel, Owner, FILE),
    line("use_model", Action::UseModel, Owner, FILE),
    line(
        "remove_model",
        Action::RemoveModel,
        Owner,
        &[Code::Conflict, Code::ModelFailed, Code::Unavailable],
    ),
    line("pin_model", Action::PinModel, Owner, FILE),
    line("unpin_model", Action::PinModel, Owner, FILE),
    line("read_activity", Action::ReadActivity, Person, MODULE),
    line("read_catalogue", Action::ReadCatalogue, Owner, DOWNLOAD),
    line("pull_model", Action::PullModel, Owner, DOWNLOAD),
    line("list_pulls", Action::ListPulls, Owner, MODULE),
    line("cancel_pull", Action::CancelPull, Owner, DOWNLOAD),
    line("embed_texts", Action::EmbedTexts, Person, TEXTS),
    line("find_entities", Action::FindEntities, Person, TEXTS),
    line("classify_texts", Action::ClassifyTexts, Person, TEXTS),
    line("list_packages", Action::ListPackages, Person, MODULE),
    line("add_package", Action::AddPackage, Owner, FILE),
    line(
        "remove_package",
        Action::RemovePackage,
        Owner,
        &[Code::Unavailable, Code::Busy, Code::StorageReadOnly],
    ),
    line("list_modules", Action::ListModules, Person, &[]),
    line(
        "add_module",
        Action::AddModule,
        Owner,
        &[
            Code::GrantInvalid,
            Code::ModuleExists,
            Code::NotFound,
            Code::StorageFull,
            Code::StorageReadOnly,
            Code::Unavailable,
        ],
    ),
    line(
        "rotate_module",
        Action::RotateModule,
        Owner,
        &[
            Code::GrantInvalid,
            Code::ModuleExists,
            Code::StorageFull,
            Code::StorageReadOnly,
            Code::Unavailable,
        ],
    ),
    line(
        "revoke_module",
        Action::RevokeModule,
        Owner,
        &[Code::StorageFull, Code::StorageReadOnly],
    ),
    line(
        "consent_to_module",
        Action::ConsentToModule,
        Person,
        &[Code::StorageFull, Code::StorageReadOnly],
    ),
    line(
        "withdraw_from_module",
        Action::ConsentToModule,
        Person,
        &[Code::StorageFull, Code::StorageReadOnly],
    ),
    line("list_engines", Action::ListEngines, Person, MODULE),
    line(
        "check_engine",
        Action::CheckEngine,
        Owner,
        &[
            Code::NotFound,
            Code::Unavailable,
            Code::Busy,
            Code::TookTooLong,
        ],
    ),
    line(
        "allow_engine",
        Action::ConsentToEngine,
        Person,
        &[
            Code::NotFound,
            Code::Conflict,
            Code::Invalid,
            Code::Unavailable,
            Code::Busy,
            Code::TookTooLong,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line(
        "forbid_engine",
        Action::ConsentToEngine,
        Person,
        &[Code::StorageFull, Code::StorageReadOnly],
    ),
    line(
        "list_egress",
        Action::ListEgress,
        Person,
        &[Code::Invalid, Code::PersonLocked, Code::Damaged, Code::Busy],
    ),
    line("offer_engine_model", Action::OfferEngineModel, Owner, SHELF),
    line("make_engine_model", Action::MakeEngineModel, Owner, SHELF),
    line("list_engine_jobs", Action::ListEngineJobs, Owner, MODULE),
    line("cancel_engine_job", Action::CancelEngineJob, Owner, SHELF),
    line("show_engine_model", Action::ShowEngineModel, Owner, SHELF),
    line(
        "delete_engine_model",
        Action::DeleteEngineModel,
        Owner,
        SHELF,
    ),
    line("list_tokens", Action::ListTokens, Person, &[]),
    line(
        "create_token",
        Action::CreateToken,
        Person,
        &[
            Code::NameInvalid,
            Code::Invalid,
            Code::Conflict,
            Code::StorageFull,
            Code::StorageReadOnly,
        ],
    ),
    line(
        "revoke_token",
        Action::RevokeToken,
        Person,
        &[Code::StorageFull, Code::StorageReadOnly],
    ),
    line("openai_models", Action::ProgramLook, Program, LOOK),
    line("openai_model", Action::ProgramLook, Program, LOOK),
    line("openai_chat", Action::ProgramAsk, Program, ASK),
    line("openai_embeddings", Action::ProgramAsk, Program, ASK),
    line("ollama_version", Action::ProgramLook, Program, LOOK),
    line("ollama_tags", Action::ProgramLook, Program, LOOK),
    line("ollama_ps", Action::ProgramLook, Program, LOOK),
    line("ollama_show", Action::ProgramLook, Program, LOOK),
    line("ollama_chat", Action::ProgramAsk, Program, ASK),
    line("ollama_generate", Action::ProgramAsk, Program, ASK),
    line("ollama_embed", Action::ProgramAsk, Program, ASK),
    line("ollama_embeddings", Action::ProgramAsk, Program, ASK),
    line("bus", Action::ReadBus, Owner, &[]),
    line("tail_bus", Action::TailBus, Owner, &[Code::Invalid]),
    line("status", Action::ReadStatus, Owner, &[]),
    line("config", Action::ReadConfig, Owner, &[]),
    line(
        "list_config_secrets",
        Action::ListSecrets,
        Owner,
        &[Code::Damaged, Code::NewerData],
    ),
    line(
        "set_config_secret",
        Action::SetSecret,
        Owner,
        &[
            Code::Invalid,
            Code::Damaged,
            Code::NewerData,
            Code::StorageFull,
        ],
    ),
    line(
        "remove_config_secret",
        Action::RemoveSecret,
        Owner,
        &[
            Code::NotFound,
            Code::Damaged,
            Code::NewerData,
            Code::StorageFull,
        ],
    ),
    line("logs", Action::ReadLogs, Owner, &[]),
    line(
        "open_events",
        Action::ReadState,
        Nothing,
        &[Code::UpgradeNeeded],
    ),
];

impl Operation {
    /// Every problem it can answer with.
    pub(crate) fn problems(&self, has_body: bool, has_ids: bool) -> Vec<Code> {
        let mut all = vec![
            Code::Malformed,
            Code::HostNotAllowed,
            Code::OriginNotAllowed,
            Code::Internal,
            Code::StorageFailing,
            Code::Busy,
            Code::Stopping,
            Code::TookTooLong,
        ];
        if self.needs != Needs::Nothing {
            all.extend([
                Code::SignInNeeded,
                Code::TokenInvalid,
                Code::NotSetUp,
                Code::Locked,
            ]);
        }
        if self.needs == Needs::Owner {
            all.push(Code::Forbidden);
        }
        if has_body {
            all.extend([Code::TooLong, Code::JsonNeeded, Code::TooSlow]);
        }
        if has_ids {
            all.push(Code::NotFound);
        }
        all.extend(self.own);
        all.sort_unstable();
        all.dedup();
        all
    }
}
