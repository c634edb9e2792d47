"""The lock on a machine's clock."""

import fcntl
import os
from pathlib import Path

import pytest

from tuner.errors import MeasureError
from tuner.measure.lock import lock_path, machine_lock


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def is_free() -> bool:
    with lock_path().open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_it_is_held_inside_the_block_and_free_after_it() -> None:
    with machine_lock():
        assert not is_free()
    assert is_free()
    with pytest.raises(RuntimeError), machine_lock():
        raise RuntimeError
    assert is_free()


def test_its_file_is_for_all_users() -> None:
    before = os.umask(0o077)
    try:
        with machine_lock():
            assert lock_path().stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


def test_a_trap_in_its_place_is_one_clear_error(tmp_path: Path) -> None:
    lock_path().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MeasureError, match="cannot open the measuring lock"), machine_lock():
        pass
    assert not (tmp_path / "elsewhere").exists()
