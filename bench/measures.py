"""The four measurements. CPU time is noisy, so it is taken in interleaved rounds and compared within each round;
system calls and instructions are counted exactly, on twice as many requests in a second run, so that what start
and end cost cancels out; memory is what 10,000 idle connections add."""
import collections
import glob
import os
import re
import select
import socket
import time

import load
from proxies import SCRATCH, Failed, Running, tree

# A name, what it is called in the tables, protocol towards the client, path at the origin, connections.
Scenario = collections.namedtuple("Scenario", "name title protocol path connections")

SCENARIOS = [
    Scenario("http-64", "HTTP/1.1, 64 connections, 128 B", "http", "/", 64),
    Scenario("http-256", "HTTP/1.1, 256 connections, 128 B", "http", "/", 256),
    Scenario("http-1k", "HTTP/1.1, 64 connections, 1 KiB", "http", "/1k", 64),
    Scenario("http-1m", "HTTP/1.1, 64 connections, 1 MiB", "http", "/1m", 64),
    Scenario("tls-64", "HTTP/1.1 over TLS, 64 connections, 128 B", "https", "/", 64),
    Scenario("h2-64", f"HTTP/2 over TLS, 64 × {load.STREAMS} streams, 128 B", "h2", "/", 64),
    Scenario("h2c-64", f"HTTP/2 in clear, 64 × {load.STREAMS} streams, 128 B", "h2c", "/", 64),
]

# Connections that carry the counted requests.
COUNTED_CONNECTIONS = 64
# Clients' addresses in the test of idle connections, for the bound on connections of one client shall stay on.
ADDRESSES = 20
# Linux: choose the local port when connecting, so that ports are not used up by binding.
IP_BIND_ADDRESS_NO_PORT = 24


def cpu(scenario, proxies, rounds, seconds, progress):
    """Per proxy a list with one entry a round: CPU microseconds a request, requests a second, resident MiB."""
    running = {}
    try:
        for proxy in proxies:
            running[proxy.name] = Running(
                proxy.name, proxy.command(scenario.protocol), proxy.ports[scenario.protocol]
            )
            load.timed(proxy.url(scenario.protocol, scenario.path), scenario.protocol, scenario.connections, 1)
        rows = {proxy.name: [] for proxy in proxies}
        for number in range(rounds):
            # Whoever is first in a round finds the machine in another state than who is last, so they take turns.
            turn = number % len(proxies)
            for proxy in proxies[turn:] + proxies[:turn]:
                rows[proxy.name].append(_one_round(scenario, proxy, running[proxy.name], seconds))
            progress(number + 1, rounds)
        return rows
    finally:
        for one in running.values():
            one.stop()


def _one_round(scenario, proxy, running, seconds):
    before = running.cpu_us()
    requests = load.timed(
        proxy.url(scenario.protocol, scenario.path), scenario.protocol, scenario.connections, seconds
    )
    used = running.cpu_us() - before
    return {
        "cpu_us_per_request": round(used / requests, 4),
        "requests_per_s": round(requests / seconds, 1),
        "rss_mib": round(running.rss_bytes() / (1 << 20), 2),
    }


def syscalls(proxy, requests):
    """System calls a request: in all, and by name."""
    once, twice = (_strace(proxy, count) for count in (requests, 2 * requests))
    by_name = {name: (twice[name] - once.get(name, 0)) / requests for name in twice if name != "total"}
    frequent = {name: round(count, 3) for name, count in sorted(by_name.items(), key=lambda item: -item[1]) if count >= 0.01}
    return {"per_request": (twice["total"] - once["total"]) / requests, "by_name": frequent}


def _strace(proxy, requests):
    summary = os.path.join(SCRATCH, f"{proxy.name}.strace")
    prefix = ["strace", "-f", "-c", "-o", summary]
    _serve_counted(proxy, requests, prefix)
    with open(summary, encoding="utf-8") as file:
        return parse_strace(file.read())


def parse_strace(summary):
    """Calls by name of a summary of `strace -c`, with the sum as `total`."""
    calls = {}
    for line in summary.splitlines():
        # % time, seconds, usecs/call, calls, errors (may be missing), name
        found = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)\s*$", line)
        if found:
            calls[found.group(2)] = int(found.group(1))
    if "total" not in calls:
        raise Failed("strace wrote no summary")
    return calls


def instructions(proxy, requests):
    """User-space instructions a request."""
    once, twice = (_callgrind(proxy, count) for count in (requests, 2 * requests))
    return {"per_request": (twice - once) / requests}


def _callgrind(proxy, requests):
    pattern = os.path.join(SCRATCH, f"{proxy.name}.callgrind")
    for old in glob.glob(pattern + ".*"):
        os.remove(old)
    _serve_counted(proxy, requests, ["valgrind", "--tool=callgrind", f"--callgrind-out-file={pattern}.%p"])
    return sum(_callgrind_total(path) for path in glob.glob(pattern + ".*"))


def _callgrind_total(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        totals = [int(line.split()[1]) for line in file if line.startswith(("totals:", "summary:"))]
    if not totals:
        raise Failed(f"{path}: callgrind wrote no totals")
    return max(totals)


def _serve_counted(proxy, requests, prefix):
    """Runs the proxy under a tool for so many requests and ends it gently, so that the tool writes what it saw."""
    with Running(proxy.name, proxy.command("http"), proxy.ports["http"], prefix, seconds_max=60) as running:
        load.counted(proxy.url("http", "/"), requests, COUNTED_CONNECTIONS, proxy.headers)
        # strace is the parent of what it watches; valgrind becomes it.
        running.end_gently(tree(running.process.pid)[1] if prefix[0] == "strace" else running.process.pid)


def idle_memory(proxy, connections):
    """Bytes of resident memory that each of so many idle keep-alive connections adds."""
    sockets = []
    with Running(proxy.name, proxy.command("http"), proxy.ports["http"]) as running:
        try:
            load.counted(proxy.url("http", "/"), 2000, COUNTED_CONNECTIONS)
            before = _settled_rss(running)
            while len(sockets) < connections:
                sockets += _open_batch(proxy, len(sockets), min(200, connections - len(sockets)))
            after = _settled_rss(running)
            _check_alive(proxy, sockets)
        finally:
            for one in sockets:
                one.close()
    return {"connections": connections, "before_bytes": before, "after_bytes": after,
            "bytes_per_connection": (after - before) / connections}


def _settled_rss(running):
    time.sleep(1)
    return running.rss_bytes()


def _open_batch(proxy, first, count):
    """Connections that have each had one request answered and are kept alive."""
    opened = [_open(proxy, first + number) for number in range(count)]
    for one in opened:
        one.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for one in opened:
        _read_answer(proxy, one)
    return opened


def _open(proxy, number):
    one = socket.socket()
    one.settimeout(10)
    one.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    one.bind((f"127.0.0.{2 + number % ADDRESSES}", 0))
    try:
        one.connect(("127.0.0.1", proxy.ports["http"]))
    except OSError as error:
        raise Failed(f"{proxy.name} refused idle connection {number + 1}: {error}") from error
    return one


def _read_answer(proxy, one):
    answer = b""
    while len(answer.partition(b"\r\n\r\n")[2]) < 128:
        try:
            part = one.recv(4096)
        except OSError as error:
            raise Failed(f"{proxy.name} did not answer on a connection to be kept idle: {error}") from error
        if not part:
            raise Failed(f"{proxy.name} closed a connection to be kept idle, after: {answer[:200]!r}")
        answer += part
    if not answer.startswith(b"HTTP/1.1 200"):
        raise Failed(f"{proxy.name} answered {answer[:100]!r}")


def _check_alive(proxy, sockets):
    poll = select.poll()
    for one in sockets:
        poll.register(one, select.POLLIN)
    closed = len(poll.poll(0))
    if closed:
        raise Failed(f"{proxy.name} closed {closed} of {len(sockets)} idle connections")
