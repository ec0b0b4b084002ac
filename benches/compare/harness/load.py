"""One round of load: wrk for HTTP/1.1, h2load for HTTP/2, our own for what neither can; all reduced to the same figures."""

import http.client
import json
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from harness.cases import GRPC_MESSAGE, Case
from harness.process import Process
from harness.process import core_busy_us

# The name that requests ask for; it is never looked up, every program is given the origin's address.
HOST = "origin.bench"


@dataclass(frozen=True)
class Shape:
    """How the load is spread in HTTP/2: `h2_connections` x `streams` requests in flight. In HTTP/1.1 the case says."""

    h2_connections: int = 4
    streams: int = 8


@dataclass
class Sample:
    requests: int
    rps: float
    p50_us: float
    p99_us: float
    errors: dict[str, int]
    p999_us: float | None = None
    cpu_us: float = 0.0
    busy: float = 0.0  # share of its core that the proxy used
    others: float = 0.0  # share of that core that other programs used meanwhile
    rss_kib: int = 0  # the largest seen during the round


class Generators:
    def __init__(self, tools: dict[str, str], folder: Path, shape: Shape, cores: set[int]):
        self.tools, self.folder, self.shape, self.cores = tools, folder, shape, cores
        # Ports of programs that pass bytes on when a CONNECT asks for it, and for what it asks.
        self.by_connect: set[int] = set()
        self.tunnel = ""

    def run(self, case: Case, port: int, seconds: float, proxy: Process | None, rate: float = 0.0) -> Sample:
        """Loads the proxy for `seconds` and reads what that cost it; with a rate, by the clock. None is no proxy at all."""
        if proxy is None:
            return self._generate(case, port, seconds, rate)
        # To look takes a millisecond of the core that the load comes from, which a steady rate must not feel.
        with _MemoryWatch(proxy, None if rate else 0.2) as memory:
            cpu, core, begun = proxy.cpu_us(), core_busy_us(proxy.cores), time.monotonic()
            sample = self._generate(case, port, seconds, rate)
            wall_us = (time.monotonic() - begun) * 1_000_000
            core, sample.cpu_us = core_busy_us(proxy.cores) - core, proxy.cpu_us() - cpu
        sample.busy = sample.cpu_us / wall_us
        # On a machine with a single core, the load generator and the origin are among the others.
        sample.others = max(0.0, (core - sample.cpu_us) / wall_us)
        sample.rss_kib = memory.rss
        if proxy.ended():
            raise RuntimeError(f"it ended under load with code {proxy.popen.returncode}")
        return sample

    def _generate(self, case: Case, port: int, seconds: float, rate: float) -> Sample:
        if rate or case.flavour == "tunnel":
            return self._own(case, port, seconds, rate)
        return self._wrk(case, port, seconds) if case.protocol == "h1" else self._h2load(case, port, seconds)

    def once(self, case: Case, port: int) -> str | None:
        """One request, to see that the way stands: None, or what was wrong with the answer."""
        if case.flavour == "tunnel":
            errors = self._own(case, port, 0.05, 0).errors
            return ", ".join(f"{name}: {count}" for name, count in errors.items()) or None
        if case.protocol == "h1":
            return get(port, case.path, case.size, b"x" * case.body)[0]
        output = self._call(["h2load", "-n", "1", "-c", "1", "-m", "1", *self._h2_request(case), _url(port, case.path)], 5)
        good, size = _number(r"status codes: (\d+) 2xx", output), _number(r"\((\d+)\) data", output)
        if good == 1 and size == case.size:
            return None
        lines = [line for line in output.splitlines() if line.startswith(("requests:", "status codes:"))]
        return "; ".join(lines) or "no answer"

    def _h2_request(self, case: Case) -> list[str]:
        words = ["-H", f":authority: {HOST}"]
        if case.flavour == "grpc":
            message = self.folder / "message"
            message.write_bytes(grpc_message())
            words += ["-d", str(message), "-H", "content-type: application/grpc", "-H", "te: trailers"]
        return words

    def _call(self, command: list[str], seconds: float) -> str:
        log = self.folder / "load.err"
        with Process([self.tools[command[0]], *command[1:]], self.cores, subprocess.PIPE, log) as process:
            try:
                output, _ = process.popen.communicate(timeout=seconds + 20)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"{command[0]} did not end {seconds + 20:g} s after its start") from None
        return output.decode(errors="replace") + log.read_text(errors="replace")

    def _wrk(self, case: Case, port: int, seconds: float) -> Sample:
        script = Path(__file__).parent.parent / "programs" / "wrk.lua"
        if case.body:
            text = f'wrk.method = "POST"\nwrk.body = string.rep("x", {case.body})\n{script.read_text()}'
            script = self.folder / "post.lua"
            script.write_text(text)
        fresh = ["-H", "Connection: close"] if case.fresh else []
        output = self._call(
            ["wrk", "-t1", f"-c{case.connections}", f"-d{seconds:g}s", "--timeout", "5s",
             "-H", f"Host: {HOST}", *fresh, "-s", str(script), _url(port, case.path)], seconds)
        lines = [line for line in output.splitlines() if line.startswith('{"requests"')]
        if not lines:
            raise RuntimeError(f"wrk gave no result: {output.strip()[-300:]}")
        found = json.loads(lines[-1])
        errors = {name: found[name] for name in ("connect", "read", "write", "timeout") if found[name]}
        if found["status"]:
            errors["status not 2xx or 3xx"] = found["status"]
        _check_bodies(errors, found["bytes"], found["requests"], case)
        rps = found["requests"] * 1_000_000 / max(found["duration_us"], 1)
        return Sample(found["requests"], rps, found["p50_us"], found["p99_us"], errors)

    def _h2load(self, case: Case, port: int, seconds: float) -> Sample:
        log = self.folder / "h2load.log"
        log.unlink(missing_ok=True)  # h2load appends
        output = self._call(
            ["h2load", "-t1", f"-c{self.shape.h2_connections}", f"-m{self.shape.streams}", f"-D{seconds:g}",
             "--connection-inactivity-timeout=5", f"--log-file={log}", *self._h2_request(case), _url(port, case.path)], seconds)
        done = _number(r"(\d+) succeeded", output)
        errors = {}
        for name, pattern in (("failed", r"(\d+) failed"), ("errored", r"(\d+) errored"), ("timeout", r"(\d+) timeout"),
                              ("status 3xx", r"(\d+) 3xx"), ("status 4xx", r"(\d+) 4xx"), ("status 5xx", r"(\d+) 5xx")):
            if count := _number(pattern, output):
                errors[name] = count
        if not done:
            raise RuntimeError(f"h2load had no successful request: {errors or output.strip()[-300:]}")
        _check_bodies(errors, _number(r"\((\d+)\) data", output), done, case)
        # A line is: start in us since the epoch, status, microseconds taken.
        with open(log) as lines:
            times = sorted(int(line.rsplit("\t", 1)[1]) for line in lines)
        log.unlink()
        rps = float(re.search(r"finished in .*?, ([\d.]+) req/s", output)[1])
        return Sample(done, rps, _percentile(times, 0.50), _percentile(times, 0.99), errors)


    def _own(self, case: Case, port: int, seconds: float, rate: float) -> Sample:
        command = ["generator", "--to", f"127.0.0.1:{port}", "--path", case.path, "--host", HOST, "--size", str(case.size),
                   "--connections", str(case.connections), "--seconds", f"{seconds:g}"]
        command += ["--rate", f"{rate:.0f}"] if rate else []
        command += ["--tunnel", self.tunnel] if port in self.by_connect else []
        output = self._call(command, seconds)
        lines = [line for line in output.splitlines() if line.startswith('{"requests"')]
        if not lines:
            raise RuntimeError(f"the generator gave no result: {output.strip()[-300:]}")
        found = json.loads(lines[-1])
        named = {"status not 200": "status", "bytes missing or too many": "size", "connections broken": "broken",
                 "unanswered": "unanswered"}
        errors = {name: found[field] for name, field in named.items() if found[field]}
        if not found["requests"]:
            errors["no request completed"] = 1
        return Sample(found["requests"], found["rps"], found["p50_us"], found["p99_us"], errors, found["p999_us"])


class _MemoryWatch:
    """Looks at a program's resident memory every so many seconds, or at the end only, and keeps the largest figure."""

    def __init__(self, process: Process, every: float | None):
        self.process, self.every, self.rss = process, every, 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self.done.wait(self.every):
            self.rss = max(self.rss, self.process.rss_kib())
        if self.every is None:
            self.rss = self.process.rss_kib()

    def __enter__(self) -> "_MemoryWatch":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.done.set()
        self.thread.join()


def grpc_message() -> bytes:
    """A frame: not compressed, its length, and a message of zeroes that no message type forbids to be read as bytes."""
    length = GRPC_MESSAGE - 5
    return b"\0" + length.to_bytes(4, "big") + bytes(length)


def get(port: int, path: str, size: int | None = None, body: bytes = b"") -> tuple[str | None, dict[str, str], bytes]:
    """One HTTP/1.1 GET, or a POST of a body: what is wrong with the answer (None: nothing), its fields in lower case, its body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST" if body else "GET", path, body or None, headers={"Host": HOST})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}", {}, b""
    finally:
        connection.close()
    fields = {name.lower(): value for name, value in answer.getheaders()}
    if answer.status != 200:
        return f"status {answer.status}: {body[:200].decode(errors='replace')}", fields, body
    if size is not None and len(body) != size:
        return f"{len(body)} bytes of body instead of {size}", fields, body
    return None, fields, body


def _check_bodies(errors: dict[str, int], received: int, requests: int, case: Case) -> None:
    # Neither generator looks at bodies; fewer bytes than the bodies have means that some were cut short.
    if requests == 0:
        errors["no request completed"] = 1
    elif received < requests * case.size:
        errors["bytes missing"] = requests * case.size - received


def _url(port: int, path: str) -> str:
    return f"http://127.0.0.1:{port}{path}"


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def _percentile(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0
