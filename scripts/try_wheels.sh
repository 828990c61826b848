#!/usr/bin/env bash
# Build both wheels, install them in a clean environment, and use them from another folder.
set -euo pipefail
python=$(realpath -s "$1")
root=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/source"
git ls-files -z | xargs -0 cp --parents -t "$work/source"  # building leaves folders behind
for source in . splatfactory; do
    "$python" -m build --quiet --wheel --outdir "$work/dist" "$work/source/$source"
done
"$python" -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    -c "$root/constraints.txt" "$work"/dist/*.whl
cp -r assets/examples/office "$work/photos"
cd "$work"
env/bin/python -c "import zipsplat, splatfactory; print(zipsplat.__version__, splatfactory.__version__)"
env/bin/zipsplat doctor
env/bin/zipsplat info photos/01.png
env/bin/zipsplat reconstruct photos --weights zipsplat-tiny -o scene.ply  # weights in the wheel
env/bin/python -m splatfactory.train --help >/dev/null
echo "wheels work outside the repository"
