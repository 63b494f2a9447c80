#!/bin/sh
# Installs what building, trying and testing Terrace needs: Debian packages by apt and, for the tests, Python packages
# in a virtual environment and packages of npm, both under target/. What is there already is left alone, so that a second run does
# nothing and takes no time.
#
#   scripts/prepare.sh demo    what `make demo` needs
#   scripts/prepare.sh test    what `make test` and `make bench` need (contains the former)
set -eu
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" # Debian keeps nginx and haproxy where only root looks
VENV=target/venv
PYTHON_NEEDED='import websockets, grpc, prometheus_client, aiosmtpd
import opentelemetry.exporter.otlp.proto.http, opentelemetry.exporter.otlp.proto.grpc
import jwt, authlib, cryptography
import grpc_health.v1.health_pb2_grpc, grpc_reflection.v1alpha.reflection'
# PyPI's jsonschema brings the official JSON-Schema-Test-Suite along in its source.
SUITE=target/json-schema-test-suite
SUITE_FROM=jsonschema==4.26.0

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# One line each: what must be there, and the Debian package that brings it.
needed_for_demo() {
    cat <<'LIST'
program cc gcc
file /usr/include/stdio.h libc6-dev
program curl curl
program wrk wrk
program python3 python3
LIST
}

needed_for_test() {
    needed_for_demo
    cat <<'LIST'
module ensurepip python3-venv
program nginx nginx-light
program haproxy haproxy
program h2load nghttp2-client
program openssl openssl
program strace strace
program valgrind valgrind
program ps procps
program faketime faketime
program pebble pebble
program promtool prometheus
program systemd-analyze systemd
program redis-server redis-server
program chromium chromium
program brotli brotli
program zstd zstd
program node nodejs
program npm npm
LIST
}

is_there() {
    case $1 in
    program) command -v "$2" >/dev/null ;;
    file) test -e "$2" ;;
    module) "$(python)" -c "import $2" 2>/dev/null ;;
    esac
}

# Debian's own, as the package python3-venv belongs to it; else whichever there is.
python() {
    if [ -x /usr/bin/python3 ]; then echo /usr/bin/python3; else echo python3; fi
}

missing_packages() {
    "needed_for_$1" | while read -r kind name package; do
        is_there "$kind" "$name" || printf '%s ' "$package"
    done
}

# How this user becomes root: by being it, or by sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
    packages=$1
    command -v apt-get >/dev/null || fail "these programs are missing and there is no apt-get to install them: $packages
  Install them by hand (the names are Debian's) and try again."
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        fail "these Debian packages are missing, and installing them takes root or sudo: $packages
  As root: apt-get install --no-install-recommends $packages"
    fi
    say "installing Debian packages: $packages"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
    # shellcheck disable=SC2086 # a list of words on purpose
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
    silence_services "$packages"
}

# Debian starts what it installs. We want the programs; a web server on port 80 that nobody asked for is none of them.
silence_services() {
    [ -d /run/systemd/system ] || return 0
    for service in nginx haproxy prometheus redis-server; do
        case " $1" in
        *" $service"*) as_root systemctl disable --quiet --now "$service" || true ;;
        esac
    done
}

check_rust() {
    command -v cargo >/dev/null || fail "cargo is missing. Install a Rust toolchain (https://rustup.rs) and try again."
    [ "$1" = test ] || return 0
    cargo fmt --version >/dev/null 2>&1 || fail "rustfmt is missing. Run: rustup component add rustfmt"
    cargo clippy --version >/dev/null 2>&1 || fail "clippy is missing. Run: rustup component add clippy"
}

# Real clients and servers of other people's making: WebSocket, gRPC, Prometheus, OpenTelemetry and mail as the world
# speaks them.
prepare_python() {
    if [ -x $VENV/bin/python ] && $VENV/bin/python -c "$PYTHON_NEEDED" 2>/dev/null; then
        return 0
    fi
    say "installing Python packages into $VENV: websockets grpcio prometheus-client opentelemetry aiosmtpd PyJWT Authlib and gRPC's services"
    "$(python)" -m venv --clear $VENV
    $VENV/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
        'websockets>=12,<17' 'grpcio>=1.60,<2' 'prometheus-client>=0.20,<1' 'aiosmtpd>=1.4,<2' \
        'opentelemetry-sdk>=1.25,<2' 'opentelemetry-exporter-otlp-proto-http>=1.25,<2' \
        'opentelemetry-exporter-otlp-proto-grpc>=1.25,<2' \
        'PyJWT>=2.8,<3' 'Authlib>=1.4,<2' 'cryptography>=42' \
        'grpcio-health-checking>=1.60,<2' 'grpcio-reflection>=1.60,<2'
}

# Packages of npm that tests use: the folder under target/, and the folder of tests whose package.json pins them.
prepare_npm() {
    if cmp -s "$2/package.json" "$1/package.json" && [ -d "$1/node_modules" ]; then
        return 0
    fi
    say "installing packages of npm into $1: $(sed -n 's/^    "\(.*\)": ".*/\1/p' "$2/package.json" | tr '\n' ' ')"
    rm -rf "$1" && mkdir -p "$1" && cp "$2/package.json" "$1/package.json.new"
    (cd "$1" && mv package.json.new package.json &&
        npm install --silent --no-package-lock --no-audit --no-fund --ignore-scripts --omit=optional)
}

# What every reader of JSON Schema is held against.
prepare_schema_suite() {
    if [ -d $SUITE/tests/draft2020-12 ] && [ -d $SUITE/remotes ]; then
        return 0
    fi
    say "unpacking the JSON-Schema-Test-Suite of $SUITE_FROM into $SUITE"
    rm -rf $SUITE $SUITE.new && mkdir -p $SUITE.new
    $VENV/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary jsonschema \
        --dest $SUITE.new $SUITE_FROM
    tar -xzf $SUITE.new/jsonschema-*.tar.gz -C $SUITE.new --strip-components=2 --wildcards \
        '*/json/tests/*' '*/json/remotes/*' '*/json/LICENSE'
    rm $SUITE.new/jsonschema-*.tar.gz
    mv $SUITE.new $SUITE
}

what=${1:-}
case $what in
demo | test) ;;
*) fail "usage: scripts/prepare.sh demo|test" ;;
esac
check_rust "$what"
missing=$(missing_packages "$what")
[ -z "$missing" ] || install_packages "$missing"
missing=$(missing_packages "$what")
[ -z "$missing" ] || fail "still missing after the installation: $missing"
[ "$what" = demo ] || prepare_python
[ "$what" = demo ] || prepare_schema_suite
[ "$what" = demo ] || prepare_npm target/browser crates/terrace/tests/browser
[ "$what" = demo ] || prepare_npm target/tokens crates/auth/tests/tokens
[ "$what" = demo ] || prepare_npm target/grpc-web crates/terrace/tests/grpc_web
[ "$what" = demo ] || prepare_npm target/provider crates/auth/tests/provider
say "everything needed for '$what' is installed"
