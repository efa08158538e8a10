"""An exported network computes what the original does, whatever the size of the image."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from denoisekit.cli import app as frame
from denoisekit.draws import Draws
from denoisekit.errors import OutputError, UsageError, WeightsError, pip_install
from denoisekit.export import network as exporting
from denoisekit.export.network import FACTS_FILE, FORMS, export, look_up
from denoisekit.learn.trainee import new_network
from denoisekit.methods import get_method
from denoisekit.nets.single import REACH
from denoisekit.weights import LoadedWeights

STUDENT = ("aprrd", {"net": "unet", "variant": "1.00M", "channels": 1, "width": 4}, {})
TEACHER = ("aprrd", {"net": "bsn", "channels": 3, "width": 4}, {})
SDAP = (
    "sdap",
    {"net": "blind_spot", "channels": 2, "width": 4, "blocks": ["single"]},
    {"enhance": "on"},
)
ONCE = (*SDAP[:2], {"enhance": "off"})
PLAIN = ("single", {**get_method("single").config, "channels": 1, "width": 4, "depth": 2}, {})
CASES = [STUDENT, TEACHER, SDAP, ONCE, PLAIN]
NAMES = ["student", "teacher", "sdap", "sdap once", "plain"]


def weights_of(case):
    name, config, settings = case
    method = get_method(name)
    torch.manual_seed(1)
    network = method.build(config, method.choose(settings))
    draw = torch.Generator().manual_seed(1)
    state = {k: torch.randn(v, generator=draw) / 4 for k, v in network.shapes().items()}
    return LoadedWeights(state, config, "some.weights", "0" * 64, name)


def assert_equal(case, run):
    """Compare at sizes that nobody looked at yet, far from the example's."""
    method, weights = get_method(case[0]), weights_of(case)
    original = method.build(case[1], method.choose(case[2]))
    original.load(weights.state)
    multiple = method.traits(case[1], method.choose(case[2])).limits.multiple_of
    for rows, columns in ((1, 3), (5, 2), (11, 7)):
        height, width = (-(-16 * count // multiple) * multiple for count in (rows, columns))
        noisy = torch.rand(1, case[1]["channels"], height, width)
        expected = original.denoise(noisy, draws=Draws()).numpy()
        found = run(noisy.numpy())
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


def written(case, path, kind):
    return export(weights_of(case), get_method(case[0]), path, kind=kind, settings=case[2])


def check_script(case, path):
    facts = {FACTS_FILE: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        network = torch.jit.load(path, _extra_files=facts)
    assert_equal(case, lambda noisy: network(torch.from_numpy(noisy)).numpy())
    return json.loads(facts[FACTS_FILE])


def check_onnx(case, path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert_equal(case, lambda noisy: session.run(["denoised"], {"noisy": noisy})[0])
    return session.get_modelmeta().custom_metadata_map


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_torchscript_equals_the_original(case, tmp_path):
    path = tmp_path / "network.pt"
    done = written(case, path, "torchscript")
    assert done.difference <= 1e-5
    assert len(done.sizes) >= 4
    assert check_script(case, path) == done.facts


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.slow] * (case is not PLAIN)) for case in CASES],
    ids=NAMES,
)
def test_onnx_equals_the_original(case, tmp_path):
    path = tmp_path / "network.onnx"
    done = written(case, path, "onnx")
    assert done.difference <= 1e-5
    facts = check_onnx(case, path)
    assert facts == done.facts
    assert facts["source_sha256"] == "0" * 64
    assert json.loads(facts["config"]) == case[1]
    model = onnx.load(path)
    assert {opset.version for opset in model.opset_import if not opset.domain} == {
        int(facts["opset"])
    }
    sides = model.graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_param for side in sides] == ["", "", "height", "width"]
    # Nothing of this computer travels along.
    assert str(Path(torch.__file__).parents[1]).encode() not in path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx"]


@pytest.mark.parametrize("error", [1e-3, float("nan")], ids=["far", "not a number"])
def test_file_that_computes_something_else_is_not_kept(tmp_path, monkeypatch, error):
    sound = FORMS["torchscript"]

    def load(data):
        run = sound.load(data)
        return lambda image: run(image) * (1 + error)

    monkeypatch.setattr(exporting, "FORMS", {"torchscript": replace(sound, load=load)})
    with pytest.raises(OutputError, match=r"differs from the original by .* nothing was written"):
        written(STUDENT, tmp_path / "x.pt", "torchscript")
    assert not list(tmp_path.iterdir())


def test_failing_exporter_is_told_in_a_line(tmp_path, monkeypatch):
    def write(*_):
        raise RuntimeError("no such operator\nand a page of other things")

    broken = replace(FORMS["onnx"], write=write)
    monkeypatch.setattr(exporting, "FORMS", {"onnx": broken})
    with pytest.raises(OutputError, match="no such operator") as caught:
        written(STUDENT, tmp_path / "x.onnx", "onnx")
    assert "\n" not in caught.value.message


def test_method_that_is_not_local_is_refused(tmp_path):
    method = get_method("ssbsn")
    weights = LoadedWeights({}, method.config, "ssbsn.sidd", "0" * 64, "ssbsn")
    with pytest.raises(UsageError, match="ssbsn cannot be exported: it is not local"):
        export(weights, method, tmp_path / "x.onnx", kind="onnx")


def test_non_local_means_are_written_as_torchscript_alone(tmp_path, monkeypatch):
    method = get_method("single")
    config = {**method.config, "width": 4, "depth": 2, "levels": 4}
    state = dict(new_network(method, config, 0).state_dict())
    weights = LoadedWeights(state, config, "fitted", "0" * 64, "single")
    with pytest.raises(UsageError, match="cannot be written as onnx") as caught:
        export(weights, method, tmp_path / "x.onnx", kind="onnx")
    assert "torchscript" in caught.value.hint

    def write(module, example, multiple_of, facts):
        # A trace holds what is done to the example: means of pixels that far apart.
        assert min(example.shape[2:]) > 2 * REACH
        return b"written"

    broken = replace(FORMS["torchscript"], write=write, load=lambda data: lambda image: image)
    monkeypatch.setattr(exporting, "FORMS", {"torchscript": broken})
    with pytest.raises(OutputError, match="differs from the original"):
        export(weights, method, tmp_path / "x.pt", kind="torchscript")


def test_unknown_form_names_the_closest(tmp_path):
    with pytest.raises(UsageError) as caught:
        written(STUDENT, tmp_path / "x", "onx")
    assert "onnx" in caught.value.hint


def test_missing_package_is_told_with_the_command_that_installs_it(tmp_path, monkeypatch):
    find = exporting.importlib.util.find_spec
    monkeypatch.setattr(
        exporting.importlib.util,
        "find_spec",
        lambda name: None if name == "onnxscript" else find(name),
    )
    with pytest.raises(UsageError, match="not installed: onnxscript") as caught:
        written(STUDENT, tmp_path / "x.onnx", "onnx")
    assert caught.value.hint == pip_install("export")
    written(STUDENT, tmp_path / "x.pt", "torchscript")


def test_output_that_exists_stays_unless_asked(tmp_path):
    path = tmp_path / "x.pt"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        written(STUDENT, path, "torchscript")
    assert path.read_text() == "mine"
    weights, method = weights_of(STUDENT), get_method("aprrd")
    export(weights, method, path, kind="torchscript", overwrite=True)
    check_script(STUDENT, path)


def test_output_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        written(STUDENT, tmp_path / "absent" / "x.pt", "torchscript")


@pytest.fixture
def student_file(tmp_path):
    """A file of denoisekit's own."""
    path = tmp_path / "student.safetensors"
    header = {"denoisekit": "1", "method": "aprrd", "config": json.dumps(STUDENT[1])}
    save_file(dict(weights_of(STUDENT).state), path, {**header, "licence": "CC0"})
    return path


def run(capsys, *arguments):
    code = frame.run(["weights", "export", *map(str, arguments)])
    done = capsys.readouterr()
    return code, done.out, done.err


def test_command_exports_a_file_and_says_how_close_it_is(tmp_path, capsys, student_file):
    output = tmp_path / "x.pt"
    code, out, err = run(capsys, student_file, "--to", "torchscript", output, "--quiet")
    assert (code, err) == (0, "")
    assert "largest difference from the original: 0 of its range" in out
    assert check_script(STUDENT, output)["licence"] == "CC0"
    code, out, err = run(capsys, student_file, "--to", "torchscript", output)
    assert code == 1
    assert "exists already" in err
    code, out, _ = run(capsys, student_file, "--to", "torchscript", output, "--overwrite", "--json")
    assert code == 0
    assert json.loads(out)["multiple_of"] == "32"


def test_command_refuses_before_it_fetches(tmp_path, capsys):
    output = tmp_path / "x.onnx"
    code, _, err = run(capsys, "ssbsn.sidd", "--to", "onnx", output)
    assert code == 2
    assert "is not local" in err
    code, _, err = run(capsys, "aprrd.sidd", "--to", "tflite", output)
    assert code == 2
    assert "there is no form 'tflite'" in err
    code, _, err = run(capsys, "aprd.sidd", "--to", "onnx", output)
    assert code == 2
    assert "aprrd.sidd" in err
    assert not output.exists()


def test_official_checkpoint_is_known_by_its_keys(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"model_state_dict": {"unet.intro.conv.weight": torch.zeros(4, 1, 3, 3)}}, path)
    assert look_up(str(path)).method.id == "aprrd"
    content = io.BytesIO()
    torch.save({"layer": torch.zeros(1)}, content)
    path.write_bytes(content.getvalue())
    with pytest.raises(WeightsError, match="no network that is known"):
        look_up(str(path))
