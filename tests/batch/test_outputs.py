"""Names: which files are read, which are written, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from denoisekit.batch.naming import Naming, Source, find_sources, name_outputs
from denoisekit.errors import OutputError, UsageError
from denoisekit.formats import check_output


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root, *inputs, **options):
    sources = find_sources([str(root / i) for i in inputs], **options)
    assert not any(s.error for s in sources)
    return [s.path.relative_to(root).as_posix() for s in sources]


def named(sources, own="png", **naming):
    naming = Naming(**naming)
    pairs = name_outputs(map(Source, map(Path, sources)), naming, lambda s: naming.format_for(own))
    return [output.as_posix() for _, output in pairs]


@pytest.mark.parametrize(
    ("naming", "expected"),
    [
        ({}, "d/a_denoised.png"),
        ({"suffix": "-x"}, "d/a-x.png"),
        ({"output": Path("b.png")}, "b.png"),
        ({"output": Path("out")}, "out/a.png"),
        ({"output": Path("out.v2")}, "out.v2/a.png"),
        ({"output": Path("out"), "suffix": "_x"}, "out/a_x.png"),
        ({"format": "tiff"}, "d/a_denoised.tif"),
        ({"format": "tiff", "output": Path("b.tiff")}, "b.tiff"),
    ],
)
def test_names(naming, expected):
    assert named(["d/a.png"], **naming) == [expected]


@pytest.mark.parametrize("name", ["a b.png", "bild ä 写真.png", "a[1].png", "a.b.c.png", "A.PNG"])
def test_odd_names_keep_their_letters_and_ending(tmp_path, name):
    touch(tmp_path, name)
    assert found(tmp_path, name) == [name]
    stem, ending = name.rsplit(".", 1)
    assert named([name]) == [f"{stem}_denoised.{ending}"]


def test_content_decides_the_ending_where_the_name_is_wrong():
    assert named(["photo.png"], own="jpeg") == ["photo_denoised.jpg"]


def test_the_name_of_the_output_decides_the_format():
    assert Naming(Path("b.tif")).format_for("png") == "tiff"
    assert Naming(Path("folder")).format_for("png") == "png"
    with pytest.raises(UsageError, match="contradict"):
        Naming(Path("b.tif"), format="png").format_for("png")
    with pytest.raises(UsageError, match=r"\.gif"):
        Naming(Path("b.gif")).format_for("png")


@pytest.mark.parametrize(
    ("sources", "naming", "words"),
    [
        (["a.png", "b.png"], {"output": Path("c.png")}, "2 inputs"),
        (["x/a.png", "y/a.png"], {"output": Path("out")}, "both be written"),
        (["a.png", "a.tif"], {"format": "png"}, "both be written"),
        (["a.png"], {"suffix": ""}, "is an input"),
        (["a.png"], {"output": Path("./a.png")}, "is an input"),
        (["a.png", "a_denoised.png"], {}, "is an input"),
    ],
)
def test_what_would_lose_a_file_is_refused(sources, naming, words):
    with pytest.raises(UsageError, match=words):
        named(sources, **naming)


def test_an_output_that_an_input_links_to_is_refused(tmp_path):
    touch(tmp_path, "real.png")
    (tmp_path / "link.png").symlink_to("real.png")
    with pytest.raises(UsageError, match="is an input"):
        named([tmp_path / "link.png"], output=tmp_path / "real.png")


def test_folders(tmp_path):
    touch(tmp_path, "b.png", "a.JPG", "notes.txt", ".hidden.png", "sub/c.tif", "sub.png/d.png")
    assert found(tmp_path, ".") == ["a.JPG", "b.png"]
    everything = ["a.JPG", "b.png", "sub/c.tif", "sub.png/d.png"]
    assert found(tmp_path, ".", recursive=True) == everything
    assert found(tmp_path, "sub.png") == ["sub.png/d.png"]


def test_the_tree_is_mirrored(tmp_path):
    touch(tmp_path, "in/a.png", "in/x/y/a.png")
    sources = find_sources([str(tmp_path / "in")], recursive=True)
    pairs = name_outputs(sources, Naming(Path("out")), lambda _: "png")
    assert [p.as_posix() for _, p in pairs] == ["out/a.png", "out/x/y/a.png"]


def test_patterns(tmp_path):
    touch(tmp_path, "a1.png", "a2.png", "b.png", "x/a3.png", "a[12].png")
    assert found(tmp_path, "a?.png") == ["a1.png", "a2.png"]
    assert found(tmp_path, "a[12].png") == ["a[12].png"], "a file's own name comes first"
    assert found(tmp_path, "**/a3.png", "x") == ["x/a3.png"], "each file once"


def test_earlier_results_are_passed_over_in_folders_and_patterns_only(tmp_path):
    touch(tmp_path, "a.png", "a_denoised.png", "c.jpg", "c_denoised.png", "b_denoised.png")
    kept = ["a.png", "b_denoised.png", "c.jpg"]
    assert found(tmp_path, ".") == kept
    assert sorted(found(tmp_path, "*.*")) == kept
    assert found(tmp_path, "a_denoised.png") == ["a_denoised.png"]


def test_the_folder_of_results_is_not_searched(tmp_path):
    touch(tmp_path, "a.png", "clean/a.png", "sub/b.png")
    inside = found(tmp_path, ".", recursive=True, output=tmp_path / "clean")
    assert inside == ["a.png", "sub/b.png"]
    assert "a.png" in found(tmp_path, ".", recursive=True, output=tmp_path)


def test_loops_of_links_end(tmp_path):
    touch(tmp_path, "a.png", "sub/b.png")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    assert found(tmp_path, ".", recursive=True) == ["a.png", "sub/b.png"]


@pytest.mark.parametrize("name", ["none*.png", "empty", "x" * 300 + "*.png"])
def test_nothing_there_is_an_error_of_that_name(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (source,) = find_sources([str(tmp_path / name)])
    assert source.error is not None


def test_free_names(tmp_path):
    touch(tmp_path, "a.png")
    check_output(tmp_path / "b.png", overwrite=False)
    check_output(tmp_path / "a.png", overwrite=True)
    for path, overwrite in ((tmp_path / "a.png", False), (tmp_path, True)):
        with pytest.raises(OutputError):
            check_output(path, overwrite=overwrite)
