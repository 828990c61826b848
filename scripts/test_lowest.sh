#!/usr/bin/env bash
# Run the fast tests with the lowest version of every dependency, in an environment of its own.
# PyTorch is the lowest CPU build that can be had; where its index is out of reach, the pinned one.
# Other Pythons than this one are resolved by tests/contracts/test_installable.py, not run.
set -euo pipefail
python=$(realpath -s "$1")
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
uv() { "$python" -m uv "$@"; }
uv pip compile --quiet --python "$python" --resolution lowest-direct --only-binary :all: \
    --no-binary antlr4-python3-runtime --no-annotate --no-header \
    --extra viewer --extra heic --extra spz4 --extra cameras --extra colmap --extra opencv \
    pyproject.toml splatfactory/pyproject.toml splatscenes/pyproject.toml > "$work/all.txt"
lowest=$(sed -n 's/^torch==//p' "$work/all.txt")
pinned=$(sed -n 's/^torch==//p' constraints.txt)
# What the CUDA build of PyTorch brings is left to the build that is installed.
grep -vE '^(torch|triton|nvidia-.*|cuda-.*)==' "$work/all.txt" > "$work/lowest.txt"
"$python" -m venv "$work/env"
pip() { "$work/env/bin/python" -m pip --disable-pip-version-check "$@"; }
pip install --quiet "torch==$lowest" --index-url https://download.pytorch.org/whl/cpu \
    || pip install --quiet "torch==$pinned"
pip install --quiet -r "$work/lowest.txt" pytest pytest-timeout pytest-xdist hypothesis
pip install --quiet --no-deps -e . -e splatscenes/ -e splatfactory/
"$work/env/bin/python" - "$lowest" <<'END'
import sys
import torch
print("Python", sys.version.split()[0], "PyTorch", torch.__version__, "lowest would be", sys.argv[1])
END
sed 's/^/  /' "$work/lowest.txt"
OMP_NUM_THREADS=1 "$work/env/bin/python" -m pytest -p no:cacheprovider -m "not slow" \
    --ignore tests/splatfactory/test_metrics.py "${@:-tests/zipsplat}"  # compares with scikit-image
