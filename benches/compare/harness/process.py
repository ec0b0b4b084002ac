"""Starts programs on one core, reads what they cost, and ends exactly what it started."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1


def pick_cores() -> tuple[set[int], set[int], set[int], str]:
    """Cores for the proxy, for the load generator and for the origin, and a sentence that says which."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) == 1:
        return {allowed[0]}, {allowed[0]}, {allowed[0]}, "one core for everything: only ratios of CPU per request mean something"
    if len(allowed) == 2:
        proxy, load = allowed[1], allowed[0]
        return {proxy}, {load}, {load}, f"proxy on core {proxy}, load generator and origin on core {load}"
    origin, load, proxy = allowed[-3:]
    return {proxy}, {load}, {origin}, f"proxy on core {proxy}, load generator on core {load}, origin on core {origin}"


def free_port() -> int:
    """A port that nobody listens on, on either loopback family."""
    for _ in range(100):
        with socket.socket() as four:
            four.bind(("127.0.0.1", 0))
            port = four.getsockname()[1]
            if not socket.has_ipv6:
                return port
            with socket.socket(socket.AF_INET6) as six:
                try:
                    six.bind(("::1", port))
                except OSError as error:
                    # No IPv6 on this machine: nothing can be in the way there.
                    if error.errno in (97, 99):
                        return port
                    continue
                return port
    raise RuntimeError("no free port found on loopback")


class Process:
    """A program we started, with its children. Leaving the `with` block ends them, by process ID."""

    alive: "list[Process]" = []

    def __init__(self, command: list[str], cores: set[int], stdout, stderr: Path, env: dict[str, str] | None = None):
        self.stderr_path, self.cores = stderr, cores
        self.seen: set[int] = set()
        prctl = ctypes.CDLL(None).prctl

        def before_exec() -> None:
            os.sched_setaffinity(0, cores)
            # Should this tool be killed outright, what it started goes with it.
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        with open(stderr, "wb") as errors:
            # A session of its own: Ctrl-C reaches this tool only, which then ends its programs in order.
            self.popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=errors, env={**os.environ, **(env or {})},
                start_new_session=True, preexec_fn=before_exec)
        Process.alive.append(self)

    def pids(self) -> list[int]:
        """The program and all its descendants (nginx has a master and a worker)."""
        found, queue = [], [self.popen.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    queue.extend(int(child) for child in task.read_text().split())
                except OSError:
                    continue
        self.seen.update(found)
        return found

    def cpu_us(self) -> float:
        """User and system time so far of all threads of all its processes, in microseconds."""
        ticks = 0
        for pid in self.pids():
            try:
                # The name may hold spaces and brackets, so fields are counted from the last bracket.
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            ticks += int(fields[11]) + int(fields[12])
        return ticks * TICK_US

    def rss_kib(self) -> int:
        """Resident memory (VmRSS) summed over its processes, in KiB. Cheap: counters the kernel keeps anyway."""
        return self._memory("status", "VmRSS:")

    def pss_kib(self) -> int:
        """The same with pages shared between its processes counted once, in KiB. Walks page tables: not under load."""
        return self._memory("smaps_rollup", "Pss:")

    def _memory(self, file: str, field: str) -> int:
        total = 0
        for pid in self.pids():
            try:
                lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith(field))
        return total

    def ended(self) -> bool:
        return self.popen.poll() is not None

    def last_words(self) -> str:
        lines = self.stderr_path.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-5:]) or "it said nothing"

    def stop(self) -> None:
        if self not in Process.alive:
            return
        self.pids()
        self.popen.terminate()
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(5)
        for pid in self.seen:
            # What outlived its parent, if it still is in our session: by now an ID may be another program's.
            try:
                if os.getsid(pid) == self.popen.pid:
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        Process.alive.remove(self)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_) -> None:
        self.stop()


def stop_all() -> None:
    for process in list(Process.alive):
        process.stop()


def core_busy_us(cores: set[int]) -> float:
    """User and system time so far of everything that ran on the given cores, in microseconds; interrupts are not in it."""
    names = {f"cpu{core}" for core in cores}
    lines = (line.split() for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu"))
    return sum(sum(map(int, fields[1:4])) for fields in lines if fields[0] in names) * TICK_US


def pauses(core: int, seconds: float = 1.0) -> float:
    """The share of the time for which a core was with others for 0.3 ms and more, another guest of the machine too. Seen by
    a loop that does nothing but look."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        begun = last = time.perf_counter()
        lost = 0.0
        while last - begun < seconds:
            now = time.perf_counter()
            lost += now - last if now - last > 0.0003 else 0.0
            last = now
        return lost / seconds
    finally:
        os.sched_setaffinity(0, before)


def wait_until(ready, process: Process, seconds: float, what: str) -> None:
    """Polls `ready` until it holds; a program that ended or took too long is an error that carries its last words."""
    end = time.monotonic() + seconds
    while not ready():
        if process.ended():
            raise RuntimeError(f"{what} ended with code {process.popen.returncode}: {process.last_words()}")
        if time.monotonic() > end:
            raise RuntimeError(f"{what} was not ready within {seconds:g} s: {process.last_words()}")
        time.sleep(0.02)
