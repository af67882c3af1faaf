//! Every message of the contracts, from any bytes.

use aico_contracts::v1::*;

/// What decodes encodes to bytes that decode to the same. Compared as bytes: a number that is
/// none equals nothing.
fn check<M: prost::Message + Default>(data: &[u8]) {
    let Ok(first) = M::decode(data) else { return };
    let encoded = first.encode_to_vec();
    assert_eq!(encoded.len(), first.encoded_len());
    let again = M::decode(encoded.as_slice()).expect("what was encoded decodes");
    assert!(again.encode_to_vec() == encoded, "it came back as another");
}

macro_rules! messages {
    ($($name:literal => $message:ty,)*) => {
        /// The messages as their fixtures are called.
        pub const NAMES: &[&str] = &[$($name),*];

        const CHECKS: &[fn(&[u8])] = &[$(check::<$message>),*];
    };
}

messages! {
    "Accepted" => Accepted,
    "AddModel" => AddModel,
    "AnswerDelta" => AnswerDelta,
    "AnswerDone" => AnswerDone,
    "AnswerQueued" => AnswerQueued,
    "AnswerStats" => AnswerStats,
    "CachedPrompt" => CachedPrompt,
    "CancelAnswer" => CancelAnswer,
    "CancelPull" => CancelPull,
    "Catalogue" => Catalogue,
    "CatalogueEntry" => CatalogueEntry,
    "Character" => Character,
    "CharacterList" => CharacterList,
    "Control" => Control,
    "Control.Acknowledge" => control::Acknowledge,
    "Control.Credit" => control::Credit,
    "Control.Failed" => control::Failed,
    "Control.Follow" => control::Follow,
    "Control.Gap" => control::Gap,
    "Control.Head" => control::Head,
    "Control.Hello" => control::Hello,
    "Control.Place" => control::Place,
    "Control.Published" => control::Published,
    "Control.Registered" => control::Registered,
    "Control.ServeOn" => control::ServeOn,
    "Control.Skipped" => control::Skipped,
    "Control.SubscribeTo" => control::SubscribeTo,
    "Control.Taken" => control::Taken,
    "Control.Unregister" => control::Unregister,
    "Control.Welcome" => control::Welcome,
    "Conversation" => Conversation,
    "ConversationChanged" => ConversationChanged,
    "ConversationDeleted" => ConversationDeleted,
    "ConversationDetail" => ConversationDetail,
    "ConversationList" => ConversationList,
    "CountTokens" => CountTokens,
    "CreateConversation" => CreateConversation,
    "DeleteConversation" => DeleteConversation,
    "DiscardPrompt" => DiscardPrompt,
    "EditMessage" => EditMessage,
    "Empty" => Empty,
    "Envelope" => Envelope,
    "Exchange" => Exchange,
    "Fault" => Fault,
    "Frame" => Frame,
    "Generate" => Generate,
    "Generated" => Generated,
    "GeneratedEnd" => GeneratedEnd,
    "GetConversation" => GetConversation,
    "GetPresence" => GetPresence,
    "ListCharacters" => ListCharacters,
    "ListConversations" => ListConversations,
    "ListModels" => ListModels,
    "ListPrompts" => ListPrompts,
    "Message" => Message,
    "MessageCreated" => MessageCreated,
    "Model" => Model,
    "ModelList" => ModelList,
    "ModelState" => ModelState,
    "Part" => Part,
    "PauseGeneration" => PauseGeneration,
    "PersonRemoved" => PersonRemoved,
    "RecallPrompt" => RecallPrompt,
    "PromptHead" => PromptHead,
    "PromptList" => PromptList,
    "PromptPiece" => PromptPiece,
    "Pull" => Pull,
    "PullList" => PullList,
    "PullModel" => PullModel,
    "Presence" => Presence,
    "PresenceList" => PresenceList,
    "RegenerateAnswer" => RegenerateAnswer,
    "RemoveModel" => RemoveModel,
    "RestorePrompt" => RestorePrompt,
    "RestoredPrompt" => RestoredPrompt,
    "ResumeGeneration" => ResumeGeneration,
    "Said" => Said,
    "Sampling" => Sampling,
    "SavePrompt" => SavePrompt,
    "Search" => Search,
    "SearchHit" => SearchHit,
    "SearchHit.Piece" => search_hit::Piece,
    "SearchResult" => SearchResult,
    "SendMessage" => SendMessage,
    "SessionEnded" => SessionEnded,
    "StageChanged" => StageChanged,
    "Talk" => Talk,
    "TalkSampling" => TalkSampling,
    "Talking" => Talking,
    "TokenCount" => TokenCount,
    "Turn" => Turn,
    "UpdateConversation" => UpdateConversation,
    "UseModel" => UseModel,
    // At the end: the first byte of what is in the corpus counts from the beginning.
    "CharacterDetail" => CharacterDetail,
    "CharacterText" => CharacterText,
    "ExportCharacter" => ExportCharacter,
    "ExportedCharacter" => ExportedCharacter,
    "GetCharacter" => GetCharacter,
    "ImportCharacter" => ImportCharacter,
    "ImportedCharacter" => ImportedCharacter,
    "PrepareModel" => PrepareModel,
    "PreparedModel" => PreparedModel,
    "RemoveCharacter" => RemoveCharacter,
    "RemovedCharacter" => RemovedCharacter,
    "SaveCharacter" => SaveCharacter,
    "UseCharacter" => UseCharacter,
    "WantedModel" => WantedModel,
}

/// The first byte says which message the rest is tried as.
pub fn contracts(data: &[u8]) {
    if let Some((which, data)) = data.split_first() {
        CHECKS[usize::from(*which) % CHECKS.len()](data);
    }
}
