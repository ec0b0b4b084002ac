"""Medians over rounds, the JSON objects, the tables and the bars."""

from dataclasses import dataclass
from statistics import median

from harness.cases import Case
from harness.load import Sample

# The bars this project holds itself to. Memory in MB of 1,000,000 bytes, the stricter reading.
CPU_BARS = (
    ("h1-1k", "request", "envoy", 0.40),
    ("h1-1k", "request", "nginx", 1.2),
    ("h2-1k", "request", "envoy", 0.5),
    ("tunnel", "exchange", "haproxy", 1.15),
    ("hit-1k", "hit", "nginx", 1.0),
    ("hit-1k", "hit", "varnish", 1.0),
    ("hit-64k", "hit", "nginx", 1.0),
    ("hit-64k", "hit", "varnish", 1.0),
)
IDLE_RSS_MB = 12.0
BUSY_RSS_MB = 45.0  # with a thousand connections
HIT_P99_US = 1000.0
ADDED_P99_TO_ENVOY = 0.5
# Below this share of its core a proxy waited for the load; above that share others disturbed it.
SATURATED, DISTURBED = 0.9, 0.05


@dataclass
class Result:
    """One program in one case. Without samples, `fault` says why."""

    case: Case
    program: str
    version: str
    samples: list[Sample]
    idle_rss_kib: int = 0
    idle_pss_kib: int = 0
    fault: str | None = None

    def errors(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for sample in self.samples:
            for name, count in sample.errors.items():
                total[name] = total.get(name, 0) + count
        return total

    def failed(self) -> bool:
        return self.fault is not None or bool(self.errors()) or not self.samples

    def costs(self) -> list[float]:
        return [sample.cpu_us / sample.requests for sample in self.samples if sample.requests and sample.cpu_us]

    def median(self, field: str) -> float | None:
        values = self.costs() if field == "cpu" else [getattr(sample, field) for sample in self.samples]
        values = [value for value in values if value is not None]
        return median(values) if values else None

    def as_json(self) -> dict[str, object]:
        def figure(value: float | None, digits: int = 0) -> float | int | None:
            return None if value is None else round(value, digits) if digits else round(value)

        costs = self.costs()
        return {
            "case": self.case.name,
            "program": self.program,
            "cpu_us_per_request": figure(self.median("cpu"), 2),
            "rps": figure(self.median("rps")),
            "p50_us": figure(self.median("p50_us")),
            "p99_us": figure(self.median("p99_us")),
            "p999_us": figure(self.median("p999_us")),
            "rss_kib": max((sample.rss_kib for sample in self.samples), default=None),
            "idle_rss_kib": self.idle_rss_kib or None,
            "idle_pss_kib": self.idle_pss_kib or None,
            "cpu_us_min": figure(min(costs, default=None), 2),
            "cpu_us_max": figure(max(costs, default=None), 2),
            "busy": figure(self.median("busy"), 3),
            "others": figure(self.median("others"), 3),
            "rounds": len(self.samples),
            "requests": sum(sample.requests for sample in self.samples),
            "upstream_protocol": upstream_protocol(self.program, self.case),
            "version": self.version,
            "failed": self.failed(),
            "errors": self.errors(),
            "fault": self.fault,
        }


def upstream_protocol(program: str, case: Case) -> str:
    return "h1" if program == "nginx" else case.protocol


def ratio(ours: Result, theirs: Result, field: str) -> float | None:
    mine, other = ours.median(field), theirs.median(field)
    return mine / other if mine is not None and other else None


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def table(case: Case, results: list[Result]) -> str:
    """One case as text: a row a program, then outrider's ratios to each peer."""
    lines = [
        f"{case.name}  ({case.about})",
        f"  {'program':<10}{'CPU us/req':>12}{'min - max':>20}{'req/s':>10}{'p50 us':>9}{'p99 us':>9}{'p99.9 us':>10}{'busy':>7}"
        f"{'RSS MB':>9}{'idle MB':>9}",
    ]
    for result in results:
        costs = result.costs()
        span = f"{min(costs):.1f} - {max(costs):.1f}" if costs else "-"
        rss = max((sample.rss_kib for sample in result.samples), default=None)
        busy = result.median("busy")
        lines.append(
            f"  {result.program:<10}{_cell(result.median('cpu'), '.1f'):>12}{span:>20}{_cell(result.median('rps'), '.0f'):>10}"
            f"{_cell(result.median('p50_us'), '.0f'):>9}{_cell(result.median('p99_us'), '.0f'):>9}"
            f"{_cell(result.median('p999_us'), '.0f'):>10}"
            f"{_cell(busy, '.0%'):>7}{_cell(megabytes(rss), '.1f'):>9}{_cell(megabytes(result.idle_rss_kib or None), '.1f'):>9}")
        lines += [f"    note: {note}" for note in notes(result)]
        if result.failed():
            what = result.fault or ", ".join(f"{name}: {count}" for name, count in result.errors().items())
            lines.append(f"    FAILED: {what}")
    ours = next((result for result in results if result.program == "outrider"), None)
    for theirs in results:
        if ours and theirs is not ours:
            parts = [
                f"{title} {_cell(ratio(ours, theirs, field), '.2f')}"
                for title, field in (("CPU", "cpu"), ("req/s", "rps"), ("p50", "p50_us"), ("p99", "p99_us"), ("RSS", "rss_kib"))
            ]
            lines.append(f"  outrider / {theirs.program:<8} {'   '.join(parts)}")
    return "\n".join(lines)


def notes(result: Result) -> list[str]:
    """What a reader must know before trusting a row."""
    busy, others, found = result.median("busy"), result.median("others"), []
    if busy is not None and busy + (others or 0) < SATURATED and not result.case.paced:
        found.append("not saturated: the load side was the limit, so req/s, p50 and p99 are not this program's own")
    if result.case.paced and result.samples:
        rounds = [sample.p99_us for sample in result.samples]
        found.append(f"p99 by round: {min(rounds):.0f} - {max(rounds):.0f} us")
    if others is not None and others > DISTURBED:
        found.append(f"other programs used {others:.0%} of the proxy's core: run again on a quiet machine")
    if result.program == "direct":
        return []
    if upstream_protocol(result.program, result.case) != result.case.protocol:
        found.append("speaks HTTP/1.1 to the upstream; it has no plain h2 there")
    return found


def megabytes(kib: int | None) -> float | None:
    return None if kib is None else kib * 1024 / 1_000_000


def bars(results: list[Result]) -> list[tuple[str, bool | None]]:
    """Each bar as a line, and whether it was met; None where this run did not measure it."""
    found = {(result.case.name, result.program): result for result in results if not result.failed()}
    lines = []
    for case, what, peer, limit in CPU_BARS:
        ours, theirs = found.get((case, "outrider")), found.get((case, peer))
        value = ratio(ours, theirs, "cpu") if ours and theirs else None
        lines.append(_bar(f"{case} CPU per {what} <= {limit} x {peer}", value, limit, ""))
    # The quietest round: whatever else takes the processor away for milliseconds is in the others' tail.
    title = f"hit-1k-paced p99, quietest round, <= {HIT_P99_US:g} us"
    lines.append(_bar(title, _quietest(found.get(("hit-1k-paced", "outrider"))), HIT_P99_US, " us"))
    tails = [_quietest(found.get(("paced-1000", name))) for name in ("outrider", "envoy", "direct")]
    added = None
    if all(tail is not None for tail in tails):
        mine, envoy, direct = tails
        # Noise may have a proxy add nothing.
        added = max(mine - direct, 0.0) / max(envoy - direct, 1.0)
    title = f"paced-1000 p99 added, quietest round, <= {ADDED_P99_TO_ENVOY} x envoy"
    lines.append(_bar(title, added, ADDED_P99_TO_ENVOY, ""))
    idle = max((r.idle_rss_kib for r in results if r.program == "outrider" and not r.fault), default=0)
    lines.append(_bar(f"outrider's idle RSS <= {IDLE_RSS_MB:g} MB", megabytes(idle or None), IDLE_RSS_MB, " MB"))
    busy = found.get(("h1-1000conn", "outrider"))
    most = max(sample.rss_kib for sample in busy.samples) if busy else None
    title = f"outrider's RSS with 1000 connections <= {BUSY_RSS_MB:g} MB"
    lines.append(_bar(title, megabytes(most), BUSY_RSS_MB, " MB"))
    return lines


def _quietest(result: Result | None) -> float | None:
    return min(sample.p99_us for sample in result.samples) if result else None


def _bar(title: str, value: float | None, limit: float, unit: str) -> tuple[str, bool | None]:
    if value is None:
        return f"bar: {title}: not measured", None
    met = value <= limit
    return f"bar: {title}: {value:.2f}{unit}: {'met' if met else 'not met'}", met
