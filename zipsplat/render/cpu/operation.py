"""The rasterizer as an operation of PyTorch, with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zipsplat.render._rules import FRUSTUM_MARGIN
from zipsplat.render.cpu.layout import ByteArray, FloatArray, ImageGradients, Inputs, Scene
from zipsplat.render.cpu.memory import empty, zeros
from zipsplat.render.cpu.view import Plan, View, render_view, render_view_backward, scene_of


class Rasterize(torch.autograd.Function):
    """Splats, camera-from-world rotations and camera centres to features and transmittances.

    `apply(plan, means, quats, scales, opacities, sh_coeffs, rotations, centres)` takes float32
    tensors, the cameras' as (V, 3, 3) and (V, 3), and returns features (V, F, H, W),
    transmittances (V, H, W) and masks (2, V, N) of bool, N = 0 if not asked for.
    """

    @staticmethod
    def forward(ctx: Any, plan: Plan, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Render all views."""
        scene, rotations, centres = _arrays(tensors)
        cameras = _cameras(plan, rotations, centres)
        views, rendered = list[View](), list[tuple[FloatArray, FloatArray, ByteArray, ByteArray]]()
        for camera in cameras:
            view = render_view(scene, camera, plan)
            image = view.buffers
            rendered.append((image.features, image.transmittances, view.contributed, view.centred))
            if any(ctx.needs_input_grad):
                views.append(view)
            del view, image  # so that the next one finds its memory in the caches
        size = (plan.settings.size.height, plan.settings.size.width)
        features = _stacked([r[0] for r in rendered], (plan.num_features, *size))
        transmittances = _stacked([r[1] for r in rendered], size)
        masks = torch.from_numpy(
            np.array([[r[2] for r in rendered], [r[3] for r in rendered]], bool)
        )
        ctx.save_for_backward(*tensors, features, transmittances)
        ctx.plan, ctx.views = plan, views
        ctx.scene = scene
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(masks)
        return features, transmittances, masks

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, v_features: Tensor | None, v_transmittances: Tensor | None, _v_masks: None
    ) -> tuple[Tensor | None, ...]:
        """Gradients of all tensors of `forward`."""
        plan: Plan = ctx.plan
        views: list[View] = ctx.views
        *tensors, features, transmittances = ctx.saved_tensors  # raises if one was modified
        v_features = _or_zeros(v_features, features)
        v_transmittances = _or_zeros(v_transmittances, transmittances)
        make = empty if views else zeros
        gradients = Inputs(*(make(t.numel()) for t in tensors[:5]))
        by_rotation = torch.zeros_like(tensors[5])
        by_centre = torch.zeros_like(tensors[6])
        for number, view in enumerate(views):
            v_image = ImageGradients(_flat(v_features[number]), _flat(v_transmittances[number]))
            of_camera = render_view_backward(ctx.scene, plan, view, v_image, gradients, number == 0)
            by_rotation[number] = torch.from_numpy(of_camera.rotation)
            by_centre[number] = torch.from_numpy(of_camera.centre)
        by_splats = (
            torch.from_numpy(g).reshape(t.shape) for g, t in zip(gradients, tensors, strict=False)
        )
        return (None, *by_splats, by_rotation, by_centre)


def _arrays(tensors: tuple[Tensor, ...] | list[Tensor]) -> tuple[Scene, FloatArray, FloatArray]:
    *splats, rotations, centres = (t.detach().contiguous().numpy() for t in tensors)
    return scene_of(Inputs(*(s.reshape(-1) for s in splats))), rotations, centres


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    """The gradient; zeros where nothing depends on the result."""
    if gradient is not None:
        return gradient
    return torch.from_numpy(zeros(like.numel())).reshape(like.shape)


def _flat(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.contiguous().numpy().reshape(-1)
    return array


def _stacked(arrays: list[FloatArray], shape: tuple[int, ...]) -> Tensor:
    if len(arrays) == 1:  # the usual case without a copy
        return torch.from_numpy(arrays[0]).reshape(1, *shape)
    joined = np.stack(arrays) if arrays else np.empty(0, np.float32)
    return torch.from_numpy(joined).reshape(len(arrays), *shape)


def _cameras(plan: Plan, rotations: FloatArray, centres: FloatArray) -> list[FloatArray]:
    """One row of numbers per camera; see `layout`."""
    cameras = []
    for K, rotation, centre in zip(plan.K, rotations, centres, strict=True):
        bounds: list[float] = []
        for axis, extent in enumerate(plan.settings.size):
            focal, principal = float(K[axis, axis]), float(K[axis, 2])
            margin = FRUSTUM_MARGIN * 0.5 * extent / focal
            bounds += [-principal / focal - margin, (extent - principal) / focal + margin]
        intrinsics = [K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
        numbers = [*rotation.reshape(-1), *centre, *intrinsics, *bounds]
        cameras.append(np.array(numbers, np.float32))
    return cameras
