#!/usr/bin/env bash
# One or more steps of the project's checks; .ci/run calls all of them, a person any of them.
#
# Usage: scripts/ci.sh STEP...
#   tree    scripts parse; every board folder is complete and listed; licences present; every lock file is current
#   fmt     rustfmt, nothing written
#   clippy  every target, the core alone, and the program with the fewest features; warnings are errors
#   core    the no_std core for a bare-metal target (thumbv7em-none-eabihf)
#   size    this machine's release build against its last row in size-report, where there is one of this toolchain, and so the
#           boards in $CI_SIZE_BOARDS (scripts/build): growth of more than 2 % without a row that says why is an error
#   test    cargo test, then its totals on one line
# Writes: $CARGO_TARGET_DIR (default target/). May add the bare-metal target to the toolchain.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Reproducible and lean: nothing here is compiled twice with small edits between.
export CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never
target_dir=${CARGO_TARGET_DIR:-target}
bare=thumbv7em-none-eabihf

fail() {
    echo "ci: $*" >&2
    exit 1
}

step_tree() {
    local file board heading
    for file in .ci/run scripts/* scripts/*/*.py; do
        [ -f "$file" ] || continue
        case "$file $(head -n 1 "$file")" in
            *bash) bash -n "$file" ;;
            *python3 | *.py\ *) python3 - "$file" <<'PY' ;;
import ast, sys
ast.parse(open(sys.argv[1], encoding="utf-8").read(), sys.argv[1])
PY
            *) fail "$file: no interpreter line for bash or python3" ;;
        esac
    done
    for file in LICENSE-MIT LICENSE-APACHE README.md CHANGELOG.md Cargo.lock; do
        [ -s "$file" ] || fail "$file is missing"
    done
    for board in boards/*/; do
        board=$(basename "$board")
        [ "$board" = common ] && continue
        for file in board.toml tidegate.yml README.md; do
            [ -s "boards/$board/$file" ] || fail "boards/$board/$file is missing"
        done
        grep -q "($board/README.md)" boards/README.md || fail "boards/README.md does not list $board"
        for heading in Hardware Build Install 'Storage layout' 'Measured sizes' 'Known problems'; do
            grep -qx "## $heading" "boards/$board/README.md" ||
                fail "boards/$board/README.md has no heading '$heading'"
        done
    done
    python3 scripts/check-recipes
    # Packages of their own, which build against this one: their locks follow its dependencies.
    for file in tests/fuzz tests/bench/peers/rust; do
        cargo tree --locked --quiet --manifest-path "$file/Cargo.toml" >/dev/null ||
            fail "$file/Cargo.lock is behind: cargo update --workspace --manifest-path $file/Cargo.toml"
    done
    echo "scripts and recipes parse, boards are complete, locks are current"
}

step_fmt() { cargo fmt --all -- --check; }

step_clippy() {
    cargo clippy --locked --all-targets -- -D warnings
    cargo clippy --locked --lib --no-default-features -- -D warnings
    # Without all that a board may leave out.
    cargo clippy --locked --bin tidegate --no-default-features --features host -- -D warnings
}

# The target's prebuilt `core` and `alloc`: there already, or fetched by rustup within two minutes.
# (Where the network lets rustup nowhere it hangs instead of failing.)
bare_target_ready() {
    [ -d "$(rustc --print sysroot)/lib/rustlib/$bare/lib" ] && return 0
    command -v rustup >/dev/null || return 1
    echo "fetching $bare with rustup (at most 120 s)"
    timeout 120 rustup target add "$bare" </dev/null 2>&1 | head -n 4 || return 1
    [ -d "$(rustc --print sysroot)/lib/rustlib/$bare/lib" ]
}

# What stands in for the bare-metal build where its target is not to be had: a static library for this
# machine that is itself no_std and has its own panic handler. A dependency that links std makes the
# panic handler a duplicate, so the build fails.
host_no_std() {
    local dir=$target_dir/no-std-harness
    rm -rf "$dir"
    mkdir -p "$dir/src"
    cat >"$dir/Cargo.toml" <<TOML
[package]
name = "no-std-harness"
version = "0.0.0"
edition = "2024"
[lib]
crate-type = ["staticlib"]
[dependencies]
tidegate = { path = "$PWD", default-features = false }
[profile.dev]
panic = "abort"
[workspace]
TOML
    cat >"$dir/src/lib.rs" <<'RS'
#![no_std]
use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;
pub use tidegate::*;
struct None;
unsafe impl GlobalAlloc for None {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
#[global_allocator]
static ALLOCATOR: None = None;
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
RS
    cp Cargo.lock "$dir/Cargo.lock"
    cargo build --manifest-path "$dir/Cargo.toml" --target-dir "$target_dir/no-std"
}

step_core() {
    local sysroot
    sysroot=$(rustc --print sysroot)
    if [ "${CI_NO_BARE_METAL:-}" != 1 ]; then
        if bare_target_ready; then
            cargo build --locked --lib --no-default-features --target "$bare"
            return
        fi
        if [ -d "$sysroot/lib/rustlib/src/rust/library/core" ]; then
            echo "no prebuilt core for $bare: building it from rust-src"
            RUSTC_BOOTSTRAP=1 cargo build --locked --lib --no-default-features --target "$bare" \
                -Zbuild-std=core,alloc
            return
        fi
    fi
    echo "**********************************************************************"
    echo "** SKIPPED: bare-metal build for $bare"
    echo "** Why: the target is not installed, rustup could not fetch it, and"
    echo "** there is no rust-src to build it from. Checked in its place: the"
    echo "** core links into a no_std static library for this machine."
    echo "**********************************************************************"
    host_no_std
}

step_size() {
    local board status row
    row=size-report/host-$(uname -m).csv
    if [ -f "$row" ] && tail -n 1 "$row" | grep -qF ",$(rustc --version | cut -d ' ' -f 2),"; then
        cargo build --locked --release --bin tidegate
        python3 scripts/size host --compare
    else
        echo "**********************************************************************"
        echo "** SKIPPED: size of this machine's release build: $row has"
        echo "** no row of this toolchain. cargo build --release, then"
        echo "** scripts/size host --save makes one."
        echo "**********************************************************************"
    fi
    for board in ${CI_SIZE_BOARDS:-}; do
        status=0
        scripts/build "$board" || status=$?
        # 3: all is well but the board's budget, which the table of the README tells.
        [ "$status" -eq 0 ] || [ "$status" -eq 3 ] || return "$status"
        python3 scripts/size "$board" --compare
    done
    [ -n "${CI_SIZE_BOARDS:-}" ] && return
    echo "**********************************************************************"
    echo "** SKIPPED: sizes of the static binaries of the boards: CI_SIZE_BOARDS"
    echo "** names none. They need zig, rust-src and some minutes each."
    echo "**********************************************************************"
}

# cargo test, its totals over all test binaries on one closing line, and a failure where nothing ran.
step_test() {
    local log=$target_dir/ci-test.log status=0 passed failed ignored
    mkdir -p "$target_dir"
    cargo test --locked --no-fail-fast 2>&1 | tee "$log" || status=$?
    read -r passed failed ignored < <(awk '
        /^test result:/ { passed += $4; failed += $6; ignored += $8 }
        END { print passed + 0, failed + 0, ignored + 0 }' "$log")
    # Timing first: the totals are the run's closing line.
    echo "=== test: $((SECONDS - step_begun)) s (at $((SECONDS - begun)) s)"
    echo
    echo "$passed passed, $failed failed, $ignored skipped"
    [ "$status" -eq 0 ] || return "$status"
    [ "$passed" -gt 0 ] || fail "no test ran"
}

[ $# -gt 0 ] || fail "name at least one step: tree fmt clippy core size test"
for step in "$@"; do
    case $step in
        tree | fmt | clippy | core | size | test) ;;
        *) fail "unknown step '$step', expected tree, fmt, clippy, core, size or test" ;;
    esac
done
begun=$SECONDS
for step in "$@"; do
    step_begun=$SECONDS
    echo
    echo "=== $step"
    "step_$step"
    [ "$step" = test ] || echo "=== $step: ok, $((SECONDS - step_begun)) s (at $((SECONDS - begun)) s)"
done
