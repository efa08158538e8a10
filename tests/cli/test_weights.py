"""``denoisekit weights``: exit codes, what goes to stdout and what to stderr."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from denoisekit.cli import app as frame
from denoisekit.methods import get_method
from denoisekit.weights import find_entry, load_manifest, manifest
from golden_weights import GOLDEN, shapes_of

ID = "aprrd.test"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder that a server publishes, with weights in it and a manifest that knows them."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "published"
    folder.mkdir()
    config = {"net": "unet", "variant": "1.02M"}
    method = get_method("aprrd")
    network = method.build(config, method.choose())
    draw = torch.Generator().manual_seed(1)
    state = {k: torch.randn(shape, generator=draw) for k, shape in network.shapes().items()}
    file = io.BytesIO()
    torch.save({"state_dict": state}, file)
    data = file.getvalue()
    (folder / "w.pth").write_bytes(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    entry = {
        "id": ID,
        "method": "aprrd",
        "config": config,
        "title": "Test weights",
        "trained_on": "noise",
        "licence": "none stated",
        "citation": "nobody",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "sources": [{"url": f"http://127.0.0.1:{server.server_port}/w.pth"}],
        "results": [
            {"dataset": "d", "psnr": 30.5, "ssim": None, "origin": "measured", "protocol": "p"}
        ],
    }
    other = {**entry, "id": "aprrd.other", "sha256": "0" * 64}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps([entry, other]))
    monkeypatch.setattr(manifest, "manifest_path", lambda: path)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def denoisekit(capsys):
    """Run a command; return exit code, stdout and stderr."""

    def run(*arguments):
        code = frame.run([*map(str, arguments)])
        done = capsys.readouterr()
        return code, done.out, done.err

    return run


@pytest.fixture
def weights(published, denoisekit):
    """Run ``denoisekit weights …`` with the manifest of `published`."""
    return partial(denoisekit, "weights")


def test_list_tells_what_is_here(weights):
    code, out, err = weights("list")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines() if not line.startswith("note: ")]
    assert [row[:2] for row in rows] == [["id", "here"], [ID, "no"], ["aprrd.other", "no"]]
    weights("pull", ID)
    assert weights("list")[1].splitlines()[1].split()[1] == "yes"


def test_json_is_one_object_per_line(weights):
    weights("pull", ID)
    code, out, _ = weights("list", "--json")
    first, second = map(json.loads, out.splitlines())
    assert (code, first["id"], first["present"], second["present"]) == (0, ID, True, False)
    code, out, _ = weights("info", ID, "--json")
    assert json.loads(out) == first
    assert first["origin_sha256"] == first["sha256"]
    assert first["results"] == [
        {"dataset": "d", "psnr": 30.5, "ssim": None, "origin": "measured", "protocol": "p"}
    ]


def test_info_shows_source_licence_and_results(weights):
    code, out, err = weights("info", ID)
    assert (code, err) == (0, "")
    for words in ("none stated", "/w.pth", "30.50", "variant 1.02M", "present"):
        assert words in out


def test_pull_then_pull_again(weights):
    code, out, err = weights("pull", ID)
    assert code == 0
    assert out.startswith(f"{ID}: fetched (")
    assert "no stated licence" in err
    code, out, err = weights("pull", ID)
    assert (code, err) == (0, "")
    assert out.startswith(f"{ID}: already here")
    assert json.loads(weights("pull", ID, "--json")[1])["fetched"] is False


def test_pull_checks_all_ids_before_any_work(weights, published):
    code, out, err = weights("pull", ID, "aprrd.tset")
    assert (code, out) == (2, "")
    assert "there are no weights 'aprrd.tset'" in err
    assert f"did you mean '{ID}'" in err
    assert weights("path", ID)[0] == 3


@pytest.mark.parametrize("reason", ["offline", "gone", "wrong hash"])
def test_weights_that_cannot_be_had_exit_3_and_say_what_helps(
    weights, published, monkeypatch, reason
):
    if reason == "offline":
        monkeypatch.setenv("DENOISEKIT_OFFLINE", "1")
    elif reason == "gone":
        (published / "w.pth").unlink()
    name = "aprrd.other" if reason == "wrong hash" else ID
    code, out, err = weights("pull", name)
    assert (code, out) == (3, "")
    assert err.count("\n") == 2
    assert f"denoisekit weights pull {name}" in err
    assert f"denoisekit weights import FILE --as {name}" in err


def test_import_by_hash_and_by_name(weights, published, tmp_path):
    code, out, _ = weights("import", published / "w.pth")
    assert code == 0
    assert out.startswith(f"{ID}: imported (the published file, by its hash")

    file = tmp_path / "trained again.pth"
    state = torch.load(published / "w.pth", weights_only=True)["state_dict"]
    torch.save({"params": {key: value + 1 for key, value in state.items()}}, file)
    code, out, err = weights("import", file)
    assert (code, out) == (3, "")
    assert "none of the known files" in err
    code, out, _ = weights("import", file, "--as", "aprrd.other", "--json")
    assert code == 0
    assert json.loads(out)["verified"] is False
    assert "unverified source" in weights("list")[1]


@pytest.mark.parametrize("content", [b"", b"text", bytes(100), b"PK\x03\x04"])
def test_import_of_something_else(weights, tmp_path, content):
    file = tmp_path / "odd"
    file.write_bytes(content)
    code, out, err = weights("import", file, "--as", ID)
    assert (code, out) == (3, "")
    assert "is not a readable checkpoint" in err
    assert weights("import", tmp_path / "absent.pth")[0] == 3
    assert weights("import", tmp_path)[0] == 3


def test_verify_finds_damage_and_pull_repairs_it(weights):
    assert weights("verify") == (0, "", "")
    weights("pull", ID)
    assert weights("verify", ID) == (0, f"{ID}: sound\n", "")
    path = weights("path", ID)[1].strip()
    with open(path, "r+b") as file:  # noqa: PTH123
        file.seek(-1, 2)
        file.write(b"\x01")
    code, out, err = weights("verify")
    assert code == 3
    assert "instead of" in out
    assert f"hint: repair them with: denoisekit weights pull {ID}" in err
    assert "damaged" in weights("list")[1]
    assert weights("pull", ID)[1].startswith(f"{ID}: fetched")
    assert weights("verify")[0] == 0


def test_path_and_remove(weights):
    code, out, err = weights("path", ID)
    assert (code, out) == (3, "")
    assert "not in the cache folder" in err
    folder = weights("path")[1].strip()
    weights("pull", ID)
    assert weights("path", ID)[1].startswith(folder)
    assert weights("remove", ID) == (0, f"{ID}: removed\n", "")
    code, out, err = weights("remove", ID)
    assert (code, out) == (3, "")
    assert f"the weights {ID} are not here" in err
    assert weights("verify", ID)[0] == 3


@pytest.fixture
def ssbsn_file(tmp_path):
    """A file such as a browser would have fetched, with other numbers."""
    state = {
        key: torch.tensor(1e-4).expand(shape)
        for key, shape in shapes_of(GOLDEN / "ssbsn_full.safetensors").items()
    }
    path = tmp_path / "SSBSN_SIDD.pth"
    torch.save({"epoch": 20, "model_weight": {"denoiser": state}}, path)
    return path


@pytest.fixture
def noisy(tmp_path):
    path = tmp_path / "noisy.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)).save(path)
    return path


def test_weights_for_a_browser_say_where_to_go_and_what_to_do_then(denoisekit, noisy):
    page = find_entry("ssbsn.sidd", load_manifest()).page
    code, out, err = denoisekit("weights", "info", "ssbsn.sidd")
    assert (code, err) == (0, "")
    told = (
        f"open {page} in a browser, download the file, then: "
        "denoisekit weights import FILE --as ssbsn.sidd"
    )
    assert told in out
    asked = ["denoise", noisy, "--method", "ssbsn", "--weights", "ssbsn.sidd"]
    for command in (["weights", "pull", "ssbsn.sidd"], asked):
        code, out, err = denoisekit(*command)
        assert (code, out) == (3, "")
        assert "cannot be reached" in err  # tests have no network
        assert f"; or {told}\n" in err
        assert "hint: with a network: denoisekit weights pull ssbsn.sidd; or " in err
    code, out, err = denoisekit("denoise", noisy, "--method", "ssbsn", "--set", "refine_rounds=0")
    assert code == 0
    note, took = err.splitlines()[:2]
    assert note.startswith("note: ssbsn.sidd could not be had: ")
    assert took.startswith("ssbsn with ssbsn.camera on ")


def test_file_without_a_known_hash_is_taken_by_its_keys_and_stays_doubtful(
    denoisekit, ssbsn_file, noisy
):
    code, out, err = denoisekit("weights", "import", ssbsn_file)
    assert code == 0
    assert out.startswith("ssbsn.sidd: imported (unverified source; ")
    assert "note: taken for ssbsn.sidd, whose keys and shapes it has; no hash" in err
    assert "yes, unverified source" in denoisekit("weights", "list")[1]
    assert "no, unverified source" in denoisekit("weights", "info", "ssbsn.sidd")[1]
    assert json.loads(denoisekit("weights", "info", "ssbsn.sidd", "--json")[1])["verified"] is False
    assert "already here" in denoisekit("weights", "pull", "ssbsn.sidd")[1]
    command = ("denoise", noisy, "--method", "ssbsn", "--set", "refine_rounds=0")
    code, _, err = denoisekit(*command)
    assert code == 0
    assert "warning: ssbsn.sidd was imported from an unverified source" in err


def test_file_that_fits_several_is_asked_about(denoisekit, tmp_path):
    path = tmp_path / "mine.pth"
    shapes = shapes_of(GOLDEN / "aprrd_student_1_02M.safetensors")
    torch.save({key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}, path)
    code, out, err = denoisekit("weights", "import", path)
    assert (code, out) == (3, "")
    assert "it fits aprrd.sidd, aprrd.tmbsn-sidd, aprrd.tmbsn-dnd\n" in err
    assert "hint: say which it is with --as ID, or use the file itself: --method aprrd" in err
    code, out, err = denoisekit("weights", "import", path, "--as", "ssbsn.sidd")
    assert (code, out) == (3, "")
    assert "; it looks like a checkpoint of aprrd\nhint: try --as aprrd.sidd or " in err


def test_file_of_no_network_is_refused(denoisekit, tmp_path):
    path = tmp_path / "odd.pth"
    torch.save({"a": torch.zeros(3)}, path)
    code, out, err = denoisekit("weights", "import", path)
    assert (code, out) == (3, "")
    assert "its keys are of no network that is known here" in err
    assert "hint: if you know what it is, add --as ID" in err


def test_name_of_a_method_is_answered_with_its_weights(denoisekit):
    code, out, err = denoisekit("weights", "pull", "sdap")
    assert (code, out) == (2, "")
    assert "hint: the weights of sdap: sdap.sidd, sdap.s-sidd, sdap.s-dnd, sdap.camera" in err


def test_file_of_no_published_weights_is_used_as_it_is(denoisekit, tmp_path):
    path = tmp_path / "net_g_400000.pth"
    shapes = shapes_of(GOLDEN / "promptsid_full.safetensors")
    state = {key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}
    torch.save({"params": state, "params_ema": state}, path)
    code, out, err = denoisekit("weights", "import", path)
    assert (code, out) == (3, "")
    assert "it looks like a checkpoint of promptsid, but of no weights in the list" in err
    assert f"hint: use the file itself: --method promptsid --weights {path}" in err
