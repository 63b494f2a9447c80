#!/usr/bin/env python3
"""What it costs a request to be seen: Terrace with its telemetry off and on, in one run.

    python3 bench/telemetry_cost.py --mine target/release/terrace            everything, about 10 minutes
    python3 bench/telemetry_cost.py --mine target/release/terrace --quick    few counts: a look, not a proof

Counted exactly, as in proxy_cost.py: instructions in user space (callgrind) and system calls (strace), of N and of 2 N
requests; the difference over N has no start-up in it. The four settings take turns within each round, and the figure is
the median over the rounds.

Metrics cannot be switched off: a counter is the price of a relaxed add, a switch would be the price of a branch. They are
in "all off" too. What they cost is worked out from what one operation costs (crates/instruments/benches/operations.rs under
callgrind, and on the clock beside a bare AtomicU64) and from how many a request makes, and is added to the difference.
Exit status 0 whatever the figures, 1 if anything failed to run."""
import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys

import measures
import proxies
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


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mine", metavar="PROGRAM", required=True, help="Terrace's binary")
    parser.add_argument("--quick", action="store_true", help="few counts: a look, not a proof")
    parser.add_argument("--rounds", type=int, help="rounds of the exact counts (3; quick: 1)")
    parser.add_argument("--requests", type=int, help="requests of a callgrind run; the second has twice as many (4000; quick: 2000)")
    parser.add_argument("--write", metavar="DOCUMENT", help="put the tables between the marks of this document")
    return parser.parse_args()


def main():
    asked = arguments()
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    try:
        proxies.prepare()
        result = describe(asked)
        operations = build_operations()
        with proxies.origin():
            count(asked, result)
        result["operations"] = {name: operation(operations, name) for name in NAMES}
        result["nanoseconds"] = nanoseconds(operations)
    except (proxies.Failed, ValueError) as error:
        sys.exit(f"error: {error}")
    show(result)
    keep(asked, result)


def describe(asked):
    said = subprocess.run([asked.mine, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        found = re.search(r"model name\s*: (.+)", file.read())
    return {
        "date": datetime.date.today().isoformat(),
        "command": "python3 bench/telemetry_cost.py " + " ".join(sys.argv[1:]),
        "machine": {
            "cpu": found.group(1).strip() if found else "an unnamed CPU",
            "cores": len(os.sched_getaffinity(0)),
            "kernel": os.uname().release,
        },
        "version": said or "Terrace",
        "rounds": asked.rounds or (1 if asked.quick else 3),
        "requests": asked.requests or (2_000 if asked.quick else 4_000),
        "instructions": {name: [] for name, *_ in SETTINGS},
        "syscalls": {},
    }


def count(asked, result):
    subjects = {name: subject(asked.mine, name, access, trace) for name, _, access, trace in SETTINGS}
    names = list(subjects)
    for number in range(result["rounds"]):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            print(f"instructions, round {number + 1} of {result['rounds']}: {name}", flush=True)
            counted = measures.instructions(subjects[name], result["requests"])
            result["instructions"][name].append(counted["per_request"])
    for name in (OFF, ON):
        print(f"system calls: {name}", flush=True)
        result["syscalls"][name] = measures.syscalls(subjects[name], 5_000 if asked.quick else 20_000)


def subject(program, name, access, trace):
    """Terrace with these settings."""
    folder = os.path.abspath(proxies.SCRATCH)
    log = os.path.join(folder, f"telemetry-{name}.log")
    if os.path.exists(log):
        os.remove(log)
    places = {"state": os.path.join(folder, f"telemetry-{name}"), "port": PORT, "log": log}
    path = os.path.join(folder, f"telemetry-{name}.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write((COMMON + ACCESS[access] + TRACE[trace]).format(**places))
    return proxies.Proxy(f"telemetry-{name}", name, [program, "up", path], {"http": PORT})


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
    """Instructions of one operation: a million more of them, over a million."""
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


def middle(result, name):
    return statistics.median(result["instructions"][name])


def metrics_cost(result):
    return sum(number * result["operations"][name] for name, number in OPERATIONS.items())


def request_table(result):
    off = middle(result, OFF)
    table = [["a request costs", "instructions", "more than all off", "of all off"]]
    for name, title, *_ in SETTINGS:
        more = middle(result, name) - off
        table.append([title, f"{off + more:,.0f}", f"{more:+,.0f}" if name != OFF else "", f"{more / off:+.1%}" if name != OFF else ""])
    metrics = metrics_cost(result)
    more = middle(result, ON) - off + metrics
    bare = off - metrics
    table.append(["metrics, always on (in all rows)", f"{metrics:,.0f}", "", f"{metrics / bare:+.1%}"])
    table.append(["**all on against a Terrace without metrics**", f"{bare + more:,.0f}", f"{more:+,.0f}", f"**{more / bare:+.1%}**"])
    return table


def operation_table(result):
    table = [["an operation costs, uncontended", "instructions", "ns", "of a bare add"]]
    bare = result["nanoseconds"]["bare"]
    for name, title in NAMES.items():
        took = result["nanoseconds"][name]
        table.append([title, f"{result['operations'][name]:.1f}", f"{took:.2f}", f"{took / bare:.2f}"])
    return table


def syscall_line(result):
    # Calls that a request makes, in the data plane and the log writer; what the control plane reads once a second (figures
    # of host and instances) goes with the time that a run under strace takes, not with its requests.
    calls = ("sendto", "recvfrom", "writev", "write", "futex", "epoll_wait", "clock_nanosleep")
    counted = (result["syscalls"][name]["by_name"] for name in (OFF, ON))
    off, on = (sum(by_name.get(call, 0) for call in calls) for by_name in counted)
    return f"System calls a request: {off:.3f} with all off, {on:.3f} with all on, {on - off:+.3f}."


def show(result):
    print(f"\n{result['version']}; {result['machine']['cpu']}, Linux {result['machine']['kernel']}")
    print(f"\n{tables.terminal(request_table(result))}\n\n{syscall_line(result)}\n\n{tables.terminal(operation_table(result))}")


def section(result):
    machine = result["machine"]
    operations = ", ".join(f"{number} × {NAMES[name]}" for name, number in OPERATIONS.items())
    parts = [
        BEGIN,
        "<!-- Written by bench/telemetry_cost.py; what is changed by hand here is lost. -->",
        f"Measured {result['date']} by `{result['command']}` on {machine['cpu']}, {machine['cores']} cores, "
        f"Linux {machine['kernel']}. {result['version']}. Median of {result['rounds']} rounds of "
        f"{result['requests']:,} and {2 * result['requests']:,} requests under callgrind.",
        tables.markdown(request_table(result)),
        f"Metrics cannot be switched off; what they cost is worked out from a request's operations ({operations}) and the "
        "price of each, below.",
        syscall_line(result),
        tables.markdown(operation_table(result)),
        END,
    ]
    return "\n\n".join(parts)


def keep(asked, result):
    path = os.path.join("bench", "results", f"telemetry-{result['date']}.json") if asked.write else os.path.join(proxies.SCRATCH, "telemetry.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    print(f"\nfigures of every round: {path}")
    if asked.write:
        with open(asked.write, encoding="utf-8") as file:
            document = tables.put_section(file.read(), section(result), (BEGIN, END))
        with open(asked.write, "w", encoding="utf-8") as file:
            file.write(document)
        print(f"tables: {asked.write}")


if __name__ == "__main__":
    main()
