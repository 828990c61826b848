"""Check the contents of the wheels: `check_wheels.py DIST ROOT` fails if something is missing.

Each must carry its licence, README, URLs, classifiers and `py.typed`, and exactly the modules and
data files of its package in the sources at ROOT.
"""

from __future__ import annotations

import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

DATA = (".yaml", ".json", ".js", ".css", ".html", ".glsl", ".safetensors", ".typed", ".zip")
NOT_SHIPPED = {"splatfactory/setup.py"}
PACKAGES = ("zipsplat", "splatscenes", "splatfactory")


def shipped(root: Path, package: str) -> set[str]:
    """Files of a package that belong into its wheel, as paths relative to the root."""
    paths = {p for p in (root / package).rglob("*") if p.is_file()}
    names = {
        p.relative_to(root).as_posix()
        for p in paths
        if "__pycache__" not in p.parts and (p.suffix == ".py" or p.name.endswith(DATA))
    }
    return names - NOT_SHIPPED


def metadata_faults(metadata: Message) -> list[str]:
    """Required metadata that a wheel lacks."""
    wanted = {
        "Project-URL": "no URL of the repository",
        "Classifier": "no classifiers",
        "License-Expression": "no licence expression",
        "License-File": "no licence file",
        "Requires-Python": "no Python version",
    }
    faults = [text for key, text in wanted.items() if not metadata.get_all(key)]
    if len(str(metadata.get_payload())) < 100:
        faults.append("no README as description")
    return faults


def faults_of(wheel: Path, root: Path, package: str) -> list[str]:
    """What is wrong with a wheel, one line each."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(n.split("/")[0] for n in names if n.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
    code = {n for n in names if not n.startswith(info)}
    expected = shipped(root, package)
    faults = metadata_faults(metadata)
    faults += [f"{name} is missing" for name in sorted(expected - code)]
    faults += [
        f"{name} does not belong to {package}"
        for name in sorted(code)
        if not name.startswith(package)
    ]
    if not any(n.startswith(info) and n.endswith("LICENSE") for n in names):
        faults.append("the text of the licence is missing")
    if f"{package}/py.typed" not in code:
        faults.append("py.typed is missing: type checkers would ignore all annotations")
    return [f"{wheel.name}: {fault}" for fault in faults]


def main() -> int:
    """Check every wheel; returns the exit status."""
    dist, root = Path(sys.argv[1]), Path(sys.argv[2])
    faults = []
    for package in PACKAGES:
        (wheel,) = dist.glob(f"{package}-*.whl")
        faults += faults_of(wheel, root, package)
    print("\n".join(faults) or "the wheels hold what they should")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
