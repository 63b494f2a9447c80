#!/usr/bin/env python3
"""What a proxied request costs, side by side: Terrace, nginx and HAProxy in one run.

    python3 bench/proxy_cost.py --mine target/release/terrace            everything, about 20 minutes
    python3 bench/proxy_cost.py --mine target/release/terrace --quick    few rounds, a few minutes
    python3 bench/proxy_cost.py --only http-64 --only syscalls           some of it; without --mine only the peers

Each proxy has one data-plane thread, writes no access log, and forwards to the same nginx origin. Noise on a shared
machine hits neighbours in time alike, so CPU time is taken in interleaved rounds (A B C, B C A, …) and what counts is the
ratio within each round, its median over the rounds and the 95 % interval of that median. Where that is too wide to
decide, the exact counts do: instructions in user space (callgrind) and system calls (strace).
All CPU time of a proxy's process counts, its control plane's too.
Exit status 0 whatever the figures, 1 if anything failed to run."""
import argparse
import datetime
import json
import os
import re
import subprocess
import sys

import measures
import proxies
import tables

EXACT = ("syscalls", "instructions", "idle")
NAMES = [scenario.name for scenario in measures.SCENARIOS] + list(EXACT)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mine", metavar="PROGRAM", help="Terrace's binary; left out, only the peers are measured")
    parser.add_argument("--quick", action="store_true", help="few rounds and counts: a look, not a proof")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help=f"measure this alone (repeatable): {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, help="rounds of each CPU measurement (30; quick: 7)")
    parser.add_argument("--seconds", type=int, help="seconds a proxy is loaded in a round (2 for the first two loads, else 1; quick: 1)")
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections (10000)")
    parser.add_argument("--write", metavar="DOCUMENT", help="put the tables between the marks of this document, the figures into bench/results")
    return parser.parse_args()


def main():
    asked = arguments()
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    failures = []
    try:
        proxies.prepare()
        subjects = proxies.peers() + ([proxies.terrace(asked.mine)] if asked.mine else [])
        result = describe(asked, subjects)
        with proxies.origin():
            measure(asked, subjects, result, failures)
    except proxies.Failed as error:
        sys.exit(f"error: {error}")
    titles = {subject.name: subject.title for subject in subjects}
    show(result, titles)
    keep(asked, result, titles)
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    sys.exit(1 if failures else 0)


def describe(asked, subjects):
    """What anybody needs to judge the figures, or to get them again."""
    return {
        "date": datetime.date.today().isoformat(),
        "command": "python3 bench/proxy_cost.py " + " ".join(sys.argv[1:]),
        "machine": {"cpu": cpu_model(), "cores": len(os.sched_getaffinity(0)), "kernel": os.uname().release},
        "versions": versions(asked, subjects),
        "rounds": asked.rounds or (7 if asked.quick else 30),
        "seconds": asked.seconds or (1 if asked.quick else "1 to 2"),
        "cpu": [],
        "syscalls": {},
        "instructions": {},
        "idle": {},
    }


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        found = re.search(r"model name\s*: (.+)", file.read())
    return found.group(1).strip() if found else "an unnamed CPU"


def versions(asked, subjects):
    asking = {"nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"], "wrk": ["wrk", "-v"], "h2load": ["h2load", "--version"]}
    if asked.mine:
        asking["terrace"] = [asked.mine, "--version"]
    found = {}
    for name, command in asking.items():
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise proxies.Failed(f"cannot run {command[0]}: {error}") from error
        number = re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr)
        title = next((subject.title for subject in subjects if subject.name == name), name)
        found[name] = f"{title} {number.group(0) if number else '?'}"
    return found


def measure(asked, subjects, result, failures):
    wanted = asked.only or NAMES
    for scenario in measures.SCENARIOS:
        if scenario.name in wanted:
            attempt(failures, scenario.title, lambda: measure_cpu(asked, subjects, scenario, result))
    for name in EXACT:
        if name in wanted:
            for subject in subjects:
                attempt(failures, f"{name}, {subject.title}", lambda: measure_exact(asked, name, subject, result))


def attempt(failures, title, step):
    """One measurement that fails is told at the end, and does not take the others along."""
    try:
        step()
    except proxies.Failed as error:
        failures.append(f"{title}: {error}")
        say(f"{title}: failed", end=True)


def measure_cpu(asked, subjects, scenario, result):
    # The first two loads decide; the others show that nothing is out of line.
    decides = scenario in measures.SCENARIOS[:2]
    seconds = asked.seconds or (2 if decides and not asked.quick else 1)
    progress = lambda done, of: say(f"{scenario.title}: round {done} of {of}", end=done == of)
    rows = measures.cpu(scenario, subjects, result["rounds"], seconds, progress)
    result["cpu"].append({"name": scenario.name, "title": scenario.title, "seconds": seconds, "rows": rows})


def measure_exact(asked, name, subject, result):
    say(f"{name}: {subject.title}", end=True)
    if name == "idle":
        result[name][subject.name] = measures.idle_memory(subject, asked.idle)
    elif name == "syscalls":
        result[name][subject.name] = measures.syscalls(subject, 5_000 if asked.quick else 20_000)
    else:
        result[name][subject.name] = measures.instructions(subject, 1_000 if asked.quick else 4_000)


def say(line, end=False):
    """Progress: one line that counts on a terminal, only the last one elsewhere."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{line}", end="\n" if end else "", flush=True)
    elif end:
        print(line, flush=True)


def show(result, titles):
    print(f"\n{', '.join(result['versions'].values())}; {result['machine']['cpu']}, Linux {result['machine']['kernel']}")
    if result["cpu"]:
        print(f"\n{tables.terminal(tables.cpu_table(result, titles))}")
    if result["syscalls"] or result["instructions"]:
        print(f"\n{tables.terminal(tables.count_table(result, titles))}")
        print("\n".join(tables.frequent_calls(result, titles)))
    if result["idle"]:
        print(f"\n{tables.terminal(tables.memory_table(result, titles))}")


def keep(asked, result, titles):
    path = os.path.join("bench", "results", f"{result['date']}.json") if asked.write else os.path.join(proxies.SCRATCH, "last.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    print(f"\nfigures of every round: {path}")
    if asked.write:
        with open(asked.write, encoding="utf-8") as file:
            document = tables.put_section(file.read(), tables.section(result, titles))
        with open(asked.write, "w", encoding="utf-8") as file:
            file.write(document)
        print(f"tables: {asked.write}")


if __name__ == "__main__":
    main()
