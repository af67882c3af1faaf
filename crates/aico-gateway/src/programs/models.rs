//! What can be asked: the companion, as `aico`, and every model that is there, each under a name.
//!
//! A model file goes by its name in letters that every program takes, one of Ollama by the name that
//! Ollama gives it, one of a configured server by `server/name`. Names are the same whatever else
//! is loaded, chosen or allowed, so that a program can keep one. A model of a server that the person
//! has not allowed is not listed; asked for by its name, it is refused with that reason.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aico_bus::Meta;
use aico_contracts::v1::{self, Priority};
use aico_contracts::{ids::PersonId, topics};

use super::Dialect;
use super::refusal::Refusal;
use crate::app::App;
use crate::convert::engines::engine;
use crate::problem::{Code, Problem};

/// The companion's name among the models.
pub(crate) const COMPANION: &str = "aico";
/// What a request of another program is for, on the bus.
pub(crate) const PURPOSE: &str = "program";
/// The engine whose models go by their own names: programs that are made for it know them.
const OLLAMA: &str = "ollama";

/// One that can be asked.
pub(crate) enum Askable {
    /// The companion itself, with its memory.
    Companion,
    Model(Box<Known>),
}

/// A model, and what programs know it by.
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) model: v1::Model,
    /// The person's words may go where it runs.
    allowed: bool,
}

impl Known {
    /// Whether it goes on with a conversation. One that does not tell is believed to.
    pub(crate) fn chats(&self) -> bool {
        self.model.capabilities.is_empty() || self.can("chat")
    }

    /// Whether it turns texts into vectors.
    pub(crate) fn embeds(&self) -> bool {
        self.can("embeddings")
    }

    /// Whether images can be sent to it. Those of servers are believed to take them: nothing tells
    /// beforehand, and a server refuses by itself.
    pub(crate) fn sees(&self) -> bool {
        match self.model.engine.as_str() {
            "" => self.can("images"),
            OLLAMA => self.model.capabilities.is_empty() || self.can("images"),
            _ => true,
        }
    }

    fn can(&self, what: &str) -> bool {
        self.model.capabilities.iter().any(|one| one == what)
    }

    /// Its id, as text.
    pub(crate) fn id(&self) -> String {
        uuid::Uuid::from_slice(&self.model.id)
            .map(|id| id.to_string())
            .unwrap_or_default()
    }
}

impl Askable {
    /// The name by which programs know it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Companion => COMPANION,
            Self::Model(known) => &known.name,
        }
    }

    /// What runs it, as lists name an owner.
    pub(crate) fn owner(&self) -> &str {
        match self {
            Self::Model(known) if !known.model.engine.is_empty() => &known.model.engine,
            Self::Companion | Self::Model(_) => COMPANION,
        }
    }

    /// When its file was last changed. The companion has none: the epoch.
    pub(crate) fn modified(&self) -> SystemTime {
        match self {
            Self::Companion => UNIX_EPOCH,
            Self::Model(known) => UNIX_EPOCH + Duration::from_millis(known.model.modified_unix_ms),
        }
    }
}

/// The name that a model would have if it were the only one that is called so.
fn base(model: &v1::Model) -> String {
    if !model.engine.is_empty() {
        let own = model.name.strip_suffix(":latest").unwrap_or(&model.name);
        return match model.engine.as_str() {
            OLLAMA if plain(own) != COMPANION => own.to_owned(),
            engine => format!("{engine}/{own}"),
        };
    }
    let mut name = String::new();
    for letter in model.name.chars() {
        let letter = letter.to_ascii_lowercase();
        if letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_') {
            name.push(letter);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    match name.trim_matches('-') {
        "" => "model".to_owned(),
        COMPANION => format!("{COMPANION}-model"),
        name => name.to_owned(),
    }
}

/// A name for each, told apart by the end of their ids where several are called alike.
fn names(models: &[v1::Model]) -> Vec<String> {
    let bases: Vec<_> = models.iter().map(base).collect();
    let alike = |name: &String| {
        let same = |other: &&String| plain(other) == plain(name);
        bases.iter().filter(same).count() > 1
    };
    let named = models.iter().zip(&bases).map(|(model, name)| {
        if !alike(name) {
            return name.clone();
        }
        match model.engine.is_empty() {
            // The beginning of an id is its time: files that were added together share it.
            true => format!(
                "{name}-{}",
                &hex::encode(&model.id)[model.id.len().max(4) * 2 - 8..]
            ),
            false => format!("{}/{}", model.engine, model.name),
        }
    });
    named.collect()
}

/// As it was asked for: case, and the tag that Ollama adds by itself, do not count.
pub(super) fn plain(asked: &str) -> String {
    let asked = asked.trim().to_ascii_lowercase();
    match asked.strip_suffix(":latest") {
        Some(name) => name.to_owned(),
        None => asked,
    }
}

/// All that can be asked, the companion first, then the model that is chosen for everybody.
pub(crate) async fn all(app: &App, person: PersonId) -> Result<Vec<Askable>, Problem> {
    let mut models = known(app, person).await?;
    models.retain(|one| one.model.present && one.allowed);
    models.sort_by_key(|one| !one.model.active);
    let mut all = vec![Askable::Companion];
    all.extend(models.into_iter().map(|one| Askable::Model(Box::new(one))));
    Ok(all)
}

/// The one that is called so: by its name here, by its id, by the one that the person sees.
pub(crate) async fn find(
    app: &App,
    person: PersonId,
    asked: &str,
) -> Result<Option<Askable>, Problem> {
    if plain(asked) == COMPANION {
        return Ok(Some(Askable::Companion));
    }
    let all = known(app, person).await?;
    Ok(meant(all, asked).map(|one| Askable::Model(Box::new(one))))
}

/// The one that is chosen for everybody.
pub(crate) async fn chosen(app: &App, person: PersonId) -> Result<Option<Known>, Problem> {
    let mut all = known(app, person).await?.into_iter();
    Ok(all.find(|one| one.model.active))
}

fn meant(mut all: Vec<Known>, asked: &str) -> Option<Known> {
    let asked = plain(asked);
    // Of several that are called alike, the one that is most likely to answer at once.
    all.sort_by_key(|one| {
        let model = &one.model;
        (
            !model.active,
            !(model.present && one.allowed),
            !model.loaded,
        )
    });
    let ways: [&dyn Fn(&Known) -> bool; 3] = [
        &|one| plain(&one.name) == asked || one.id() == asked,
        &|one| plain(&base(&one.model)) == asked,
        &|one| plain(&one.model.name) == asked,
    ];
    let at = ways.iter().find_map(|is_it| all.iter().position(is_it))?;
    Some(all.swap_remove(at))
}

/// The one that is asked, or why there is none.
pub(crate) async fn whom(
    app: &App,
    person: PersonId,
    dialect: Dialect,
    name: &str,
) -> Result<Askable, Refusal> {
    let found = find(app, person, name).await?;
    found.ok_or_else(|| Refusal::no_such_model(dialect, name))
}

/// The same where it is only looked at: what is not listed is not there.
pub(crate) async fn look(
    app: &App,
    person: PersonId,
    dialect: Dialect,
    name: &str,
) -> Result<Askable, Refusal> {
    match whom(app, person, dialect, name).await? {
        Askable::Model(known) if !known.allowed => Err(Code::EngineNotAllowed.into()),
        Askable::Model(known) if !known.model.present => Err(Refusal::no_such_model(dialect, name)),
        found => Ok(found),
    }
}

/// All models that there are, whether they can be asked or not.
async fn known(app: &App, person: PersonId) -> Result<Vec<Known>, Problem> {
    let meta = Meta::for_person(person)
        .purpose(PURPOSE)
        .priority(Priority::Normal)
        .deadline_in(app.limits.module_time);
    let asked = app
        .bus
        .request(topics::MODELS_LIST, &v1::ListModels {}, meta);
    let models: v1::ModelList = asked.await?;
    let models = models.items;
    let allowed = match models.iter().all(|model| model.engine.is_empty()) {
        true => Vec::new(),
        false => allowed(app, person).await?,
    };
    let named = names(&models);
    let all = models.into_iter().zip(named).map(|(model, name)| Known {
        name,
        allowed: model.engine.is_empty() || allowed.contains(&model.engine),
        model,
    });
    Ok(all.collect())
}

/// Names of the programs that this person's words may go to.
async fn allowed(app: &App, person: PersonId) -> Result<Vec<String>, Problem> {
    let consents = app.home.engine_consents(person).await?;
    let time = app.limits.module_time;
    let all: v1::EngineList = app
        .ask_models(topics::MODELS_ENGINES, &v1::Empty {}, time)
        .await?;
    let all = all.items.into_iter().map(|one| engine(one, &consents));
    Ok(all.filter(|one| one.allowed).map(|one| one.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, engine: &str, id: u8) -> v1::Model {
        v1::Model {
            id: vec![id; 16],
            name: name.into(),
            engine: engine.into(),
            present: true,
            ..v1::Model::default()
        }
    }

    #[test]
    fn names_are_what_every_program_takes() {
        let name = |name: &str| base(&model(name, "", 0));
        assert_eq!(name("Qwen3 8B (Q4_K_M)"), "qwen3-8b-q4_k_m");
        assert_eq!(name("größe/x"), "gr-e-x");
        assert_eq!(name(""), "model");
        assert_eq!(name("AICO"), "aico-model");
        assert_eq!(plain(" Aico:latest "), "aico");
        assert_eq!(plain("qwen3:8b"), "qwen3:8b");
        // Ollama's own, and those of a server with its name before them.
        assert_eq!(base(&model("qwen3:8b", "ollama", 0)), "qwen3:8b");
        assert_eq!(base(&model("smol:latest", "ollama", 0)), "smol");
        assert_eq!(base(&model("aico:latest", "ollama", 0)), "ollama/aico");
        assert_eq!(base(&model("Qwen/Qwen3-8B", "lab", 0)), "lab/Qwen/Qwen3-8B");
        assert_eq!(base(&model("aico", "lab", 0)), "lab/aico");
    }

    #[test]
    fn images_go_where_nothing_says_that_they_are_not_seen() {
        let sees = |engine: &str, capabilities: &[&str]| {
            let capabilities = capabilities.iter().map(|&one| one.to_owned()).collect();
            let known = Known {
                name: "m".to_owned(),
                model: v1::Model {
                    capabilities,
                    ..model("m", engine, 0)
                },
                allowed: true,
            };
            known.sees()
        };
        assert!(!sees("", &["chat"]) && !sees("", &[]));
        assert!(sees(OLLAMA, &["chat", "images"]) && !sees(OLLAMA, &["chat", "tools"]));
        // An Ollama that does not tell, and a server, of which no more is known than that.
        assert!(sees(OLLAMA, &[]) && sees("lab", &["chat"]));
    }

    #[test]
    fn what_is_called_alike_is_told_apart_and_each_is_found_again() {
        let all = [
            model("Sage", "", 1),
            model("sage", "", 2),
            model("sage:latest", "ollama", 3),
            model("sage", "lab", 4),
            model("Other", "", 5),
        ];
        let named = names(&all);
        assert_eq!(
            named,
            [
                "sage-01010101",
                "sage-02020202",
                "ollama/sage:latest",
                "lab/sage",
                "other"
            ]
        );
        let known = || {
            let all = all.iter().cloned().zip(named.clone());
            let all = all.map(|(model, name)| Known {
                name,
                model,
                allowed: true,
            });
            all.collect::<Vec<_>>()
        };
        for (name, model) in named.iter().zip(&all) {
            let found = meant(known(), name).unwrap();
            assert_eq!(found.model.id, model.id, "{name}");
            let found = meant(known(), &found.id()).unwrap();
            assert_eq!(found.model.id, model.id, "{name}");
        }
        assert_eq!(meant(known(), "LAB/Sage").unwrap().model.id, vec![4; 16]);
        // One of those: the chosen one before the one that is loaded, and both before the rest.
        let mut some = known();
        some[1].model.loaded = true;
        assert_eq!(meant(some, "sage:latest").unwrap().model.id, vec![2; 16]);
        let mut some = known();
        some[2].model.active = true;
        some[1].model.loaded = true;
        assert_eq!(meant(some, "Sage").unwrap().model.id, vec![3; 16]);
        assert!(meant(known(), "sag").is_none());
    }
}
