"""What all commands share: usage, exit codes, verbosity, pipes."""

import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.zipsplat.cli.commands import run
from zipsplat.cli import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reconstruct", "x.png", "--ouput", "a.ply"], "no option --ouput; did you mean --output?"),
        (["convert", "a.ply", "b.ply", "--prune-opacty=1"], "did you mean --prune-opacity?"),
        (["view", "a.ply", "--num-frame", "3", "--widths"], "did you mean --weights?"),
        (["convert", "a.ply", "b.ply", "--xyz"], "no option --xyz"),
    ],
)
def test_a_misspelt_option_gets_the_nearest_name_and_the_usage_of_its_command(
    arguments, words, capsys
):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert f"usage: zipsplat {arguments[0]}" in error


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["reconstruct"],
        ["reconstruct", "a.jpg"],
        ["reconstruct", "a.jpg", "-o", "a.ply", "--compression", "1.5"],
        ["reconstruct", "a.jpg", "-o", "a.ply", "--compression", "nan"],
        ["reconstruct", "a.jpg", "-o", "a.ply", "--num-frames", "0"],
        ["reconstruct", "a.jpg", "-o", "a.ply", "--num-frames", "2", "--stride", "2"],
        ["reconstruct", "a.jpg", "-o", "a.ply", "--background", "noon"],
        ["render", "a.ply", "-o", "a.mp4", "--size", "0"],
        ["render", "a.ply", "-o", "a.mp4", "--size", "10x"],
        ["render", "a.ply", "-o", "a.mp4", "--fov", "180"],
        ["render", "a.ply", "-o", "a.mp4", "--fps", "inf"],
        ["convert", "a.ply", "b.ply", "--sh-degree", "4"],
    ],
)
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["reconstruct", "render", "convert", "info", "doctor"])
def test_help_has_examples_that_parse(command, capsys):
    from zipsplat.cli import _parser

    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    examples = re.findall(rf"^  zipsplat ({command} .*|{command})$", text, flags=re.MULTILINE)
    assert examples
    for example in examples:
        words = re.split(r"\s{2,}|\s>", example)[0].replace("'", "").split()
        _parser().parse_args(words)


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="pipes close differently here")
def test_a_closed_pipe_is_not_an_error(scene):
    code = "import sys; from zipsplat.cli import main; sys.exit(main(['info', sys.argv[1]]))"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", code, str(scene)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.stderr == ""


def test_a_verbose_error_has_its_traceback(tmp_path, capsys):
    assert run("info", tmp_path / "nothing.ply", "-v") == 1
    assert "Traceback" in capsys.readouterr().err


def test_quiet_means_quiet(scene, tmp_path, capsys):
    assert run("convert", scene, tmp_path / "a.spz", "-q") == 0
    assert capsys.readouterr().err == ""


def test_view_is_handed_to_the_viewer(monkeypatch):
    seen = []
    viewer = SimpleNamespace(main=lambda argv: seen.append(list(argv)) or 7)
    monkeypatch.setitem(sys.modules, "zipsplat.viewer", viewer)
    assert main(["view", "scene.ply", "--port", "9"]) == 7
    assert seen == [["scene.ply", "--port", "9"]]


def test_the_module_runs_and_help_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; from zipsplat.cli import main; main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "reconstruct" in done.stdout
    command = [sys.executable, "-m", "zipsplat", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert re.fullmatch(r"zipsplat \d.*\n", done.stdout)
