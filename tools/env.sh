# shellcheck shell=bash
# Sourced by ./run, ./test and by hand: where build products live.
#
# Everything that is built or fetched lies in one cache folder outside the checkout, so that a
# clean checkout builds in minutes. AICO_CACHE_DIR moves it.
AICO_CACHE_DIR="${AICO_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/aico}"
case "$AICO_CACHE_DIR" in /* | ?:*) ;; *) AICO_CACHE_DIR="$PWD/$AICO_CACHE_DIR" ;; esac
# A cache that another CPU filled would die of an illegal instruction: key it by features.
aico_cpu_key="$( { rustc -V; rustc -Ctarget-cpu=native --print cfg | grep target_; } | cksum | cut -d' ' -f1)"
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$AICO_CACHE_DIR/target-$aico_cpu_key}"
export AICO_CACHE_DIR CARGO_TARGET_DIR
