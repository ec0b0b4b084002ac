"""The programs that are compared: how each is configured, started and seen to be ready."""

import subprocess
import time
from pathlib import Path

from harness.cases import BY_NAME, Case
from harness.load import HOST, Generators, get, grpc_message
from harness.process import Process, free_port, wait_until

TEMPLATES = Path(__file__).parent.parent / "programs"
# In the order of a round's forward direction.
ALL = ["direct", "outrider", "envoy", "haproxy", "nginx", "varnish"]
START_SECONDS = 20
# Long enough for allocators and start-up threads to settle, short enough to still be "right after the start".
SETTLE_SECONDS = 0.5


def fill(template: str, folder: Path, values: dict[str, object]) -> Path:
    """Writes a configuration with its @NAMES@ replaced and gives its path."""
    text = (TEMPLATES / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    path = folder / template
    path.write_text(text)
    return path


class Origin:
    """The upstream: an nginx that answers from memory."""

    def __init__(self, nginx: str, folder: Path, cores: set[int]):
        self.h1, self.h2 = free_port(), free_port()
        kib = ("outrider compare " * 61)[:1024]
        files = folder / "files"
        files.mkdir()
        (files / "10m").write_bytes(bytes(range(256)) * (10 << 12))
        (files / "message").write_bytes(grpc_message())
        config = fill("origin.conf", folder, {
            "DIR": folder, "ORIGIN_H1": self.h1, "ORIGIN_H2": self.h2, "KIB": kib, "KIB64": "$kib" * 64})
        command = [nginx, "-p", str(folder), "-e", "stderr", "-c", str(config)]
        self.process = Process(command, cores, subprocess.DEVNULL, folder / "origin.stderr")
        wait_until(lambda: get(self.h1, "/ready")[0] is None, self.process, START_SECONDS, "the origin")

    def port(self, protocol: str) -> int:
        return self.h1 if protocol == "h1" else self.h2

    def asked(self) -> int:
        """How many requests came to it so far."""
        # Three numbers under "server accepts handled requests".
        return int(get(self.h1, "/count")[2].split(b"\n")[2].split()[2])


class Direct:
    """No proxy at all: what the others are compared with where the way itself takes time."""

    name, process, idle_rss_kib, idle_pss_kib = "direct", None, 0, 0

    def __init__(self, case: Case, origin: Origin):
        self.port = origin.port(case.protocol)

    def settle(self, case: Case, generators: Generators) -> None:
        wrong = generators.once(case, self.port)
        if wrong:
            raise RuntimeError(f"the origin answered the first request wrongly: {wrong}")

    def stop(self) -> None:
        pass


FORMS = {"outrider": "yaml", "envoy": "yaml", "haproxy": "cfg", "nginx": "conf", "varnish": "vcl"}


class Running:
    """A proxy in front of the origin, ready to be loaded."""

    def __init__(self, name: str, binary: str, case: Case, origin: Origin, folder: Path, cores: set[int], log: str):
        self.name, self.port, self.admin = name, free_port(), free_port()
        h2 = case.protocol == "h2"
        values = {
            "DIR": folder, "PORT": self.port, "ADMIN": self.admin, "OTHER": free_port(),
            "ORIGIN": origin.port(case.protocol), "ORIGIN_H1": origin.h1,
            "NGINX_H2": " http2" if h2 else "",
            "HAPROXY_PROTO": " proto h2" if h2 else "",
            "ENVOY_CODEC": "HTTP2" if h2 else "HTTP1",
            "ENVOY_UPSTREAM": "http2_protocol_options" if h2 else "http_protocol_options",
        }
        template = f"{name}-{case.flavour}.{FORMS[name]}"
        if not (TEMPLATES / template).exists():
            template = f"{name}.{FORMS[name]}"
        config = str(fill(template, folder, values))
        command = {
            "nginx": [binary, "-p", str(folder), "-e", "stderr", "-c", config],
            "haproxy": [binary, "-db", "-f", config],
            "envoy": [binary, "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error"],
            "outrider": [binary, "run", config],
            # Its management port is not needed, and its store is as large as outrider's.
            "varnish": [binary, "-F", "-n", str(folder / "varnish"), "-a", f"127.0.0.1:{self.port}", "-f", config,
                        "-s", "malloc,64m", "-T", "none"],
        }[name]
        with open(log if name == "outrider" else "/dev/null", "ab") as out:
            self.process = Process(command, cores, out, folder / f"{name}.stderr", {"OUTRIDER_WORKERS": "1"})
        self.fault: str | None = None
        self.idle_rss_kib = self.idle_pss_kib = 0

    def settle(self, case: Case, generators: Generators) -> None:
        """Waits for the program, reads its idle memory before any load, then sends one request through it."""
        if self.name == "outrider" and case.flavour == "tunnel":
            generators.by_connect.add(self.port)
        port, path = (self.admin, "/ready") if self.name == "outrider" else (self.port, None)
        ready = (lambda: get(port, path)[0] is None) if path else (lambda: listens(port))
        wait_until(ready, self.process, START_SECONDS, self.name)
        time.sleep(SETTLE_SECONDS)
        self.idle_rss_kib, self.idle_pss_kib = self.process.rss_kib(), self.process.pss_kib()
        wrong = generators.once(case, self.port)
        if wrong:
            raise RuntimeError(f"{self.name} answered the first request wrongly: {wrong}; {self.process.last_words()}")

    def stop(self) -> None:
        self.process.stop()


def listens(port: int) -> bool:
    """Whether something listens on the loopback port; read from the kernel, so that the program sees no connection."""
    wanted = f"0100007F:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == wanted and fields[3] == "0A":
            return True
    return False


def features_at_work(binary: str, origin: Origin, folder: Path, cores: set[int], generators: Generators) -> dict[str, bool]:
    """Whether outrider does what the comparison claims is on, seen from outside with one request."""
    case = BY_NAME["h1-1k"]
    log = folder / "features.log"
    running = Running("outrider", binary, case, origin, folder, cores, str(log))
    try:
        running.settle(case, generators)
        _, fields, _ = get(running.port, case.path)
        end = time.monotonic() + 5
        while True:
            metrics = get(running.admin, "/metrics")[2].decode(errors="replace")
            seen = {
                "correlation": "x-request-id" in fields,
                "retry": "outrider_tries" in metrics,
                "breaker": "outrider_breaker_state" in metrics,
                "metrics": "outrider_requests" in metrics,
                "access log": log.stat().st_size > 0,
            }
            # The log is written off the hot path, so its line may come a moment after the answer.
            if all(seen.values()) or time.monotonic() > end:
                return seen
            time.sleep(0.05)
    finally:
        running.stop()
