"""Scene tokens of a network are refined against the photos that it saw."""

from __future__ import annotations

import torch

from tests.zipsplat.refinement.textured_wall import wall_photos
from zipsplat import Gaussians, Pose, ZipSplat
from zipsplat.photometric import PhotometricLoss
from zipsplat.preprocess import Inputs
from zipsplat.refinement.token_refinement import refined_by_tokens

SCALE = 0.5


def encoded(model: ZipSplat):
    photos = wall_photos(3)
    views = (list(photos.images), photos.cameras, photos.poses)
    features = model.encode(*views, True, prior_scale=SCALE)
    return features, model.preprocessor(*views)


def loss(scene: Gaussians, inputs: Inputs) -> float:
    first = inputs.poses[0, :1].inv().compose(inputs.poses[0])
    poses = Pose(first.R, first.t * SCALE)
    with torch.no_grad():
        rendered, _ = scene.render(inputs.cameras[0], poses)
    values = [PhotometricLoss(a)(b)[0] for a, b in zip(inputs.images[0], rendered, strict=True)]
    return float(sum(values))


def test_without_steps_it_is_the_scene_of_the_network():
    model = ZipSplat("zipsplat-tiny", "cpu")
    features, inputs = encoded(model)
    plain = model.decode(features, 0.5)[0]
    scene = refined_by_tokens(model.model, features, inputs, SCALE, 0.5, num_steps=0)
    torch.testing.assert_close(scene.packed(), plain.packed())


def test_steps_bring_the_scene_closer_to_the_photos():
    model = ZipSplat("zipsplat-tiny", "cpu")
    features, inputs = encoded(model)
    before = loss(model.decode(features)[0], inputs)
    scene = refined_by_tokens(model.model, features, inputs, SCALE, num_steps=12)
    assert loss(scene, inputs) < 0.8 * before
    again = refined_by_tokens(model.model, features, inputs, SCALE, num_steps=12)
    assert torch.equal(scene.packed(), again.packed())
    assert all(not p.requires_grad or p.grad is None for p in model.parameters())


def test_it_never_ends_above_its_first_loss(monkeypatch):
    """Steps far too large only make it worse; then the tokens of the network count."""
    model = ZipSplat("zipsplat-tiny", "cpu")
    features, inputs = encoded(model)
    monkeypatch.setattr("zipsplat.refinement.token_refinement.LEARNING_RATE", 1e3)
    scene = refined_by_tokens(model.model, features, inputs, SCALE, num_steps=3)
    torch.testing.assert_close(scene.packed(), model.decode(features)[0].packed())
