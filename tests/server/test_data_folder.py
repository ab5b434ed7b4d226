"""A data folder is a lake's own: nobody else's files are touched, and looking changes nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from server.data_folder import DataFolder, DataFolderError, DataFolderInUseError
from tests.support.fixtures import ROOT


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("stranger", ["notes.txt", "scratch/notes.txt", "store/cat.jpg", "postgres/base/1"])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, stranger: str) -> None:
    (tmp_path / stranger).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / stranger).write_text("precious")
    before = names(tmp_path)

    with pytest.raises(DataFolderError, match="is not empty and is not a data folder of lakeflight"):
        DataFolder(tmp_path).acquire()

    assert names(tmp_path) == before
    assert (tmp_path / stranger).read_text() == "precious"


def test_a_file_called_lock_does_not_make_a_folder_ours(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("of my bicycle: 4711")

    with pytest.raises(DataFolderError, match="it has lock"):
        DataFolder(tmp_path).acquire()

    assert (tmp_path / "lock").read_text() == "of my bicycle: 4711"


def test_what_comes_with_a_disk_or_its_server_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    for name in (".hidden", "server.log", "server.pid", "ready"):
        (tmp_path / name).write_text("x")

    folder = DataFolder(tmp_path, beside=(tmp_path / "ready",))
    folder.acquire()

    assert folder.scratch.is_dir()
    folder.release()


def test_a_folder_that_a_server_has_owned_is_its_own_whatever_is_added(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "lake")
    folder.acquire()
    (folder.scratch / "left").write_text("of a killed server")
    folder.release()
    (folder.root / "README.txt").write_text("ours")

    folder.acquire()

    assert names(folder.scratch) == []
    folder.release()


def test_a_start_that_was_killed_at_once_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()

    folder = DataFolder(tmp_path)
    folder.acquire()
    folder.release()


LOST = [b"", b"\0" * 6, b"\x8f\x01 garbage", b"\0" * 5000, b"12\n45\n"]  # of a crash, a repair of a disk, a backup


@pytest.mark.parametrize("lock", LOST)
@pytest.mark.parametrize("kept", ["postgres/PG_VERSION", "store/blobs/a/b/c"])
def test_a_lake_whose_lock_lost_what_it_said_is_known_by_what_it_keeps(tmp_path: Path, kept: str, lock: bytes) -> None:
    """Either is enough: the other may be elsewhere."""
    owner = DataFolder(tmp_path)
    owner.acquire()
    owner.release()
    (tmp_path / kept).parent.mkdir(parents=True)
    (tmp_path / kept).write_text("18")
    (tmp_path / "lock").write_bytes(lock)

    owner.acquire()

    assert DataFolder(tmp_path).owner() == f"process {os.getpid()}"
    owner.release()
    assert re.fullmatch(rb"\d+ *\n", (tmp_path / "lock").read_bytes())


def test_a_new_folder_whose_lock_was_never_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"\0" * 6)

    folder = DataFolder(tmp_path)
    folder.acquire()
    folder.release()


def test_a_lock_is_durable_before_anything_else_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((os.readlink(f"/proc/self/fd/{fd}"), names(tmp_path))))
    folder = DataFolder(tmp_path)

    folder.acquire()

    assert synced == [(str(tmp_path / "lock"), ["lock"]), (str(tmp_path), ["lock"])]
    folder.release()
    folder.acquire()
    assert len(synced) == 2
    folder.release()


def test_a_kill_while_the_lock_is_written_leaves_it_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = DataFolder(tmp_path)
    (tmp_path / "lock").write_text("4194303\n")

    def killed(*_: int) -> None:
        raise SystemExit

    monkeypatch.setattr(os, "ftruncate", killed)
    monkeypatch.setattr(os, "getpid", lambda: 12)
    with pytest.raises(SystemExit):
        folder.acquire()
    (tmp_path / "scratch").mkdir()

    DataFolder(tmp_path).check_contents()


def test_looking_says_who_owns_a_folder_and_makes_nothing(tmp_path: Path) -> None:
    looking = DataFolder(tmp_path / "lake")
    assert looking.owner() is None
    looking.check_contents()
    assert not looking.root.exists()
    owner = DataFolder(tmp_path / "lake")
    owner.acquire()
    before = names(tmp_path)

    assert looking.owner() == f"process {os.getpid()}"

    with pytest.raises(DataFolderInUseError, match=rf"is in use by process {os.getpid()}: stop it, or choose another"):
        looking.acquire()
    assert names(tmp_path) == before
    owner.release()
    assert looking.owner() is None


def test_whoever_looks_is_in_nobodys_way(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "lake")
    folder.acquire()
    folder.release()
    program = (
        "import sys, pathlib; from server.data_folder import DataFolder\n"
        "folder = DataFolder(pathlib.Path(sys.argv[1]))\n"
        "for _ in range(3000): folder.owner()"
    )
    looker = subprocess.Popen([sys.executable, "-c", program, str(folder.root)], cwd=ROOT)

    while looker.poll() is None:
        folder.acquire()
        folder.release()

    assert looker.returncode == 0


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    with pytest.raises(DataFolderError) as caught:
        DataFolder(tmp_path / "file" / "lake").acquire()

    sentence = str(caught.value)
    assert sentence.startswith(f"the data folder {tmp_path}/file/lake cannot be used: not a directory")
    assert sentence.endswith("; choose another with --data-dir or LAKEFLIGHT_DATA_DIR")
