//! Encoded messages of version 1 must keep decoding to what they were.
//!
//! One file for each message under `fixtures/v1`, every field set. A new message gets its file
//! with `AICO_WRITE_FIXTURES=1 cargo test -p aico-contracts`; a file that exists is never written
//! again. A change that breaks this test breaks peers that run the released version.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use aico_contracts::v1::*;
use aico_contracts::{Bytes, Payload};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn id(n: u8) -> Vec<u8> {
    vec![n; 16]
}

fn check<M: Payload + PartialEq>(seen: &mut BTreeSet<String>, sample: M) {
    let name = M::TYPE.strip_prefix("aico.v1.").unwrap();
    let path = folder().join(format!("{name}.bin"));
    if !path.exists() && std::env::var_os("AICO_WRITE_FIXTURES").is_some() {
        fs::write(&path, sample.encode_to_vec()).unwrap();
    }
    let stored = fs::read(&path).unwrap_or_else(|_| panic!("{name} has no fixture"));
    let read = M::decode(stored.as_slice()).unwrap_or_else(|_| panic!("{name} no longer decodes"));
    assert!(read == sample, "{name} decodes to something else");
    assert!(seen.insert(name.to_owned()), "{name} is there twice");
}

fn fault() -> Fault {
    Fault::not_found("t").with_detail("d").with_what_to_do("w")
}

fn transformers(seen: &mut BTreeSet<String>) {
    check(
        seen,
        Embed {
            model: "m".into(),
            texts: vec!["grüß".into(), String::new()],
            dimensions: 300,
        },
    );
    let embedded = EmbeddedText {
        vector: vec![0.5, -1.25],
        tokens: 300,
        truncated: true,
    };
    check(seen, embedded.clone());
    check(
        seen,
        Embedded {
            model: "m".into(),
            items: vec![embedded],
        },
    );
    check(
        seen,
        FindEntities {
            model: "m".into(),
            texts: vec!["t".into()],
            labels: vec!["l".into()],
            threshold: 0.25,
        },
    );
    let entity = Entity {
        start: 1,
        end: 300,
        label: "l".into(),
        score: 0.5,
    };
    check(seen, entity.clone());
    let found = EntitiesOfText {
        entities: vec![entity],
        tokens: 300,
        truncated: true,
    };
    check(seen, found.clone());
    check(
        seen,
        FoundEntities {
            model: "m".into(),
            items: vec![found],
        },
    );
    check(
        seen,
        Classify {
            model: "m".into(),
            task: "emotion".into(),
            texts: vec!["t".into()],
        },
    );
    let label = Label {
        label: "l".into(),
        score: 0.5,
    };
    check(seen, label.clone());
    let classified = ClassifiedText {
        labels: vec![label],
        tokens: 300,
        truncated: true,
    };
    check(seen, classified.clone());
    check(
        seen,
        Classified {
            model: "m".into(),
            items: vec![classified],
        },
    );
    let package = ModelPackage {
        name: "n".into(),
        title: "t".into(),
        task: "embedding".into(),
        architecture: "bert".into(),
        license: "MIT".into(),
        size_bytes: 1 << 33,
        max_tokens: 300,
        dimensions: 384,
        labels: vec!["l".into()],
        chosen: true,
        status: model_state::Status::Failed.into(),
        fault: Some(fault()),
        process_id: 300,
        memory_bytes: 1 << 34,
        added_unix_ms: 1 << 41,
        folder: "/f".into(),
    };
    check(seen, package.clone());
    check(
        seen,
        PackageList {
            items: vec![package],
        },
    );
    check(seen, AddPackage { path: "/p".into() });
    check(seen, RemovePackage { name: "n".into() });
}

fn message() -> Message {
    Message {
        id: id(1),
        conversation: id(2),
        parent: id(3),
        role: Role::Assistant.into(),
        parts: vec![
            Part {
                content: Some(part::Content::Thinking("hm".into())),
            },
            Part {
                content: Some(part::Content::Text("grüß".into())),
            },
        ],
        status: MessageStatus::Cancelled.into(),
        created_unix_ms: 1 << 41,
        model: "starter".into(),
        siblings: vec![id(1), id(4)],
        next_index: 300,
        fault: Some(fault()),
        origin_device: "laptop".into(),
        // Newer than the file.
        instead_of: String::new(),
    }
}

fn conversation() -> Conversation {
    Conversation {
        id: id(2),
        title: "t".into(),
        character: "default".into(),
        created_unix_ms: 1,
        updated_unix_ms: 2,
        active_leaf: id(1),
    }
}

fn model() -> Model {
    Model {
        id: id(5),
        name: "n".into(),
        file: "f.gguf".into(),
        size_bytes: 1 << 33,
        architecture: "llama".into(),
        parameters: 400_000,
        quantization: "Q4_0".into(),
        context_length: 4096,
        license: "MIT".into(),
        starter: true,
        active: true,
        present: true,
        // Newer than the file.
        modified_unix_ms: 0,
        engine: String::new(),
        capabilities: Vec::new(),
        pinned: false,
        loaded: false,
        adapter: None,
    }
}

fn activity(seen: &mut BTreeSet<String>) {
    let totals = || AskedTotals {
        completed: 1,
        cancelled: 2,
        refused: 3,
        failed: 4,
        prompt_tokens: 5,
        cached_tokens: 6,
        answer_tokens: 7,
        first_token_us: 8,
        tokens_per_second: 9.5,
    };
    let of_model = || ModelActivity {
        model: id(5),
        name: "n".into(),
        engine: "e".into(),
        status: model_state::Status::Ready.into(),
        active: true,
        pinned: true,
        memory_bytes: 1 << 33,
        idle_until_unix_ms: 10,
        running: 1,
        places: 4,
        waiting: 2,
        tokens_per_second: 1.5,
        totals: Some(totals()),
        resting_until_unix_ms: 11,
        restarts: 3,
        process_id: 77,
        // Newer than the file.
        loading_percent: None,
        device: None,
        fallback: None,
        first_tokens: Vec::new(),
        first_tokens_sum: 0.0,
        speeds: Vec::new(),
        speeds_sum: 0.0,
        processor_us: 0,
        loads: 0,
    };
    let in_sample = || ModelSample {
        model: id(5),
        running: 0.5,
        waiting: 1,
        tokens_per_second: 2.5,
        memory_bytes: 1 << 33,
        processors: 1.5,
        completed: 2,
        failed: 3,
        first_token_us: 4,
    };
    let sample = || ActivitySample {
        at_unix_ms: 12,
        available_bytes: 1 << 34,
        models: vec![in_sample()],
    };
    let asked = || AskedOfModel {
        request: id(1),
        model: id(5),
        name: "n".into(),
        engine: "e".into(),
        at_unix_ms: 13,
        outcome: asked_of_model::Outcome::Completed.into(),
        fault: "busy".into(),
        prompt_tokens: 1,
        cached_tokens: 2,
        answer_tokens: 3,
        waited_us: 4,
        first_token_us: 5,
        total_us: 6,
        tokens_per_second: 7.5,
        asker: "companion".into(),
    };
    check(seen, ReadActivity { after_unix_ms: 14 });
    check(seen, totals());
    check(
        seen,
        GraphicsDevice {
            kind: "vulkan".into(),
            name: "n".into(),
            memory_bytes: 1 << 33,
            free_bytes: 1 << 32,
            shared: true,
        },
    );
    check(seen, of_model());
    check(seen, in_sample());
    check(seen, sample());
    check(seen, asked());
    check(
        seen,
        ModelsActivity {
            at_unix_ms: 15,
            sample_every_ms: 5000,
            memory_bytes: 1 << 35,
            available_bytes: 1 << 34,
            most_loaded: 2,
            models: vec![of_model()],
            samples: vec![sample()],
            requests: vec![asked()],
        },
    );
    check(
        seen,
        PinModel {
            id: id(5),
            pinned: true,
        },
    );
}

fn state() -> ModelState {
    ModelState {
        status: model_state::Status::Ready.into(),
        model: id(5),
        name: "n".into(),
        fault: Some(fault()),
        process_id: 77,
        restarts: 2,
        // Newer than the file.
        loading_percent: None,
    }
}

fn turn() -> Turn {
    Turn {
        role: turn::Role::User.into(),
        text: "hi".into(),
        // Newer than the file.
        tool_calls: Vec::new(),
        tool_call: String::new(),
        tool_name: String::new(),
        images: Vec::new(),
    }
}

fn stats() -> AnswerStats {
    AnswerStats {
        prompt_tokens: 1,
        cached_tokens: 2,
        answer_tokens: 3,
        dropped_turns: 4,
        first_token_ms: 5,
        total_ms: 6,
        // Newer than the file.
        cut: false,
    }
}

fn sampling() -> Sampling {
    Sampling {
        temperature: 0.5,
        top_p: 0.9,
        top_k: 40,
        min_p: 0.05,
        repeat_penalty: 1.1,
        seed: 7,
        stop: vec!["\n".into()],
    }
}

fn end() -> GeneratedEnd {
    GeneratedEnd {
        reason: generated_end::Reason::Length.into(),
        prompt_tokens: 1,
        cached_tokens: 2,
        answer_tokens: 3,
        dropped_turns: 4,
        first_token_us: 5,
        total_us: 6,
        // Newer than the file.
        steps_after_cancel: 0,
    }
}

fn hit() -> SearchHit {
    SearchHit {
        conversation: id(2),
        title: "t".into(),
        message: id(1),
        snippet: vec![piece()],
        at_unix_ms: 9,
    }
}

fn piece() -> search_hit::Piece {
    search_hit::Piece {
        text: "x".into(),
        hit: true,
    }
}

fn character_messages(seen: &mut BTreeSet<String>) {
    let character = || Character {
        id: "i".into(),
        name: "n".into(),
        description: "d".into(),
        built_in: true,
        chosen: true,
        models: vec!["m".into()],
        portrait: true,
        tags: vec!["t".into()],
        creator: "c".into(),
        updated_unix_ms: 1 << 41,
    };
    let text = || CharacterText {
        name: "n".into(),
        nickname: "i".into(),
        about: "a".into(),
        system_prompt: "s".into(),
        description: "d".into(),
        personality: "p".into(),
        scenario: "z".into(),
        greetings: vec!["g".into()],
        examples: vec![Said {
            role: Role::User.into(),
            text: "x".into(),
        }],
        examples_text: "e".into(),
        reminder: "r".into(),
        creator: "c".into(),
        version: "v".into(),
        tags: vec!["t".into()],
        sampling: Some(TalkSampling {
            temperature: Some(0.5),
            context: 4096,
            ..TalkSampling::default()
        }),
        models: vec!["m".into()],
        license: "l".into(),
    };
    let wanted = || WantedModel {
        name: "n".into(),
        state: wanted_model::State::Missing.into(),
        here_as: "h".into(),
        what_to_do: "w".into(),
    };
    check(seen, text());
    check(seen, wanted());
    check(
        seen,
        GetCharacter {
            id: "i".into(),
            portrait: true,
        },
    );
    check(
        seen,
        CharacterDetail {
            character: Some(character()),
            text: Some(text()),
            models: vec![wanted()],
            kept: vec!["k".into()],
            portrait: id(1),
        },
    );
    check(
        seen,
        SaveCharacter {
            id: "i".into(),
            text: Some(text()),
            copy_of: "c".into(),
            portrait: Some(id(1)),
        },
    );
    check(
        seen,
        ImportCharacter {
            file: id(1),
            file_name: "f".into(),
            name: "n".into(),
        },
    );
    check(
        seen,
        ImportedCharacter {
            character: Some(character()),
            notes: vec!["n".into()],
            models: vec![wanted()],
        },
    );
    check(
        seen,
        ExportCharacter {
            id: "i".into(),
            format: export_character::Format::Png.into(),
        },
    );
    check(
        seen,
        ExportedCharacter {
            file: id(1),
            file_name: "f".into(),
            media_type: "m".into(),
            notes: vec!["n".into()],
        },
    );
    check(seen, RemoveCharacter { id: "i".into() });
    check(seen, RemovedCharacter { conversations: 3 });
    check(seen, UseCharacter { id: "i".into() });
    check(
        seen,
        PrepareModel {
            wanted: vec!["w".into()],
            only: false,
        },
    );
    check(
        seen,
        PreparedModel {
            state: Some(state()),
            starter: true,
            missing: vec!["m".into()],
            // Newer than the file.
            waiting: None,
        },
    );
}

fn envelope_messages(seen: &mut BTreeSet<String>) {
    check(
        seen,
        Envelope {
            id: Bytes::from(id(1)),
            topic: "a.b".into(),
            time_unix_ns: 1 << 60,
            person: Bytes::from(id(2)),
            purpose: "conversation".into(),
            priority: Priority::Interactive.into(),
            origin_device: "laptop".into(),
            correlation: Bytes::from(id(3)),
            trace: Bytes::from(id(4)),
            schema_version: 1,
            deadline_unix_ns: 1 << 61,
            payload_type: "aico.v1.Empty".into(),
            payload: Bytes::from_static(b"p"),
            exchange: Some(Exchange {
                kind: exchange::Kind::Item.into(),
                index: 5,
            }),
            sequence: 6,
            epoch: Bytes::from(id(5)),
            sender: "companion".into(),
            stamped_unix_ns: 1 << 62,
        },
    );
    check(
        seen,
        Exchange {
            kind: exchange::Kind::Cancel.into(),
            index: 1,
        },
    );
    check(seen, fault());
    check(seen, Empty {});
    check(
        seen,
        Frame {
            version: 1,
            topic: "a.b".into(),
            envelopes: vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")],
            receiver: 3,
            // Came later; the stored form is of before.
            missed: 0,
        },
    );
}

fn link_messages(seen: &mut BTreeSet<String>) {
    use control::*;
    let exchange = || Bytes::from(id(8));
    let credit = || Credit {
        subscription: 1,
        exchange: exchange(),
        messages: 2,
        bytes: 3,
    };
    check(
        seen,
        Control {
            say: Some(Say::Credit(credit())),
        },
    );
    check(
        seen,
        Hello {
            version: 1,
            program: "aico".into(),
        },
    );
    check(
        seen,
        Welcome {
            version: 1,
            identity: "weather".into(),
            epoch: exchange(),
            max_frame: 1 << 24,
        },
    );
    check(
        seen,
        SubscribeTo {
            id: 1,
            pattern: "a.#".into(),
            messages: 2,
            bytes: 3,
        },
    );
    check(
        seen,
        ServeOn {
            id: 1,
            pattern: "a.*".into(),
            concurrency: 4,
        },
    );
    check(
        seen,
        Registered {
            id: 1,
            refusal: Some(fault()),
            // Added later: the fixture is of before.
            from: None,
        },
    );
    check(seen, Unregister { id: 1 });
    check(seen, credit());
    check(
        seen,
        Gap {
            subscription: 1,
            missed: 2,
        },
    );
    check(
        seen,
        Taken {
            exchange: exchange(),
        },
    );
    check(
        seen,
        Failed {
            exchange: exchange(),
            reason: failed::Reason::ServerGone.into(),
            detail: "d".into(),
        },
    );
    journal_messages(seen);
}

fn journal_messages(seen: &mut BTreeSet<String>) {
    use control::*;
    let place = || Place {
        epoch: Bytes::from(id(8)),
        sequence: 1 << 40,
    };
    check(seen, place());
    check(
        seen,
        Follow {
            id: 1,
            pattern: "a.#".into(),
            messages: 2,
            bytes: 3,
            start: Some(follow::Start::After(place())),
            resume: None,
        },
    );
    check(
        seen,
        Skipped {
            subscription: 1,
            why: skipped::Why::OtherEpoch.into(),
            missed: 2,
            next: Some(place()),
        },
    );
    check(
        seen,
        Head {
            subscription: 1,
            last: Some(place()),
            sent: 2,
            upto: None,
        },
    );
    check(
        seen,
        Acknowledge {
            subscription: 1,
            sequence: 2,
        },
    );
    check(
        seen,
        Published {
            ids: vec![Bytes::from(id(1)), Bytes::from(id(2))],
            places: vec![place(), place()],
            fault: Some(fault()),
        },
    );
}

fn conversation_messages(seen: &mut BTreeSet<String>) {
    check(seen, conversation());
    check(
        seen,
        Part {
            content: Some(part::Content::Text("x".into())),
        },
    );
    check(seen, message());
    check(
        seen,
        ListConversations {
            limit: 5,
            before: "c".into(),
        },
    );
    check(
        seen,
        ConversationList {
            items: vec![conversation()],
            next: "n".into(),
        },
    );
    check(
        seen,
        CreateConversation {
            title: "t".into(),
            character: "c".into(),
        },
    );
    check(seen, GetConversation { id: id(2) });
    check(
        seen,
        ConversationDetail {
            conversation: Some(conversation()),
            messages: vec![message()],
        },
    );
    check(
        seen,
        UpdateConversation {
            id: id(2),
            title: Some(String::new()),
            active_leaf: Some(id(1)),
            // Newer than the file.
            character: None,
        },
    );
    check(seen, DeleteConversation { id: id(2) });
    check(
        seen,
        SendMessage {
            conversation: id(2),
            text: "x".into(),
            id: id(1),
            parent: id(3),
        },
    );
    check(
        seen,
        Accepted {
            message: id(1),
            answer: id(4),
        },
    );
    check(
        seen,
        RegenerateAnswer {
            conversation: id(2),
            answer: id(4),
        },
    );
    let said = |role: Role| Said {
        role: role.into(),
        text: "y".into(),
    };
    let sampling = TalkSampling {
        temperature: Some(0.5),
        top_p: Some(0.25),
        top_k: Some(40),
        min_p: Some(0.125),
        repeat_penalty: Some(1.5),
        seed: Some(7),
        stop: vec!["z".into()],
        max_tokens: 64,
        // Newer than the file.
        context: 0,
    };
    check(seen, said(Role::User));
    check(seen, sampling.clone());
    check(
        seen,
        Talk {
            earlier: vec![said(Role::User), said(Role::Assistant)],
            text: "y".into(),
            instructions: "i".into(),
            sampling: Some(sampling),
        },
    );
    check(
        seen,
        Talking {
            conversation: id(2),
            message: id(1),
            answer: id(4),
        },
    );
    check(
        seen,
        EditMessage {
            conversation: id(2),
            message: id(1),
            text: "y".into(),
            id: id(6),
        },
    );
    check(
        seen,
        CancelAnswer {
            conversation: id(2),
            answer: id(4),
        },
    );
    check(
        seen,
        Search {
            query: "q".into(),
            limit: 3,
        },
    );
    check(seen, piece());
    check(seen, hit());
    check(seen, SearchResult { items: vec![hit()] });
    check(seen, ListCharacters {});
    let character = || Character {
        id: "i".into(),
        name: "n".into(),
        description: "d".into(),
        // The others are newer than the file.
        ..Character::default()
    };
    check(seen, character());
    check(
        seen,
        CharacterList {
            items: vec![character()],
        },
    );
    character_messages(seen);
    check(seen, GetPresence {});
    let presence = || Presence {
        session: vec![1; 16],
        connected_since_unix_ms: 1,
        seen_unix_ms: 2,
    };
    check(seen, presence());
    check(
        seen,
        PresenceList {
            items: vec![presence()],
        },
    );
    check(
        seen,
        MessageCreated {
            message: Some(message()),
        },
    );
    check(
        seen,
        AnswerDelta {
            conversation: id(2),
            message: id(4),
            part: 1,
            index: 300,
            text: "x".into(),
            thinking: false,
        },
    );
    check(
        seen,
        AnswerDone {
            message: Some(message()),
            stats: Some(stats()),
        },
    );
    check(seen, stats());
    check(
        seen,
        ConversationChanged {
            conversation: Some(conversation()),
        },
    );
    check(seen, ConversationDeleted { id: id(2) });
    check(
        seen,
        AnswerQueued {
            conversation: id(2),
            message: id(4),
            position: 2,
        },
    );
}

fn model_messages(seen: &mut BTreeSet<String>) {
    check(
        seen,
        Generate {
            turns: vec![turn()],
            sampling: Some(sampling()),
            max_tokens: 9,
            cache_key: id(2),
            // Newer than the file.
            context: 0,
            model: Vec::new(),
            format: String::new(),
            tools: Vec::new(),
            think: None,
            effort: String::new(),
            character_turns: 0,
        },
    );
    check(seen, turn());
    check(
        seen,
        Tool {
            name: "n".into(),
            description: "d".into(),
            parameters: r#"{"type":"object"}"#.into(),
        },
    );
    check(
        seen,
        ToolCall {
            id: "i".into(),
            name: "n".into(),
            arguments: r#"{"a":1}"#.into(),
        },
    );
    check(seen, sampling());
    check(
        seen,
        Generated {
            item: Some(generated::Item::End(end())),
        },
    );
    check(seen, end());
    check(seen, PauseGeneration { request: id(1) });
    check(seen, ResumeGeneration { request: id(1) });
    check(
        seen,
        CountTokens {
            turns: vec![turn()],
            // Newer than the file.
            model: Vec::new(),
        },
    );
    check(
        seen,
        TokenCount {
            tokens: 3,
            context_length: 4,
        },
    );
    check(seen, model());
    check(seen, ListModels {});
    check(
        seen,
        ModelList {
            items: vec![model()],
            state: Some(state()),
        },
    );
    check(
        seen,
        AddModel {
            path: "/m.gguf".into(),
            adapter: None,
            name: None,
        },
    );
    check(seen, UseModel { id: id(5) });
    check(seen, UnloadModel { id: id(5) });
    check(seen, RemoveModel { id: id(5) });
    check(
        seen,
        RecallPrompt {
            cache_key: id(2),
            // Newer than the file.
            model: Vec::new(),
        },
    );
    activity(seen);
    check(seen, DiscardPrompt { cache_key: id(2) });
    prompt_messages(seen);
    engine_messages(seen);
    check(seen, state());
    download_messages(seen);
}

fn download_messages(seen: &mut BTreeSet<String>) {
    let entry = CatalogueEntry {
        name: "n".into(),
        title: "t".into(),
        summary: "s".into(),
        purpose: "chat".into(),
        architecture: "qwen3".into(),
        parameters: 1 << 33,
        quantization: "Q4_K_M".into(),
        context_length: 40_960,
        license: "Apache-2.0".into(),
        license_url: "https://l".into(),
        sources: vec!["https://a".into(), "https://b".into()],
        size_bytes: 1 << 34,
        sha256: vec![7; 32],
        memory_bytes: 1 << 35,
        fit: catalogue_entry::Fit::Tight.into(),
        recommended: true,
        model: id(5),
        present: true,
        partial_bytes: 9,
    };
    check(seen, entry.clone());
    check(
        seen,
        Catalogue {
            date: "2026-11-26".into(),
            file: "/c.json".into(),
            mirror: "http://m".into(),
            memory_bytes: 1 << 36,
            available_bytes: 1 << 35,
            cores: 8,
            items: vec![entry],
        },
    );
    check(
        seen,
        PullModel {
            name: "n".into(),
            use_then: true,
        },
    );
    let pull = Pull {
        name: "n".into(),
        state: pull::State::Waiting.into(),
        done_bytes: 1 << 33,
        total_bytes: 1 << 34,
        kept_bytes: 1 << 32,
        bytes_per_second: 1 << 20,
        source: "h".into(),
        use_then: true,
        model: id(5),
        fault: Some(fault()),
        retry_in_ms: 300,
    };
    check(seen, pull.clone());
    check(seen, PullList { items: vec![pull] });
    check(seen, CancelPull { name: "n".into() });
    transformers(seen);
}

fn engine_messages(seen: &mut BTreeSet<String>) {
    let one = Engine {
        name: "lab".into(),
        kind: "openai".into(),
        address: "lab:443".into(),
        network: true,
        version: "v".into(),
        state: engine::State::Failed.into(),
        fault: Some(fault()),
        seen_unix_ms: 1 << 41,
        models: vec!["m".into()],
    };
    check(seen, one.clone());
    check(seen, EngineList { items: vec![one] });
    check(seen, CheckEngine { name: "lab".into() });
    let job = EngineJob {
        engine: "ollama".into(),
        name: "a:b".into(),
        model: vec![1; 16],
        created: true,
        state: engine_job::State::Waiting.into(),
        step: "pulling".into(),
        done_bytes: 1,
        total_bytes: 2,
        bytes_per_second: 3,
        use_then: true,
        fault: Some(fault()),
        retry_in_ms: 300,
    };
    check(seen, job.clone());
    check(seen, EngineJobList { items: vec![job] });
    let made = MakeEngineModel {
        engine: "ollama".into(),
        name: "a".into(),
        use_then: true,
        modelfile: "FROM b".into(),
        folder: "/f".into(),
    };
    check(seen, made);
    let offer = EngineOffer {
        engine: "ollama".into(),
        name: "a:latest".into(),
        present: true,
        download: "b:latest".into(),
        source: "s".into(),
        size_bytes: 1 << 33,
        license: "l".into(),
        copied_bytes: 300,
        unknown: Some(fault()),
    };
    check(seen, offer);
    let model = EngineModel {
        engine: "ollama".into(),
        model: vec![1; 16],
    };
    check(seen, model);
    let details = EngineModelDetails {
        engine: "ollama".into(),
        name: "a:latest".into(),
        license: "l".into(),
        template: "t".into(),
        system: "s".into(),
        parameters: "p".into(),
        architecture: "q".into(),
        parameter_count: 1 << 33,
        quantization: "z".into(),
        context_length: 300,
        capabilities: vec!["chat".into()],
    };
    check(seen, details);
    installation_messages(seen);
}

fn installation_messages(seen: &mut BTreeSet<String>) {
    check(
        seen,
        EngineName {
            name: "ollama".into(),
        },
    );
    let agreed = InstallEngine {
        engine: "ollama".into(),
        version: "1.2".into(),
        sha256: "0a".into(),
    };
    check(seen, agreed);
    let release = EngineRelease {
        version: "1.2".into(),
        date: "d".into(),
        source: "https://h/a".into(),
        size_bytes: 1 << 33,
        sha256: "0a".into(),
        license: "l".into(),
        license_url: "u".into(),
        notice: "n".into(),
        kept_bytes: 300,
        folder: "/f".into(),
    };
    check(seen, release.clone());
    let run = EngineInstalling {
        version: "1.2".into(),
        state: engine_installing::State::Waiting.into(),
        done_bytes: 1 << 32,
        total_bytes: 1 << 33,
        bytes_per_second: 300,
        fault: Some(fault()),
    };
    check(seen, run.clone());
    let installation = EngineInstallation {
        engine: "ollama".into(),
        installed: "1.1".into(),
        program: "/p".into(),
        starts: true,
        release: Some(release),
        fault: Some(fault()),
        run: Some(run),
    };
    check(seen, installation);
}

fn prompt_messages(seen: &mut BTreeSet<String>) {
    let head = || PromptHead {
        tokens: vec![0, 0, 0, 1],
        bytes: 2,
        revision: 3,
    };
    let cached = || CachedPrompt {
        person: id(9),
        cache_key: id(2),
        tokens: 3,
        bytes: 4,
        revision: 5,
        prefill_us: 6,
        busy: true,
    };
    check(seen, ListPrompts {});
    check(
        seen,
        PromptList {
            items: vec![cached()],
        },
    );
    check(seen, cached());
    check(
        seen,
        SavePrompt {
            cache_key: id(2),
            most_bytes: 4,
        },
    );
    check(
        seen,
        PromptPiece {
            piece: Some(prompt_piece::Piece::Head(head())),
        },
    );
    check(seen, head());
    check(
        seen,
        RestorePrompt {
            cache_key: id(2),
            transfer: id(1),
            head: Some(head()),
            state: vec![7, 8],
        },
    );
    check(
        seen,
        RestoredPrompt {
            outcome: restored_prompt::Outcome::Taken.into(),
            revision: 5,
        },
    );
}

fn system_messages(seen: &mut BTreeSet<String>) {
    check(seen, PersonRemoved { person: id(9) });
    check(
        seen,
        SessionEnded {
            sessions: vec![id(1), id(2)],
        },
    );
    check(
        seen,
        StageChanged {
            stage: "ready".into(),
        },
    );
}

#[test]
fn every_message_of_version_1_keeps_decoding() {
    let mut seen = BTreeSet::new();
    envelope_messages(&mut seen);
    link_messages(&mut seen);
    conversation_messages(&mut seen);
    model_messages(&mut seen);
    system_messages(&mut seen);

    // Nothing is left out: neither a message of the contracts nor a file of the folder.
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let covered: BTreeSet<String> = seen.iter().map(|name| last(name)).collect();
    let declared: BTreeSet<String> = aico_contracts::FILES
        .iter()
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| line.trim_start().strip_prefix("message "))
        .filter_map(|rest| rest.split([' ', '{']).next())
        .map(str::to_owned)
        .collect();
    assert_eq!(covered, declared);
    let files: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(
        files,
        seen.iter().map(|name| format!("{name}.bin")).collect()
    );
}

#[test]
fn a_message_that_holds_text_tells_nothing_of_it_when_debugged() {
    let mut message = message();
    message.parts.push(Part {
        content: Some(part::Content::Text("Zanzibar".into())),
    });
    let generated = Generated {
        item: Some(generated::Item::Text("Zanzibar".into())),
    };
    let shown = format!(
        "{message:?} {:?} {:?} {:?} {generated:?} {:?} {:?}",
        message.parts,
        message.parts[2].content,
        AnswerDone {
            message: Some(message.clone()),
            stats: None
        },
        Search {
            query: "Zanzibar".into(),
            limit: 1
        },
        AddModel {
            path: "/home/zanzibar/Zanzibar.gguf".into(),
            adapter: Some("/home/zanzibar/Zanzibar-lora.gguf".into()),
            name: Some("Zanzibar".into()),
        },
    );
    assert!(!shown.contains("anzibar"), "{shown}");
}

#[test]
fn the_contracts_for_export_are_the_ones_that_were_compiled() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    for (path, text) in aico_contracts::FILES {
        assert_eq!(fs::read_to_string(root.join(path)).unwrap(), *text);
    }
    let count = fs::read_dir(root.join("aico/v1")).unwrap().count();
    assert_eq!(count, aico_contracts::FILES.len());
}
