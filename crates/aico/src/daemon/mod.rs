//! The daemon: the one place where the parts are put together.
//!
//! Lifecycle as values: [`serve`] prepares (configuration, data folder, sockets), runs until a
//! signal, and finishes. What needs keys lives in `modules.rs`, which exists only while
//! the home is ready.

mod door;
mod engines;
mod logs;
#[cfg(test)]
mod migrations;
pub(crate) mod modules;
pub(crate) mod ollama;
pub(crate) mod rekey;
mod signals;
mod status;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aico_access::backup::Listed;
use aico_access::{
    BusPolicy, ClaimError, DataFolder, Home, HomeConfig, HomeError, Source, Stage, Start,
};
use aico_bus::{Bus, Identity, Meta};
use aico_config::{Config, ConfigError, Loaded, Sources};
use aico_contracts::topics;
use aico_contracts::v1::PersonRemoved;
use aico_gateway::{Gateway, GatewayConfig, LocalListener, Setting};
use aico_logging::Logging;
use aico_models::router::Activity;
use aico_vault::KdfCost;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::Serve;
use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::places::Places;
use crate::{prompt, style};

/// Everything has ended by then, or is ended.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Runs the daemon in the foreground until a signal.
pub(crate) fn serve(context: &Context, serve: &Serve) -> Result<(), Failure> {
    let mut flags = Vec::new();
    if let Some(bind) = serve.bind {
        flags.push(("gateway.bind".to_owned(), bind.to_string()));
    }
    let loaded = load_config(context, flags)?;
    let logging = Logging::start(&loaded.config.logging, aico_logging::Console::Human)
        .map_err(|error| Failure::new(Exit::Unexpected, "Logging can't start.").because(&error))?;
    aico_logging::install_panic_hook();
    for warning in &loaded.warnings {
        tracing::warn!(warning = warning.as_str(), "the configuration is odd");
    }
    let folder = claim(&context.places)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("aico")
        .build()
        .map_err(|e| Failure::new(Exit::Unexpected, "The daemon can't start.").because(&e))?;
    let done = runtime.block_on(run(context, serve, &loaded, &logging, &folder));
    // A blocking task that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    logging.detach();
    done
}

async fn run(
    context: &Context,
    serve: &Serve,
    loaded: &Loaded,
    logging: &Logging,
    folder: &DataFolder,
) -> Result<(), Failure> {
    let config = &loaded.config;
    let places = &context.places;
    let signals = signals::Signals::listen()?;
    let home = Home::open(home_config_with(folder.path(), loaded))?;
    let run = places.run();
    make_run_folder(&run)?;
    let tcp = bind(config.gateway.bind).await?;
    let local = LocalListener::bind(&places.socket())
        .map_err(|error| Failure::of_folder("The local socket can't be made.", &error))?;
    let address = tcp
        .local_addr()
        .map_err(|e| cant_listen(config.gateway.bind, &e))?;

    let bus = Bus::new(Arc::new(BusPolicy::new(home.grants())));
    let (door, view) = door::Door::new(&home, &bus, config, &run);
    let view = Arc::new(view);
    let stop = CancellationToken::new();
    let gateway = Gateway::new(
        GatewayConfig {
            hosts: config.gateway.names.clone(),
            stop: stop.clone(),
            settings: settings(loaded),
            broker: view.clone(),
            ..GatewayConfig::default()
        },
        home.clone(),
        bus.join(Identity::new("gateway")),
        Arc::new(logs::Logs(logging.clone())),
        Arc::new(status::Status::new(home.clone(), logging.clone())),
    );
    let serving_tcp = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.serve_tcp(tcp).await }
    });
    let serving_local = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.serve_local(local).await }
    });
    home.set_serving(false);
    let (asks, asked) = tokio::sync::mpsc::channel(1);
    home.set_sealed_parts(Arc::new(rekey::Running {
        home: home.clone(),
        logging: logging.clone(),
        settings: config.logging.clone(),
        data: folder.path().to_owned(),
        asks,
    }));
    let watching = tokio::spawn(modules::watch(
        modules::Parts {
            home: home.clone(),
            bus: bus.clone(),
            door: view,
            logging: logging.clone(),
            config: config.clone(),
            data: folder.path().to_owned(),
            run: run.clone(),
            activity: Activity::default(),
        },
        asked,
    ));
    let door = tokio::spawn(door.watch());
    tokio::spawn(tell_erased(home.clone(), bus.clone()));
    tokio::spawn(lock_who_left(home.clone(), bus.clone()));
    tokio::spawn(auto_lock(home.clone(), config.vault.auto_lock_minutes));

    let opening = async {
        match &serve.password_file {
            Some(file) => unlock(&home, file).await,
            None => {
                unattended(&home).await;
                Ok(())
            }
        }
    };
    // Whatever fails, what was started is stopped in order.
    let outcome = match opened(opening, &signals).await {
        Opened::Stopping(outcome) => outcome,
        Opened::Done(outcome) => match outcome.and_then(|()| announce(places, &home, address)) {
            Ok(()) => {
                signals.first().await;
                tracing::info!("stopping");
                Ok(())
            }
            failed => failed,
        },
    };

    // From here on a second signal quits at once, and so does time.
    let finished = async {
        gateway.drain();
        let stopped = home.stop().await;
        // The modules have ended: their last words are on the way to those who watch.
        let _ = watching.await;
        door.abort();
        stop.cancel();
        let _ = serving_tcp.await;
        let _ = serving_local.await;
        stopped
    };
    let stopped = tokio::select! {
        stopped = tokio::time::timeout(STOP_LIMIT, finished) => stopped,
        signal = signals.second() => signals::quit_at_once(signal),
    };
    for note in [places.address(), places.setup_address()] {
        let _ = std::fs::remove_file(note);
    }
    outcome?;
    match stopped {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Failure::new(
            Exit::Unexpected,
            "Not everything ended in time; nothing acknowledged is lost.",
        )),
    }
}

/// How opening the vault ended.
enum Opened {
    /// As it does.
    Done(Result<(), Failure>),
    /// And a signal came meanwhile.
    Stopping(Result<(), Failure>),
}

/// Waits until the vault is open or can't be. Opening it is gone on with after a signal, for stores may
/// be updated meanwhile; a second one quits at once.
async fn opened(
    opening: impl Future<Output = Result<(), Failure>>,
    signals: &signals::Signals,
) -> Opened {
    let mut opening = std::pin::pin!(opening);
    tokio::select! {
        outcome = &mut opening => return Opened::Done(outcome),
        () = signals.first() => {}
    }
    style::note("AICO stops as soon as the vault is open; once more Ctrl-C: at once.");
    tokio::select! {
        outcome = &mut opening => Opened::Stopping(outcome),
        signal = signals.second() => signals::quit_at_once(signal),
    }
}

async fn unlock(home: &Home, file: &Path) -> Result<(), Failure> {
    // It may be a pipe that nobody has written to yet: signals are heard meanwhile.
    let file = file.to_owned();
    let read = tokio::task::spawn_blocking(move || prompt::password_file(&file)).await;
    let password = read.map_err(|_| HomeError::Task)??;
    let unlocked = home.unlock(&password, Source::local()).await;
    unlocked.map_err(|error| with_backup(home, error.into()))?;
    Ok(())
}

/// What is damaged for everybody is put back from the newest backup that is at hand.
fn with_backup(home: &Home, mut failure: Failure) -> Failure {
    if failure.exit == Exit::Damaged
        && let Some(newest) = home.newest_backup()
    {
        failure.what_to_do = Some(put_back(&newest));
    }
    failure
}

/// How all of a backup is put back.
pub(crate) fn put_back(backup: &Listed) -> String {
    let when = backup.created_at.map_or_else(String::new, |at| {
        format!(" of {}", at.strftime("%Y-%m-%d %H:%M UTC"))
    });
    format!(
        "Nothing was changed. What the backup{when} holds can be put back: aico restore '{}'",
        backup.path.display()
    )
}

/// Opens with what a keychain holds. Whatever keeps that from opening, damage included, the daemon
/// stays there, locked, and says what it is: with the password it may be mended.
async fn unattended(home: &Home) {
    match home.start_unattended().await {
        Ok(Start::Waits(waits)) => {
            style::warning(&format!(
                "the {} can't open the vault: {}; waiting for the password",
                waits.name, waits.error
            ));
            style::hint(waits.what_to_do());
            tracing::warn!(
                state = waits.error.state().as_str(),
                "a keychain should have opened the vault; waiting for the password"
            );
        }
        Ok(Start::Unlocked | Start::NothingKept) => {}
        Err(error) => {
            style::warning("a keychain has the key, and the vault does not open all the same");
            let failure = with_backup(home, error.into());
            failure.report();
        }
    }
}

/// One line on standard output: the daemon is ready, and where.
fn announce(places: &Places, home: &Home, address: SocketAddr) -> Result<(), Failure> {
    let page = format!("http://{}/", shown(address));
    note(&places.address(), &page)?;
    let stage = home.stage();
    if stage != Stage::New {
        style::line(&format!("AICO is {}: {page}", stage.as_str()));
        return Ok(());
    }
    // The code makes its bearer the owner: on a terminal only who sits here reads it; anywhere
    // else it would end in a log.
    let code = home.setup_code()?;
    let with_code = format!("{page}#setup={}", code.as_str());
    if style::on_terminal() {
        style::line(&format!("AICO is new: open {with_code}"));
    } else {
        note(&places.setup_address(), &with_code)?;
        style::line(&format!(
            "AICO is new: {page} (open the address in {})",
            places.setup_address().display()
        ));
    }
    Ok(())
}

/// An address that a browser on this machine can open.
fn shown(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, address.port()))
}

/// A file that only this user reads.
fn note(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let _ = std::fs::remove_file(path);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(path)
        .and_then(|mut file| writeln!(file, "{text}"))
        .map_err(|error| {
            Failure::of_folder(format!("{} can't be written.", path.display()), &error)
        })
}

fn make_run_folder(run: &Path) -> Result<(), Failure> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let failed = |error: std::io::Error| {
        Failure::of_folder(format!("{} can't be made.", run.display()), &error)
    };
    builder.create(run).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let about = std::fs::symlink_metadata(run).map_err(failed)?;
        if !about.is_dir() || about.uid() != aico_vault::current_uid() || about.mode() & 0o077 != 0
        {
            return Err(Failure::new(
                Exit::Folder,
                format!("{} is not a private folder of ours.", run.display()),
            )
            .do_this(format!("rm -r {}", run.display())));
        }
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "the page is reachable from other machines, without TLS");
    }
    TcpListener::bind(address)
        .await
        .map_err(|error| cant_listen(address, &error))
}

fn cant_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::new(Exit::PortTaken, format!("AICO can't listen on {address}.")).because(error).do_this(
        "Choose another one: aico serve --bind 127.0.0.1:0 (0: any free one), or set gateway.bind",
    )
}

pub(crate) fn claim(places: &Places) -> Result<DataFolder, Failure> {
    DataFolder::claim(places.data()).map_err(|error| match error {
        ClaimError::InUse { .. } => {
            let address = std::fs::read_to_string(places.address()).unwrap_or_default();
            let mut failure = Failure::new(Exit::InUse, crate::exit::sentence(&error.to_string()));
            failure.what_to_do = Some(match address.trim() {
                "" => "aico status".to_owned(),
                address => format!("open {address}"),
            });
            failure
        }
        ClaimError::Folder(error) => error.into(),
    })
}

/// The configuration of this command line.
pub(crate) fn load_config(
    context: &Context,
    mut flags: Vec<(String, String)>,
) -> Result<Loaded, Failure> {
    for pair in &context.set {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Failure::new(Exit::Usage, "--set takes KEY=VALUE.").do_this("--set logging.level=debug")
        })?;
        flags.push((key.to_owned(), value.to_owned()));
    }
    let mut sources = Sources::from_process(context.places.data());
    sources.file.clone_from(&context.config_file);
    sources.flags = flags;
    Config::load(sources).map_err(|error| config_failure(&error))
}

pub(crate) fn config_failure(error: &ConfigError) -> Failure {
    Failure::new(Exit::Configuration, "The configuration is wrong.")
        .because(error)
        .do_this("See what there is: aico config show, aico config explain KEY")
}

fn home_config_of(data: &Path, config: &Config) -> HomeConfig {
    home_config(data, config.session.hours)
}

/// With what the daemon knows besides.
fn home_config_with(data: &Path, loaded: &Loaded) -> HomeConfig {
    HomeConfig {
        configuration: loaded.file().map(Path::to_owned),
        ..home_config_of(data, &loaded.config)
    }
}

/// Which modules have tables where.
pub(crate) fn home_config(data: &Path, token_hours: u32) -> HomeConfig {
    HomeConfig {
        data: data.to_owned(),
        kdf: KdfCost::default(),
        keychains: Arc::new(crate::places::keychains(data)),
        backups: aico_access::backup::default_folder(data),
        configuration: None,
        token_hours,
        system_migrations: vec![aico_models::supervisor::MIGRATIONS],
        person_migrations: vec![
            aico_companion::MIGRATIONS,
            aico_store::vectors::MIGRATIONS,
            aico_access::EGRESS_MIGRATIONS,
        ],
        person_exports: vec![aico_companion::EXPORT],
    }
}

fn settings(loaded: &Loaded) -> Vec<Setting> {
    let entries = loaded.explain().into_iter();
    entries
        .map(|entry| Setting {
            key: entry.key,
            value: entry.value,
            source: entry.source.to_string(),
            default: entry.default,
            description: entry.description.to_owned(),
        })
        .collect()
}

/// Those who work with a person's data hear that it is gone.
async fn tell_erased(home: Home, bus: Bus) {
    let client = bus.join(Identity::new("daemon"));
    let mut erased = home.erased_persons();
    while let Ok(person) = erased.recv().await {
        bus.forget_person(person);
        let message = PersonRemoved {
            person: person.to_vec(),
        };
        if let Err(error) = client.publish(topics::SYSTEM_PERSON_REMOVED, &message, Meta::new()) {
            tracing::warn!(%error, "the removal of a person could not be told");
        }
    }
}

/// How often sessions of sealed persons are looked at whose time is up, and working memories
/// cleaned of what is over.
const LOOK: Duration = Duration::from_secs(15);

/// Sealed persons are locked when their last session has ended: nothing of theirs stays with the
/// bus.
async fn lock_who_left(home: Home, bus: Bus) {
    let mut locked = home.locked_persons();
    loop {
        match tokio::time::timeout(LOOK, locked.recv()).await {
            Ok(Ok(person)) => bus.lock_person(person),
            Ok(Err(tokio::sync::broadcast::error::RecvError::Closed)) => return,
            Ok(Err(_)) => {}
            Err(_) => {
                home.lock_who_left().await;
                home.clean_working().await;
            }
        }
    }
}

async fn auto_lock(home: Home, minutes: u32) {
    if minutes == 0 {
        return;
    }
    let limit = Duration::from_secs(u64::from(minutes) * 60);
    loop {
        let left = limit.saturating_sub(home.idle());
        // A second more, so that it is not looked at again a moment too early.
        tokio::time::sleep(left + Duration::from_secs(1)).await;
        if home.stage() == Stage::Stopping {
            return;
        }
        if home.stage() == Stage::Ready && home.idle() >= limit {
            tracing::info!(minutes, "nobody used AICO; locking");
            if let Err(error) = home.lock().await {
                tracing::error!(%error, "locking by itself failed");
            }
        }
    }
}
