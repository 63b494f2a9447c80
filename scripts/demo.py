"""The demo: the example shop under Terrace, a short tour through it, and where to look.

The tour buys something as a browser does and asks what it may not; then, under load, it scales a service, breaks and changes
the file, kills an instance, lets the bank fall silent while people buy, and makes a service fail until its objective calls. It
says what the load generator saw: every request is counted, and one that fails is never sent again. On a terminal the shop
then stays up until Ctrl-C; without one the script ends: 0 when each step went well, 1 when one did not.

Whatever it writes is under target/demo. DEMO_PORT is the shop's port (8080); `--profile debug` takes the binaries of
another build.
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import time
import urllib.parse
import webbrowser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
FOLDER = TARGET / "demo"

# Requests under way at once, and the pause of each client between two: a busy shop, not the end of the machine.
CLIENTS = 16
PAUSE_S = 0.01
UPLOADERS = 2
UPLOAD_BYTES = 256 * 1024
SOCKETS = 4
# People who buy beside that, in the step about the bank; and how long one waits before the button is pressed again.
BUYERS = 6
PRESS_AGAIN_S = 0.25
# Requests that have to come back after each change, before a step is over.
SETTLED_REQUESTS = 400
# Whoever waits longer than this for anything waits in vain.
PATIENCE_S = 90
REQUEST_TIMEOUT_S = 30


class Failed(Exception):
    """A step did not do what it should; the text says what happened instead."""


# ---- what a person sees ----


class Screen:
    """Plain lines; on a terminal also colours, and one line of progress that is replaced as things go on."""

    def __init__(self):
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.has_colours = self.is_terminal and not os.environ.get("NO_COLOR")
        self.progress_shown = False

    def paint(self, code, text):
        return f"\033[{code}m{text}\033[0m" if self.has_colours else text

    def bold(self, text):
        return self.paint("1", text)

    def faint(self, text):
        return self.paint("2", text)

    def line(self, text=""):
        self.clear_progress()
        print(text, flush=True)

    def title(self, number, text):
        self.line()
        self.line(f"{self.paint('1;36', f' {number} ')} {self.bold(text)}")

    def good(self, text):
        self.line(f"    {self.paint('32', '✓')} {text}")

    def bad(self, text):
        self.line(f"    {self.paint('31', '✗')} {text}")

    def note(self, text):
        self.line(f"      {self.faint(text)}")

    def command(self, text):
        self.line(f"    {self.paint('36', '$')} {text}")

    def progress(self, text):
        if not self.is_terminal:
            return
        width = shutil.get_terminal_size().columns - 1
        mark = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"[int(time.monotonic() * 10) % 10]
        print("\r\033[K" + self.faint(f"    {mark} {text}"[:width]), end="", flush=True)
        self.progress_shown = True

    def clear_progress(self):
        if self.progress_shown:
            print("\r\033[K", end="", flush=True)
            self.progress_shown = False


def count(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


async def until(condition, what, screen=None, text=None):
    """Waits until `condition()` says yes; looks often and gives up after PATIENCE_S."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if time.monotonic() > give_up:
            raise Failed(f"waited {PATIENCE_S} s for this, in vain: {what}")
        if screen:
            screen.progress(text() if text else what)
        await asyncio.sleep(0.05)


# ---- HTTP, as little as the tour needs ----


class Cut(Exception):
    """The connection broke; `begun` tells whether an answer had begun, `instance` whose it was."""

    def __init__(self, why, begun=False, instance=None):
        super().__init__(why)
        self.begun, self.instance = begun, instance


class Answer:
    def __init__(self, status, fields, body):
        self.status, self.fields, self.body = status, fields, body

    def field(self, name):
        return next((value for key, value in self.fields if key == name), None)

    @property
    def instance(self):
        return self.field("x-instance")


class Client:
    """One HTTP/1.1 connection, kept between requests. It sends each request once: no second try hides a failure."""

    def __init__(self, port):
        self.port, self.reader, self.writer = port, None, None

    async def send(self, method, path, fields=(), body=b"", pieces=1):
        try:
            return await asyncio.wait_for(self.exchange(method, path, fields, body, pieces), REQUEST_TIMEOUT_S)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise Cut(str(error) or type(error).__name__) from error
        except asyncio.TimeoutError as error:
            self.close()
            raise Cut(f"no answer within {REQUEST_TIMEOUT_S} s") from error
        except BaseException:
            self.close()
            raise

    async def exchange(self, method, path, fields, body, pieces):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = [f"{method} {path} HTTP/1.1", f"host: 127.0.0.1:{self.port}"]
        head += [f"{name}: {value}" for name, value in fields]
        if body or method == "POST":
            head.append(f"content-length: {len(body)}")
        self.writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
        step = max(1, -(-len(body) // pieces))
        for at in range(0, len(body), step):
            self.writer.write(body[at : at + step])
            await self.writer.drain()
            if pieces > 1:
                await asyncio.sleep(PAUSE_S)
        answer = await self.read_answer()
        if answer.field("connection") == "close":
            self.close()
        return answer

    async def read_answer(self):
        status, fields = await read_head(self.reader)
        answer = Answer(status, fields, b"")
        try:
            if answer.field("transfer-encoding") == "chunked":
                answer.body = await self.read_chunks()
            else:
                answer.body = await self.reader.readexactly(int(answer.field("content-length") or 0))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Cut("cut in the middle of the answer", begun=True, instance=answer.instance) from error
        return answer

    async def read_chunks(self):
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return body

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def read_head(reader):
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = [line.split(": ", 1) for line in lines[1:] if ": " in line]
    return int(lines[0].split(" ")[1]), [(name.lower(), value) for name, value in fields]


class Browser:
    """Follows redirects, keeps cookies, and says which origin and site its forms come from."""

    def __init__(self, port):
        self.client, self.cookies, self.origin = Client(port), {}, f"http://127.0.0.1:{port}"

    async def ask(self, method, path, form=None):
        """One request and its answer, whatever it is."""
        body = urllib.parse.urlencode(form).encode() if form else b""
        fields = [("accept", "text/html"), ("sec-fetch-site", "same-origin")]
        fields.append(("cookie", "; ".join(f"{k}={v}" for k, v in self.cookies.items())))
        if method == "POST":
            fields += [("origin", self.origin), ("content-type", "application/x-www-form-urlencoded")]
        answer = await self.client.send(method, path, fields, body)
        for name, value in answer.fields:
            if name == "set-cookie":
                cookie, _, content = value.split(";")[0].partition("=")
                self.cookies[cookie] = content
        return answer

    async def go(self, method, path, form=None):
        answer = await self.ask(method, path, form)
        if answer.status in (302, 303):
            return await self.go("GET", answer.field("location"))
        if answer.status != 200:
            raise Failed(f"{method} {path} was answered with {answer.status}")
        answer.path, answer.text = path, answer.body.decode()
        return answer


class Customer:
    """Somebody with an account, who buys one thing after the other."""

    def __init__(self, port, name, chance):
        self.browser, self.name, self.chance, self.form = Browser(port), name, chance, None

    async def register(self):
        email = f"{self.name.lower()}-{random.randrange(10**9)}@example.com"
        await self.browser.go("POST", "/register", {"name": self.name, "email": email, "password": "correct horse"})

    async def fill_cart(self, card="4242 4242 4242 4242"):
        """Leaves a checkout's form filled in."""
        await self.browser.go("POST", "/cart", {"product": self.chance.choice(["lavender", "string-lights", "olive-tree"])})
        page = await self.browser.go("GET", "/checkout")
        self.form = {"key": key_of(page.text), "name": self.name, "address": "12 Terrace Road, Sunnyville", "card": card}

    async def pay(self):
        """Presses the button."""
        return await self.browser.ask("POST", "/checkout", self.form)


def key_of(checkout):
    """What makes sending a checkout's form twice one order."""
    found = re.search(r'name="key" value="([^"]+)"', checkout)
    return found and found[1]


def percentile(times, share):
    """In milliseconds."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


# ---- load ----


class Load:
    """Clients that shop without a pause: pages, pictures, the API, uploads, and WebSockets held open."""

    def __init__(self, port):
        self.port = port
        self.latencies, self.failures, self.by_instance = [], [], {}
        self.uploads = self.cut_uploads = 0
        self.sockets, self.lost_sockets = {}, []
        self.killed = None
        self.is_over = False
        self.shoppers, self.listeners = [], []

    async def __aenter__(self):
        # The same walk through the shop every time.
        jobs = [self.browse(random.Random(number)) for number in range(CLIENTS)]
        jobs += [self.upload(random.Random(number)) for number in range(UPLOADERS)]
        self.shoppers = [asyncio.create_task(job) for job in jobs]
        self.listeners = [asyncio.create_task(self.listen(number)) for number in range(SOCKETS)]
        return self

    async def __aexit__(self, *_):
        # Requests under way come back, and are counted.
        self.is_over = True
        ended = await asyncio.gather(*self.shoppers, return_exceptions=True)
        for task in self.listeners:
            task.cancel()
        ended += await asyncio.gather(*self.listeners, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                self.failures.append(f"the load generator itself failed: {error!r}")

    @property
    def requests(self):
        return len(self.latencies) + self.uploads + self.cut_uploads + len(self.failures)

    def look(self):
        """One line of progress."""
        slow = f", p99 {self.percentile(0.99):.0f} ms" if self.latencies else ""
        return f"under load: {count(self.requests, 'request')}, {len(self.failures)} failed{slow}"

    def percentile(self, share):
        return percentile(self.latencies, share)

    async def browse(self, chance):
        paths = ["/", "/?page=2", "/?category=Light", "/?q=lantern", "/products/olive-tree", "/products/lavender"]
        paths += ["/pictures/parasol.svg", "/api/catalog/products?per=4", "/assets/shop.css", "/cart"]
        client = Client(self.port)
        with contextlib.closing(client):
            while not self.is_over:
                path = chance.choice(paths)
                begun = time.perf_counter()
                try:
                    answer = await client.send("GET", path)
                    self.note(answer, path, time.perf_counter() - begun)
                except Cut as cut:
                    self.failures.append(f"GET {path}: {cut}")
                await asyncio.sleep(PAUSE_S)

    def note(self, answer, path, took):
        if answer.status != 200:
            self.failures.append(f"GET {path}: {answer.status} {answer.body[:200].decode(errors='replace')}")
            return
        self.latencies.append(took)
        if answer.instance:
            self.by_instance[answer.instance] = self.by_instance.get(answer.instance, 0) + 1

    async def upload(self, chance):
        body = chance.randbytes(UPLOAD_BYTES)
        digest = hashlib.sha256(body).hexdigest()
        client = Client(self.port)
        with contextlib.closing(client):
            while not self.is_over:
                try:
                    answer = await client.send("POST", "/upload", body=body, pieces=16)
                    self.note_upload(answer, digest)
                except Cut as cut:
                    self.failures.append(f"POST /upload: {cut}")

    def note_upload(self, answer, digest):
        if answer.status == 201 and json.loads(answer.body)["sha256"] == digest:
            self.uploads += 1
        elif self.killed and answer.status == 502:
            # It was on its way to the instance that died. Nobody may send it twice but who knows what it means.
            self.cut_uploads += 1
        else:
            self.failures.append(f"POST /upload: {answer.status} {answer.body[:200].decode(errors='replace')}")

    async def listen(self, number):
        """Holds one WebSocket (RFC 6455) open and reads what the shop's ticker says."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with contextlib.closing(writer):
            key = base64.b64encode(random.randbytes(16)).decode()
            head = f"GET /live HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            writer.write(f"{head}sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n".encode())
            status, fields = await read_head(reader)
            instance = dict(fields).get("x-instance")
            if status != 101:
                self.lost_sockets.append(f"refused with {status}")
                return
            self.sockets[number] = instance
            try:
                await self.read_frames(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                if instance != self.killed:
                    self.lost_sockets.append(f"cut, on {instance}")

    async def read_frames(self, reader, writer):
        while True:
            kind, length = await reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await reader.readexactly(2), "big")
            payload = await reader.readexactly(length)
            if kind & 15 == 9:  # ping: answered, masked with zeros
                writer.write(bytes([0x8A, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
            if kind & 15 == 8:
                raise asyncio.IncompleteReadError(payload, None)


class Crowd:
    """People who buy without a pause, and who press the button again when the shop keeps their order for want of the bank."""

    def __init__(self, port):
        self.port = port
        # Of each time that the button was pressed: when, how long it took, and whether the order was paid.
        self.attempts = []
        self.failures = []
        # Orders that were paid; those of them that had been kept; and how many are kept now.
        self.paid, self.rescued, self.waiting = [], [], 0
        self.is_over = False
        self.buyers = []

    async def __aenter__(self):
        people = [Customer(self.port, "Bob", random.Random(number)) for number in range(BUYERS)]
        for person in people:
            await person.register()
        self.buyers = [asyncio.create_task(self.buy(person)) for person in people]
        return self

    async def __aexit__(self, *_):
        self.is_over = True
        for error in await asyncio.gather(*self.buyers, return_exceptions=True):
            if isinstance(error, Exception):
                self.failures.append(f"a buyer gave up: {error!r}")

    async def buy(self, person):
        while not self.is_over:
            await person.fill_cart()
            is_kept = False
            while not await self.press(person, is_kept) and not self.is_over:
                is_kept = True
                await asyncio.sleep(PRESS_AGAIN_S)
            await asyncio.sleep(person.chance.uniform(0.1, 0.3))

    async def press(self, person, is_kept):
        """Whether the order is paid, or nothing becomes of it."""
        begun = time.monotonic()
        answer = await person.pay()
        is_paid = answer.status == 303
        self.attempts.append((begun, time.monotonic() - begun, is_paid))
        if is_paid:
            order = answer.field("location").split("/")[-1]
            self.paid.append(order)
            if is_kept:
                self.rescued.append(order)
            self.waiting -= is_kept
            return True
        page = answer.body.decode()
        if answer.status == 202 and key_of(page) == person.form["key"] and "Your order is kept" in page:
            self.waiting += not is_kept
            return False
        self.failures.append(f"POST /checkout: {answer.status} {page[:200]}")
        return True

    def since(self, moment):
        """How long each press since then took whose answer was that the order is kept."""
        return [took for begun, took, is_paid in self.attempts if begun >= moment and not is_paid]

    def first_paid_after(self, moment):
        """How long after that moment somebody had bought something, who pressed the button since."""
        ends = [begun + took for begun, took, is_paid in self.attempts if is_paid and begun + took > moment]
        return min(ends) - moment if ends else None


# ---- Terrace and the shop ----


class Shop:
    """The shop under Terrace, from a copy of its file."""

    def __init__(self, screen, profile, port):
        self.screen, self.port = screen, port
        self.program = TARGET / profile / "terrace"
        self.shop = TARGET / profile / "shop"
        self.file = FOLDER / "terrace.toml"
        self.log = FOLDER / "terrace.log"
        self.process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def typed(self, words):
        """A command as one would type it here."""
        return f"{shown(self.program)} {words} --file {shown(self.file)}"

    async def ask(self, *words):
        process = await asyncio.create_subprocess_exec(
            self.program, *words, "--file", self.file, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    async def status(self):
        code, out, err = await self.ask("status", "--json")
        if code != 0:
            raise Failed(err.strip())
        return json.loads(out)

    async def fleet(self, service):
        services = (await self.status())["services"]
        return next(entry["fleet"] for entry in services if entry["name"] == service)

    async def instances(self, service):
        return (await self.fleet(service))["instances"]

    async def dashboard(self):
        """An address that lets its holder in once."""
        code, out, err = await self.ask("dashboard", "--json")
        if code != 0:
            raise Failed(err.strip())
        return json.loads(out)["url"]

    async def alerts(self):
        """The names of the objectives and alerts that fire."""
        _, out, _ = await self.ask("alerts", "--json")
        return {alert["name"] for alert in json.loads(out)["alerts"] if alert["state"] == "firing"}

    async def switch(self, service, query):
        """Makes every instance of a service misbehave, or behave."""
        for entry in await self.instances(service):
            answer = await Client(entry["port"]).send("POST", f"/switch{query}")
            if answer.status != 200:
                raise Failed(f"the switch of {entry['name']} answered {answer.status}")

    async def metrics(self, name):
        """The sum of a metric over all its labels, by label text."""
        answer = await Client(self.probes_port).send("GET", "/metrics")
        found = re.findall(rf"^{name}({{[^}}]*}})? (\S+)", answer.body.decode(), re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    async def is_cut_off(self, service):
        """Whether its breaker is open."""
        found = await self.metrics("terrace_breaker_state")
        return any(state == 2 and f'service="{service}"' in labels for labels, state in found.items())

    def prepare(self):
        for program in (self.program, self.shop):
            if not program.exists():
                raise Failed(f"{shown(program)} is not built; `make demo` builds it")
        if not is_free(self.port):
            raise Failed(
                f"port {self.port} is taken by another program. Stop it, or choose another port: "
                f"DEMO_PORT={self.port + 1} make demo"
            )
        self.probes_port = 9901 if is_free(9901) else free_port()
        self.admin_port = 9900 if is_free(9900) else free_port()
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        text = (ROOT / "examples/shop/terrace.toml").read_text()
        text = re.sub(r'"\S*/target/\w+/shop (\w+)"', lambda found: f'["{self.shop}", "{found[1]}"]', text)
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")
        text = text.replace('access = { to = "stdout" }', 'access = { to = "access.log" }')
        admin = f'address = "127.0.0.1:{self.admin_port}"\nprobes = "127.0.0.1:{self.probes_port}"'
        self.file.write_text(f"{text}\n[admin]\n{admin}\n")

    async def clear_the_way(self):
        """Ends what a demo left behind that was killed."""
        if not (FOLDER / ".terrace/admin.sock").exists() or not self.program.exists():
            return
        with contextlib.suppress(Failed):
            left = Path(f"/proc/{(await self.status())['pid']}")
            await self.ask("stop")
            await until(lambda: not left.exists(), "the shop of an earlier demo to stop", self.screen)

    async def start(self):
        with self.log.open("wb") as log:
            # In a session of its own: Ctrl-C is for this script, which then stops Terrace in order.
            self.process = await asyncio.create_subprocess_exec(
                self.program, "--json", "up", self.file, stdout=log, stderr=log, start_new_session=True
            )
        await until(self.is_ready, "the shop to be ready", self.screen)
        await until(self.has_keys, "the keys that tokens are checked with", self.screen)

    async def is_ready(self):
        if self.process.returncode is not None:
            raise Failed(f"Terrace ended with status {self.process.returncode}:\n{self.last_lines()}")
        try:
            return (await Client(self.probes_port).send("GET", "/readyz")).status == 200
        except Cut:
            return False

    async def has_keys(self):
        """Whether Terrace has asked the auth service for them since that was ready."""
        return any(keys > 0 for keys in (await self.metrics("terrace_auth_keys")).values())

    def last_lines(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])

    async def stop(self):
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        while self.process.returncode is None:
            self.screen.progress("stopping: requests under way finish first")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self.process.wait()), 0.1)
        self.screen.clear_progress()

    def change_file(self, *changes):
        """Saves the copy with each old text replaced by its new one."""
        text = self.file.read_text()
        for old, new in changes:
            if old not in text:
                raise Failed(f"examples/shop/terrace.toml has no {old!r} any more")
            text = text.replace(old, new, 1)
        partial = self.file.with_suffix(".partial")
        partial.write_text(text)
        partial.rename(self.file)


def shown(path):
    """A path as short as it can be typed in the repository."""
    return os.path.relpath(path, ROOT) if path.is_relative_to(ROOT) else str(path)


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---- the tour ----


class Tour:
    def __init__(self, screen, shop):
        self.screen, self.shop, self.ada = screen, shop, None

    async def walk(self):
        steps = [
            ("The shop, from one file and one command", self.start),
            ("A purchase, as a browser makes it", self.buy),
            ("Who may do what, and how often", self.rules),
            ("More instances, under load", self.scale),
            ("Another file, under load", self.reload),
            ("An instance dies, under load", self.kill),
            ("The bank falls silent, and the shop stays open", self.outage),
            ("The catalog fails, and somebody is called", self.trouble),
        ]
        for number, (title, step) in enumerate(steps, 1):
            self.screen.title(number, title)
            await step()

    async def start(self):
        begun = time.monotonic()
        await self.shop.start()
        services = (await self.shop.status())["services"]
        instances = sum(entry["fleet"]["ready"] for entry in services)
        took = time.monotonic() - begun
        self.screen.good(
            f"{count(len(services), 'service')}, {count(instances, 'instance')}, all ready after {took:.1f} s"
        )
        self.screen.good(f"the shop is open at {self.screen.bold(self.shop.url)}: come in while the tour goes on")
        url = await self.shop.dashboard()
        self.screen.good(f"watch it: {self.screen.bold(url)}")
        if self.screen.is_terminal and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            webbrowser.open(url)

    async def buy(self):
        browser = Browser(self.shop.port)
        begun = time.monotonic()
        await browser.go("GET", "/")
        person = {"name": "Ada", "email": f"ada-{random.randrange(10**9)}@example.com", "password": "correct horse"}
        await browser.go("POST", "/register", person)
        await browser.go("POST", "/logout", {"bye": "1"})
        page = await browser.go("POST", "/login", {"email": person["email"], "password": person["password"]})
        if person["email"] not in page.text:
            raise Failed("the shop does not know Ada after she logged in")
        self.screen.good("Ada registered, logged out and in again (auth signed her a token)")
        await browser.go("POST", "/cart", {"product": "olive-tree"})
        await browser.go("POST", "/cart", {"product": "string-lights"})
        page = await browser.go("GET", "/checkout")
        price = re.search(r"Pay\s+(€[\d.,]+)", page.text)[1]
        self.screen.good(f"an olive tree and string lights are in her cart: {price}")
        form = {"key": key_of(page.text), "name": "Ada", "address": "12 Terrace Road, Sunnyville", "card": "4242 4242 4242 4242"}
        order = await browser.go("POST", "/checkout", form)
        if not order.path.startswith("/orders/") or "Thank you, Ada" not in order.text:
            raise Failed(f"the checkout led to {order.path} instead of an order")
        took = time.monotonic() - begun
        self.screen.good(f"order {order.path.split('/')[-1]} is paid, {took * 1000:.0f} ms after she came in")
        self.screen.note("web asked catalog and orders, orders asked catalog and payments: all of it through Terrace")
        self.ada = browser.cookies["session"]

    async def rules(self):
        """What the services have no code for."""
        send = Client(self.shop.port).send
        stranger = await send("GET", "/api/orders")
        self.expect(stranger, 401, "a stranger's question for orders")
        self.screen.good(f"a stranger who asks for orders is told 401, WWW-Authenticate: {stranger.field('www-authenticate')}")
        person = {"name": "Eve", "email": f"eve-{random.randrange(10**9)}@example.com", "password": "correct horse"}
        welcome = await send("POST", "/api/auth/register", [("content-type", "application/json")], json.dumps(person).encode())
        token = json.loads(welcome.body)["token"]
        bearer = [("authorization", f"Bearer {token}")]
        forged = await send("GET", "/api/orders", [("authorization", f"Bearer {forge(token)}")])
        self.expect(forged, 401, "a token that somebody signed who may not")
        lie = await send("GET", "/api/orders", [*bearer, ("x-auth-subject", claims(self.ada)["sub"])])
        if lie.status != 200 or json.loads(lie.body)["orders"]:
            raise Failed(f"Eve, who says that she is Ada, was answered with {lie.status} {lie.body[:200]}")
        self.screen.good("a token with another signature too; and Eve, who says in a header that she is Ada, sees no order of Ada's")
        foreign = await send("POST", "/cart", [("sec-fetch-site", "cross-site")], b"product=lavender")
        self.expect(foreign, 403, "a form that another site sends")
        asked = await asyncio.gather(*(Client(self.shop.port).send("GET", "/api/orders", bearer) for _ in range(60)))
        refused = [answer for answer in asked if answer.status == 429]
        if not refused or any(answer.status not in (200, 429) for answer in asked):
            raise Failed(f"60 requests at once were answered with {sorted({answer.status for answer in asked})}")
        self.screen.good(f"another site's form is told 403; of 60 requests of hers at once {len(asked) - len(refused)} are answered, {len(refused)} told 429")
        self.screen.note(f"RateLimit: {refused[0].field('ratelimit')}   Retry-After: {refused[0].field('retry-after')}")
        self.screen.note(f"all of it stands in {shown(ROOT / 'examples/shop/terrace.toml')}; the services check nothing")

    def expect(self, answer, status, what):
        if answer.status != status:
            raise Failed(f"{what} was answered with {answer.status} instead of {status}: {answer.body[:200].decode(errors='replace')}")

    async def scale(self):
        async with Load(self.shop.port) as load:
            await self.settle(load)
            self.screen.command(self.shop.typed("scale web 4"))
            code, out, err = await self.watched(self.shop.ask("scale", "web", "4"), load)
            if code != 0:
                raise Failed(err.strip())
            load.by_instance.clear()
            names = {f"web-{number}" for number in range(1, 5)}
            await until(lambda: names <= load.by_instance.keys(), "all four to serve", self.screen, load.look)
            await self.settle(load)
        self.screen.good(f"{out.strip()}, and each of them serves: {shares(load, names)}")
        self.report(load)

    async def reload(self):
        async with Load(self.shop.port) as load:
            await self.settle(load)
            await self.refuse(load)
            await self.accept(load)
            await self.settle(load)
        self.report(load)

    async def refuse(self, load):
        """A file with a mistake changes nothing."""
        self.shop.change_file(("instances = 2", "instnaces = 2"))
        self.screen.command(f"{self.shop.typed('reload')}    {self.screen.faint('# after a slip of the pen')}")
        code, _, err = await self.watched(self.shop.ask("reload"), load)
        if code == 0:
            raise Failed("the wrong file was accepted")
        for line in err.rstrip().splitlines():
            self.screen.line(f"      {line}")
        await self.settle(load)
        self.screen.good("refused whole; what ran runs on")

    async def accept(self, load):
        """A good one is taken over as soon as it is saved, and rolls the service whose environment changed."""
        before = {entry["pid"] for entry in await self.shop.instances("catalog")}
        greeting = '[route.hello]\nat      = "/hello"\nrespond = { body = "Hello from the file.\\n" }\n\n[log]'
        catalog = "[service.catalog]"
        self.shop.change_file(
            ("instnaces = 2", "instances = 2"), ("[log]", greeting), (catalog, f'{catalog}\nenv       = {{ SEASON = "summer" }}')
        )
        self.screen.command(f"$EDITOR {shown(self.shop.file)}    {self.screen.faint('# mended, saved; nothing else to do')}")

        async def is_there():
            return (await Client(self.shop.port).send("GET", "/hello")).status == 200

        await until(is_there, "the new route", self.screen, load.look)
        self.screen.good("a new route answers: /hello")

        async def is_rolled():
            fleet = await self.shop.fleet("catalog")
            now = {entry["pid"] for entry in fleet["instances"]}
            return fleet["state"] == "running" and not now & before and fleet["ready"] == len(before)

        await until(is_rolled, "the catalog to be replaced", self.screen, load.look)
        self.screen.good("its environment changed, so every catalog instance was replaced, one by one")

    async def kill(self):
        async with Load(self.shop.port) as load:
            await self.settle(load)
            victim = await self.victim(load)
            broken = await self.broken_attempts()
            load.killed = victim["name"]
            self.screen.command(f"kill -9 {victim['pid']}    {self.screen.faint('# ' + victim['name'])}")
            died = time.monotonic()
            os.kill(victim["pid"], signal.SIGKILL)

            async def is_back():
                now = next((e for e in await self.shop.instances("web") if e["name"] == victim["name"]), None)
                return now is not None and now["pid"] != victim["pid"] and now["state"] == "ready"

            await until(is_back, "the instance to come back", self.screen, load.look)
            took = time.monotonic() - died
            await self.settle(load)
            broken = await self.broken_attempts() - broken
        self.screen.good(f"{victim['name']} was started again and serves, {took:.1f} s later")
        rescued = int(broken) - load.cut_uploads
        if rescued > 0:
            self.screen.good(f"{count(rescued, 'request')} found it dead and went to another one; no client noticed")
        self.report(load)

    async def outage(self):
        """The bank charges cards and says nothing, then it is refused as a drill: who looks around notices nothing, and who
        buys is told at once and pays later, once."""
        bank = (await self.shop.instances("payments"))[0]["port"]
        charges = await self.charges(bank)
        async with Crowd(self.shop.port) as crowd, Load(self.shop.port) as load:
            await self.sold(crowd, load, 40)
            before = percentile(load.latencies, 0.99)
            paid = [took for _, took, _ in crowd.attempts]
            self.screen.good(f"before: {BUYERS} people buy beside the others, {percentile(paid, 0.5):.0f} ms each; pages p99 {before:.1f} ms")
            looked = len(load.latencies)
            await self.silence(bank, crowd, load)
            during = load.latencies[looked:]
            self.screen.good(
                f"meanwhile {count(len(during), 'page')}, {self.screen.bold(f'{len(load.failures)} failed')}, "
                f"p99 {percentile(during, 0.99):.1f} ms ({before:.1f} ms before)"
            )
            called = await self.shop.alerts()
            if "paying" in called and not called & {"orders", "shopping"}:
                self.screen.good("the objective “paying” calls somebody; “orders” and “shopping” have no reason to")
            await self.end_silence(bank, crowd, load)
            await self.drill(crowd, load)
        if crowd.failures:
            raise Failed(f"{len(crowd.failures)} checkouts ended otherwise: {crowd.failures[0]}")
        await self.audit(bank, crowd, charges)
        self.report(load)

    async def silence(self, bank, crowd, load):
        """Makes the bank charge and say nothing."""
        self.screen.command(f"curl -X POST 'http://127.0.0.1:{bank}/switch?mute=100%25&for=60s'    " + self.screen.faint("# it charges, and tells nobody"))
        begun = time.monotonic()
        await self.shop.switch("payments", "?mute=100%25&for=60s")
        await until(lambda: self.shop.is_cut_off("payments"), "the breaker to open", self.screen, load.look)
        opened = time.monotonic()
        self.screen.good(f"nobody was answered; {opened - begun:.1f} s later the breaker opened, and from then on nobody waits for the bank")
        await until(lambda: len(crowd.since(opened)) >= 60, "people to press the button", self.screen, load.look)
        told = sorted(crowd.since(opened))
        quick = [took for took in told if took < 1]
        self.screen.good(f"{count(len(quick), 'checkout')} told in {percentile(quick, 0.5):.0f} ms (p99 {percentile(quick, 0.99):.0f} ms): “Your order is kept. So is your cart.”")
        if len(quick) < len(told):
            self.screen.note(f"{len(told) - len(quick)} more waited: one at a time is let through to find out whether the bank is back")
        words = "logs --text breaker --lines 1"
        self.screen.command(self.shop.typed(words))
        _, out, _ = await self.shop.ask(*words.split())
        for line in out.rstrip().splitlines():
            self.screen.line(f"      {line}")

    async def end_silence(self, bank, crowd, load):
        waiting = crowd.waiting
        self.screen.command(f"curl -X POST 'http://127.0.0.1:{bank}/switch'    " + self.screen.faint("# the bank speaks again"))
        begun = time.monotonic()
        await self.shop.switch("payments", "")
        await until(lambda: crowd.waiting == 0, "the kept orders to be paid", self.screen, load.look)
        took = time.monotonic() - begun
        first = crowd.first_paid_after(begun)
        self.screen.good(f"the first was paid {first:.1f} s later, all {waiting} that were kept {took:.1f} s later, under the keys they had")

    async def drill(self, crowd, load):
        """The same without touching the bank: what other services get of it is refused on purpose."""
        words = "fault internal:payments --abort 503 --for 1m"
        self.screen.command(f"{self.shop.typed(words)}    {self.screen.faint('# a drill')}")
        begun, looked = time.monotonic(), len(load.latencies)
        await self.command(words)
        await until(lambda: len(crowd.since(begun)) >= 30, "people to press the button", self.screen, load.look)
        told, during = crowd.since(begun), load.latencies[looked:]
        words = "fault --end internal:payments"
        self.screen.command(self.shop.typed(words))
        await self.command(words)
        ended = time.monotonic()
        await until(lambda: crowd.waiting == 0, "the kept orders to be paid", self.screen, load.look)
        self.screen.good(
            f"{count(len(told), 'checkout')} told in {percentile(told, 0.5):.0f} ms, pages p99 {percentile(during, 0.99):.1f} ms; "
            f"paid {crowd.first_paid_after(ended):.1f} s after its end"
        )

    async def audit(self, bank, crowd, before):
        """Each order is charged, and charged once."""
        for order in crowd.rescued:
            answer = await Client(bank).send("GET", f"/charges/by-key/{order}")
            if answer.status != 200 or json.loads(answer.body)["state"] != "captured":
                raise Failed(f"order {order} is paid, and the bank says {answer.status} {answer.body[:200]}")
        made, repeated = (after - was for after, was in zip(await self.charges(bank), before))
        if made < len(crowd.paid):
            raise Failed(f"{len(crowd.paid)} orders are paid, and the bank made {made} charges")
        self.screen.good(
            f"{count(len(crowd.paid), 'order')} paid by {count(made, 'charge')}; {len(crowd.rescued)} had been kept, of which "
            f"{repeated} were charged in silence, and not again"
        )

    async def charges(self, bank):
        """How many charges the bank made, and how often it was asked for one that it had made."""
        text = (await Client(bank).send("GET", "/metrics")).body.decode()
        return [int(re.search(rf"^shop_charges_{name}_total (\d+)", text, re.MULTILINE)[1]) for name in ("made", "repeated")]

    async def sold(self, crowd, load, number):
        wanted = len(crowd.paid) + number
        await until(lambda: len(crowd.paid) >= wanted, "people to buy", self.screen, load.look)

    async def command(self, words):
        code, _, err = await self.shop.ask(*words.split())
        if code != 0:
            raise Failed(err.strip())

    async def trouble(self):
        """What users suffer from is noticed by their objective, not by a threshold that somebody guessed."""
        async with Load(self.shop.port) as load:
            await self.settle(load)
            await self.shop.switch("catalog", "?fail=60%25&for=120s")
            self.screen.command("curl -X POST 'http://127.0.0.1:PORT/switch?fail=60%25&for=120s'    " + self.screen.faint("# each catalog"))
            begun = time.monotonic()

            async def is_called():
                return "shopping" in await self.shop.alerts()

            await until(is_called, "the objective's alert", self.screen, load.look)
            took = time.monotonic() - begun
            await self.shop.switch("catalog", "")
            failed, load.failures = len(load.failures), []
        self.screen.good(f"the objective “shopping” called after {took:.0f} s and {count(failed, 'failed request')}")
        self.screen.command(self.shop.typed("alerts"))
        _, out, _ = await self.shop.ask("alerts")
        for line in out.rstrip().splitlines():
            self.screen.line(f"      {line}")
        self.screen.note("each failed request was kept as a trace: terrace traces --errors, or “Traces” on the dashboard")

    async def victim(self, load):
        """An instance of web, and one that holds a WebSocket, so that it hurts."""
        ready = [entry for entry in await self.shop.instances("web") if entry["state"] == "ready"]
        return max(ready, key=lambda entry: list(load.sockets.values()).count(entry["name"]))

    async def broken_attempts(self):
        """Attempts that ended because the instance was gone."""
        found = await self.shop.metrics("terrace_upstream_requests_total")
        return sum(
            value
            for labels, value in found.items()
            if 'service="web"' in labels and re.search('outcome="(connect|reset)"', labels)
        )

    async def watched(self, job, load):
        """Waits for `job` while the load is shown."""
        task = asyncio.ensure_future(job)
        await until(task.done, "the command", self.screen, load.look)
        return task.result()

    async def settle(self, load):
        """Waits until that many further requests have come back."""
        wanted = load.requests + SETTLED_REQUESTS
        await until(lambda: load.requests >= wanted, "requests to come back", self.screen, load.look)

    def report(self, load):
        uploads = f", {load.uploads} of them uploads" if load.uploads else ""
        figures = f"p50 {load.percentile(0.5):.1f} ms, p99 {load.percentile(0.99):.1f} ms"
        told = f"{count(load.requests, 'request')}{uploads}, {self.screen.bold(f'{len(load.failures)} failed')}, {figures}"
        held = [name for name in load.sockets.values() if name != load.killed]
        if load.failures or load.lost_sockets:
            self.screen.bad(told)
            for why in (load.failures + load.lost_sockets)[:10]:
                self.screen.note(why)
            raise Failed("requests failed that should not")
        self.screen.good(told)
        self.screen.good(f"{count(len(held), 'WebSocket')} held open throughout, 0 cut")
        if load.cut_uploads:
            self.screen.note(f"{count(load.cut_uploads, 'upload')} into the killed instance got 502: not ours to send twice")
        lost = len(load.sockets) - len(held)
        if lost:
            self.screen.note(f"{count(lost, 'WebSocket')} ended on the killed instance, as any connection to a dead process")


def claims(token):
    """What a token says, without a look at its signature."""
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def forge(token):
    """The same token with another signature of the same length."""
    head, _, signature = token.rpartition(".")
    return f"{head}.{signature[::-1]}"


def shares(load, names):
    total = sum(load.by_instance.get(name, 0) for name in names)
    return ", ".join(f"{name} {100 * load.by_instance.get(name, 0) / total:.0f} %" for name in sorted(names))


def where_to_look(screen, shop):
    screen.line()
    screen.line(screen.bold("Where to look"))
    rows = [
        ("the shop", shop.url),
        ("the dashboard", f"{shop.typed('dashboard')}   (says where, and lets you in)"),
        ("in the terminal", shop.typed("top")),
        ("who is called", shop.typed("alerts")),
        ("metrics", f"http://127.0.0.1:{shop.probes_port}/metrics"),
        ("what runs", shop.typed("status")),
        ("what it prints", shop.typed("logs -f")),
        ("the file", f"{shown(shop.file)}  (save it: it is taken over)"),
        ("every request", f"tail -f {shown(FOLDER / 'access.log')}"),
    ]
    for name, text in rows:
        screen.line(f"    {screen.faint(f'{name:<15}')} {text}")
    screen.line()
    screen.line(screen.bold("Break it"))
    breaks = ["scale orders 5", "restart web", "fault pages --delay 800ms --share 10% --for 2m"]
    for text in (*map(shop.typed, breaks), "kill -9 PID    (of any instance; see status)"):
        screen.command(text)


async def shop_on(port):
    """A few people who look around at leisure, and buy now and then, so that there is something to see."""

    async def visit(chance):
        paths = ["/", "/?page=2", "/?category=Light", "/?q=lantern", "/products/lavender", "/api/catalog/products?per=4"]
        browser = Browser(port)
        while True:
            with contextlib.suppress(Cut, Failed):
                await browser.go("GET", chance.choice(paths))
            await asyncio.sleep(chance.uniform(0.05, 0.4))

    async def buy(chance):
        person = None
        while True:
            with contextlib.suppress(Cut, Failed):
                if person is None or chance.random() < 0.2:
                    person = Customer(port, "Bob", chance)
                    await person.register()
                await person.fill_cart(chance.choice(["4242 4242 4242 4242"] * 9 + ["4000 0000 0000 0119"]))
                answer = await person.pay()
                if answer.status == 303:
                    await person.browser.go("GET", answer.field("location"))
            await asyncio.sleep(chance.uniform(2, 6))

    await asyncio.gather(*(visit(random.Random(number)) for number in range(6)), buy(random.Random(7)))


async def stay(screen, shop):
    screen.line()
    screen.line("A few people go on shopping, so that there is something to see.")
    screen.line(f"The shop stays open at {screen.bold(shop.url)}. {screen.bold('Ctrl-C')} closes it.")
    shoppers = asyncio.create_task(shop_on(shop.port))
    try:
        code = await shop.process.wait()
    finally:
        shoppers.cancel()
    screen.line(f"Terrace ended with status {code}.")
    return code


async def run(arguments):
    screen = Screen()
    shop = Shop(screen, arguments.profile, arguments.port)
    task = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await shop.clear_the_way()
        shop.prepare()
        await Tour(screen, shop).walk()
        where_to_look(screen, shop)
        if sys.stdout.isatty():
            return await stay(screen, shop)
        return 0
    except (Failed, Cut) as failed:
        screen.bad(str(failed))
        if shop.process is not None:
            screen.note(f"what Terrace said: {shown(shop.log)}")
        return 1
    except asyncio.CancelledError:
        screen.line()
        return 0 if screen.is_terminal else 130
    finally:
        await shop.stop()
        if shop.process is not None:
            screen.line("The shop is closed; nothing is left running.")


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo.sh", description="The example shop under Terrace, with a tour.")
    parser.add_argument("--profile", default="release", help="whose binaries: release (default) or debug")
    parser.add_argument("--port", type=int, default=int(os.environ.get("DEMO_PORT", "8080")), help="the shop's port")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
