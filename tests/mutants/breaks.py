"""One-line faults that the tests must notice, over both packages.

`python -m tests.mutants.run` makes each in a copy of the sources and runs the tests named beside
it. Whoever changes a line that is listed here gives the entry the new text.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Break:
    """One fault.

    Attributes:
        file: below the root of the repository.
        old: what stands there exactly once.
        new: what the fault makes of it.
        tests: files, or single tests, that should fail; relative to `tests`.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _breaks(folder: str, *entries: tuple[str, str, str, str]) -> list[Break]:
    return [
        Break(f"{folder}/{file}", old, new, tuple(tests.split()))
        for file, old, new, tests in entries
    ]


WIRING = "splatfactory/training/test_wiring.py"
EVAL_WIRING = "splatfactory/eval/test_wiring.py"
TRAIN = "splatfactory/test_train.py"
LOSSES = "splatfactory/losses/test_losses.py"
OPTIM = "splatfactory/training/test_optim.py"
CHECKPOINTS = "splatfactory/runtime/test_checkpoints.py"
DATASETS = "splatfactory/datasets"
ALIGNMENT = "zipsplat/test_alignment.py"
CPU = "zipsplat/render/test_cpu.py"
PARTS = "zipsplat/refinement/test_parts.py"

TRAINING = _breaks(
    "splatfactory",
    ("training/optim.py", "(1 + step) / (10 + step)", "(1 + step) / (100 + step)", OPTIM),
    ("training/optim.py", "lerp_(parameter.detach().float(), 1 - decay)",
     "lerp_(parameter.detach().float(), decay)", OPTIM),
    ("training/muon.py", "lerp_(matrix.grad, 1 - MOMENTUM)", "lerp_(matrix.grad, MOMENTUM)",
     "splatfactory/training/test_muon.py"),
    ("training/muon.py", "(wide.mT if is_tall else wide).to", "wide.to",
     "splatfactory/training/test_muon.py"),
    ("training/optim.py", 'group["lr"] = lr * group["lr_scale"]', 'group["lr"] = lr', OPTIM),
    ("training/optim.py", "        model.load_state_dict(own)", "        del own",
     f"{WIRING}::test_the_average_is_exported_and_evaluated_and_training_goes_on_without_it"),
    ("training/trainer.py", "self.options.clip_grad, norm", "2 * self.options.clip_grad, norm",
     f"{WIRING}::test_gradients_are_clipped_to_the_norm_asked_for"),
    ("training/trainer.py", "self.began >= 60 * limit", "self.began >= 1e9 * limit",
     f"{WIRING}::test_a_time_limit_ends_the_run"),
    ("training/trainer.py", "self.saved_at >= 60 * limit", "self.saved_at >= 1e9 * limit",
     f"{WIRING}::test_saves_come_after_minutes"),
    ("training/trainer.py", "set_learning_rate(self.optimizer, self._learning_rate(",
     "set_learning_rate(self.optimizer, 0.5 * self._learning_rate(",
     f"{WIRING}::test_rates_follow_schedule_and_factors"),
    ("training/trainer.py", "self.ema.update(self.network, self.progress.step)",
     "self.ema.update(self.network, 10**6)",
     f"{WIRING}::test_the_average_is_exported_and_evaluated_and_training_goes_on_without_it"),
    ("training/trainer.py", "islice(source, self.options.gradient_accumulation_steps)",
     "islice(source, 1)", "splatfactory/runtime/test_distributed.py::"
     "test_two_processes_give_the_gradients_of_one"),
    ("training/trainer.py", "if self.ema is None else self.ema.state(self.network)",
     "",
     f"{WIRING}::test_the_average_is_exported_and_evaluated_and_training_goes_on_without_it"),
    ("training/trainer.py", "nullcontext() if self.ema is None else swapped(",
     "nullcontext() if self.ema is not None else swapped(",
     f"{WIRING}::test_the_average_is_exported_and_evaluated_and_training_goes_on_without_it"),
    ("training/trainer.py", "self.parts.source.set_max_views(bound)",
     "self.parts.source.set_max_views(most)",
     f"{WIRING}::test_the_bound_of_views_reaches_the_data"),
    ("training/trainer.py", "self.progress.step % every != 0 or self._validate()",
     "self.progress.step % every == 0 or self._validate()",
     f"{TRAIN}::test_a_run_leaves_what_it_promises"),
    ("training/trainer.py", "progress.nonfinite_in_a_row = 0\n", "pass\n",
     f"{WIRING}::test_a_good_gradient_between_bad_ones_lets_a_run_go_on"),
    ("training/trainer.py", "nonfinite_in_a_row >= self.options.max_nonfinite_steps",
     "nonfinite_in_a_row > self.options.max_nonfinite_steps",
     f"{TRAIN}::test_gradients_that_are_not_finite_are_counted_and_end_the_run"),
    ("training/writers.py", "purge_step=step + 1 if step else None", "purge_step=None",
     "splatfactory/training/test_writers.py::"
     "test_curves_of_a_resumed_run_do_not_go_back"),
    ("training/meters.py", "self._ends[self.WARM_UP - 1 :]", "self._ends",
     "splatfactory/training/test_meters.py"),
    ("runtime/distributed.py", "values.sum() * (world_size / num_scenes)",
     "values.sum() / num_scenes", "splatfactory/runtime/test_distributed.py::"
     "test_a_mean_over_scenes_is_right_for_uneven_processes"),
    ("training/validation.py", "    model.eval()\n", "    model.train()\n",
     f"{WIRING}::test_validation_is_in_evaluation_mode_and_repeats_itself"),
    ("training/validation.py", "objective(prediction, batch, is_training=False)",
     "objective(prediction, batch, is_training=True)",
     f"{WIRING}::test_validation_is_in_evaluation_mode_and_repeats_itself"),
    ("runtime/randomness.py", "        torch.manual_seed(seed)\n", "        del seed\n",
     f"{WIRING}::test_validation_is_in_evaluation_mode_and_repeats_itself"),
    ("training/validation.py", "sums[name] / counts[name] if counts[name]",
     "sums[name] / len(parts) if counts[name]",
     f"{WIRING}::test_means_count_scenes_not_processes"),
    ("training/objective.py", "return batch.target\n", "return batch.context\n",
     f"{WIRING}::test_targets_are_evaluated_and_context_views_where_asked"),
    ("training/objective.py", "[batch.context, batch.target], dim=1",
     "[batch.target, batch.target], dim=1",
     f"{WIRING}::test_targets_are_evaluated_and_context_views_where_asked"),
    ("training/objective.py", "if is_training and config.random_background",
     "if config.random_background",
     f"{WIRING}::test_random_backgrounds_stand_behind_the_scene_in_training_alone"),
    ("training/objective.py", "mask = mask | activated(", "mask = mask & activated(",
     f"{WIRING}::test_gaussians_that_any_view_shows_are_spared"),
    ("training/objective.py", "colors * (1 - rendered.alpha", "colors * (rendered.alpha",
     f"{WIRING}::test_random_backgrounds_stand_behind_the_scene_in_training_alone"),
    ("training/rendering.py", "_present(masks).any(dim=0)", "_present(masks).all(dim=0)",
     "splatfactory/training/test_rendering.py"),
    ("training/schedules.py", "return int(num_steps * 0.05)", "return int(num_steps * 0.5)",
     "splatfactory/training/test_schedules.py"),
    ("training/schedules.py", "min(step, span) / span", "step / span",
     "splatfactory/training/test_schedules.py"),
    ("runtime/checkpoints.py", "1.0 if direction is Direction.min else -1.0",
     "-1.0 if direction is Direction.min else 1.0", CHECKPOINTS),
    ("runtime/checkpoints.py", "[: -max(1, count)]", "[: -max(2, count)]", CHECKPOINTS),
    ("runtime/checkpoints.py", "if entry.step <= step]", "if entry.step < step]", CHECKPOINTS),
    ("runtime/checkpoints.py", "torch.set_rng_state(state[", "str(state[", CHECKPOINTS),
    ("tiny/blending.py", "(1 - share) * values + share * others[name]",
     "share * values + (1 - share) * others[name]", "splatfactory/training/test_release.py"),
    ("tiny/true_matches.py", "MAX_DEPTH_ERROR = 0.1 ", "MAX_DEPTH_ERROR = 10.0 ",
     "splatfactory/tiny/test_matches.py"),
    ("tiny/patch_points.py", "points[depth <= 0] = math.nan", "points[depth < -9] = math.nan",
     "splatfactory/tiny/test_surface_loss.py"),
    ("train.py", "1_000_003 * (world.rank + 1)", "1_000_003",
     f"{WIRING}::test_processes_build_equal_weights_and_sample_different_numbers"),
    ("trainer_parts.py", "if head.lpips_weight > 0 else None", "if head.lpips_weight > 1 else None",
     f"{TRAIN}::test_missing_lpips_weights_are_an_error_not_a_switch"),
    ("train.py", "num_steps=steps, log_every_iter=1", "num_steps=2 * steps, log_every_iter=1",
     f"{WIRING}::test_a_short_run_has_the_steps_asked_for"),
)  # fmt: skip

LOSSES_AND_MODELS = _breaks(
    "splatfactory",
    ("losses/__init__.py", '"surface_weight")', '"match_weight")',
     f"{WIRING}::test_each_weight_multiplies_its_term"),
    ("losses/__init__.py", '"match_weight")', '"surface_weight")',
     f"{WIRING}::test_each_weight_multiplies_its_term"),
    ("losses/__init__.py", '("pixel_error", "mse_weight")', '("pixel_error", None)',
     f"{WIRING}::test_each_weight_multiplies_its_term"),
    ("losses/__init__.py", '("depth", "depth_weight")', '("depth", None)', LOSSES),
    ("losses/chamfer.py", "means.detach(), means)", "means, means.detach())", LOSSES),
    ("losses/depth.py", "is_valid = true >= 0", "is_valid = true >= -1", LOSSES),
    ("losses/chamfer.py", "beyond + 1e-8", "beyond + 1e-2", LOSSES),
    ("losses/scale_penalty.py", "scales - self.largest", "scales - 2 * self.largest", LOSSES),
    ("metrics.py", "(truth.clamp(0, 1) - image.clamp(0, 1))", "(truth - image)",
     "splatfactory/test_metrics.py"),
    ("models/zipsplat.py", "(2 / num_views) **", "(1 / num_views) **",
     "splatfactory/models/test_models.py"),
    ("models/zipsplat.py", "is_shown = float(torch.rand(())) < self",
     "is_shown = float(torch.rand(())) > self", "splatfactory/models/test_models.py"),
    ("models/zipsplat.py", "network.activation_checkpointing = config.use_checkpoint",
     "network.activation_checkpointing = False", "splatfactory/models/test_models.py::"
     "test_freezing_and_checkpointing_follow_the_configuration"),
    ("models/zipsplat.py", 'or name.endswith("camera_token")', "",
     "splatfactory/models/test_models.py"),
)  # fmt: skip

DATA = _breaks(
    "splatfactory/datasets",
    ("samplers/bounded.py", "(N - 1) * config.max_distance", "N * config.max_distance",
     f"{DATASETS}/test_samplers.py"),
    ("samplers/eval_sampler.py", "return Choice(context, target,", "return Choice(target, context,",
     f"{DATASETS}/test_samplers.py"),
    ("mixture.py", ".max() - 1e-6))", ".max()))", f"{DATASETS}/test_plan.py"),
    ("augment.py", "(0.5, _shade)", "(0.05, _shade)", f"{DATASETS}/test_augment.py"),
    ("plan.py", "for r in (self.rank, self.rank + 1)", "for r in (0, 1)",
     f"{DATASETS}/test_plan.py"),
    ("plan.py", "(self.rules.seed, self.epoch, member, clip, showing)",
     "(self.rules.seed, member, clip, showing)", f"{DATASETS}/test_plan.py"),
    ("normalize.py", "centres[0] - centres[-1]", "centres[0] - centres[1]",
     f"{DATASETS}/test_normalize.py"),
    ("multiview.py", "poses.t * (1 / scale)", "poses.t * scale", f"{DATASETS}/test_multiview.py"),
    ("multiview.py", "context=views[:N],", "context=views[-N:],", f"{DATASETS}/test_multiview.py"),
    ("multiview.py", "if self.split != Split.TRAIN or not self.config.random_reference_view",
     "if not self.config.random_reference_view", f"{DATASETS}/test_multiview.py"),
    ("resizing.py", "-self.box.left, -self.box.top", "-self.box.top, -self.box.left",
     f"{DATASETS}/test_resizing.py"),
)  # fmt: skip

EVALUATION = _breaks(
    "splatfactory/eval",
    ("results.py", "CONFIDENCE = 1.96", "CONFIDENCE = 1.645",
     f"{EVAL_WIRING}::test_the_interval_holds_95_percent"),
    ("results.py", "if not v.is_context]", "if v.is_context]", "splatfactory/eval/test_run.py"),
    ("pipeline.py", "scenes[world.rank :: world.size]", "scenes[:: world.size]",
     f"{EVAL_WIRING}::test_processes_share_the_scenes"),
    ("scoring.py", "moved = dataclasses.replace(views, poses=refined.poses)", "moved = views",
     f"{EVAL_WIRING}::test_aligned_scores_are_those_at_the_aligned_poses"),
    ("scoring.py", "rendered = rendered.clamp(0, 1)", "rendered = rendered.clamp(0, 2)",
     f"{EVAL_WIRING}::test_renderings_are_clipped_where_asked"),
    ("scoring.py", "self.model(batch.context, compression)", "self.model(batch.context, 1.0)",
     f"{EVAL_WIRING}::test_the_share_of_tokens_is_the_one_asked_for"),
    ("scoring.py", "gaussians, context.rgb, context.cameras, context.poses, None",
     "gaussians, target.rgb, target.cameras, target.poses, None",
     f"{EVAL_WIRING}::test_scenes_are_refined_against_what_the_model_saw"),
    ("indices.py", "if frame not in context]", "]", "splatfactory/eval/test_indices.py"),
    ("compare.py", '-1 if metric == "lpips" else 1', "1",
     f"{EVAL_WIRING}::test_less_is_better_for_lpips_only"),
)  # fmt: skip

INFERENCE = _breaks(
    "zipsplat",
    ("alignment.py", "calm = calm + 1 if is_calm else 0", "calm = calm + 1 if is_calm else calm",
     ALIGNMENT),
    ("alignment.py", "is_better = loss < best_loss", "is_better = loss > best_loss", ALIGNMENT),
    ("downloads.py", "if error.code < 500", "if error.code < 600", "zipsplat/test_downloads.py"),
    ("viewer/guard.py", "if len(origins) != 1 or", "if len(origins) > 2 or",
     "zipsplat/viewer/test_guard.py"),
    ("formats/_spz_arrays.py", "positions, layout.fractional_bits,",
     "positions, layout.fractional_bits + 1,",
     "zipsplat/formats/test_spz.py"),
    ("framing.py", "_AROUND = 1.5 ", "_AROUND = 1.2 ", "zipsplat/test_framing.py"),
    ("inputs.py", "str(path).casefold())", "str(path))", "zipsplat/test_inputs.py"),
    ("ssim.py", "C2 = 0.03**2", "C2 = 0.3**2", "splatfactory/test_metrics.py"),
    ("pose.py", "return Pose(R, -(R @ ", "return Pose(R, (R @ ", "zipsplat/test_pose.py"),
    ("camera.py", "self.c + delta / 2", "self.c + delta", "zipsplat/test_camera.py"),
    ("similarity.py", "scale = float(singular @ signs / variance)", "scale = 1.0",
     "zipsplat/test_similarity.py"),
    ("model/compression.py", "max(1, int(num_tokens *", "max(2, int(num_tokens *",
     "zipsplat/model/test_compression.py"),
    ("model/head.py", ".clamp(MIN_SCALE, MAX_SCALE)", ".clamp(min=MIN_SCALE)",
     "zipsplat/model/test_layers.py zipsplat/model/test_golden.py"
     " splatfactory/models/test_models.py"),
    ("refinement/evaluation.py", "if score.psnr > self.score.psnr:", "if True:", PARTS),
    ("refinement/evaluation.py", "poses[view.index]", "poses[0]", PARTS),
    ("render/_rules.py", "TRANSMITTANCE_MIN = 1e-4", "TRANSMITTANCE_MIN = 5e-4", CPU),
    ("render/cpu/blend_backward.py", "active & (opacity <= batch.alpha_clamp), opacity * v_alpha",
     "active, opacity * v_alpha", CPU),
    ("render/cpu/blend.py", "final = select(open_, after, final)", "final = after", CPU),
    ("render/cpu/blend.py", "T = maximum(after, _SMALL)", "T = select(open_, after, 1.0)", CPU),
    ("render/cpu/num_threads.py", "_within.num_threads = get_num_threads()", "pass",
     "zipsplat/render/test_cpu_processes.py"),
    ("devices.py", "_cpu_has_bfloat16() and float32_products.bfloat16_is_faster(width)",
     "_cpu_has_bfloat16()", "zipsplat/test_float32_products.py"),
)  # fmt: skip

BREAKS = [*TRAINING, *LOSSES_AND_MODELS, *DATA, *EVALUATION, *INFERENCE]
