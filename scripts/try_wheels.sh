#!/usr/bin/env bash
# Build the wheels, install them in a clean environment, and walk the README's whole path there:
# outside the checkout, in a folder whose name holds what names may hold.
set -euo pipefail
root=$(pwd)
python=$root/$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/source"
git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$work/source"  # building leaves folders behind
for source in . splatscenes splatfactory; do
    "$python" -m build --quiet --wheel --outdir "$work/dist" "$work/source/$source"
done
"$python" scripts/check_wheels.py "$work/dist" "$root"
rm -rf "$work/source"
folder="$work/my scenes (é=1)"
mkdir "$folder"
"$python" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    -c "$root/constraints.txt" "$(echo "$work"/dist/zipsplat-*.whl)[cameras]" "$work"/dist/splat*.whl
cp -r assets/examples/office "$folder/photos"
cd "$folder"
run() { env/bin/python -m "$@"; }
env/bin/python -c "import zipsplat, splatfactory; print(zipsplat.__version__, splatfactory.__version__)"
env/bin/zipsplat doctor
env/bin/zipsplat info photos/01.png
env/bin/zipsplat reconstruct photos --weights zipsplat-tiny -o scene.ply  # weights in the wheel

run splatfactory.datasets.scripts.synthetic.generate --size 56 --num-scenes 12 --num-test-scenes 2 --num-views 8
run splatfactory.train quick --conf quickstart train.num_steps=10 train.log_every_iter=5 data.batch_size=2
run splatfactory.eval.indices make data/synthetic/56x56/test-scenes --output index.json --num-context 2 --num-target 4
run splatfactory.eval.run custom_benchmark --checkpoint quick data.dataset_dir=data/synthetic/56x56 \
    data.preprocessing.resize=56 eval.index=index.json eval.lpips=none
env/bin/splatfactory train quick --restore train.num_steps=12
env/bin/splatfactory eval custom_benchmark --checkpoint quick --tag half data.dataset_dir=data/synthetic/56x56 \
    data.preprocessing.resize=56 eval.index=index.json eval.lpips=none eval.compression=0.5
env/bin/splatfactory compare custom_benchmark/quick/index custom_benchmark/half/index -o compare.html
env/bin/splatfactory report quick
env/bin/splatfactory data describe data/synthetic/56x56/test-scenes

env/bin/zipsplat reconstruct photos --refine 20steps -o refined.ply
env/bin/zipsplat refine refined.ply photos --time 20steps -o better.ply
echo "wheels work outside the repository"
