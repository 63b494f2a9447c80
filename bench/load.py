"""The load: wrk for HTTP/1.1, h2load for HTTP/2 and for an exact number of requests.

One client thread. A run with a single failed request is no measurement: it raises Failed."""
import re
import subprocess

from proxies import Failed

# Streams at once on each HTTP/2 connection.
STREAMS = 8


def timed(url, protocol, connections, seconds):
    """Loads for some seconds; the number of requests answered."""
    if protocol in ("h2", "h2c"):
        return _h2load([f"-D{seconds}", f"-c{connections}", f"-m{STREAMS}"], url)
    return _wrk(url, connections, seconds)


def counted(url, requests, connections, headers=()):
    """Exactly so many HTTP/1.1 requests, each with these headers (`name: value`)."""
    answered = _h2load(["--h1", f"-n{requests}", f"-c{connections}", *(f"-H{header}" for header in headers)], url)
    if answered != requests:
        raise Failed(f"{answered} of {requests} requests answered by {url}")
    return answered


def _wrk(url, connections, seconds):
    output = _run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url], seconds + 60)
    trouble = re.search(r"Socket errors.*|Non-2xx.*", output)
    done = re.search(r"(\d+) requests in", output)
    if trouble or not done or not int(done.group(1)):
        raise Failed(f"wrk {url}: {trouble.group(0) if trouble else 'no requests'}")
    return int(done.group(1))


def _h2load(arguments, url):
    output = _run(["h2load", "-t1", *arguments, url], 600)
    found = re.search(r"requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    if not found:
        raise Failed(f"h2load {url}: {output[-500:]}")
    done, succeeded, *trouble = (int(number) for number in found.groups())
    if not succeeded or succeeded != done or any(trouble):
        raise Failed(f"h2load {url}: {found.group(0)}")
    return succeeded


def _run(command, seconds_max):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds_max, check=False).stdout
    except subprocess.TimeoutExpired as error:
        raise Failed(f"no end within {seconds_max} s: {' '.join(command)}") from error
