//! Topic names, and the table of what is said on them.
//!
//! A topic is dotted; its first segment names the module, personal topics carry the person's
//! opaque id as their second segment. Patterns match whole segments: `*` one, `#` the rest.

use crate::ids::PersonId;

/// `conversation.<person>.request.<verb>`: asks the companion.
#[must_use]
pub fn conversation_request(person: PersonId, verb: &str) -> String {
    format!("conversation.{person}.request.{verb}")
}

/// `conversation.<person>.event.<kind>`: what happened in a person's conversations.
#[must_use]
pub fn conversation_event(person: PersonId, kind: &str) -> String {
    format!("conversation.{person}.event.{kind}")
}

/// The pattern of all events of one person.
#[must_use]
pub fn conversation_events(person: PersonId) -> String {
    format!("conversation.{person}.event.*")
}

/// All requests to the companion, of every person.
pub const CONVERSATION_REQUESTS: &str = "conversation.*.request.*";
/// All events of every person.
pub const CONVERSATION_EVENTS: &str = "conversation.*.event.*";

/// Verbs of `conversation.<person>.request.<verb>`.
pub mod verb {
    /// `ListConversations` → `ConversationList`.
    pub const LIST: &str = "list";
    /// `CreateConversation` → `Conversation`.
    pub const CREATE: &str = "create";
    /// `GetConversation` → `ConversationDetail`.
    pub const GET: &str = "get";
    /// `UpdateConversation` → `Conversation`.
    pub const UPDATE: &str = "update";
    /// `DeleteConversation` → `Empty`.
    pub const DELETE: &str = "delete";
    /// `SendMessage` → `Accepted`.
    pub const SEND: &str = "send";
    /// `Talk` → `Talking`.
    pub const TALK: &str = "talk";
    /// `RegenerateAnswer` → `Accepted`.
    pub const REGENERATE: &str = "regenerate";
    /// `EditMessage` → `Accepted`.
    pub const EDIT: &str = "edit";
    /// `CancelAnswer` → `Empty`.
    pub const CANCEL: &str = "cancel";
    /// `Search` → `SearchResult`.
    pub const SEARCH: &str = "search";
    /// `ListCharacters` → `CharacterList`.
    pub const CHARACTERS: &str = "characters";
    /// `GetCharacter` → `CharacterDetail`.
    pub const CHARACTER: &str = "character";
    /// `SaveCharacter` → `Character`.
    pub const SAVE_CHARACTER: &str = "save-character";
    /// `ImportCharacter` → `ImportedCharacter`.
    pub const IMPORT_CHARACTER: &str = "import-character";
    /// `ExportCharacter` → `ExportedCharacter`.
    pub const EXPORT_CHARACTER: &str = "export-character";
    /// `RemoveCharacter` → `RemovedCharacter`.
    pub const REMOVE_CHARACTER: &str = "remove-character";
    /// `UseCharacter` → `Empty`.
    pub const USE_CHARACTER: &str = "use-character";
    /// `GetPresence` → `PresenceList`.
    pub const PRESENCE: &str = "presence";
}

/// Kinds of `conversation.<person>.event.<kind>`.
pub mod event {
    /// `MessageCreated`.
    pub const MESSAGE_CREATED: &str = "message-created";
    /// `AnswerDelta`.
    pub const ANSWER_DELTA: &str = "answer-delta";
    /// `AnswerDone`.
    pub const ANSWER_DONE: &str = "answer-done";
    /// `ConversationChanged`.
    pub const CONVERSATION_CREATED: &str = "conversation-created";
    /// `ConversationChanged`.
    pub const CONVERSATION_UPDATED: &str = "conversation-updated";
    /// `ConversationDeleted`.
    pub const CONVERSATION_DELETED: &str = "conversation-deleted";
    /// `AnswerQueued`.
    pub const QUEUE: &str = "queue";
}

/// `Generate` → stream of `Generated`; handed on to whatever runs the model.
pub const MODELS_GENERATE: &str = "models.generate";
/// `CountTokens` → `TokenCount`; handed on like it.
pub const MODELS_COUNT: &str = "models.count";
/// `PauseGeneration` → `Empty`.
pub const MODELS_PAUSE: &str = "models.pause";
/// `ResumeGeneration` → `Empty`.
pub const MODELS_RESUME: &str = "models.resume";
/// `RecallPrompt` → `Empty`.
pub const MODELS_RECALL: &str = "models.recall";
/// `DiscardPrompt` → `Empty`.
pub const MODELS_DISCARD: &str = "models.discard";
/// `ListModels` → `ModelList`.
pub const MODELS_LIST: &str = "models.list";
/// `AddModel` → `Model`.
pub const MODELS_ADD: &str = "models.add";
/// `UseModel` → `Empty`.
pub const MODELS_USE: &str = "models.use";
/// `RemoveModel` → `Empty`.
pub const MODELS_REMOVE: &str = "models.remove";
/// `Empty` → `Catalogue`.
pub const MODELS_CATALOGUE: &str = "models.catalogue";
/// `PullModel` → `Pull`.
pub const MODELS_PULL: &str = "models.pull";
/// `Empty` → `PullList`.
pub const MODELS_PULLS: &str = "models.pulls";
/// `CancelPull` → `Empty`.
pub const MODELS_CANCEL_PULL: &str = "models.cancel-pull";
/// `PinModel` → `Empty`.
pub const MODELS_PIN: &str = "models.pin";
/// `ReadActivity` → `ModelsActivity`.
pub const MODELS_ACTIVITY: &str = "models.activity";
/// `Empty` → `EngineList`.
pub const MODELS_ENGINES: &str = "models.engines";
/// `CheckEngine` → `Engine`.
pub const MODELS_CHECK_ENGINE: &str = "models.check-engine";
/// `MakeEngineModel` → `EngineOffer`.
pub const MODELS_MAKE_OFFER: &str = "models.make-offer";
/// `MakeEngineModel` → `EngineJob`.
pub const MODELS_MAKE: &str = "models.make";
/// `Empty` → `EngineJobList`.
pub const MODELS_JOBS: &str = "models.jobs";
/// `EngineModel` → `Empty`.
pub const MODELS_CANCEL_JOB: &str = "models.cancel-job";
/// `EngineModel` → `EngineModelDetails`.
pub const MODELS_SHOW: &str = "models.show";
/// `EngineModel` → `Empty`.
pub const MODELS_DELETE: &str = "models.delete";
/// `EngineName` → `EngineInstallation`.
pub const MODELS_INSTALLATION: &str = "models.installation";
/// `InstallEngine` → `EngineInstallation`.
pub const MODELS_INSTALL_ENGINE: &str = "models.install-engine";
/// `EngineName` → `Empty`.
pub const MODELS_CANCEL_INSTALLATION: &str = "models.cancel-installation";
/// `PrepareModel` → `PreparedModel`.
pub const MODELS_PREPARE: &str = "models.prepare";
/// The purpose of a `PrepareModel` whose asker reads a stream: as long as there is no room for the
/// model it is told its place among those that wait, each time in a `PreparedModel`.
pub const PLACES: &str = "places";
/// `UnloadModel` → `Empty`.
pub const MODELS_UNLOAD: &str = "models.unload";
/// `Embed` → `Embedded`.
pub const MODELS_EMBED: &str = "models.embed";
/// `FindEntities` → `FoundEntities`.
pub const MODELS_ENTITIES: &str = "models.entities";
/// `Classify` → `Classified`.
pub const MODELS_CLASSIFY: &str = "models.classify";
/// `Empty` → `PackageList`.
pub const MODELS_PACKAGES: &str = "models.packages";
/// `AddPackage` → `ModelPackage`.
pub const MODELS_ADD_PACKAGE: &str = "models.add-package";
/// `RemovePackage` → `Empty`.
pub const MODELS_REMOVE_PACKAGE: &str = "models.remove-package";
/// `Empty` → `ModelState`.
pub const MODELS_GET_STATE: &str = "models.get-state";
/// The purpose of a request for the model's state that only looks: it starts nothing. Without it
/// the asker is about to ask a question.
pub const LOOK: &str = "look";
/// `ModelState`, published on change.
pub const MODELS_STATE: &str = "models.state";

/// `models.slot.<n>.<verb>`: asks the model process of one slot; for the models module alone.
#[must_use]
pub fn slot(number: u32, verb: &str) -> String {
    format!("models.slot.{number}.{verb}")
}

/// Verbs of `models.slot.<n>.<verb>`.
pub mod slot_verb {
    /// `Generate` → stream of `Generated`.
    pub const GENERATE: &str = "generate";
    /// `CountTokens` → `TokenCount`.
    pub const COUNT: &str = "count";
    /// `PauseGeneration` → `Empty`.
    pub const PAUSE: &str = "pause";
    /// `ResumeGeneration` → `Empty`.
    pub const RESUME: &str = "resume";
    /// `ListPrompts` → `PromptList`.
    pub const LIST_PROMPTS: &str = "list-prompts";
    /// `SavePrompt` → stream of `PromptPiece`.
    pub const SAVE_PROMPT: &str = "save-prompt";
    /// `RestorePrompt` → `RestoredPrompt`.
    pub const RESTORE_PROMPT: &str = "restore-prompt";
    /// `Embed` → a stream of `Embedded`: one without items when it waits no more, then the answer; of
    /// a model that embeds.
    pub const EMBED: &str = "embed";
}

/// `PersonRemoved`, published after a person was erased.
pub const SYSTEM_PERSON_REMOVED: &str = "system.person.removed";
/// `SessionEnded`, published when sessions were revoked.
pub const SYSTEM_SESSION_ENDED: &str = "system.session.ended";
/// `StageChanged`, published when the daemon's stage changes.
pub const SYSTEM_STAGE: &str = "system.stage";

/// How a published message is delivered to other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// At most once; the oldest is dropped, gaps are counted and told.
    Live,
    /// At least once across processes, once there is a journal. Until then delivered like
    /// `Live`; the store is the truth either way.
    Durable,
}

/// What is said on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// Published, with this payload and class.
    Event(&'static str, Class),
    /// Asked with the first, answered with one of the second.
    Request(&'static str, &'static str),
    /// Asked with the first, answered with a stream of the second.
    Stream(&'static str, &'static str),
}

/// One line of the table of contracts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contract {
    /// The topic, or its pattern with `*` in the place of the person or of the slot's number.
    pub pattern: &'static str,
    /// What is said there.
    pub talk: Talk,
}

const fn line(pattern: &'static str, talk: Talk) -> Contract {
    Contract { pattern, talk }
}

/// Every topic of this version. Tests hold the table of decisions and the documents to it.
pub const CONTRACTS: &[Contract] = &[
    line(
        "conversation.*.request.list",
        Talk::Request("ListConversations", "ConversationList"),
    ),
    line(
        "conversation.*.request.create",
        Talk::Request("CreateConversation", "Conversation"),
    ),
    line(
        "conversation.*.request.get",
        Talk::Request("GetConversation", "ConversationDetail"),
    ),
    line(
        "conversation.*.request.update",
        Talk::Request("UpdateConversation", "Conversation"),
    ),
    line(
        "conversation.*.request.delete",
        Talk::Request("DeleteConversation", "Empty"),
    ),
    line(
        "conversation.*.request.send",
        Talk::Request("SendMessage", "Accepted"),
    ),
    line(
        "conversation.*.request.talk",
        Talk::Request("Talk", "Talking"),
    ),
    line(
        "conversation.*.request.regenerate",
        Talk::Request("RegenerateAnswer", "Accepted"),
    ),
    line(
        "conversation.*.request.edit",
        Talk::Request("EditMessage", "Accepted"),
    ),
    line(
        "conversation.*.request.cancel",
        Talk::Request("CancelAnswer", "Empty"),
    ),
    line(
        "conversation.*.request.search",
        Talk::Request("Search", "SearchResult"),
    ),
    line(
        "conversation.*.request.characters",
        Talk::Request("ListCharacters", "CharacterList"),
    ),
    line(
        "conversation.*.request.character",
        Talk::Request("GetCharacter", "CharacterDetail"),
    ),
    line(
        "conversation.*.request.save-character",
        Talk::Request("SaveCharacter", "Character"),
    ),
    line(
        "conversation.*.request.import-character",
        Talk::Request("ImportCharacter", "ImportedCharacter"),
    ),
    line(
        "conversation.*.request.export-character",
        Talk::Request("ExportCharacter", "ExportedCharacter"),
    ),
    line(
        "conversation.*.request.remove-character",
        Talk::Request("RemoveCharacter", "RemovedCharacter"),
    ),
    line(
        "conversation.*.request.use-character",
        Talk::Request("UseCharacter", "Empty"),
    ),
    line(
        "conversation.*.request.presence",
        Talk::Request("GetPresence", "PresenceList"),
    ),
    line(
        "conversation.*.event.message-created",
        Talk::Event("MessageCreated", Class::Durable),
    ),
    line(
        "conversation.*.event.answer-delta",
        Talk::Event("AnswerDelta", Class::Live),
    ),
    line(
        "conversation.*.event.answer-done",
        Talk::Event("AnswerDone", Class::Durable),
    ),
    line(
        "conversation.*.event.conversation-created",
        Talk::Event("ConversationChanged", Class::Durable),
    ),
    line(
        "conversation.*.event.conversation-updated",
        Talk::Event("ConversationChanged", Class::Durable),
    ),
    line(
        "conversation.*.event.conversation-deleted",
        Talk::Event("ConversationDeleted", Class::Durable),
    ),
    line(
        "conversation.*.event.queue",
        Talk::Event("AnswerQueued", Class::Live),
    ),
    line(MODELS_GENERATE, Talk::Stream("Generate", "Generated")),
    line(MODELS_COUNT, Talk::Request("CountTokens", "TokenCount")),
    line(MODELS_PAUSE, Talk::Request("PauseGeneration", "Empty")),
    line(MODELS_RESUME, Talk::Request("ResumeGeneration", "Empty")),
    line(MODELS_RECALL, Talk::Request("RecallPrompt", "Empty")),
    line(MODELS_DISCARD, Talk::Request("DiscardPrompt", "Empty")),
    line(
        "models.slot.*.generate",
        Talk::Stream("Generate", "Generated"),
    ),
    line(
        "models.slot.*.count",
        Talk::Request("CountTokens", "TokenCount"),
    ),
    line(
        "models.slot.*.pause",
        Talk::Request("PauseGeneration", "Empty"),
    ),
    line(
        "models.slot.*.resume",
        Talk::Request("ResumeGeneration", "Empty"),
    ),
    line(
        "models.slot.*.list-prompts",
        Talk::Request("ListPrompts", "PromptList"),
    ),
    line(
        "models.slot.*.save-prompt",
        Talk::Stream("SavePrompt", "PromptPiece"),
    ),
    line(
        "models.slot.*.restore-prompt",
        Talk::Request("RestorePrompt", "RestoredPrompt"),
    ),
    line("models.slot.*.embed", Talk::Stream("Embed", "Embedded")),
    line(MODELS_LIST, Talk::Request("ListModels", "ModelList")),
    line(MODELS_ADD, Talk::Request("AddModel", "Model")),
    line(MODELS_USE, Talk::Request("UseModel", "Empty")),
    line(MODELS_REMOVE, Talk::Request("RemoveModel", "Empty")),
    line(MODELS_CATALOGUE, Talk::Request("Empty", "Catalogue")),
    line(MODELS_PULL, Talk::Request("PullModel", "Pull")),
    line(MODELS_PULLS, Talk::Request("Empty", "PullList")),
    line(MODELS_CANCEL_PULL, Talk::Request("CancelPull", "Empty")),
    line(MODELS_PIN, Talk::Request("PinModel", "Empty")),
    line(
        MODELS_ACTIVITY,
        Talk::Request("ReadActivity", "ModelsActivity"),
    ),
    line(MODELS_ENGINES, Talk::Request("Empty", "EngineList")),
    line(MODELS_CHECK_ENGINE, Talk::Request("CheckEngine", "Engine")),
    line(
        MODELS_MAKE_OFFER,
        Talk::Request("MakeEngineModel", "EngineOffer"),
    ),
    line(MODELS_MAKE, Talk::Request("MakeEngineModel", "EngineJob")),
    line(MODELS_JOBS, Talk::Request("Empty", "EngineJobList")),
    line(MODELS_CANCEL_JOB, Talk::Request("EngineModel", "Empty")),
    line(
        MODELS_SHOW,
        Talk::Request("EngineModel", "EngineModelDetails"),
    ),
    line(MODELS_DELETE, Talk::Request("EngineModel", "Empty")),
    line(
        MODELS_INSTALLATION,
        Talk::Request("EngineName", "EngineInstallation"),
    ),
    line(
        MODELS_INSTALL_ENGINE,
        Talk::Request("InstallEngine", "EngineInstallation"),
    ),
    line(
        MODELS_CANCEL_INSTALLATION,
        Talk::Request("EngineName", "Empty"),
    ),
    line(
        MODELS_PREPARE,
        Talk::Request("PrepareModel", "PreparedModel"),
    ),
    line(MODELS_UNLOAD, Talk::Request("UnloadModel", "Empty")),
    line(MODELS_EMBED, Talk::Request("Embed", "Embedded")),
    line(
        MODELS_ENTITIES,
        Talk::Request("FindEntities", "FoundEntities"),
    ),
    line(MODELS_CLASSIFY, Talk::Request("Classify", "Classified")),
    line(MODELS_PACKAGES, Talk::Request("Empty", "PackageList")),
    line(
        MODELS_ADD_PACKAGE,
        Talk::Request("AddPackage", "ModelPackage"),
    ),
    line(
        MODELS_REMOVE_PACKAGE,
        Talk::Request("RemovePackage", "Empty"),
    ),
    line(MODELS_GET_STATE, Talk::Request("Empty", "ModelState")),
    line(MODELS_STATE, Talk::Event("ModelState", Class::Live)),
    line(
        SYSTEM_PERSON_REMOVED,
        Talk::Event("PersonRemoved", Class::Durable),
    ),
    line(
        SYSTEM_SESSION_ENDED,
        Talk::Event("SessionEnded", Class::Durable),
    ),
    line(SYSTEM_STAGE, Talk::Event("StageChanged", Class::Live)),
];

/// First segments whose topics belong to one person, named in the second segment.
const PERSONAL: [&str; 1] = ["conversation"];

/// Whether topics under this first segment carry a person.
#[must_use]
pub fn is_personal(topic: &str) -> bool {
    topic
        .split('.')
        .next()
        .is_some_and(|first| PERSONAL.contains(&first))
}

/// The person in a personal topic's second segment. `None` when the topic is not a personal one,
/// or its second segment is no id (a pattern's `*`, or a forged topic).
#[must_use]
pub fn person_of(topic: &str) -> Option<PersonId> {
    let mut segments = topic.split('.');
    segments.next().filter(|first| PERSONAL.contains(first))?;
    segments.next()?.parse().ok()
}

/// How events on this topic are delivered to other processes. Topics that are not in
/// [`CONTRACTS`] are live.
#[must_use]
pub fn class(topic: &str) -> Class {
    // The words of an answer are live: they come by the hundred and the stored answer that
    // `answer-done` carries replaces them.
    match topic.split_once('.') {
        Some(("conversation", rest)) => match rest.rsplit_once('.') {
            Some((_, event::ANSWER_DELTA | event::QUEUE)) => Class::Live,
            Some((head, _)) if head.ends_with(".event") => Class::Durable,
            _ => Class::Live,
        },
        Some(("system", "person.removed" | "session.ended")) => Class::Durable,
        _ => Class::Live,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_agree_with_the_table() {
        let person = PersonId::new().to_string();
        for contract in CONTRACTS {
            let topic = contract.pattern.replace('*', &person);
            // In other places `*` stands for the number of a slot.
            let personal = contract.pattern.starts_with("conversation.*.");
            if let Talk::Event(_, expected) = contract.talk {
                assert_eq!(class(&topic), expected, "{topic}");
            }
            assert_eq!(is_personal(&topic), personal, "{topic}");
            assert_eq!(person_of(&topic).is_some(), personal, "{topic}");
        }
    }

    #[test]
    fn a_person_is_read_from_the_second_segment_only() {
        let person = PersonId::new();
        assert_eq!(
            person_of(&conversation_event(person, "queue")),
            Some(person)
        );
        assert_eq!(person_of(&format!("conversation.x.{person}")), None);
        assert_eq!(
            person_of(&format!("conversations.{person}.event.queue")),
            None
        );
        assert_eq!(person_of("conversation.*.event.queue"), None);
        assert_eq!(person_of("conversation"), None);
    }
}
