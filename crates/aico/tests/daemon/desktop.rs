//! A desktop of its own: a session bus and a real GNOME Keyring on it, which nobody else sees.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::{World, text, until};

const KEYRING_PASSWORD: &str = "the keyring's own password";

pub(crate) struct Desktop {
    bus: Child,
    keyring: Option<Child>,
    folder: PathBuf,
    address: String,
}

impl Desktop {
    /// With an unlocked login keyring; the world's runs reach it from now on. `None`, with a line
    /// that says what to install, where the machine has no such programs.
    pub(crate) fn start(test: &str, world: &mut World) -> Option<Self> {
        for program in [
            "dbus-daemon",
            "dbus-send",
            "gnome-keyring-daemon",
            "secret-tool",
        ] {
            // Whatever it answers: that it can be started is what counts.
            if Command::new(program).arg("--version").output().is_err() {
                eprintln!(
                    "skipped {test}: {program} is missing; on Debian: apt-get install dbus \
                     gnome-keyring libsecret-tools"
                );
                return None;
            }
        }
        let folder = world.path("desktop");
        for name in ["home", "data", "run"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        std::fs::set_permissions(
            folder.join("run"),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .unwrap();
        // A bus that starts nothing by itself: whoever is stopped here stays stopped.
        let config = folder.join("bus.conf");
        std::fs::write(
            &config,
            format!(
                "<busconfig><type>session</type><listen>unix:dir={}</listen><auth>EXTERNAL</auth>\
                 <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
                 <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
                folder.join("run").display()
            ),
        )
        .unwrap();
        let mut bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile", "--print-address"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(bus.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        let address = address.trim().to_owned();
        world.set("DBUS_SESSION_BUS_ADDRESS", &address);
        let mut desktop = Self {
            bus,
            keyring: None,
            folder,
            address,
        };
        desktop.sign_in();
        Some(desktop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .env("HOME", self.folder.join("home"))
            .env("XDG_DATA_HOME", self.folder.join("data"))
            .env("XDG_RUNTIME_DIR", self.folder.join("run"))
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .stdin(Stdio::null());
        command
    }

    /// Starts the keyring and opens the login keyring, as signing in to a desktop does.
    pub(crate) fn sign_in(&mut self) {
        self.start_keyring(&["--unlock"]);
        until("the keyring is open", || {
            let alias = self.ask("ReadAlias", &["string:default"]);
            (alias.contains("/collection/login") && !self.is_locked()).then_some(())
        });
    }

    /// Starts it without a password: whatever it holds is locked.
    pub(crate) fn start_locked(&mut self) {
        self.start_keyring(&[]);
        until("the keyring is there", || {
            self.ask("ReadAlias", &["string:default"])
                .contains("/collection/login")
                .then_some(())
        });
        assert!(self.is_locked());
    }

    fn start_keyring(&mut self, more: &[&str]) {
        assert!(self.keyring.is_none());
        let mut child = self
            .command("gnome-keyring-daemon")
            .args(["--foreground", "--components=secrets"])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        if !more.is_empty() {
            input.write_all(KEYRING_PASSWORD.as_bytes()).unwrap();
        }
        drop(input);
        self.keyring = Some(child);
    }

    /// Ends the keyring: nobody answers any more.
    pub(crate) fn stop_keyring(&mut self) {
        let mut child = self.keyring.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        until("the keyring's name is free", || {
            let owner = self
                .command("dbus-send")
                .args([
                    "--session",
                    "--print-reply",
                    "--dest=org.freedesktop.DBus",
                    "/org/freedesktop/DBus",
                    "org.freedesktop.DBus.NameHasOwner",
                    "string:org.freedesktop.secrets",
                ])
                .output()
                .unwrap();
            text(&owner.stdout).contains("boolean false").then_some(())
        });
    }

    /// Puts another keyring in its place: same service, same password, nothing of the old one.
    pub(crate) fn replace_keyring(&mut self) {
        self.stop_keyring();
        std::fs::rename(
            self.folder.join("data/keyrings"),
            self.folder.join("data/keyrings-before"),
        )
        .unwrap();
        self.sign_in();
    }

    /// Puts back the first one.
    pub(crate) fn restore_keyring(&mut self) {
        self.stop_keyring();
        std::fs::remove_dir_all(self.folder.join("data/keyrings")).unwrap();
        std::fs::rename(
            self.folder.join("data/keyrings-before"),
            self.folder.join("data/keyrings"),
        )
        .unwrap();
        self.sign_in();
    }

    /// Locks the login keyring, as a desktop can.
    pub(crate) fn lock(&self) {
        self.ask(
            "Lock",
            &["array:objpath:/org/freedesktop/secrets/collection/login"],
        );
        until("it is locked", || self.is_locked().then_some(()));
    }

    fn is_locked(&self) -> bool {
        let said = self
            .command("dbus-send")
            .args([
                "--session",
                "--print-reply",
                "--dest=org.freedesktop.secrets",
                "/org/freedesktop/secrets/collection/login",
                "org.freedesktop.DBus.Properties.Get",
                "string:org.freedesktop.Secret.Collection",
                "string:Locked",
            ])
            .output()
            .unwrap();
        text(&said.stdout).contains("boolean true")
    }

    /// Items of AICO's that can be seen.
    pub(crate) fn items(&self) -> usize {
        self.ask("SearchItems", &["dict:string:string:application,aico"])
            .matches("/collection/")
            .count()
    }

    /// Puts another secret into an item.
    pub(crate) fn set(&self, item: &str, secret: &str) {
        let mut child = self
            .command("secret-tool")
            .args(["store", "--label=AICO", "application", "aico", "item", item])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(secret.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn ask(&self, method: &str, arguments: &[&str]) -> String {
        let said = self
            .command("dbus-send")
            .args([
                "--session",
                "--print-reply",
                "--dest=org.freedesktop.secrets",
                "/org/freedesktop/secrets",
                &format!("org.freedesktop.Secret.Service.{method}"),
            ])
            .args(arguments)
            .output()
            .unwrap();
        text(&said.stdout)
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        for child in self.keyring.iter_mut().chain([&mut self.bus]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
