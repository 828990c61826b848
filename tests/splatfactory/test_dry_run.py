"""The giant on sixteen GPUs, on paper."""

from splatfactory import train


def test_the_giant_recipe_is_described_without_data_or_weights(workplace, capsys, monkeypatch):
    monkeypatch.setenv("SPLATFACTORY_DATA", str(workplace / "nothing"))
    assert train.main(["zipsplat", "--conf", "zipsplat", "--dry-run", "16"]) == 0
    text = capsys.readouterr().out
    # 1 447.70 M parameters, of which the camera encoder and two camera tokens are frozen.
    assert "1136.49 M values, learning rate 3e-05" in text
    assert "114.54 M values frozen" in text
    assert "24 context images each" in text
    assert "12 scenes of 2 views to 1 scenes of 24 views" in text
    assert "batch_size: 384" in text
    assert not (workplace / "outputs").exists()


def test_batches_are_counted_where_data_are(workplace, capsys):
    assert train.main(["x", "--conf", "conf.yaml", "--dry-run", "1"]) == 0
    assert "batches per epoch of" in capsys.readouterr().out
