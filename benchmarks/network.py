"""Speed and memory of the network, as ratios to a reference measured in the same run.

    python benchmarks/network.py                  # rate, compression, k-means, precision: minutes
    python benchmarks/network.py --depth          # the rate of Depth Anything 3, small
    python benchmarks/network.py --loading vitg   # peak memory; needs 12 GB, and 6 GB of disk
    python benchmarks/network.py --dtypes vitg    # float32 by both libraries, bfloat16; minutes
    python benchmarks/network.py --gpu            # ViT-g on a CUDA device, eager and compiled

Times on the CPU are thread CPU times with one thread, the minimum over several rounds, so
other load matters little. Results are in docs/benchmarks.md; `network.md` explains them.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from earlier import ROOT
from fma_peak import peak_gflops
from records import Record, Row, in_turns, machine
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zipsplat import Camera, Pose, ZipSplat, load_image
from zipsplat.float32_products import EXACT, SWITCH, fastest, onednn_is_better
from zipsplat.model.architecture import VARIANTS, ZipSplatConfig
from zipsplat.model.compression import select_kmeans
from zipsplat.model.cost import work_of
from zipsplat.model.depth_head import HeadConfig
from zipsplat.model.depth_network import DepthConfig, DepthNetwork
from zipsplat.model.network import ZipSplatNetwork
from zipsplat.model.untrained import init_untrained

# 2 × multiply-adds of matrix products, convolutions and attention: vits, 6 views at 252 pixels,
# compression 1, as PyTorch's FLOP counter counts them.
FORWARD_TERAFLOP = 0.2025
GIANT_TERAFLOP = {6: 5.754, 24: 28.63}
GIANT_GOAL_MS = {6: 15, 24: 60}
NAMES = {"vits": "ViT-S", "vitb": "ViT-B", "vitl": "ViT-L", "vitg": "the giant, random weights"}
PHOTOS = [str(path) for path in sorted((ROOT / "assets" / "examples" / "office").glob("*.png"))][:2]
HALF_FEATURES = {"avx512_bf16", "amx_tile", "bf16"}
"""Processors with one of them multiply bfloat16 in hardware."""

LOAD_SAFELY = """
import sys, time, torch
from zipsplat import ZipSplat
from zipsplat.model import checkpoint_layout
import PIL.Image, zipfile
status = lambda: open("/proc/self/status").read()
peak = lambda: int(status().split("VmHWM:")[1].split()[0]) * 1024
before, start = peak(), time.perf_counter()
model = ZipSplat(sys.argv[1], device="cpu", dtype="float32", image_size=28)
loaded = time.perf_counter() - start
model([torch.rand(3, 28, 28)])
print(peak() - before, loaded, time.perf_counter() - start)
"""
LOAD_PLAINLY = """
import sys, time, torch
from zipsplat.model.architecture import ZipSplatConfig
from zipsplat.model.network import ZipSplatNetwork
status = lambda: open("/proc/self/status").read()
peak = lambda: int(status().split("VmHWM:")[1].split()[0]) * 1024
before, start = peak(), time.perf_counter()
network = ZipSplatNetwork(ZipSplatConfig.variant(sys.argv[2]))
network.load_state_dict(torch.load(sys.argv[1], weights_only=True)["model"])
loaded = time.perf_counter() - start
with torch.no_grad():
    network(torch.rand(1, 1, 3, 28, 28))
print(peak() - before, loaded, time.perf_counter() - start)
"""


def cdist_kmeans(tokens: Tensor, count: int) -> Tensor:
    """Textbook k-means: all distances at once."""
    start = torch.linspace(0, tokens.shape[1] - 1, count).round().long()
    centers = tokens[:, start]
    for _ in range(5):
        assignment = torch.cdist(tokens, centers).argmin(dim=-1)
        members = torch.nn.functional.one_hot(assignment, count).to(tokens.dtype)
        counts = members.sum(dim=1).clamp_min(1).unsqueeze(-1)
        centers = members.transpose(1, 2) @ tokens / counts
    return torch.cdist(centers, tokens).argmin(dim=-1)


@torch.inference_mode()
def rate(record: Record, rounds: int) -> None:
    """FLOP rate of ViT-S beside those of a matrix product and of bare multiply-adds."""
    network = ZipSplatNetwork(ZipSplatConfig.variant("vits")).eval()
    images = torch.rand(1, 6, 3, 252, 252)
    what = "ViT-S, 6 views at 252 px"
    add_rates(record, what, FORWARD_TERAFLOP * 1e3, lambda: network(images), rounds, wanted=0.65)


def add_rates(
    record: Record,
    what: str,
    gigaflop: float,
    forward: Callable[[], object],
    rounds: int,
    wanted: float | None = None,
) -> None:
    """Rows for the rate of a network; all three are measured in turns."""
    left, right = torch.randn(2, 2048, 2048)
    seconds = in_turns(
        {"forward": forward, "product": lambda: left @ right}, rounds, clock=time.thread_time
    )
    found = gigaflop / seconds["forward"]
    product = 2 * 2048**3 / seconds["product"] / 1e9
    yardsticks = {"a 2048³ matrix product": (product, wanted), "FMA peak": (peak_gflops(), None)}
    record.add(Row(f"{what}: time of a forward pass", seconds["forward"], "s"))
    for peer, (value, least) in yardsticks.items():
        row = Row(f"{what}: speed", found, "GFLOP/s", peer, value, more_is_better=True)
        record.add(replace(row, wanted=least))


def small_depth_network() -> DepthNetwork:
    """da3-small with random weights."""
    backbone = replace(VARIANTS["vits"], out_layers=(5, 7, 9, 11), picks_reference=True)
    head = HeadConfig(2 * backbone.dim, 64, (48, 96, 192, 384), is_dual=True)
    return DepthNetwork(DepthConfig(backbone, head, has_cameras=True)).eval()


@torch.inference_mode()
def depth_rate(record: Record, rounds: int) -> None:
    """Depth and cameras of two views by da3-small, beside a matrix product, interleaved."""
    network, images = small_depth_network(), torch.rand(1, 2, 3, 280, 504)
    # The FLOP counter skips fused attention, so count with the unfused one.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(images)
    gigaflop = counter.get_total_flops() / 1e9
    what = "da3-small, 2 views at 280x504"
    add_rates(record, what, gigaflop, lambda: network(images), rounds, wanted=0.6)


@torch.inference_mode()
def compression(record: Record, rounds: int) -> None:
    """Cost of decoding again at another compression, with features already encoded."""
    network = ZipSplatNetwork(ZipSplatConfig.variant("vits")).eval()
    images = torch.rand(1, 6, 3, 252, 252)
    features = network.encode(images)
    shares = (1.0, 0.5, 0.25, 0.1)
    actions = {
        f"another compression, {s} of the tokens": lambda s=s: network.decode(features, s)
        for s in shares
    }
    encoding = {"encode": lambda: network.encode(images)}
    seconds = in_turns(encoding | actions, rounds, clock=time.thread_time)
    for what in actions:
        again = seconds["encode"] + seconds[what]
        record.add(
            Row(what, seconds[what], "s", peer="encoding the photos again", peer_value=again)
        )


@torch.inference_mode()
def kmeans(record: Record, rounds: int) -> None:
    """Token selection beside textbook k-means."""
    generator = torch.Generator().manual_seed(0)
    for N, K, D in ((1944, 486, 384), (1944, 486, 1536), (7776, 1944, 1536)):
        tokens = torch.randn(1, N, D, generator=generator)
        ways = {
            "ours": lambda t=tokens, k=K: select_kmeans(t, k),
            "plain": lambda t=tokens, k=K: cdist_kmeans(t, k),
        }
        seconds = in_turns(ways, rounds, clock=time.thread_time)
        what = f"k-means, {N} tokens of width {D}, {K} clusters"
        record.add(Row(what, seconds["ours"], "s", "k-means by `torch.cdist`", seconds["plain"]))


@torch.inference_mode()
def dtypes(record: Record, variant: str, rounds: int | None) -> None:
    """Float32 through MKL, float32 as it is chosen here, and bfloat16; random weights.

    A processor that only imitates bfloat16 takes minutes: it does so once, and not for the giant.
    """
    config, cpu = ZipSplatConfig.variant(variant), torch.device("cpu")
    width, images = config.backbone.dim, torch.rand(1, 6, 3, 252, 252)
    network, is_giant = ZipSplatNetwork(config).eval(), variant == "vitg"
    has_half = bool(HALF_FEATURES & set(machine()["features"]))

    def timed(ways: dict[str, Callable[[], object]], *, slowly: bool) -> dict[str, float]:
        number = rounds or (1 if slowly else 2)
        return in_turns(ways, number, clock=time.thread_time, warms_up=not slowly)

    def chosen(given: ZipSplatNetwork) -> None:
        with fastest(width, cpu):
            given(images)

    onednn_is_better(width)  # measured here, not while the clock runs
    ways = {"MKL": lambda: network(images), "float32": lambda: chosen(network)}
    seconds = timed(ways, slowly=is_giant)
    if has_half or not is_giant:
        half = network.set_precision(torch.bfloat16)
        seconds |= timed({"bfloat16": lambda: chosen(half)}, slowly=is_giant or not has_half)
    add_dtypes(record, variant, seconds, "oneDNN" if onednn_is_better(width) else "MKL")
    gigaflop = work_of(config, 6, (252, 252)).flop / 1e9
    rate, peak = gigaflop / seconds["float32"], peak_gflops()
    what = f"{NAMES[variant]}, 6 views at 252 px, float32: speed"
    record.add(
        Row(
            what,
            rate,
            "GFLOP/s",
            "FMA peak",
            peak,
            more_is_better=True,
            key=what if is_giant else "",
        )
    )


def add_dtypes(record: Record, variant: str, seconds: dict[str, float], path: str) -> None:
    """Rows of the precisions; those of the giant are promised."""
    # Measured on a Zen 5. Intel's processors are fast with MKL, and some slow in bfloat16.
    goals = {"float32": (1.7, "AMD avx512f"), "bfloat16": (2.5, "AMD avx512_bf16")}
    for dtype, name in {"float32": f"float32, here by {path}", "bfloat16": "bfloat16"}.items():
        if dtype in seconds:
            what = f"{NAMES[variant]}, 6 views at 252 px, {name}"
            row = Row(what, seconds[dtype], "s", "float32 by MKL", seconds["MKL"])
            if variant == "vitg":
                wanted, needs = goals[dtype]
                row = replace(row, wanted=wanted, needs=needs, key=what)
            record.add(row)


def psnr(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio in decibels of images in [0, 1]."""
    error = (first.clamp(0, 1) - second.clamp(0, 1)).square().mean().item()
    return -10 * math.log10(max(error, 1e-30))


def precision(record: Record, weights: str | None, files: list[str], rounds: int) -> None:
    """What faster float32 and bfloat16 change in rendered images, and their speed on this CPU."""
    images = [load_image(file) for file in files]

    def model(dtype: str) -> ZipSplat:
        if weights:
            return ZipSplat(weights, device="cpu", dtype=dtype)
        network = init_untrained(ZipSplatNetwork(ZipSplatConfig.variant("vits")))
        return ZipSplat.from_network(network, "cpu", dtype)

    exact, half = model("float32"), model("bfloat16")

    def by_exact() -> object:
        with mock.patch.dict(os.environ, {SWITCH: EXACT}):
            return exact(images)

    ways = {
        "exact": by_exact,
        "fast float32": lambda: exact(images),
        "bfloat16": lambda: half(images),
    }
    seconds = in_turns(ways, rounds, clock=time.thread_time)
    camera, poses = Camera.from_fov(1.0, w=252, h=252), Pose.identity((1,))
    renders = {name: way()[0].render(camera[None], poses)[0] for name, way in ways.items()}
    network = weights or "ViT-S, untrained"
    for name, limit in (("fast float32", 100), ("bfloat16", None)):
        what = f"{network}, {len(images)} photos, {name}"
        record.add(Row(what, seconds[name], "s", "exact float32", seconds["exact"]))
        found = min(200.0, psnr(renders[name], renders["exact"]))
        row = Row(f"{what}: render against that of exact float32 (200: equal)", found, "dB")
        key = "fast float32: render against that of exact float32 (200: equal)" if limit else ""
        record.add(replace(row, more_is_better=True, limit=limit, key=key))


def write_checkpoint(variant: str, path: Path) -> None:
    """Write a checkpoint of zeros through a sparse file, which takes little memory."""
    with torch.device("meta"):
        shapes = ZipSplatNetwork(ZipSplatConfig.variant(variant)).state_dict()
    total = sum(4 * value.numel() for value in shapes.values())
    mapped = torch.UntypedStorage.from_file(f"{path}.zeros", shared=True, nbytes=total)
    state, begin = {}, 0
    for name, value in shapes.items():
        end = begin + 4 * value.numel()
        state[name] = torch.empty(0).set_(mapped[begin:end], 0, value.shape)
        begin = end
    torch.save({"model": state}, path)
    Path(f"{path}.zeros").unlink()


def loading(record: Record, variant: str) -> None:
    """Peak memory and time to a first result, beside initialise-then-copy (Linux only)."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.tar"
        write_checkpoint(variant, path)
        size = path.stat().st_size
        for name, program in (("ours", LOAD_SAFELY), ("plain", LOAD_PLAINLY)):
            command = [sys.executable, "-c", program, str(path), variant]
            words = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            peak, *times = (float(word) for word in words.split())
            found[name] = (peak / size, *times)
    what = f"a checkpoint of {size / 1e9:.2f} GB"
    units = {
        f"{what}: peak memory": "× the file",
        f"{what}: loaded after, by the clock": "s",
        f"{what}: first result after, by the clock": "s",
    }
    peer = "initialise, then `load_state_dict`"
    for (name, unit), ours, plain in zip(units.items(), found["ours"], found["plain"], strict=True):
        record.add(Row(name, ours, unit, peer, plain))


@torch.inference_mode()
def gpu() -> None:
    """ViT-g on a CUDA device: milliseconds and peak memory."""
    if not torch.cuda.is_available():
        raise SystemExit("--gpu needs a CUDA device, and none is visible to PyTorch")
    print(torch.cuda.get_device_name())
    for dtype in (torch.float32, torch.bfloat16):
        network = ZipSplatNetwork(ZipSplatConfig.variant("vitg")).eval().cuda()
        network.set_precision(dtype)
        for mode in ("eager", "compiled"):
            forward = torch.compile(network) if mode == "compiled" else network
            for views, tera in GIANT_TERAFLOP.items():
                images = torch.rand(1, views, 3, 252, 252, device="cuda")
                torch.cuda.reset_peak_memory_stats()
                milliseconds = gpu_milliseconds(lambda f=forward, x=images: f(x))
                print(
                    f"{str(dtype).removeprefix('torch.'):<9} {mode:<9} {views:>3} views "
                    f"{milliseconds:8.1f} ms  {tera / milliseconds * 1e3:7.1f} TFLOP/s  "
                    f"{torch.cuda.max_memory_allocated() / 1e9:6.2f} GB  "
                    f"(target {GIANT_GOAL_MS[views]} ms)"
                )


def gpu_milliseconds(action: Callable[[], object], rounds: int = 10) -> float:
    """Median time of an action on the GPU."""
    for _ in range(3):
        action()
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        action()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[rounds // 2]


def main() -> None:
    """Run the selected measurements."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, help="repetitions of each measurement")
    parser.add_argument("--loading", metavar="VARIANT", help="peak memory of loading: vits … vitg")
    parser.add_argument("--depth", action="store_true", help="FLOP rate of Depth Anything 3")
    parser.add_argument("--dtypes", choices=VARIANTS, help="float32 by both libraries, bfloat16")
    parser.add_argument("--gpu", action="store_true", help="measure ViT-g on a CUDA device")
    parser.add_argument("--weights", help="for the precisions; by default an untrained ViT-S")
    parser.add_argument("images", nargs="*", default=PHOTOS, help="for the precisions")
    args = parser.parse_args()
    if args.gpu:
        gpu()
        return
    torch.set_num_threads(1)
    if args.loading:
        record = Record(f"network_loading_{args.loading}", "Loading a checkpoint")
        loading(record, args.loading)
    elif args.depth:
        record = Record("network_depth", "Depth Anything 3, small, on a CPU")
        depth_rate(record, args.rounds or 3)
    elif args.dtypes:
        title = f"Precisions of the network on a CPU: {NAMES[args.dtypes]}"
        record = Record(f"network_{args.dtypes}", title)
        dtypes(record, args.dtypes, args.rounds)
    else:
        record = Record("network", "The network on a CPU, ViT-S")
        rounds = args.rounds or 2
        rate(record, rounds)
        compression(record, rounds)
        kmeans(record, rounds)
        precision(record, args.weights, args.images, rounds)
    record.save()


if __name__ == "__main__":
    main()
