"""`python -m tests.fuzzing.guided READER`: files that reach new code, until it is stopped.

Needs atheris, which is not among the tools: `pip install atheris` (3.0.0 was tried, on
Python 3.11). Only our own packages are instrumented: PyTorch's 35 000 functions take minutes.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["zipsplat", "splatfactory"]):
    from tests.fuzzing.campaign import SECONDS, Fault, fault_of, keep
    from tests.fuzzing.readers import READERS


def main() -> None:
    """Run until a fault is found and kept, or the user stops it."""
    name = sys.argv[1]
    reader = READERS[name]
    with tempfile.TemporaryDirectory(prefix="zipsplat-fuzz-") as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for file, content in reader.seeds().items():
            (corpus / file).write_bytes(content)
        path = Path(folder) / sorted(reader.seeds())[0]

        def read(data: bytes) -> None:
            path.write_bytes(data)
            reason = fault_of(reader, path)
            if reason:
                digest = hashlib.sha256(data).hexdigest()[:8]
                keep(Fault(f"{name}-{digest}-{path.name}", data, reason))
                raise AssertionError(reason)

        limits = [f"-timeout={SECONDS}", "-rss_limit_mb=2048"]
        atheris.Setup([sys.argv[0], *limits, *sys.argv[2:], str(corpus)], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
