# shellcheck shell=bash
# Engines for graphics devices, for ./run. Sourced after tools/lib.sh.
#
# One is built when it is asked for, and from then on kept like the program that it belongs to. It is
# compiled in a folder of its own: what its headers need is told to the compiler in the environment,
# and a change of that would have OpenSSL and others built anew in the program's folder each time.

# The kind for this machine, where none was named.
gpu_kind() {
  case "$(uname -s):$(uname -m)" in Darwin:arm64) echo metal; return ;; esac
  if [ -e /dev/nvidia0 ] && have nvcc; then echo cuda; else echo vulkan; fi
}

# Where the engine of kind $1 lies for the program to find it, and where it is built.
gpu_engine() { echo "$(dirname "$(program)")/aico-engine-$1"; }
gpu_target() { echo "$CARGO_TARGET_DIR-gpu-$1"; }

# Notes what is missing to build the engine of kind $1.
check_gpu_needs() {
  case "$1" in
    vulkan)
      have glslc || need glslc
      has_header vulkan/vulkan.hpp || need vulkan
      has_spirv_headers || need spirv
      ;;
    cuda) have nvcc || need cuda ;;
    metal)
      [ "$(uname -s)" = Darwin ] || die "Metal is part of macOS, and this is none; see ./run --help" 2
      ;;
    *) die "there is no kind of graphics device called $1: vulkan, cuda or metal" 2 ;;
  esac
}

has_header() {
  printf '#include <%s>\n' "$1" |
    c++ ${VULKAN_SDK:+-I"$VULKAN_SDK/include"} -x c++ -std=c++17 -E - >/dev/null 2>&1
}

has_spirv_headers() {
  local folder
  for folder in /usr/share /usr/lib /usr/lib64 /usr/lib/*-linux-* /usr/local/share /usr/local/lib \
    /opt/homebrew/share ${VULKAN_SDK:+"$VULKAN_SDK/share" "$VULKAN_SDK/lib"}; do
    [ -e "$folder/cmake/SPIRV-Headers/SPIRV-HeadersConfig.cmake" ] && return 0
  done
  return 1
}

# Builds the engine of kind $1, or finds that nothing has changed.
build_gpu_engine() {
  local kind="$1"
  if [ "$kind" = metal ] && [ "$(uname -m)" = arm64 ]; then
    say "Metal is part of the program on this machine; nothing has to be built for it"
    return 0
  fi
  [ -x "$(gpu_engine "$kind")" ] ||
    say "building the engine for $kind (once; longer than the program takes, for its shaders)"
  # tools/vulkan: what older systems' headers lack.
  (cd "$ROOT" && CPLUS_INCLUDE_PATH="$ROOT/tools/vulkan${CPLUS_INCLUDE_PATH:+:$CPLUS_INCLUDE_PATH}" \
    CARGO_TARGET_DIR="$(gpu_target "$kind")" \
    cargo build --locked --workspace --features "aico-engine/$kind" --bin "aico-engine-$kind") ||
    die "the engine for $kind could not be built; \`./run --no-gpu\` goes on with the processor"
  local built
  built="$(gpu_target "$kind")/debug/aico-engine-$kind"
  if ! cmp -s "$built" "$(gpu_engine "$kind")"; then
    # Beside, then in its place: one that runs is not written to.
    cp "$built" "$(gpu_engine "$kind").new" && mv "$(gpu_engine "$kind").new" "$(gpu_engine "$kind")"
  fi
  stamp gpu "$kind"
  local devices
  devices="$("$(gpu_engine "$kind")" devices 2>/dev/null | grep -c '"name"' || true)"
  [ "${devices:-0}" -gt 0 ] ||
    say "the engine for $kind finds no device; models run on the processor until a driver is installed"
}

# What ./run does where nothing was asked for: an engine that was built once is kept up to date, for
# one of another version is not used. A machine that has a device and no engine is told how to get it.
keep_gpu_engine() {
  local kind
  kind="$(cat "$(stamp_file gpu)" 2>/dev/null || true)"
  if [ -n "$kind" ]; then
    build_gpu_engine "$kind"
  elif [ "$(uname -s)" = Linux ] && { [ -e /dev/nvidia0 ] || ls /dev/dri/renderD* >/dev/null 2>&1; }; then
    say "this machine has a graphics device; ./run --gpu builds the engine that uses it"
  fi
}

remove_gpu_engine() {
  local kind
  for kind in vulkan cuda metal; do rm -rf "$(gpu_engine "$kind")" "$(gpu_target "$kind")"; done
  rm -f "$(stamp_file gpu)"
}
