"""The network against the golden values (tests/golden/model/README.md), stage by stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.zipsplat.model.golden_cases import FOLDER, TOLERANCE, GoldenCase
from zipsplat import Gaussians, ZipSplat, load_image
from zipsplat.camera import Camera
from zipsplat.model.compression import evenly_spaced, kmeans, nearest, num_kept, select_kmeans
from zipsplat.model.head import decode
from zipsplat.model.network import Features, ZipSplatNetwork
from zipsplat.pose import Pose
from zipsplat.render import reference
from zipsplat.render._rules import ALPHA_MIN

FAST_TOLERANCE = 2e-5
MEAN_SQUARE = 1e-10  # 100 dB
CAMERA = Camera.from_fov(1.0, w=64, h=64)
CUT = 25 * FAST_TOLERANCE  # relative; alphas at the cut are e^-5.5 of the opacity
OFFICE = FOLDER.parents[2] / "assets" / "examples" / "office"
FAST = [p.stem for p in sorted(FOLDER.glob("vit[sb]_*.npz"))]
SLOW = [p.stem for p in sorted(FOLDER.glob("vit[lg]_*.npz"))]
CASES = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


class Run:
    """A golden case with what our network makes of it, encoded once."""

    def __init__(self, name: str) -> None:
        self.case = GoldenCase(name)
        self.network: ZipSplatNetwork = self.case.network()
        self.block_rms: list[float] = []
        self.block_corner: list[Tensor] = []
        self.backbone: list[Tensor] = []
        vit = self.network.backbone.backbone
        hooks = [block.register_forward_hook(self._keep_block) for block in vit.blocks]
        hooks.append(self.network.backbone.register_forward_hook(self._keep_backbone))
        self.features: Features = self.network.encode(self.case.images(), self.case.priors())
        for hook in hooks:
            hook.remove()

    def _keep_block(self, module: nn.Module, args: object, output: Tensor) -> None:
        self.block_rms.append(output.double().square().mean().sqrt().item())
        self.block_corner.append(output.flatten(0, -2)[:4, :8].clone())

    def _keep_backbone(self, module: nn.Module, args: object, output: list[Tensor]) -> None:
        self.backbone = output


@pytest.fixture(scope="module", params=CASES)
def run(request: pytest.FixtureRequest) -> Run:
    """One case at a time: the networks are large."""
    return Run(request.param)


def test_every_case_is_tested() -> None:
    assert len(FAST) == 10
    assert len(SLOW) == 2


def test_encoding(run: Run) -> None:
    case = run.case
    case.check("embed_tokens", run.network.backbone.backbone.embed(case.images())[0])
    case.check("block_rms", torch.tensor(run.block_rms, dtype=torch.float64))
    case.check("block_corner", torch.stack(run.block_corner))
    for index, layer in enumerate(reversed(run.backbone)):  # stored shallow to deep
        case.check(f"backbone_{index}", layer)
    for index, layer in enumerate(run.features.layers):
        case.check(f"prepared_{index}", layer.unflatten(1, (run.features.num_views, -1)))
    priors = case.priors()
    if priors is not None:
        case.check("prior_encoding", priors.encoding)
        case.check("prior_token", run.network.backbone.cam_enc(priors))


def test_selection(run: Run) -> None:
    for group in run.case.groups():
        stored = run.case.arrays
        tokens = run.features.layers[0]
        kept = num_kept(tokens.shape[1], float(stored[f"{group}_compression"]))
        indices = select_kmeans(tokens, kept).numpy()
        wanted = stored[f"{group}_nearest_idx"]
        assert indices.shape == wanted.shape
        if f"{group}_assignments" not in stored:
            np.testing.assert_array_equal(indices, wanted)
            continue
        tie, other = stored[f"{group}_nearest_tie"], stored[f"{group}_nearest_other"]
        assert ((indices == wanted) | (tie & (indices == other))).all()
        centroids, assignment = kmeans(tokens, kept)
        np.testing.assert_array_equal(assignment.numpy(), stored[f"{group}_assignments"])
        run.case.check(f"{group}_centroids", centroids)


def test_decoding(run: Run) -> None:
    for group in run.case.groups():
        indices = torch.from_numpy(run.case.arrays[f"{group}_nearest_idx"])
        scene = run.network.fuse(run.features, indices)
        colors = run.network.colors(run.features, indices)
        gaussians = run.network.decode_selected(run.features, indices)
        run.case.check(f"{group}_scene_tokens", scene)
        run.case.check(f"{group}_color_feats", colors)
        run.case.check(
            f"{group}_params", run.network.gaussian_head.raw(torch.cat((scene, colors), dim=-1))
        )
        run.case.check(f"{group}_gaussians", gaussians.packed())
        assert gaussians.shape[1] == run.case.arrays[f"{group}_num_gaussians"]


def test_whole_network(run: Run) -> None:
    for group in run.case.groups():
        compression = float(run.case.arrays[f"{group}_compression"])
        if compression < 1:
            continue  # at ties other tokens may be chosen
        gaussians = run.network(run.case.images(), run.case.priors(), compression)
        run.case.check(f"{group}_gaussians", gaussians.packed())


@pytest.mark.parametrize("name", FAST)
def test_the_faster_products_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through oneDNN, also on processors on which PyTorch's own switch would not reach it."""
    case = GoldenCase(name)
    network, images, priors = case.network(), case.images(), case.priors()
    group = case.groups()[0]
    indices = torch.from_numpy(case.arrays[f"{group}_nearest_idx"])
    exact = network.decode_selected(network.encode(images, priors), indices)
    used: list[int] = []
    with onednn_products(monkeypatch, used):
        features = network.encode(images, priors)
        scene, colors = network.fuse(features, indices), network.colors(features, indices)
        fast = network.decode_selected(features, indices)
    assert used
    assert not torch.equal(fast.means, exact.means)
    for key, got in (
        ("scene_tokens", scene),
        ("color_feats", colors),
        ("gaussians", fast.packed()),
    ):
        assert case.error(f"{group}_{key}", got) <= FAST_TOLERANCE
    require_equal_images(exact[0], fast[0], monkeypatch)


def require_equal_images(
    exact: Gaussians, fast: Gaussians, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 100 dB, apart from steps that the exact scene takes by itself.

    Gaussians of random weights surround the camera, some of them close to it, and a few pixels see
    one whose alpha is 1/255 to the fourth digit. Whether it is rendered is a matter of rounding: in
    one case the exact scene is 90 dB from that of float64, by a single pixel. So images must be
    equal without this cut. With it, each channel of a pixel may differ by what the exact scene
    itself gains or loses there when the cut moves by `CUT`.
    """
    smooth = [with_cut(scene, 0, monkeypatch) for scene in (exact, fast)]
    assert smooth[0].std() > 0.01
    assert (smooth[0] - smooth[1]).square().mean() <= MEAN_SQUARE
    low, high = (with_cut(exact, ALPHA_MIN * (1 + d), monkeypatch) for d in (-CUT, CUT))
    steps = (low - high).abs()
    assert (steps > MEAN_SQUARE**0.5).double().mean() <= 0.01
    rendered = [scene.render(CAMERA, Pose.identity())[0] for scene in (exact, fast)]
    beyond = ((rendered[0] - rendered[1]).abs() - steps).clamp_min(0)
    assert beyond.square().mean() <= MEAN_SQUARE


def with_cut(scene: Gaussians, alpha_min: float, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The reference's image if Gaussians are rendered from this alpha on."""
    with monkeypatch.context() as patch:
        patch.setattr(reference, "ALPHA_MIN", alpha_min)
        return scene.render(CAMERA, Pose.identity(), renderer="reference")[0]


def test_images_of_trained_weights_stay_with_the_faster_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, used = ZipSplat("zipsplat-tiny", device="cpu", dtype="float32"), list[int]()
    images = [load_image(path) for path in sorted(OFFICE.glob("*.png"))[:3]]
    exact = model(images)[0]
    with onednn_products(monkeypatch, used):
        fast = model(images)[0]
    camera, pose = Camera.from_fov(1.0, w=96, h=96), Pose.identity()
    first, second = (scene.render(camera, pose)[0] for scene in (exact, fast))
    assert used
    assert 0 < (first - second).square().mean() <= MEAN_SQUARE


@contextmanager
def onednn_products(monkeypatch: pytest.MonkeyPatch, used: list[int]) -> Iterator[None]:
    """Linear layers by oneDNN's float32 products, attention with PyTorch's switch set."""
    setting = torch.backends.mkldnn.matmul
    linear, before = torch.ops.mkldnn._linear_pointwise, setting.fp32_precision

    def by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        used.append(x.shape[-1])
        out: Tensor = linear(x, weight, bias, "none", [], "")
        return out

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", by_onednn)
        setting.fp32_precision = "bf16"
        try:
            yield
        finally:
            setting.fp32_precision = before


def _stored(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / name) as file:
        return {key: file[key] for key in file.files}


@pytest.mark.parametrize("index", range(7))
def test_kmeans_cases(index: int) -> None:
    stored = _stored("kmeans.npz")
    tokens = torch.from_numpy(stored[f"x{index}"])
    centroids, assignment = kmeans(tokens, int(stored[f"K{index}"]))
    assert (assignment.numpy() == stored[f"assignments{index}"]).all()
    error = np.linalg.norm(centroids.numpy() - stored[f"centroids{index}"])
    assert error <= TOLERANCE * np.linalg.norm(stored[f"centroids{index}"])
    chosen = nearest(centroids, tokens).numpy()
    same = chosen == stored[f"nearest_idx{index}"]
    assert (same | stored[f"nearest_tie{index}"]).all()
    if index == 6:  # duplicates: the first of identical tokens
        assert same.all()


def test_starting_tokens() -> None:
    stored = _stored("kmeans.npz")
    starts = [key for key in stored if key.startswith("init_V")]
    assert starts
    for key in starts:
        num_views, percent = (int(part) for part in key.removeprefix("init_V").split("_c"))
        count = num_kept(324 * num_views, percent / 100)
        got = evenly_spaced(324 * num_views, count, torch.device("cpu"))
        np.testing.assert_array_equal(got.numpy(), stored[key])


def test_head_decoding() -> None:
    stored = _stored("head_decode.npz")
    keys = [key for key in stored if key.startswith("params_deg")]
    assert keys
    for key in keys:
        raw = torch.from_numpy(stored[key])
        per_gaussian = 11 + 3 * (int(key.removeprefix("params_deg")[0]) + 1) ** 2
        got = decode(raw.unflatten(-1, (-1, per_gaussian)).flatten(1, 2)).packed()
        wanted = torch.from_numpy(stored[key.replace("params", "gaussians")])
        assert got.shape == wanted.shape
        assert (got - wanted).norm() <= TOLERANCE * wanted.norm()
