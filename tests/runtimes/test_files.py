"""Files that are whole or not there, and what is said where they cannot be written."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from runtimes.errors import UserError
from runtimes.files import replacing, write_text

ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST)


def failing(number):
    """A call of the system that fails with `number`."""

    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [*ROOM, *REFUSED])
@pytest.mark.parametrize(("module", "call"), [(os, "mkdir"), (tempfile, "mkstemp"), (os, "replace"), (os, "fsync")])
def test_whatever_call_the_system_refuses_the_file_is_named(module, call, number, tmp_path, monkeypatch):
    path = tmp_path / ("new/a.txt" if call == "mkdir" else "a.txt")
    with monkeypatch.context() as patched:
        patched.setattr(module, call, failing(number))
        with pytest.raises(UserError) as caught:
            write_text(path, "content")
    assert str(path) in caught.value.message
    assert os.strerror(number) in caught.value.message
    if number in ROOM:
        assert caught.value.message.startswith("no room to write")
        assert "free some space" in caught.value.hint
    else:
        assert f"{path} cannot be written: " in caught.value.message
        assert "another --out" in caught.value.hint
    assert list(tmp_path.rglob("*.*")) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_permission(tmp_path):
    tmp_path.chmod(0o555)
    for path in (tmp_path / "a.txt", tmp_path / "new/a.txt"):
        with pytest.raises(UserError, match="cannot be written: Permission denied"):
            write_text(path, "content")


def test_another_failure_of_the_system_is_not_the_users(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "mkstemp", failing(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_text(tmp_path / "a.txt", "content")


def test_a_refusal_of_something_else_in_the_block_is_not_taken_for_one_of_this_file(tmp_path):
    def copy_unreadable() -> None:
        with replacing(tmp_path / "a.txt"):
            raise PermissionError(errno.EACCES, "Permission denied", "source")

    with pytest.raises(PermissionError, match="source"):
        copy_unreadable()
    assert list(tmp_path.iterdir()) == []


def test_what_stood_there_stays_until_the_new_is_whole(tmp_path):
    path = Path(tmp_path / "a.txt")
    write_text(path, "old")

    def fail_half_way() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]
