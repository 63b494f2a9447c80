#!/usr/bin/env python3
"""What is left when a part of a service falls ill and the crowd is three times too large: Terrace, nginx and HAProxy.

    python3 bench/overload.py --mine target/release/terrace             everything, about 20 minutes
    python3 bench/overload.py --mine target/release/terrace --quick     shorter phases, about 6 minutes

Ten endpoints with four workers each and 20 ms a request can serve 2,000 requests a second. 120 clients, three times as many
as there are workers, ask again as soon as they are answered. Three of the ten then fall ill, in turn: they fail at once,
say nothing, or take a hundred times as long; after a while they are well again. Nothing of the proxies is told.

- goodput: answers with 200 a second while three are ill, as a share of what the seven others alone give in the same run,
  behind whichever proxy gets most out of them
- attempts: requests that reach endpoints, for each that a client was answered (what was refused at once is no request)
- recovery: from the end of the illness until the goodput of a whole second is 90 % of what it was before

nginx and HAProxy run as they come and with what experienced people add by hand; Terrace with nothing written.
Exit status 0 whatever the figures, 1 if anything failed to run."""
import argparse
import datetime
import json
import os
import subprocess
import sys
import time
import urllib.request

import curves
import proxies
from proxies import Failed, Running

FIRST, COUNT, WORKERS, SERVICE_MS = 9201, 10, 4, 20
CONTROL, CLIENTS, SLICE_MS = 9200, 120, 250
ILLNESSES = (("failing", "fail at once"), ("silent", "say nothing"), ("slow", "take 100 times as long"))
ILL = (0, 1, 2)
BEGIN, END = "<!-- overload:begin -->", "<!-- overload:end -->"

NGINX = proxies.NGINX_COMMON + """
 upstream o {{ {balance} {servers} keepalive 256; }}
 server {{ listen 127.0.0.1:{port} backlog=4096;
  location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection ""; {extra} }} }} }}
"""
NGINX_TUNED = """proxy_connect_timeout 1s; proxy_read_timeout 5s; proxy_next_upstream error timeout http_500 http_502 http_503;
   proxy_next_upstream_tries 2;"""

HAPROXY = """global
  nbthread 1
  maxconn 12000
  no strict-limits
defaults
  mode http
  timeout connect {connect}
  timeout client 60s
  timeout server {server}
  http-reuse always
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
{backend}
{servers}
"""
HAPROXY_TUNED = """  balance leastconn
  retries 2
  option redispatch
  retry-on conn-failure empty-response response-timeout 500 502 503
  option httpchk GET /
  timeout queue 2s
  timeout check 1s
  default-server check inter 1s fall 2 rise 2 observe layer7 error-limit 10 on-error mark-down maxconn 16
"""

TERRACE = """[terrace]
threads = 1
watch   = false
[listen.public]
address = "127.0.0.1:{port}"
[service.app]
hosts = [{hosts}]
[log]
access = {{ to = "off" }}
[admin]
address = false
"""


class Subject:
    """One proxy with one configuration."""

    def __init__(self, name, title, port, command):
        self.name, self.title, self.port, self.command = name, title, port, command


def subjects(mine, count=COUNT, suffix=""):
    """The proxies in front of the last `count` endpoints: the first ones are those that fall ill."""
    ports = [FIRST + COUNT - count + number for number in range(count)]
    found = [
        Subject("nginx", "nginx", 9131, nginx("nginx-over" + suffix, 9131, ports, "", "", "")),
        Subject("nginx-tuned", "nginx, tuned", 9132,
                nginx("nginx-tuned" + suffix, 9132, ports, "least_conn;", " max_fails=3 fail_timeout=10s", NGINX_TUNED)),
        Subject("haproxy", "HAProxy", 9133, haproxy("haproxy-over" + suffix, 9133, ports, "5s", "30s", "  balance roundrobin")),
        Subject("haproxy-tuned", "HAProxy, tuned", 9134,
                haproxy("haproxy-tuned" + suffix, 9134, ports, "1s", "5s", HAPROXY_TUNED)),
    ]
    if mine:
        hosts = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
        path = write(f"terrace-over{suffix}.toml", TERRACE.format(port=9135, hosts=hosts))
        found.append(Subject("terrace", "Terrace", 9135, [mine, "up", path]))
    return found


def nginx(name, port, ports, balance, server_extra, extra):
    servers = " ".join(f"server 127.0.0.1:{one}{server_extra};" for one in ports)
    places = {"dir": os.path.abspath(proxies.SCRATCH), "name": name, "descriptors": proxies.DESCRIPTORS}
    text = NGINX.format(balance=balance, servers=servers, port=port, extra=extra, **places)
    return ["nginx", "-e", f"{places['dir']}/{name}.log", "-c", write(f"{name}.conf", text)]


def haproxy(name, port, ports, connect, server, backend):
    servers = "\n".join(f"  server s{one} 127.0.0.1:{one}" for one in ports)
    text = HAPROXY.format(connect=connect, server=server, port=port, backend=backend, servers=servers)
    return ["haproxy", "-db", "-f", write(f"{name}.cfg", text)]


def write(name, text):
    path = os.path.abspath(os.path.join(proxies.SCRATCH, name))
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def tool(name):
    return os.path.join("target", "release", "examples", name)


def ask(path):
    with urllib.request.urlopen(f"http://127.0.0.1:{CONTROL}{path}", timeout=10) as answer:
        return answer.read().decode()


def arrived():
    return sum(endpoint["arrived"] for endpoint in json.loads(ask("/served")))


def crowd(subject, seconds):
    command = [tool("crowd"), "--to", f"127.0.0.1:{subject.port}", "--clients", str(CLIENTS), "--seconds", str(seconds),
               "--slice-ms", str(SLICE_MS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def rest():
    """Waits until the endpoints have done what is left from before: a run shall not begin with another's work."""
    deadline = time.monotonic() + 60
    while any(endpoint["present"] for endpoint in json.loads(ask("/served"))):
        if time.monotonic() > deadline:
            raise Failed("the endpoints do not come to rest within 60 s")
        time.sleep(0.1)


def run(subject, mood, phases):
    """The slices of one run: well, then three ill from the second phase on, then well again."""
    well, ill, after = phases
    ask("/mood?to=well")
    rest()
    before = arrived()
    with Running(subject.name, subject.command, subject.port):
        load = crowd(subject, sum(phases))
        if mood:
            time.sleep(well)
            ask(f"/mood?to={mood}&times=100&endpoints={','.join(map(str, ILL))}")
            time.sleep(ill)
            ask("/mood?to=well")
        said, _ = load.communicate(timeout=sum(phases) + 60)
        attempts = arrived() - before
    slices = [json.loads(line) for line in said.splitlines()]
    if len(slices) < sum(phases) * 1000 // SLICE_MS - 1:
        raise Failed(f"{subject.title}: the crowd broke off after {len(slices)} slices")
    return {"slices": slices, "attempts": attempts}


def rate(slices):
    return sum(one["good"] for one in slices) * 1000 / (SLICE_MS * max(len(slices), 1))


def between(result, start_s, end_s):
    return [one for one in result["slices"] if start_s * 1000 <= one["at_ms"] < end_s * 1000]


def judged(result, phases, healthy):
    """What a run comes to. `healthy`: goodput of the seven alone."""
    well, ill, after = phases
    sick = between(result, well, well + ill)
    refused = sum(count for one in result["slices"] for status, count in one["status"].items() if status in ("429", "503"))
    told = sum(one["good"] + one["late"] + one["broken"] + sum(one["status"].values()) for one in result["slices"])
    errors = sum(one["late"] + one["broken"] + sum(one["status"].values()) for one in sick)
    answers = sum(one["good"] for one in sick) + errors
    calm = rate(between(result, 1, well))
    p99 = sorted(one["p99_ms"] for one in sick if one["p99_ms"] is not None)
    return {
        "goodput": rate(sick) / healthy,
        "errors": errors / max(answers, 1),
        "attempts": result["attempts"] / max(told - refused, 1),
        "p99_ms": p99[len(p99) // 2] if p99 else None,
        "recovery_s": recovery(between(result, well + ill, sum(phases)), calm),
    }


def recovery(slices, calm):
    window = 1000 // SLICE_MS
    for start in range(len(slices) - window + 1):
        if rate(slices[start:start + window]) >= 0.9 * calm:
            return start * SLICE_MS / 1000
    return None


def table(result):
    header = ["three of ten …", *(f"{title}" for title in result["titles"].values())]
    rows = [header]
    for mood, words in ILLNESSES:
        for key, title, form in (
            ("goodput", "goodput", "{:.2f}"), ("errors", "answers that are errors", "{:.1%}"),
            ("attempts", "attempts", "{:.2f}"), ("p99_ms", "p99, ms", "{:,.0f}"), ("recovery_s", "recovery, s", "{:.1f}"),
        ):
            row = [f"{words}: {title}" if key == "goodput" else title]
            for name in result["titles"]:
                values = [one[key] for one in result["judged"][mood][name]]
                row.append(cell(values, form))
            rows.append(row)
    return rows


def cell(values, form):
    known = sorted(value for value in values if value is not None)
    if len(known) < len(values):
        return "not within the run" if not known else form.format(known[-1]) + " at best"
    middle = known[len(known) // 2]
    return form.format(middle) + (f" ({form.format(known[0])}–{form.format(known[-1])})" if len(known) > 1 else "")


def markdown(rows):
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows[1:]])


def measure(asked, phases, rounds):
    result = {
        "date": datetime.date.today().isoformat(), "command": "python3 bench/overload.py " + " ".join(sys.argv[1:]),
        "phases_s": phases, "rounds": rounds, "titles": {}, "healthy": {}, "judged": {}, "curves": {},
    }
    chosen = [one for one in subjects(asked.mine) if not asked.only or one.name in asked.only]
    result["titles"] = {one.name: one.title for one in chosen}
    seven = [one for one in subjects(asked.mine, COUNT - len(ILL), "-seven") if one.name in ("haproxy-tuned", "terrace")]
    for one in seven:
        say(f"seven endpoints alone, {one.title}")
        result["healthy"][one.name] = rate(run(one, None, (8, 0, 0))["slices"][4:])
    healthy = max(result["healthy"].values())
    say(f"seven endpoints alone: {healthy:,.0f} good answers a second", end=True)
    for mood, words in ILLNESSES:
        result["judged"][mood] = {one.name: [] for one in chosen}
        result["curves"][mood] = {}
        for number in range(rounds):
            # Neighbours in time meet the same noise: round by round the order goes on by one.
            for one in chosen[number % len(chosen):] + chosen[:number % len(chosen)]:
                say(f"three of ten {words}: {one.title}, round {number + 1} of {rounds}")
                got = run(one, mood, phases)
                figures = judged(got, phases, healthy)
                result["judged"][mood][one.name].append(figures)
                if number == 0:
                    result["curves"][mood][one.name] = [slice_["good"] * 1000 / SLICE_MS for slice_ in got["slices"]]
                say(f"three of ten {words}: {one.title}: goodput {figures['goodput']:.2f}, attempts {figures['attempts']:.2f}, recovery {figures['recovery_s']} s", end=True)
    return result


def say(text, end=False):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="\n" if end else "", file=sys.stderr, flush=True)
    elif end:
        print(text, file=sys.stderr, flush=True)


def keep(asked, result, phases):
    os.makedirs(os.path.join("bench", "results"), exist_ok=True)
    with open(os.path.join("bench", "results", "overload.json"), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    picture = os.path.join("docs", "images", "overload.svg")
    healthy = max(result["healthy"].values())
    panels = [(words, result["curves"][mood]) for mood, words in ILLNESSES]
    with open(picture, "w", encoding="utf-8") as file:
        file.write(curves.picture(panels, result["titles"], SLICE_MS, phases, healthy))
    with open(asked.write, encoding="utf-8") as file:
        text = file.read()
    if BEGIN not in text or END not in text:
        raise Failed(f"{asked.write} has no marks {BEGIN} and {END}")
    head, rest_ = text.split(BEGIN, 1)
    tail = rest_.split(END, 1)[1]
    about = (f"{result['date']}, `{result['command']}`: {phases[0]} s well, {phases[1]} s with three of ten ill, {phases[2]} s well; "
             f"{result['rounds']} rounds, the median and in brackets the least and the most. The seven alone give {healthy:,.0f} good answers a second.")
    with open(asked.write, "w", encoding="utf-8") as file:
        file.write(f"{head}{BEGIN}\n{about}\n\n{markdown(table(result))}\n\n![Goodput over time](images/overload.svg)\n{END}{tail}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mine", metavar="PROGRAM", help="Terrace's binary; left out, only the peers are measured")
    parser.add_argument("--quick", action="store_true", help="shorter phases, one round: a look, not a proof")
    parser.add_argument("--only", action="append", metavar="NAME", help="nginx, nginx-tuned, haproxy, haproxy-tuned, terrace (repeatable)")
    parser.add_argument("--rounds", type=int, help="rounds (3; quick: 1)")
    parser.add_argument("--write", metavar="DOCUMENT", help="put table and picture between the marks of this document, the figures into bench/results")
    return parser.parse_args()


def main():
    asked = arguments()
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    phases = (4, 8, 8) if asked.quick else (5, 15, 10)
    origin = [tool("origin"), "--ports", f"{FIRST}-{FIRST + COUNT - 1}", "--workers", str(WORKERS),
              "--service-ms", str(SERVICE_MS), "--control", str(CONTROL)]
    try:
        proxies.prepare()
        with Running("origin-over", origin, CONTROL):
            result = measure(asked, phases, asked.rounds or (1 if asked.quick else 3))
        if asked.write:
            keep(asked, result, phases)
    except Failed as error:
        sys.exit(f"error: {error}")
    print(markdown(table(result)))


if __name__ == "__main__":
    main()
