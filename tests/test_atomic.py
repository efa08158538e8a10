"""Who writes a file, and what becomes of what a killed run left."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from denoisekit import atomic
from denoisekit.atomic import Claim, claimed, remove_dead_parts, replacing, write_whole

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(path: Path) -> None:
    """Let a process begin to write a file, and kill it."""
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom denoisekit.atomic import Claim\n"
        "claim = Claim(Path(sys.argv[1]))\nclaim.part.write_bytes(b'half')\n"
        "print('begun', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        with pytest.raises(BlockingIOError):
            Claim(path)  # a living run's is left alone
        remove_dead_parts(path.parent)
        assert len(names(path.parent)) == 1
        process.send_signal(signal.SIGKILL)


def test_what_a_killed_run_left_is_removed_by_the_next_into_the_folder(tmp_path):
    killed(tmp_path / "a")
    assert len(names(tmp_path)) == 1
    write_whole(tmp_path / "b", b"whole")
    assert names(tmp_path) == ["b"]


def test_what_a_killed_run_left_of_a_file_does_not_hinder_the_next(tmp_path):
    killed(tmp_path / "a")
    write_whole(tmp_path / "a", b"whole")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_one_file_has_one_writer(tmp_path):
    with claimed(tmp_path / "a"):
        with pytest.raises(BlockingIOError):
            write_whole(tmp_path / "a", b"other")
        write_whole(tmp_path / "b", b"beside it")
    assert names(tmp_path) == ["b"]
    write_whole(tmp_path / "a", b"now")
    assert (tmp_path / "a").read_bytes() == b"now"


def test_a_claim_that_ends_leaves_the_part_of_the_next_one(tmp_path):
    first = Claim(tmp_path / "a")
    first.put()
    second = Claim(tmp_path / "a")
    first.close()
    assert second.part.exists()
    second.close()
    assert names(tmp_path) == ["a"]


def test_names_as_long_as_the_system_takes_them(tmp_path):
    name = "写" * 85
    write_whole(tmp_path / name, b"x")
    assert names(tmp_path) == [name]
    with pytest.raises(OSError) as caught, replacing(tmp_path / (name + "x")):  # noqa: PT011
        pytest.fail("begun")
    assert caught.value.errno == errno.ENAMETOOLONG
    assert names(tmp_path) == [name]


def test_a_full_disk_shows_before_the_work(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"), replacing(tmp_path / "a"):
        pytest.fail("begun")
    assert names(tmp_path) == []


def test_without_locks_nobody_writes_into_the_part_of_another(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(atomic.fcntl, "flock", none)
    with claimed(tmp_path / "a") as one, claimed(tmp_path / "a") as other:
        assert one.part != other.part
        one.part.write_bytes(b"one")
        remove_dead_parts(tmp_path)
        assert one.part.exists()
        assert other.part.exists()
        other.put()
    assert names(tmp_path) == ["a"]


def test_parts_of_another_machine_are_dead_only_when_old(tmp_path, monkeypatch):
    with monkeypatch.context() as there:
        there.setattr("platform.node", lambda: "another")
        part = Claim(tmp_path / "a").part
    # Its lock is held by this process: a file of the same name must wait.
    with pytest.raises(BlockingIOError):
        Claim(tmp_path / "a")
    part.rename(part.with_suffix(".moved"))
    part.touch()  # without a lock: a machine that died, or one whose locks do not reach us
    write_whole(tmp_path / "a", b"x")
    assert part.exists()
    old = time.time() - 2 * atomic.FOREIGN_SECONDS
    os.utime(part, (old, old))
    write_whole(tmp_path / "b", b"x")
    assert not part.exists()


def test_a_part_removed_between_opening_and_locking_is_made_again(tmp_path, monkeypatch):
    real, tidied = atomic._hold, []

    def hold(handle):
        if not tidied:
            tidied.append(1)
            next(tmp_path.glob("*.part")).unlink()  # another run took it for dead
        real(handle)

    monkeypatch.setattr(atomic, "_hold", hold)
    write_whole(tmp_path / "a", b"whole")
    assert names(tmp_path) == ["a"]


def test_a_link_in_the_place_of_a_part_is_not_followed(tmp_path):
    with claimed(tmp_path / "a") as claim:
        part = claim.part
    (tmp_path / "precious").write_bytes(b"precious")
    part.symlink_to(tmp_path / "precious")
    write_whole(tmp_path / "a", b"x")
    remove_dead_parts(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"x"
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_part_that_has_the_name_of_its_file_too_is_not_written_into(tmp_path):
    claim = Claim(tmp_path / "a")
    claim.part.write_bytes(b"whole")
    os.link(claim.part, tmp_path / "a")
    os.close(claim._lock)  # killed before it removed the other name
    with claimed(tmp_path / "a") as other:
        other.part.write_bytes(b"half")  # and this one does not come to its end
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert names(tmp_path) == ["a"]
