#!/usr/bin/env python3
"""What it costs a request to be seen: Terrace with its telemetry off and on, in one run.

    python3 bench/telemetry_cost.py --mine target/release/terrace            everything, about 10 minutes
    python3 bench/telemetry_cost.py --mine target/release/terrace --quick    few counts: a look, not a proof

Metrics cannot be switched off: a counter is the price of a relaxed add, a switch would be the price of a branch. They are
in "all off" too. What they cost is worked out from what one operation costs (crates/instruments/benches/operations.rs under
callgrind, and on the clock beside a bare AtomicU64) and from how many a request makes, and is added to the difference.
Exit status 0 whatever the figures, 1 if anything failed to run."""
import argparse
import json
import os
import subprocess
import sys

import proxies
import settings
import tables

BEGIN, END = "<!-- telemetry:begin -->", "<!-- telemetry:end -->"
PORT = 9112

COMMON = """[terrace]
threads = 1
watch   = false
state   = "{state}"
[listen.bench]
address = "127.0.0.1:{port}"
[service.origin]
hosts = ["127.0.0.1:9000"]
[route.all]
at = "/*"
to = "origin"
[admin]
probes  = false
address = false
"""
OFF, ON = "off", "on"
ACCESS = {OFF: '[log]\naccess = {{ to = "off" }}\n', ON: '[log]\naccess = {{ to = "{log}" }}\n'}
TRACE = {OFF: "[trace]\nsample = false\n", ON: '[trace]\nsample = "1%"\n'}
# A name, what the table calls it, whether the access log is on, whether requests are traced.
SETTINGS = [
    ("off", "all off", OFF, OFF),
    ("access", "access log to a file", ON, OFF),
    ("traces", "1 % of traces", OFF, ON),
    ("on", "both: all on", ON, ON),
]

# What a forwarded request that goes well does to metrics, by kind. In edge: two counters of its class of status (route,
# service), two durations, the gauge of requests in flight up and down. In upstream: one counter of the try, its first
# byte's time, the gauge of the endpoint's requests up and down.
OPERATIONS = {"counter": 3, "gauge": 4, "histogram": 3}
NAMES = {"bare": "a bare AtomicU64, fetch_add", "counter": "a counter's increment", "gauge": "a gauge's step", "histogram": "a histogram's record"}


def main():
    asked = settings.arguments(argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    try:
        proxies.prepare()
        result = settings.described(asked, "telemetry_cost", [name for name, *_ in SETTINGS])
        operations = build_operations()
        with proxies.origin():
            subjects = {name: subject(asked.mine, name, access, trace) for name, _, access, trace in SETTINGS}
            settings.count(asked, result, subjects, (OFF, ON))
        result["operations"] = {name: operation(operations, name) for name in NAMES}
        result["nanoseconds"] = nanoseconds(operations)
    except (proxies.Failed, ValueError) as error:
        sys.exit(f"error: {error}")
    show(result)
    settings.keep(asked, result, "telemetry", section(result), (BEGIN, END))


def subject(program, name, access, trace):
    """Terrace with these settings."""
    folder = os.path.abspath(proxies.SCRATCH)
    log = os.path.join(folder, f"telemetry-{name}.log")
    if os.path.exists(log):
        os.remove(log)
    places = {"state": os.path.join(folder, f"telemetry-{name}"), "port": PORT, "log": log}
    text = (COMMON + ACCESS[access] + TRACE[trace]).format(**places)
    return settings.subject(program, f"telemetry-{name}", PORT, text)


def build_operations():
    """The program that adds and records, and nothing else."""
    command = ["cargo", "bench", "-p", "terrace-instruments", "--bench", "operations", "--no-run", "--message-format=json"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message.get("target", {}).get("name") == "operations":
            return message["executable"]
    raise proxies.Failed(f"the bench of operations was not built: {built.stderr[-800:]}")


def operation(program, name):
    """Instructions of one operation: a million more of them, over a million, without the loop that repeats it."""
    return repeated(program, name) - repeated(program, "loop")


def repeated(program, name):
    once, twice = (instructions_of([program, name, str(count)]) for count in (1_000_000, 2_000_000))
    return (twice - once) / 1_000_000


def instructions_of(command):
    path = os.path.join(proxies.SCRATCH, "operations.callgrind")
    ran = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={path}", *command], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise proxies.Failed(f"{' '.join(command)}: {ran.stderr[-500:]}")
    with open(path, encoding="utf-8", errors="replace") as file:
        return max(int(line.split()[1]) for line in file if line.startswith(("totals:", "summary:")))


def nanoseconds(program):
    ran = subprocess.run([program, "--times"], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise proxies.Failed(f"{program}: {ran.stderr[-500:]}")
    return json.loads(ran.stdout)


def metrics_cost(result):
    return sum(number * result["operations"][name] for name, number in OPERATIONS.items())


def request_table(result):
    table = settings.table(result, "all off", OFF, {name: title for name, title, *_ in SETTINGS})
    off, on = settings.middle(result, OFF), settings.middle(result, ON)
    metrics = metrics_cost(result)
    bare = off - metrics
    table.append(["metrics, always on (in all rows)", f"{metrics:,.0f}", "", f"{metrics / bare:+.1%}"])
    table.append(["**all on against a Terrace without metrics**", f"{on:,.0f}", f"{on - bare:+,.0f}", f"**{(on - bare) / bare:+.1%}**"])
    return table


def operation_table(result):
    table = [["an operation costs, uncontended", "instructions", "ns", "of a bare add"]]
    bare = result["nanoseconds"]["bare"]
    for name, title in NAMES.items():
        took = result["nanoseconds"][name]
        table.append([title, f"{result['operations'][name]:.1f}", f"{took:.2f}", f"{took / bare:.2f}"])
    return table


def syscall_line(result):
    off, on = settings.syscalls(result, OFF), settings.syscalls(result, ON)
    return f"System calls a request: {off:.3f} with all off, {on:.3f} with all on, {on - off:+.3f}."


def show(result):
    print(f"\n{result['version']}; {result['machine']['cpu']}, Linux {result['machine']['kernel']}")
    print(f"\n{tables.terminal(request_table(result))}\n\n{syscall_line(result)}\n\n{tables.terminal(operation_table(result))}")


def section(result):
    operations = ", ".join(f"{number} × {NAMES[name]}" for name, number in OPERATIONS.items())
    parts = [
        BEGIN,
        "<!-- Written by bench/telemetry_cost.py; what is changed by hand here is lost. -->",
        settings.headline(result),
        tables.markdown(request_table(result)),
        f"Metrics cannot be switched off; what they cost is worked out from a request's operations ({operations}) and the "
        "price of each, below.",
        syscall_line(result),
        tables.markdown(operation_table(result)),
        END,
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
