"""The programs that are measured: an nginx origin, and in front of it nginx, HAProxy and Terrace.

Each proxy has one data-plane thread, writes no access log, reuses its connections to the origin and adds
X-Forwarded-For. The peers are set up as their manuals recommend for that; Terrace runs with its defaults.
Everything that is written lies under target/bench."""
import os
import resource
import shutil
import signal
import socket
import subprocess
import time

ORIGIN = 9000
SCRATCH = os.path.join("target", "bench")
# Enough for 10,000 idle connections, each with a second descriptor, in any of the proxies.
DESCRIPTORS = 65536
PROGRAMS = ("nginx", "haproxy", "wrk", "h2load", "openssl", "ps")

NGINX_COMMON = """daemon off; master_process off; pid {dir}/{name}.pid; error_log {dir}/{name}.log warn;
worker_rlimit_nofile {descriptors};
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
 client_body_temp_path {dir}/{name}-body; proxy_temp_path {dir}/{name}-proxy; fastcgi_temp_path {dir}/{name}-fastcgi;
 uwsgi_temp_path {dir}/{name}-uwsgi; scgi_temp_path {dir}/{name}-scgi;
"""

NGINX_ORIGIN = NGINX_COMMON + """ sendfile on; tcp_nopush on;
 server {{ listen 127.0.0.1:9000 backlog=4096; root {dir}/www; default_type application/octet-stream;
  location = / {{ default_type text/plain; return 200 "{small}"; }}
  location = /1k {{ default_type text/plain; return 200 "{medium}"; }} }} }}
"""

NGINX_PROXY = NGINX_COMMON + """ proxy_max_temp_file_size 0;
 ssl_certificate {dir}/web.pem; ssl_certificate_key {dir}/web.key; ssl_protocols TLSv1.2 TLSv1.3;
 ssl_session_cache shared:s:10m;
 upstream o {{ server 127.0.0.1:9000; keepalive 1024; keepalive_requests 100000000; }}
 server {{ listen 127.0.0.1:9103 backlog=4096; listen 127.0.0.1:9113 ssl http2 backlog=4096;
  listen 127.0.0.1:9123 http2 backlog=4096;
  location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection "";
   proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}
"""

HAPROXY = """global
  nbthread 1
  maxconn 12000
  no strict-limits
defaults
  mode http
  option forwardfor
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  http-reuse always
frontend f
  bind 127.0.0.1:9104
  bind 127.0.0.1:9114 ssl crt {dir}/both.pem alpn h2,http/1.1
  bind 127.0.0.1:9124 proto h2
  default_backend b
backend b
  server s 127.0.0.1:9000
"""


class Failed(Exception):
    """Something did not run; the text says what and why."""


class Proxy:
    """One proxy: how it is started, where it listens for which protocol, and what requests bring besides (`name: value`)."""

    def __init__(self, name, title, command, ports, tls_command=None, headers=()):
        self.name = name
        self.title = title
        self.ports = ports
        self.headers = headers
        self._command = command
        self._tls_command = tls_command or command

    def command(self, protocol):
        return self._tls_command if protocol in ("https", "h2") else self._command

    def url(self, protocol, path):
        scheme = "https" if protocol in ("https", "h2") else "http"
        return f"{scheme}://127.0.0.1:{self.ports[protocol]}{path}"


class Running:
    """A started program; ends with the `with` block."""

    def __init__(self, name, command, port, prefix=(), seconds_max=10):
        if _listens(port):
            raise Failed(f"port {port} is taken by another program; end it and try again")
        self.name = name
        self.port = port
        self._log = os.path.join(SCRATCH, f"{name}.out")
        with open(self._log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*prefix, *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._wait_until_ready(seconds_max)

    def _wait_until_ready(self, seconds_max):
        deadline = time.monotonic() + seconds_max
        while not _listens(self.port):
            if self.process.poll() is not None:
                raise Failed(f"{self.name} did not start (exit status {self.process.returncode}): {self.last_words()}")
            if time.monotonic() > deadline:
                self.stop()
                raise Failed(f"{self.name} does not listen on port {self.port} after {seconds_max} s: {self.last_words()}")
            time.sleep(0.02)

    def last_words(self):
        with open(self._log, encoding="utf-8", errors="replace") as log:
            return log.read()[-1500:].strip() or "it said nothing"

    def pids(self):
        return tree(self.process.pid)

    def cpu_us(self):
        """CPU time of all its threads and processes so far, user and system, in microseconds."""
        ticks = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks * 1e6 / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self):
        """Resident memory of all its processes."""
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
                total += int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return total

    def end_gently(self, pid, seconds_max=30):
        """SIGTERM to one process, and the wait until the program started here has ended by itself."""
        os.kill(pid, signal.SIGTERM)
        try:
            self.process.wait(seconds_max)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{self.name} did not end within {seconds_max} s after SIGTERM") from error

    def stop(self):
        for number, seconds_max in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                pass
            try:
                self.process.wait(seconds_max)
                break
            except subprocess.TimeoutExpired:
                continue
        _wait_until_free(self.port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def tree(pid):
    """A process and all below it."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [pid] + [below for child in listed.stdout.split() for below in tree(int(child))]


def prepare():
    """Checks the programs, makes the files, and raises the bound on descriptors as far as it goes."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        raise Failed(f"missing: {' '.join(missing)} (scripts/prepare.sh test installs them)")
    os.makedirs(os.path.join(SCRATCH, "www"), exist_ok=True)
    _raise_descriptors()
    _make_certificate()
    with open(os.path.join(SCRATCH, "www", "1m"), "wb") as file:
        file.write(b"x" * (1 << 20))


def origin():
    text = NGINX_ORIGIN.format(small="x" * 128, medium="x" * 1024, **_places("origin"))
    return Running("origin", _nginx("origin", text), ORIGIN)


def peers():
    haproxy = _write("haproxy.cfg", HAPROXY.format(dir=os.path.abspath(SCRATCH)))
    return [
        Proxy(
            "nginx",
            "nginx",
            _nginx("nginx", NGINX_PROXY.format(**_places("nginx"))),
            {"http": 9103, "https": 9113, "h2": 9113, "h2c": 9123},
        ),
        Proxy(
            "haproxy",
            "HAProxy",
            ["haproxy", "-db", "-f", haproxy],
            {"http": 9104, "https": 9114, "h2": 9114, "h2c": 9124},
        ),
    ]


def terrace(program):
    ports = {"http": 9110, "h2c": 9110, "https": 9111, "h2": 9111}
    return Proxy(
        "terrace", "Terrace", [program, "up", "bench/edge.toml"], ports, [program, "up", "bench/edge-tls.toml"]
    )


def _nginx(name, text):
    # -e: the log of the start itself, which else goes to a folder that only root may write.
    return ["nginx", "-e", f"{os.path.abspath(SCRATCH)}/{name}.log", "-c", _write(f"{name}.conf", text)]


def _places(name):
    return {"dir": os.path.abspath(SCRATCH), "name": name, "descriptors": _descriptors()}


def _write(name, text):
    path = os.path.abspath(os.path.join(SCRATCH, name))
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _descriptors():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _raise_descriptors():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((DESCRIPTORS, max(hard, DESCRIPTORS)), (min(hard, DESCRIPTORS), hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            return
        except (ValueError, OSError):
            continue


def _make_certificate():
    certificate, key = os.path.join(SCRATCH, "web.pem"), os.path.join(SCRATCH, "web.key")
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", key, "-out", certificate],
        capture_output=True, text=True, check=False,
    )
    if made.returncode:
        raise Failed(f"openssl made no certificate: {made.stderr.strip()[-500:]}")
    os.chmod(key, 0o600)
    with open(certificate, encoding="ascii") as first, open(key, encoding="ascii") as second:
        both = first.read() + second.read()
    path = _write("both.pem", both)
    os.chmod(path, 0o600)


def _listens(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_until_free(port):
    for _ in range(200):
        if not _listens(port):
            return
        time.sleep(0.02)
