#!/bin/sh
# Runs each fuzz target (crates/*/fuzz) for the given number of seconds. The inputs found are kept beside it.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}

if ! cargo fuzz --version >/dev/null 2>&1; then
    cat >&2 <<'SAY'
error: cargo-fuzz is not installed. It needs a nightly toolchain beside the stable one:
    rustup toolchain install nightly
    cargo install --locked cargo-fuzz
`make test` runs the same targets for a short while without it, as property tests.
SAY
    exit 1
fi

found=no
for manifest in crates/*/fuzz/Cargo.toml; do
    [ -e "$manifest" ] || continue
    found=yes
    folder=$(dirname "$manifest")
    for target in $(cargo +nightly fuzz list --fuzz-dir "$folder"); do
        echo "--- $folder: $target, $seconds s"
        cargo +nightly fuzz run --fuzz-dir "$folder" "$target" -- -max_total_time="$seconds" -rss_limit_mb=2048
    done
done
[ "$found" = yes ] || echo "no fuzz targets yet"
