#!/usr/bin/env python3
"""What policies cost a request: Terrace with none, with what it does unasked, and with a gateway's, in one run.

    python3 bench/gateway_cost.py --mine target/release/terrace            everything, about 5 minutes
    python3 bench/gateway_cost.py --mine target/release/terrace --quick    few counts: a look, not a proof

Every request brings the same token, looked at or not. It is checked once and remembered (the cache is what the figure is of),
and the limit is never reached, so that each setting forwards the same requests. No access log, no traces.
Exit status 0 whatever the figures, 1 if anything failed to run."""
import argparse
import base64
import hashlib
import hmac
import json
import os
import sys
import time

import proxies
import settings
import tables

BEGIN, END = "<!-- gateway:begin -->", "<!-- gateway:end -->"
PORT = 9113
SECRET = "a secret of 32 bytes for a bench"

COMMON = """[terrace]
threads = 1
watch   = false
state   = "{state}"
[listen.bench]
address = "127.0.0.1:{port}"
[service.origin]
hosts = ["127.0.0.1:9000"]
{service}
[issuer.bench]
url      = "https://id.example.com"
audience = ["shop"]
secret   = {{ file = "{secret}" }}
[policy.public]
timeout = {{ total = "5s", try = "1s" }}
retry   = {{ attempts = 2, on = ["connect", "503"], budget = "10%" }}
limit   = {{ rate = "1000000/s", burst = 2000000, key = "client-ip", algorithm = "token-bucket" }}
[route.all]
at = "/*"
to = "origin"
{route}
[log]
access = {{ to = "off" }}
[trace]
sample = false
[admin]
probes  = false
address = false
"""
OFF = "retry = false\neject = false\nbreaker = false\nconcurrency = false\n"
PUBLIC = 'policy = "public"\n'
AUTH = 'auth = { issuer = "bench", roles = ["customer"] }\n'
# A name, what the table calls it, keys of the service, keys of the route.
SETTINGS = [
    ("bare", "nothing: no retry, ejection, breaker, adaptive concurrency", OFF, ""),
    ("none", "no policy written: what Terrace does unasked", "", ""),
    ("public", "`[policy.public]`: timeouts, retry, limit", "", PUBLIC),
    ("auth", "a JWT and a role, remembered", "", AUTH),
    ("all", "both", "", PUBLIC + AUTH),
]
TITLES = {name: title for name, title, *_ in SETTINGS}


def main():
    asked = settings.arguments(argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    try:
        proxies.prepare()
        result = settings.described(asked, "gateway_cost", TITLES)
        with proxies.origin():
            subjects = {name: subject(asked.mine, name, service, route) for name, _, service, route in SETTINGS}
            settings.count(asked, result, subjects, ("none", "all"))
    except (proxies.Failed, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"\n{tables.terminal(table(result))}\n\n{syscall_line(result)}")
    settings.keep(asked, result, "gateway", section(result), (BEGIN, END))


def subject(program, name, service, route):
    """Terrace with these keys."""
    folder = os.path.abspath(proxies.SCRATCH)
    places = {"state": os.path.join(folder, f"gateway-{name}"), "secret": os.path.join(folder, "gateway.secret"), "port": PORT}
    with open(places["secret"], "w", encoding="utf-8") as file:
        file.write(SECRET)
    os.chmod(places["secret"], 0o600)
    headers = (f"authorization: Bearer {token()}",)
    return settings.subject(program, f"gateway-{name}", PORT, COMMON.format(service=service, route=route, **places), headers)


def token():
    """A token as issuers make them (RFC 7519), good for a day."""
    now = int(time.time())
    claims = {"iss": "https://id.example.com", "sub": "248289761001", "aud": "shop", "iat": now, "exp": now + 86_400,
              "roles": ["customer"], "email": "ada@example.com"}
    parts = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{parts}.{encoded(hmac.digest(SECRET.encode(), parts.encode(), hashlib.sha256))}"


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def table(result):
    return settings.table(result, "with none", "none", TITLES)


def syscall_line(result):
    none, every = settings.syscalls(result, "none"), settings.syscalls(result, "all")
    return f"System calls a request: {none:.3f} with none, {every:.3f} with both, {every - none:+.3f}."


def section(result):
    parts = [
        BEGIN,
        "<!-- Written by bench/gateway_cost.py; what is changed by hand here is lost. -->",
        settings.headline(result),
        tables.markdown(table(result)),
        syscall_line(result),
        END,
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
