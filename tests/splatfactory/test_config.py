"""Configuration: every shipped file composes, overrides win, mistakes are named."""

import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from splatfactory import config as config_module
from splatfactory.config import (
    CONFIG_DIR,
    ConfigError,
    Request,
    available,
    help_lines,
    known_keys,
    load,
    merge,
    read_yaml,
    save_yaml,
    to_dict,
)
from splatfactory.models import architecture
from splatfactory.schema import BackboneConfig, ModelConfig, Precision
from zipsplat.model.architecture import ZipSplatConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "configuration"


def compose(conf: str | None, *overrides: str):
    return load(Request(conf, overrides))


@pytest.mark.parametrize("name", available())
def test_every_shipped_configuration_composes(name: str):
    compose(name)


@pytest.mark.parametrize(
    "path", sorted(CONFIG_DIR.glob("model/backbone/*.yaml")), ids=lambda p: p.stem
)
def test_every_backbone_composes_and_builds_on_paper(path: Path):
    import torch

    from splatfactory.models import architecture
    from zipsplat.model.network import ZipSplatNetwork

    config = compose("zipsplat", f"model/backbone={path.stem}")
    with torch.device("meta"):
        network = ZipSplatNetwork(architecture(config.model))
    assert network.backbone.dim == config.model.backbone.embed_dim


@pytest.mark.parametrize("path", sorted(CONFIG_DIR.glob("data/*.yaml")), ids=lambda p: p.stem)
def test_every_data_group_composes(path: Path):
    compose("zipsplat", f"data={path.stem}")


def test_released_values():
    config = compose("zipsplat")
    assert (config.data.batch_size, config.train.num_steps, config.train.lr) == (384, 450_000, 3e-4)
    assert config.train.seed == 1
    assert config.train.mixed_precision is Precision.bfloat16
    assert config.model.backbone.out_layers == [19, 29, 39]
    head = config.model.gaussian_head
    assert (head.max_scale, head.chamfer_weight, head.lpips_weight) == (0.1, 0.1, 0.05)
    assert config.train.lr_scaling == {"backbone": 0.1, "aggregator": 0.1}
    assert config.data.childs["dl3dv"].view_sampler["gap_multiplier"] == 11
    assert config.benchmarks["dl3dv_benchmark"].max_samples == 10
    small = compose("zipsplat-4090")
    assert small.data.batch_size == 96
    assert small.model.use_checkpoint
    assert small.model.backbone.use_checkpoint
    evaluated = compose("zipsplat_eval")
    assert (evaluated.model.weights, evaluated.model.backbone.weights) == ("zipsplat", None)


def test_group_and_value_overrides_of_the_seed():
    config = compose("zipsplat", "model/backbone=da3s", "data.batch_size=96")
    assert (config.model.backbone.vit_name, config.model.backbone.embed_dim) == ("vits", 384)
    assert config.data.batch_size == 96
    assert config.model.backbone.rope_start == 5


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("train.lrr=1", "train.lr?"),
        ("data.batchsize=7", "data.batch_size?"),
        ("batch_size=4", "data.batch_size?"),
        ("model.gaussian_head.lpips_wieght=0", "model.gaussian_head.lpips_weight?"),
        ("+train.foo=3", "train?"),
        ("+train.seed=3", "drop the +: train.seed=3"),
        ("~train.seed", "train.seed=null"),
        ("~data.sede", "data.seed?"),
        ("~model/backbone", "choose another with model/backbone=<name>"),
        ("data.image_num_range=2,4", "write data.image_num_range=[2,4]"),
        ("model.gaussian_head.extra_losses={a:1.0}", "{a: 1.0} instead of {a:1.0}"),
        ("train.matmul_precision=hi", "did you mean high?"),
        ("train.compile=quick", "max-autotune"),
        ("data.dataset_dir=", "data.dataset_dir=''"),
        ("data=nowhere.yaml", "file nowhere.yaml does not exist"),
        ("eval.numviews=24", "eval.num_views?"),
        ("evl.num_views=24", "eval?"),
        ("model.eval_use_prior=true", "model.eval_use_priors?"),
        ("train.lr=abc", "train.lr"),
        ("train.mixed_precision=bf16", "bfloat16"),
        ("train.num_steps=0", "at least 1"),
        ("model.query_sample_ratio=[0,1]", "(0, 1]"),
        ("model.knn.n_iters=7", "can only be 5"),
        ("train=3", "train"),
        ("train.lr", "key=value"),
        ("model/backbone=da3x", "da3x"),
        ("model/backbnoe=da3s", "backbnoe"),
    ],
)
def test_mistakes_are_named_with_the_nearest_option(override: str, hint: str):
    with pytest.raises(ConfigError) as caught:
        compose("zipsplat", override)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_view_sampler_forgets_the_options_of_the_one_before():
    key = "data.view_sampler"
    chosen = Request("quickstart", (f"{key}.name=bounded", f"{key}.gap_multiplier=3"))
    assert load(chosen).data.view_sampler["gap_multiplier"] == 3
    for values in (
        (f"{key}.max_distance=9", f"{key}.name=random"),
        (f"{key}.name=random", f"{key}.max_distance=9"),
        (f"{key}={{name: random, max_distance: 9}}",),
    ):
        sampler = load(Request("zipsplat", ("data=re10k", *values))).data.view_sampler
        assert sampler == {"name": "random", "max_distance": 9}
    same = load(Request("zipsplat", ("data=re10k", f"{key}.name=bounded"))).data.view_sampler
    assert same == load(Request("zipsplat", ("data=re10k",))).data.view_sampler
    assert len(same) > 2


def test_unknown_configuration_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean zipsplat"):
        compose("zipsplatt")


def test_own_file_outside_composes_with_shipped_groups(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("defaults:\n  - model: zipsplat\n  - _self_\ntrain:\n  num_steps: 7\n")
    config = compose(str(own), "model/backbone=da3b")
    assert (config.train.num_steps, config.model.backbone.vit_name) == (7, "vitb")


def test_shipped_groups_are_found_in_a_folder_of_any_name(tmp_path, monkeypatch):
    shipped = tmp_path / "my runs (a=b, é'x)" / "configs"
    shutil.copytree(CONFIG_DIR, shipped)
    monkeypatch.setattr(config_module, "CONFIG_DIR", shipped)
    own = tmp_path / "mine.yaml"
    own.write_text("defaults:\n  - model: zipsplat\n  - data: synthetic\n")
    assert load(Request(str(own), ())).data.name == "synthetic"


def test_ones_own_file_may_lie_anywhere(tmp_path):
    folder = tmp_path / "my runs (a=b, é'x)"
    folder.mkdir()
    own = folder / "my é,run=1 (b)'s.yaml"
    own.write_text("defaults:\n  - model: zipsplat\n  - data: synthetic\n  - _self_\n")
    (folder / "scans.yaml").write_text("defaults: [re10k, _self_]\nname: scans\n")
    config = compose(str(own), f"data={folder / 'scans.yaml'}", "model/backbone=da3s")
    assert (config.data.name, config.model.backbone.vit_name) == ("scans", "vits")
    assert config.data.view_sampler["gap_multiplier"] == 45  # of re10k, which it builds on


def test_a_data_set_chosen_by_name_is_the_one_that_is_meant():
    own = compose("quickstart").data
    assert own.dataset_dir == "data/synthetic/56x56"
    chosen = compose("quickstart", "data=re10k").data
    assert (chosen.name, chosen.dataset_dir) == ("dataset_re10k", "data/re10k/360x640")
    assert chosen.preprocessing.resize == own.preprocessing.resize == 56
    assert compose("quickstart", "data=synthetic").data.dataset_dir == ""  # made on the fly
    both = compose("quickstart", "data=re10k", "data.dataset_dir=elsewhere").data
    assert both.dataset_dir == "elsewhere"


def test_yaml_executes_nothing(tmp_path):
    own = tmp_path / "evil.yaml"
    marker = tmp_path / "ran"
    own.write_text(f'train:\n  num_steps: ${{eval:\'open("{marker}", "w")\'}}\n')
    with pytest.raises(ConfigError, match="eval"):
        compose(str(own))
    own.write_text(f"a: !!python/object/apply:os.system ['touch {marker}']\n")
    with pytest.raises(ConfigError):
        read_yaml(own)
    assert not marker.exists()


def test_saved_configuration_is_read_back_equal(tmp_path):
    config = compose("zipsplat", "train.num_steps=1000", "data.normalize_baseline=start_end")
    save_yaml(to_dict(config), tmp_path / "config.yaml")
    assert merge([read_yaml(tmp_path / "config.yaml")], []) == config


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_a_run_that_was_saved_before_is_read_as_it_was():
    saved = read_yaml(GOLDEN / "config.yaml")
    now = dict(leaves(to_dict(merge([saved], []))))
    assert len(list(leaves(saved))) > 180
    assert {key: now.get(key) for key, _ in leaves(saved)} == dict(leaves(saved))


def test_help_lists_every_option():
    text = "\n".join(help_lines())
    leaves = [key for key in known_keys() if not any(k.startswith(f"{key}.") for k in known_keys())]
    assert len(leaves) > 120
    for key in leaves:
        assert f"  {key}=" in text
    assert "\n      \n" not in text


def test_every_size_of_the_network_is_an_option():
    """Those of Depth Anything 3 alone, which is not trained here, are not."""
    conf = ZipSplatConfig.variant("vitg").to_conf()["model"]
    own = {"is_multiview", "picks_reference", "final_norm_eps"}
    assert conf["backbone"].keys() - {f.name for f in fields(BackboneConfig)} == own
    assert conf.keys() - {f.name for f in fields(ModelConfig)} == {"has_camera_decoder"}
    assert architecture(ModelConfig()) == ZipSplatConfig.variant("vitg")
