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
    /// The owner, or another program with a named token of theirs.
    OwnerOrProgram,
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
    own: &'static [&'static [Code]],
}

const fn line(
    id: &'static str,
    action: Action,
    needs: Needs,
    own: &'static [&'static [Code]],
) -> Operation {
    Operation {
        id,
        action,
        needs,
        own,
    }
}

use Needs::{Nothing, Owner, OwnerOrProgram, Person, Program};

/// What is told of another program that runs models.
const ENGINE: &[Code] = &[
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
];
/// What is told of the file of a model.
const STORED_MODEL: &[Code] = &[
    Code::ModelMissing,
    Code::ModelDamaged,
    Code::ModelRefused,
    Code::ModelTooLarge,
    Code::ModelFailed,
];
/// What is told of the disk.
const DISK: &[Code] = &[Code::StorageFull, Code::StorageReadOnly];
/// What a password can be refused for.
const PROOF: &[Code] = &[Code::WrongPassword, Code::SlowDown];
/// What is told of data that can't be opened.
const DATA: &[Code] = &[Code::Damaged, Code::NewerData];
/// What a recovery phrase and a password in its place can be refused for.
const NEW_PHRASE: &[Code] = &[
    Code::WrongPhrase,
    Code::PhraseInvalid,
    Code::PasswordTooWeak,
    Code::SlowDown,
];

/// What modules behind the bus can answer anything with.
const MODULE: &[&[Code]] = &[&[Code::Invalid, Code::Unavailable]];
/// What talking to the companion can fail with.
const TALK: &[&[Code]] = &[
    DISK,
    &[
        Code::NotFound,
        Code::Conflict,
        Code::Invalid,
        Code::PersonLocked,
        Code::AnswerInProgress,
        Code::NoModel,
        Code::ModelFailed,
        Code::Damaged,
        Code::Unavailable,
    ],
];
/// What a character can be refused for.
const CHARACTER: &[&[Code]] = &[
    DISK,
    &[
        Code::NotFound,
        Code::Conflict,
        Code::Invalid,
        Code::NotACharacter,
        Code::PersonLocked,
        Code::Damaged,
        Code::Unavailable,
    ],
];
/// What a model file can be refused for.
const FILE: &[&[Code]] = &[
    STORED_MODEL,
    DISK,
    &[
        Code::NotFound,
        Code::Conflict,
        Code::NotAModel,
        Code::ModelTemplate,
        Code::Invalid,
        Code::Unavailable,
    ],
];

/// What asking for a download can fail with. What a download itself fails with is told in it.
const DOWNLOAD: &[&[Code]] = &[
    DISK,
    &[
        Code::NotFound,
        Code::CatalogueUnusable,
        Code::DownloadFailed,
        Code::Invalid,
        Code::Unavailable,
    ],
];

/// What keeping the models of another program can fail with.
const SHELF: &[&[Code]] = &[
    DISK,
    &[
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
    ],
];

/// What asking a model about texts can fail with.
const TEXTS: &[&[Code]] = &[
    ENGINE,
    STORED_MODEL,
    &[
        Code::NotFound,
        Code::Invalid,
        Code::TooLong,
        Code::NoModel,
        Code::ModelNotCapable,
        Code::Unavailable,
    ],
];

/// What counting tokens can fail with.
const COUNT: &[&[Code]] = &[
    STORED_MODEL,
    &[
        Code::NotFound,
        Code::Invalid,
        Code::NoModel,
        Code::ModelNotCapable,
        Code::ModelTemplate,
        Code::Unavailable,
    ],
];

/// What asking as another program can fail with.
const ASK: &[&[Code]] = &[
    ENGINE,
    STORED_MODEL,
    DISK,
    &[
        Code::NotFound,
        Code::Conflict,
        Code::Invalid,
        Code::TooManyRequests,
        Code::PersonLocked,
        Code::AnswerInProgress,
        Code::NoModel,
        Code::ModelNotCapable,
        Code::Unavailable,
    ],
];
/// What looking as another program can fail with.
const LOOK: &[&[Code]] = &[&[
    Code::EngineNotAllowed,
    Code::TooManyRequests,
    Code::Unavailable,
]];

/// What reading metrics can fail with.
const METRICS: &[&[Code]] = &[&[Code::Invalid, Code::TooManyRequests, Code::Unavailable]];

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
            DISK,
            &[
                Code::SetupCodeWrong,
                Code::SetupCodeExpired,
                Code::AlreadySetUp,
                Code::PasswordTooWeak,
                Code::NameInvalid,
                Code::SlowDown,
                Code::FolderUnusable,
            ],
        ],
    ),
    line(
        "unlock",
        Action::Unlock,
        Nothing,
        &[DISK, PROOF, DATA, &[Code::NotSetUp, Code::FolderUnusable]],
    ),
    line("lock", Action::Lock, Owner, &[]),
    line(
        "recover",
        Action::Recover,
        Nothing,
        &[
            DISK,
            DATA,
            NEW_PHRASE,
            &[Code::NotSetUp, Code::FolderUnusable],
        ],
    ),
    line("vault", Action::ReadVault, Owner, &[&[Code::Damaged]]),
    line(
        "remember",
        Action::RememberVault,
        Owner,
        &[
            DISK,
            PROOF,
            &[
                Code::NotFound,
                Code::KeychainLocked,
                Code::KeychainAbsent,
                Code::KeychainChanged,
                Code::KeychainWrong,
            ],
        ],
    ),
    line("forget", Action::RememberVault, Owner, &[DISK, PROOF]),
    line("new_phrase", Action::ReissuePhrase, Owner, &[DISK, PROOF]),
    line(
        "rotate_vault",
        Action::RotateVault,
        Owner,
        &[
            DISK,
            PROOF,
            &[Code::NotFound, Code::Conflict, Code::Invalid, Code::Damaged],
        ],
    ),
    line("read_rotation", Action::ReadVault, Owner, &[]),
    line(
        "seal_self",
        Action::SealSelf,
        Person,
        &[DISK, PROOF, &[Code::Conflict]],
    ),
    line(
        "unseal_self",
        Action::SealSelf,
        Person,
        &[DISK, PROOF, &[Code::Conflict]],
    ),
    line(
        "recover_person",
        Action::RecoverPerson,
        Nothing,
        &[DISK, NEW_PHRASE, &[Code::Locked, Code::NotSetUp]],
    ),
    line(
        "sign_in",
        Action::SignIn,
        Nothing,
        &[&[
            Code::SignInFailed,
            Code::Locked,
            Code::NotSetUp,
            Code::SlowDown,
        ]],
    ),
    line("list_sessions", Action::ListSessions, Person, &[]),
    line("end_all_sessions", Action::EndSession, Person, &[]),
    line(
        "end_current_session",
        Action::EndSession,
        Person,
        &[&[Code::NotFound]],
    ),
    line("end_session", Action::EndSession, Person, &[]),
    line("me", Action::ReadSelf, Person, &[]),
    line(
        "change_password",
        Action::ChangePassword,
        Person,
        &[DISK, PROOF, &[Code::PasswordTooWeak]],
    ),
    line(
        "file_key",
        Action::ReadFileKey,
        Person,
        &[&[Code::PersonLocked, Code::Damaged]],
    ),
    line(
        "export",
        Action::ExportSelf,
        Person,
        &[PROOF, &[Code::PersonLocked, Code::Damaged, Code::NotFound]],
    ),
    line(
        "export_store_key",
        Action::ExportStoreKey,
        Person,
        &[
            DISK,
            PROOF,
            &[
                Code::PersonLocked,
                Code::Conflict,
                Code::Damaged,
                Code::NotFound,
            ],
        ],
    ),
    line(
        "create_backup",
        Action::CreateBackup,
        Owner,
        &[
            DISK,
            &[
                Code::TargetUnusable,
                Code::Forbidden,
                Code::Conflict,
                Code::NotFound,
                Code::PersonLocked,
                Code::Damaged,
            ],
        ],
    ),
    line(
        "check_stores",
        Action::CheckStores,
        Owner,
        &[&[Code::Conflict]],
    ),
    line(
        "accept_older_copy",
        Action::AcceptOlderCopy,
        Owner,
        &[DISK, &[Code::PersonLocked, Code::Damaged]],
    ),
    line("list_persons", Action::ListPersons, Owner, &[]),
    line(
        "add_person",
        Action::AddPerson,
        Owner,
        &[
            DISK,
            &[Code::NameTaken, Code::NameInvalid, Code::PasswordTooWeak],
        ],
    ),
    line(
        "erase_person",
        Action::ErasePerson,
        Owner,
        &[DISK, PROOF, &[Code::Conflict]],
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
        &[&[
            Code::TooLong,
            Code::Invalid,
            Code::PersonLocked,
            Code::Unavailable,
        ]],
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
        &[&[Code::Conflict, Code::ModelFailed, Code::Unavailable]],
    ),
    line("pin_model", Action::PinModel, Owner, FILE),
    line("unpin_model", Action::PinModel, Owner, FILE),
    line("read_activity", Action::ReadActivity, Person, MODULE),
    line("read_catalogue", Action::ReadCatalogue, Owner, DOWNLOAD),
    line("pull_model", Action::PullModel, Owner, DOWNLOAD),
    line("list_pulls", Action::ListPulls, Owner, MODULE),
    line("cancel_pull", Action::CancelPull, Owner, DOWNLOAD),
    line("count_tokens", Action::CountTokens, Person, COUNT),
    line("embed_texts", Action::EmbedTexts, Person, TEXTS),
    line("find_entities", Action::FindEntities, Person, TEXTS),
    line("classify_texts", Action::ClassifyTexts, Person, TEXTS),
    line("list_packages", Action::ListPackages, Person, MODULE),
    line("add_package", Action::AddPackage, Owner, FILE),
    line(
        "remove_package",
        Action::RemovePackage,
        Owner,
        &[&[Code::Unavailable, Code::StorageReadOnly]],
    ),
    line("list_modules", Action::ListModules, Person, &[]),
    line(
        "add_module",
        Action::AddModule,
        Owner,
        &[
            DISK,
            &[
                Code::GrantInvalid,
                Code::ModuleExists,
                Code::NotFound,
                Code::Unavailable,
            ],
        ],
    ),
    line(
        "rotate_module",
        Action::RotateModule,
        Owner,
        &[
            DISK,
            &[Code::GrantInvalid, Code::ModuleExists, Code::Unavailable],
        ],
    ),
    line("revoke_module", Action::RevokeModule, Owner, &[DISK]),
    line(
        "consent_to_module",
        Action::ConsentToModule,
        Person,
        &[DISK],
    ),
    line(
        "withdraw_from_module",
        Action::ConsentToModule,
        Person,
        &[DISK],
    ),
    line("list_engines", Action::ListEngines, Person, MODULE),
    line(
        "check_engine",
        Action::CheckEngine,
        Owner,
        &[&[Code::NotFound, Code::Unavailable]],
    ),
    line(
        "allow_engine",
        Action::ConsentToEngine,
        Person,
        &[
            DISK,
            &[
                Code::NotFound,
                Code::Conflict,
                Code::Invalid,
                Code::Unavailable,
            ],
        ],
    ),
    line("forbid_engine", Action::ConsentToEngine, Person, &[DISK]),
    line(
        "list_egress",
        Action::ListEgress,
        Person,
        &[&[Code::Invalid, Code::PersonLocked, Code::Damaged]],
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
    line(
        "read_engine_installation",
        Action::ReadInstallation,
        Owner,
        MODULE,
    ),
    line(
        "install_engine",
        Action::InstallEngine,
        Owner,
        &[
            DISK,
            &[
                Code::NotFound,
                Code::Conflict,
                Code::CatalogueUnusable,
                Code::Invalid,
                Code::Unavailable,
            ],
        ],
    ),
    line(
        "cancel_engine_installation",
        Action::CancelInstallation,
        Owner,
        MODULE,
    ),
    line("list_tokens", Action::ListTokens, Person, &[]),
    line(
        "create_token",
        Action::CreateToken,
        Person,
        &[DISK, &[Code::NameInvalid, Code::Invalid, Code::Conflict]],
    ),
    line("revoke_token", Action::RevokeToken, Person, &[DISK]),
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
    line("tail_bus", Action::TailBus, Owner, &[&[Code::Invalid]]),
    line("read_metrics", Action::ReadMetrics, OwnerOrProgram, METRICS),
    line("status", Action::ReadStatus, Owner, &[]),
    line("config", Action::ReadConfig, Owner, &[]),
    line("list_config_secrets", Action::ListSecrets, Owner, &[DATA]),
    line(
        "set_config_secret",
        Action::SetSecret,
        Owner,
        &[DISK, DATA, &[Code::Invalid]],
    ),
    line(
        "remove_config_secret",
        Action::RemoveSecret,
        Owner,
        &[DISK, DATA, &[Code::NotFound]],
    ),
    line("logs", Action::ReadLogs, Owner, &[]),
    line(
        "open_events",
        Action::ReadState,
        Nothing,
        &[&[Code::UpgradeNeeded]],
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
        if matches!(self.needs, Needs::Owner | Needs::OwnerOrProgram) {
            all.push(Code::Forbidden);
        }
        if has_body {
            all.extend([Code::TooLong, Code::JsonNeeded, Code::TooSlow]);
        }
        if has_ids {
            all.push(Code::NotFound);
        }
        all.extend(self.own.iter().copied().flatten());
        all.sort_unstable();
        all.dedup();
        all
    }
}
