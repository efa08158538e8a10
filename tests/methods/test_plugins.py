"""Methods of other packages: the documented example works; a broken one harms nobody."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from denoisekit.cli import app as frame
from denoisekit.errors import UsageError
from denoisekit.methods import METHODS, all_methods, get_method, plugins
from denoisekit.methods.plugins import installed_plugins, load_plugins

ROOT = Path(__file__).parents[2]


def install(folder, name, version, points):
    """Put into a folder what an installer leaves of a package beside its modules."""
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{key} = {value}" for key, value in points.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{plugins.GROUP}]", *lines, ""]))


@pytest.fixture
def example(tmp_path):
    """A folder with the package of docs/extending.md installed in it."""
    script = ROOT / "scripts" / "write_example_plugin.py"
    spec = importlib.util.spec_from_file_location("write_example_plugin", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(tmp_path)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    points = project["entry-points"][plugins.GROUP]
    install(tmp_path / "src", project["name"], project["version"], points)
    return tmp_path


def run(folder, program):
    """Run Python where the package in ``src`` is installed; return its stdout."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "src"), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LIST = """
import sys
from denoisekit.cli.app import run
from denoisekit.methods import get_method
get_method("aprrd")
assert run(["denoise", "--help"]) == 0
assert "denoisekit_tiny" not in sys.modules
print()
assert run(["methods", "--json"]) == 0
assert "denoisekit_tiny" in sys.modules
assert "torch" not in sys.modules
"""

DENOISE = """
import runpy
from denoisekit.cli.app import run
runpy.run_path("make_weights.py")
common = ["noisy.png", "--method", "tiny", "--weights", "tiny.pth", "--precision", "fp32"]
for name, options in {
    "whole": ["--tile", "0"],
    "tiled": ["--tile", "32"],
    "thrice": ["--tile", "32", "--set", "passes=3"],
    "thrice_whole": ["--tile", "0", "--set", "passes=3"],
}.items():
    assert run(["denoise", *common, *options, "-o", name + ".npy", "--format", "npy"]) == 0
assert run(["denoise", *common, "--set", "passes=9"]) == 2
"""


def test_the_documented_example_is_listed_and_nothing_loads_it_before(example):
    lines = run(example, LIST).splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    assert [facts["id"] for facts in found] == [*(m.id for m in METHODS), "tiny"]
    assert found[-1]["settings"]["passes"]["maximum"] == 4


def test_the_documented_example_denoises_and_its_limits_are_true(example):
    noisy = np.random.default_rng(0).integers(0, 256, (90, 110, 3), np.uint8)
    np.save(example / "noisy.npy", noisy)
    Image.fromarray(noisy).save(example / "noisy.png")
    run(example, DENOISE)
    whole, tiled, thrice, thrice_whole = (
        np.load(example / f"{name}.npy").astype(float)
        for name in ("whole", "tiled", "thrice", "thrice_whole")
    )
    assert np.abs(whole - noisy).mean() > 1
    assert np.abs(thrice - whole).mean() > 1
    # Rounding to 8 bits may fall to either side.
    assert np.abs(tiled - whole).max() <= 1
    assert np.abs(thrice - thrice_whole).max() <= 1
    assert (tiled != whole).mean() < 1e-3


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Return a function that installs packages for this process, and forgets them."""
    monkeypatch.syspath_prepend(tmp_path)
    installed_plugins.cache_clear()

    def add(name, code, version="1.0", **points):
        module = name.replace("-", "_")
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text(code)
        install(tmp_path, name, version, {k: f"{module}:{v}" for k, v in points.items()})
        importlib.invalidate_caches()
        installed_plugins.cache_clear()

    yield add
    installed_plugins.cache_clear()


GOOD = """
from dataclasses import replace
from denoisekit.methods.aprrd import INFO
mine = replace(INFO, id="mine", default_weights=(), without_weights="train it")
again = replace(mine)
taken = INFO
odd = replace(mine, id="../mine")
unsure = replace(mine, id="unsure", traits=lambda config, settings: 1 / 0)
number = 3
"""


def test_every_fault_is_told_and_none_is_fatal(packages, capsys):
    packages("kit-good", GOOD, "1.2", mine="mine")
    packages("kit-again", GOOD, again="again")
    packages("kit-bad", GOOD, number="number", odd="odd", taken="taken", unsure="unsure")
    packages("kit-raises", "raise ImportError('no module\\nnamed x')", raises="INFO")
    packages("kit-exits", "import sys; sys.exit(3)", exits="INFO")
    packages("kit-empty", "", empty="INFO")
    methods, failures = load_plugins()
    # Of two with one id, the first by package name.
    assert [method.id for method in methods] == ["mine"]
    assert methods[0] is get_method("mine") is all_methods()[-1]
    (plugin,) = installed_plugins()[0]
    assert plugin.package == "kit-again"
    told = {failure.name: failure for failure in failures}
    assert told["mine"].reason == "its id 'mine' is taken by kit-again"
    assert (told["mine"].package, told["mine"].version) == ("kit-good", "1.2")
    assert told["taken"].reason == "its id 'aprrd' is taken by denoisekit"
    assert told["number"].reason == "kit_bad:number is of type int, not a MethodInfo"
    assert "'../mine' is not made of small letters" in told["odd"].reason
    assert told["unsure"].reason == "ZeroDivisionError: division by zero"
    assert told["raises"].reason == "ImportError: no module named x"
    assert told["exits"].reason == "SystemExit: 3"
    assert "has no attribute 'INFO'" in told["empty"].reason
    assert len(failures) == 8

    assert frame.run(["doctor", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["plugins"]
    assert shown[0] == {
        "plugin": "mine",
        "package": "kit-again",
        "version": "1.0",
        "state": "works",
    }
    assert {row["plugin"]: row["state"] for row in shown[1:]} == {
        name: f"left out: {failure.reason}" for name, failure in told.items()
    }
    assert frame.run(["methods", "mine"]) == 0
    assert "train it" in capsys.readouterr().out
    assert frame.run(["doctor"]) == 0
    assert "kit-raises" in capsys.readouterr().out


def test_a_plugin_that_ends_the_program(packages, capsys):
    packages("kit-good", GOOD, mine="mine")
    packages("kit-gone", "import os; os._exit(0)", gone="INFO")
    packages("kit-killed", "import os; os.abort()", killed="INFO")
    packages("kit-stops", "class Stop(BaseException): pass\nraise Stop('\x1b[2J')", stops="INFO")
    methods, failures = load_plugins()
    assert [method.id for method in methods] == ["mine"]
    told = {failure.name: failure.reason for failure in failures}
    assert told["gone"] == "its import ends the program (0)"
    assert "ends the program" in told["killed"]
    assert told["stops"].startswith("Stop: ")
    assert frame.run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "kit-gone" in out
    assert "\x1b" not in out
    assert frame.run(["methods"]) == 0
    err = capsys.readouterr().err
    assert "warning: the plugin 'gone' of kit-gone 1.0 is left out: its import ends" in err
    assert len(err.splitlines()) == 3


def test_a_plugin_that_hangs(packages, monkeypatch):
    # Alone, so that no busy machine makes a sound one late.
    monkeypatch.setattr(plugins, "IMPORT_SECONDS", 0.5)
    packages("kit-hangs", "while True: pass", hangs="INFO")
    methods, (failure,) = load_plugins()
    assert methods == ()
    assert failure.reason == "its import takes more than 0.5 s"


def test_a_broken_plugin_does_not_matter_to_what_it_has_no_part_in(packages, capsys, tmp_path):
    packages("kit-hangs", "while True: pass", hangs="INFO")
    np.save(tmp_path / "a.npy", np.zeros((8, 8), np.uint8))
    assert frame.run(["--help"]) == 0
    assert frame.run(["denoise", str(tmp_path / "a.npy"), "--weights", "aprrd.camera"]) == 0
    assert frame.run(["methods", "ssbsn"]) == 0
    assert installed_plugins.cache_info().currsize == 0
    capsys.readouterr()


def test_a_plugin_without_weights_says_what_to_do(packages, capsys, tmp_path):
    packages("kit-good", GOOD, mine="mine")
    for command in (["info", "mine"], ["pull", "mine.best"], ["import", __file__, "--as", "mine"]):
        assert frame.run(["weights", *command]) == 3
        out, err = capsys.readouterr()
        assert out == ""
        assert "no weights of the method mine are published" in err
        assert "hint: train it" in err
    assert frame.run(["weights", "list"]) == 0
    assert "no weights of the method mine are published: train it" in capsys.readouterr().out


def test_an_unknown_method_is_compared_with_those_of_other_packages(packages):
    packages("kit-good", GOOD, mine="mine")
    with pytest.raises(UsageError) as caught:
        get_method("mina")
    assert caught.value.hint == "did you mean 'mine'?"


def test_nothing_is_found_twice_by_a_second_look(packages):
    packages("kit-good", GOOD, mine="mine")
    assert load_plugins()[0][0] is load_plugins()[0][0]
