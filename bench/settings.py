"""One program with several configurations, counted against each other: what a setting costs a request.

Instructions in user space (callgrind) and system calls (strace) are counted exactly, of N and of 2 N requests; the difference
over N has no start-up in it. The settings take turns within each round, and the figure is the median over the rounds."""
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

# Calls that a request makes, in the data plane and the log writer; what the control plane reads once a second (figures of
# host and instances) goes with the time that a run under strace takes, not with its requests.
CALLS = ("sendto", "recvfrom", "writev", "write", "futex", "epoll_wait", "clock_nanosleep")


def arguments(parser):
    parser.add_argument("--mine", metavar="PROGRAM", required=True, help="Terrace's binary")
    parser.add_argument("--quick", action="store_true", help="few counts: a look, not a proof")
    parser.add_argument("--rounds", type=int, help="rounds of the exact counts (3; quick: 1)")
    parser.add_argument("--requests", type=int, help="requests of a callgrind run; the second has twice as many (4000; quick: 2000)")
    parser.add_argument("--write", metavar="DOCUMENT", help="put the tables between the marks of this document")
    return parser.parse_args()


def described(asked, bench, names):
    """What was measured, on what; `names` are the settings."""
    said = subprocess.run([asked.mine, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        found = re.search(r"model name\s*: (.+)", file.read())
    return {
        "date": datetime.date.today().isoformat(),
        "command": f"python3 bench/{bench}.py " + " ".join(sys.argv[1:]),
        "machine": {
            "cpu": found.group(1).strip() if found else "an unnamed CPU",
            "cores": len(os.sched_getaffinity(0)),
            "kernel": os.uname().release,
        },
        "version": said or "Terrace",
        "rounds": asked.rounds or (1 if asked.quick else 3),
        "requests": asked.requests or (2_000 if asked.quick else 4_000),
        "instructions": {name: [] for name in names},
        "syscalls": {},
    }


def subject(program, name, port, text, headers=()):
    """Terrace with this file; `headers` go with each request."""
    path = os.path.join(proxies.SCRATCH, f"{name}.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return proxies.Proxy(name, name, [program, "up", os.path.abspath(path)], {"http": port}, headers=headers)


def count(asked, result, subjects, traced):
    """Instructions of each subject, and system calls of those whose names are in `traced`."""
    names = list(subjects)
    for number in range(result["rounds"]):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            print(f"instructions, round {number + 1} of {result['rounds']}: {name}", flush=True)
            counted = measures.instructions(subjects[name], result["requests"])
            result["instructions"][name].append(counted["per_request"])
    for name in traced:
        print(f"system calls: {name}", flush=True)
        result["syscalls"][name] = measures.syscalls(subjects[name], 5_000 if asked.quick else 20_000)


def middle(result, name):
    return statistics.median(result["instructions"][name])


def table(result, head, base, titles):
    """A row for each setting: its instructions, and how many more they are than those of `base`."""
    least = middle(result, base)
    rows = [["a request costs", "instructions", f"more than {head}", f"of {head}"]]
    for name, title in titles.items():
        more = middle(result, name) - least
        rows.append([title, f"{least + more:,.0f}", f"{more:+,.0f}" if name != base else "", f"{more / least:+.1%}" if name != base else ""])
    return rows


def syscalls(result, name):
    by_name = result["syscalls"][name]["by_name"]
    return sum(by_name.get(call, 0) for call in CALLS)


def headline(result):
    machine = result["machine"]
    return (f"Measured {result['date']} by `{result['command']}` on {machine['cpu']}, {machine['cores']} cores, "
            f"Linux {machine['kernel']}. {result['version']}. Median of {result['rounds']} rounds of "
            f"{result['requests']:,} and {2 * result['requests']:,} requests under callgrind.")


def keep(asked, result, name, section, marks):
    """The figures of every round go to a file, and with `--write` the section into the document."""
    path = os.path.join("bench", "results", f"{name}-{result['date']}.json") if asked.write else os.path.join(proxies.SCRATCH, f"{name}.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    print(f"\nfigures of every round: {path}")
    if asked.write:
        with open(asked.write, encoding="utf-8") as file:
            document = tables.put_section(file.read(), section, marks)
        with open(asked.write, "w", encoding="utf-8") as file:
            file.write(document)
        print(f"tables: {asked.write}")
