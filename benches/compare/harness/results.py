"""The page of results: the same figures as the tables, as ratios with their least and greatest round."""

from harness.cases import Case
from harness.report import Result, bars, megabytes, notes, ratio

PEERS = ("envoy", "haproxy", "nginx", "varnish")


def page(about: str, results: list[Result]) -> str:
    cases: dict[Case, dict[str, Result]] = {}
    for result in results:
        cases.setdefault(result.case, {})[result.program] = result
    rounds = max((len(result.samples) for result in results), default=0)
    lines = [
        "# outrider beside its peers",
        "",
        f"Written by `benches/compare/run --write`, of {rounds} rounds a case; not by hand. What is measured, and how to read it, is in",
        "[compare/README.md](compare/README.md): the ratios mean something, the absolute figures are of the machine. A ratio is outrider's",
        "CPU per request by the peer's: below 1 outrider costs less. In brackets are the least and the greatest round.",
        "outrider has everything on that a policy turns on, the peers only forward, or keep.",
        "",
        *(f"- {line}" for line in about.splitlines()),
        "",
        "## CPU per request",
        "",
        "| case | | outrider, us | / Envoy | / HAProxy | / nginx | / Varnish |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    told: list[str] = []
    for case, programs in cases.items():
        if case.paced:
            continue
        ours = programs.get("outrider")
        mine = span(ours.median("cpu"), ours.costs(), ".1f") if ours else "-"
        against = [compared(ours, programs.get(peer)) for peer in PEERS]
        lines.append(f"| `{case.name}` | {case.about} | {mine} | {' | '.join(against)} |")
        told += [f"`{case.name}`, {name}: {note}" for name, result in programs.items() for note in remarks(result)]
    lines += ["", *(f"- {note}" for note in told), *([""] if told else [])]
    lines += latency(cases) + memory(cases)
    lines += ["## Bars", "", *(f"- {line.removeprefix('bar: ')}" for line, met in bars(results) if met is not None), ""]
    return "\n".join(lines)


def remarks(result: Result) -> list[str]:
    # How busy a program was says nothing of what a request cost it.
    found = [note for note in notes(result) if not note.startswith("not saturated")]
    if result.failed():
        found.append("FAILED: " + (result.fault or ", ".join(f"{name}: {count}" for name, count in result.errors().items())))
    return found


def span(middle: float | None, values: list[float], form: str) -> str:
    if middle is None or not values:
        return "-"
    return f"{middle:{form}} ({min(values):{form}} - {max(values):{form}})"


def compared(ours: Result | None, theirs: Result | None) -> str:
    if not ours or not theirs or ours.failed() or theirs.failed():
        return "-"
    # Round by round: what slowed both down at one time is in both.
    return span(ratio(ours, theirs, "cpu"), [mine / other for mine, other in zip(ours.costs(), theirs.costs())], ".2f")


def latency(cases: dict[Case, dict[str, Result]]) -> list[str]:
    paced = {case: programs for case, programs in cases.items() if case.paced}
    if not paced:
        return []
    lines = ["## Latency at a steady rate", "", "Microseconds from when a request was due to when it was answered.", "",
             "| case | program | requests a second | p50 | p99 | p99.9 |", "|---|---|---:|---:|---:|---:|"]
    for case, programs in paced.items():
        for name, result in programs.items():
            if result.samples and not result.fault:
                figures = [span(result.median(f"{p}_us"), [getattr(sample, f"{p}_us") for sample in result.samples], ".0f")
                           for p in ("p50", "p99", "p999")]
                lines.append(f"| `{case.name}` | {name} | {result.median('rps'):.0f} | {' | '.join(figures)} |")
    return [*lines, ""]


def memory(cases: dict[Case, dict[str, Result]]) -> list[str]:
    lines = ["## Memory", "", "Resident, in MB of 1,000,000 bytes: before any request, and the most under load.", "",
             "| case | outrider | Envoy | HAProxy | nginx | Varnish |", "|---|---:|---:|---:|---:|---:|"]

    def cell(result: Result | None) -> str:
        if not result or not result.samples:
            return "-"
        idle, most = megabytes(result.idle_rss_kib), megabytes(max(sample.rss_kib for sample in result.samples))
        return f"{idle:.1f}, {most:.1f}"

    for case, programs in cases.items():
        if not case.paced:
            lines.append(f"| `{case.name}` | {' | '.join(cell(programs.get(name)) for name in ('outrider', *PEERS))} |")
    return [*lines, ""]
