"""One round of load: wrk for HTTP/1.1, h2load for HTTP/2, both reduced to the same figures."""

import http.client
import json
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from harness.process import Process
from harness.process import core_busy_us

# The name that requests ask for; it is never looked up, every program is given the origin's address.
HOST = "origin.bench"


@dataclass(frozen=True)
class Case:
    name: str
    protocol: str  # "h1" or "h2", on both sides of the proxy
    path: str
    size: int  # bytes of the response body


CASES = [
    Case("h1-1k", "h1", "/1k", 1024),
    Case("h1-64k", "h1", "/64k", 65536),
    Case("h2-1k", "h2", "/1k", 1024),
    Case("h2-64k", "h2", "/64k", 65536),
]


@dataclass(frozen=True)
class Shape:
    """How the load is spread: h1 keeps `connections` requests in flight, h2 `h2_connections` x `streams`."""

    connections: int = 64
    h2_connections: int = 4
    streams: int = 8


@dataclass
class Sample:
    requests: int
    rps: float
    p50_us: int
    p99_us: int
    errors: dict[str, int]
    cpu_us: float = 0.0
    busy: float = 0.0  # share of its core that the proxy used
    others: float = 0.0  # share of that core that other programs used meanwhile
    rss_kib: int = 0  # the largest seen during the round


class Generators:
    def __init__(self, tools: dict[str, str], folder: Path, shape: Shape, cores: set[int]):
        self.tools, self.folder, self.shape, self.cores = tools, folder, shape, cores

    def run(self, case: Case, port: int, seconds: float, proxy: Process) -> Sample:
        """Loads the proxy for `seconds` and reads what that cost it."""
        generate = self._wrk if case.protocol == "h1" else self._h2load
        with _MemoryWatch(proxy) as memory:
            cpu, core, begun = proxy.cpu_us(), core_busy_us(proxy.cores), time.monotonic()
            sample = generate(case, port, seconds)
            wall_us = (time.monotonic() - begun) * 1_000_000
            core, sample.cpu_us = core_busy_us(proxy.cores) - core, proxy.cpu_us() - cpu
        sample.busy = sample.cpu_us / wall_us
        # On a machine with a single core, the load generator and the origin are among the others.
        sample.others = max(0.0, (core - sample.cpu_us) / wall_us)
        sample.rss_kib = memory.rss
        if proxy.ended():
            raise RuntimeError(f"it ended under load with code {proxy.popen.returncode}")
        return sample

    def once(self, case: Case, port: int) -> str | None:
        """One request, to see that the way stands: None, or what was wrong with the answer."""
        if case.protocol == "h1":
            return get(port, case.path, case.size)[0]
        output = self._call(["h2load", "-n", "1", "-c", "1", "-m", "1", *_authority(), _url(port, case.path)], 5)
        good, size = _number(r"status codes: (\d+) 2xx", output), _number(r"\((\d+)\) data", output)
        if good == 1 and size == case.size:
            return None
        lines = [line for line in output.splitlines() if line.startswith(("requests:", "status codes:"))]
        return "; ".join(lines) or "no answer"

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
        output = self._call(
            ["wrk", "-t1", f"-c{self.shape.connections}", f"-d{seconds:g}s", "--timeout", "5s",
             "-H", f"Host: {HOST}", "-s", str(script), _url(port, case.path)], seconds)
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
             "--connection-inactivity-timeout=5", f"--log-file={log}", *_authority(), _url(port, case.path)], seconds)
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


class _MemoryWatch:
    """Looks at a program's resident memory five times a second and keeps the largest figure."""

    def __init__(self, process: Process):
        self.process, self.rss = process, 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self.done.wait(0.2):
            self.rss = max(self.rss, self.process.rss_kib())

    def __enter__(self) -> "_MemoryWatch":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.done.set()
        self.thread.join()


def get(port: int, path: str, size: int | None = None) -> tuple[str | None, dict[str, str], bytes]:
    """One HTTP/1.1 GET: what is wrong with the answer (None: nothing), its fields in lower case, its body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": HOST})
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


def _authority() -> list[str]:
    return ["-H", f":authority: {HOST}"]


def _url(port: int, path: str) -> str:
    return f"http://127.0.0.1:{port}{path}"


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def _percentile(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0
