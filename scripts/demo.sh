#!/bin/sh
# `make demo`: starts the example shop under Terrace and shows it through a purchase, a scale-up, a reload, a kill and an outage.
# See scripts/demo.py, which needs Python's standard library alone.
set -eu
cd "$(dirname "$0")/.."
python=python3
if [ -x /usr/bin/python3 ]; then python=/usr/bin/python3; fi
exec "$python" scripts/demo.py "$@"
