//! Characters.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Somebody to talk to.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "aico", "name": "Aico", "description": "Warm, honest and brief. Listens first.",
    "built_in": true, "chosen": true, "models": [], "portrait": false, "tags": ["companion"],
    "creator": "AICO", "updated_at": null
}))]
pub(crate) struct Character {
    /// A word for those that AICO brings along, a UUID for one's own.
    pub(crate) id: String,
    pub(crate) name: String,
    /// For who chooses.
    pub(crate) description: String,
    /// Part of AICO: it can be copied, not changed.
    pub(crate) built_in: bool,
    /// The one that one's new conversations get.
    pub(crate) chosen: bool,
    /// Models that it is made for, the best first; empty: whichever answers.
    pub(crate) models: Vec<String>,
    /// It has a picture of its own.
    pub(crate) portrait: bool,
    pub(crate) tags: Vec<String>,
    pub(crate) creator: String,
    /// Null for those that AICO brings along.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub(crate) updated_at: Option<Timestamp>,
}

/// Who says it, in an example.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExampleRole {
    /// The person.
    User,
    /// The character.
    Assistant,
}

/// A turn of a conversation that never was.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExampleTurn {
    pub(crate) role: ExampleRole,
    pub(crate) text: String,
}

/// How tokens are chosen; what is null is as AICO has it for everybody.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CharacterSampling {
    /// 0 to 2; 0: always the likeliest.
    pub(crate) temperature: Option<f32>,
    /// Above 0, up to 1; 1: off.
    pub(crate) top_p: Option<f32>,
    /// 0 to 10000; 0: off.
    pub(crate) top_k: Option<u32>,
    /// 0 to 1; 0: off.
    pub(crate) min_p: Option<f32>,
    /// Above 0, up to 2; 1: off.
    pub(crate) repeat_penalty: Option<f32>,
    /// 0: another each time.
    pub(crate) seed: Option<u32>,
    /// Texts that end an answer.
    pub(crate) stop: Vec<String>,
    /// Tokens of context, at most; never more than the model was loaded with.
    pub(crate) num_ctx: Option<u32>,
    /// Tokens of an answer, at most.
    pub(crate) num_predict: Option<u32>,
}

/// What one can write of a character. `{{char}}` and `{{user}}` stand for the names; what is left
/// out is empty.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Mara", "system_prompt": "You are {{char}}, who keeps a lighthouse."}))]
pub(crate) struct CharacterText {
    pub(crate) name: String,
    /// What it is called in what a model is told, where that is another name.
    #[serde(default)]
    pub(crate) nickname: String,
    /// For the person; no model is told.
    #[serde(default)]
    pub(crate) about: String,
    #[serde(default)]
    pub(crate) system_prompt: String,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) personality: String,
    #[serde(default)]
    pub(crate) scenario: String,
    /// What it opens a conversation with: the first, and others to choose from.
    #[serde(default)]
    pub(crate) greetings: Vec<String>,
    /// How it speaks.
    #[serde(default)]
    pub(crate) examples: Vec<ExampleTurn>,
    /// The same as one text with `{{user}}:` and `{{char}}:`; read where `examples` is empty.
    #[serde(default)]
    pub(crate) examples_text: String,
    /// What a model is told last of it.
    #[serde(default)]
    pub(crate) reminder: String,
    #[serde(default)]
    pub(crate) creator: String,
    #[serde(default)]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    #[serde(default)]
    pub(crate) sampling: CharacterSampling,
    /// Models that it is made for, the best first.
    #[serde(default)]
    pub(crate) models: Vec<String>,
    #[serde(default)]
    pub(crate) license: String,
}

/// How a model that a character is made for is on this machine.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WantedState {
    /// It can answer.
    Here,
    /// No model of that name is in the list.
    Missing,
    /// It is in the list, and its file is gone.
    FileGone,
}

/// A model that a character is made for.
#[derive(Serialize, ToSchema)]
pub(crate) struct WantedModel {
    /// As the character names it.
    pub(crate) name: String,
    pub(crate) state: WantedState,
    /// What it is called in the list of models; null when it is not there.
    #[schema(required = true)]
    pub(crate) here_as: Option<String>,
    /// How to get it: what, how large, from where, under which license, where AICO knows.
    #[schema(required = true)]
    pub(crate) what_to_do: Option<String>,
}

/// All about a character.
#[derive(Serialize, ToSchema)]
pub(crate) struct CharacterDetail {
    pub(crate) character: Character,
    pub(crate) text: CharacterText,
    pub(crate) models: Vec<WantedModel>,
    /// What of its file is kept for export and not used, in words.
    pub(crate) kept: Vec<String>,
}

/// A new character.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCharacter {
    pub(crate) text: CharacterText,
    /// What is kept of this one's file, and its picture, come along.
    #[serde(default)]
    pub(crate) copy_of: Option<String>,
    /// A PNG in base64.
    #[serde(default)]
    #[schema(format = Byte)]
    pub(crate) portrait: Option<String>,
}

/// What a character is from now on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeCharacter {
    pub(crate) text: CharacterText,
    /// A PNG in base64; left out: as it is. An empty text takes it away.
    #[serde(default)]
    #[schema(format = Byte)]
    pub(crate) portrait: Option<String>,
}

/// A file to bring in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"file": "RlJPTSBxd2VuMzo4Yg==", "file_name": "Mara.Modelfile"}))]
pub(crate) struct ImportCharacter {
    /// A character card (PNG or JSON) or a Modelfile, in base64; at most 8 MiB.
    #[schema(format = Byte)]
    pub(crate) file: String,
    /// What the file is called: a name for what has none.
    #[serde(default)]
    pub(crate) file_name: String,
    /// What it shall be called, whatever the file says.
    #[serde(default)]
    pub(crate) name: String,
}

/// What was brought in.
#[derive(Serialize, ToSchema)]
pub(crate) struct ImportedCharacter {
    pub(crate) character: Character,
    /// What of the file has no effect, in words.
    pub(crate) notes: Vec<String>,
    pub(crate) models: Vec<WantedModel>,
}

/// As what a character is written.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CharacterFormat {
    /// As Ollama has it.
    Modelfile,
    /// JSON, version 2.
    CardV2,
    /// JSON, version 3.
    CardV3,
    /// A picture with cards of both versions in it.
    Png,
}

/// Which format.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// `modelfile`, `card-v2`, `card-v3` or `png`.
    #[param(inline)]
    pub(crate) format: CharacterFormat,
}

/// A character as a file.
#[derive(Serialize, ToSchema)]
pub(crate) struct ExportedCharacter {
    /// The file in base64.
    #[schema(format = Byte)]
    pub(crate) file: String,
    pub(crate) file_name: String,
    pub(crate) media_type: String,
    /// What the format has no place for, in words.
    pub(crate) notes: Vec<String>,
}

/// A picture.
#[derive(Serialize, ToSchema)]
pub(crate) struct Portrait {
    /// A PNG in base64, with nothing in it but the image.
    #[schema(format = Byte)]
    pub(crate) png: String,
}

/// What became of its conversations.
#[derive(Serialize, ToSchema)]
pub(crate) struct RemovedCharacter {
    /// So many go on with the character that AICO brings along.
    pub(crate) conversations: u32,
}

/// Which character.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"id": "aico"}))]
pub(crate) struct ChooseCharacter {
    pub(crate) id: String,
}
