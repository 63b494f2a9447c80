#!/bin/sh
# Runs tests by cargo-nextest, or by `cargo test` where nextest is missing. Takes the arguments that both know:
# -p CRATE, --workspace, --locked, and a part of a test's name. NEXTEST_PROFILE chooses a profile of nextest.
set -eu
cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}

if "$CARGO" nextest --version >/dev/null 2>&1; then
    exec "$CARGO" nextest run "$@"
fi
echo "note: cargo-nextest is not installed; \`cargo test\` runs the tests instead, more slowly" >&2
# Without nextest nothing keeps the heavy tests apart from the others, so all run one after the other.
exec "$CARGO" test --tests "$@" -- --test-threads=1
