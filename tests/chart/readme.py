"""Makes the chart's README of its values: `python3 tests/chart/readme.py` writes it, `--check` tells whether it is old."""

import json
import pathlib
import sys

CHART = pathlib.Path(__file__).resolve().parents[2] / "charts" / "outrider"

HEAD = """# The outrider chart

Installs the injector, which gives the sidecar to pods that ask for it, and what watches them. Kubernetes 1.29 or newer.

**Not of use yet**: the commands that it starts, `outrider injector` and `outrider discovery`, are not built. The alerts and the dashboard are.

    helm install outrider charts/outrider --namespace outrider-system --create-namespace
    kubectl label namespace shop outrider.dev/inject=enabled
    kubectl -n shop rollout restart deployment

What a pod can say by annotation is in [docs/kubernetes.md](../../docs/kubernetes.md). The certificate of the webhook is made and
rotated by the injector itself; the chart never makes one, so that rendering it twice gives the same text.

If no injector answers, opted-in pods are not created (`injector.failurePolicy: Fail`): better no pod than one without its
protection. To break the glass, `kubectl delete mutatingwebhookconfiguration outrider-injector`.

## Values

| value | default | meaning |
|---|---|---|
"""


def rows(text):
    """One row a leaf: its path, its value as written, and the comment above it. Indentation is the path."""
    path, comment = [], []
    lines = text.splitlines()
    for at, line in enumerate(lines):
        bare = line.strip()
        if not bare:
            comment = []
            continue
        if bare.startswith("#"):
            comment.append(bare[1:].strip())
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        key, _, value = bare.partition(":")
        path = path[:depth] + [key]
        value = value.strip()
        deeper = at + 1 < len(lines) and lines[at + 1].startswith("  " * (depth + 1))
        if value or not deeper:
            yield ".".join(path), value or '""', " ".join(comment)
        elif comment:
            inner = [l for l in lines[at + 1 :] if l.startswith("  " * (depth + 1))]
            # A block whose own keys say nothing is one value.
            if not inner[0].strip().startswith("#"):
                block = []
                for l in lines[at + 1 :]:
                    if l.strip() and not l.startswith("  " * (depth + 1)):
                        break
                    if l.strip():
                        block.append(l.strip())
                if all(": " in l for l in block) and not any(c.startswith("#") for c in block):
                    yield ".".join(path), "{ " + ", ".join(block) + " }", " ".join(comment)
                    comment = []
                    continue
        comment = []


def made():
    seen, text = set(), HEAD
    for path, value, comment in rows((CHART / "values.yaml").read_text()):
        if any(path.startswith(whole + ".") for whole in seen):
            continue
        seen.add(path)
        text += f"| `{path}` | `{value}` | {comment} |\n"
    return text


if __name__ == "__main__":
    readme = CHART / "README.md"
    if "--check" in sys.argv:
        same = readme.read_text() == made()
        print(json.dumps({"readme": same}))
        sys.exit(0 if same else "charts/outrider/README.md is old: python3 tests/chart/readme.py makes it anew")
    readme.write_text(made())
