"""The user's devices.toml, and how a name becomes a device."""

from pathlib import Path

import pytest

from devices import open_device
from devices.known import Known, devices_file, known_devices
from devices.ssh import Ssh
from runtimes.errors import UserError


@pytest.fixture
def toml(tmp_path, monkeypatch):
    """Writes the file that is read."""
    path = tmp_path / "my devices.toml"
    monkeypatch.setenv("EDGEPRUNE_DEVICES", str(path))
    return path.write_text


def test_where_the_devices_stand(monkeypatch, tmp_path):
    monkeypatch.delenv("EDGEPRUNE_DEVICES", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert devices_file() == tmp_path / ".config/edgeprune/devices.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert devices_file() == tmp_path / ".config/edgeprune/devices.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/mine")
    assert devices_file() == Path("/etc/mine/edgeprune/devices.toml")
    monkeypatch.setenv("EDGEPRUNE_DEVICES", str(tmp_path / "x.toml"))
    assert devices_file() == tmp_path / "x.toml"


def test_no_file_is_no_device_but_a_named_one_has_to_be_there(monkeypatch, tmp_path):
    monkeypatch.delenv("EDGEPRUNE_DEVICES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert known_devices() == {}
    monkeypatch.setenv("EDGEPRUNE_DEVICES", str(tmp_path / "missing.toml"))
    with pytest.raises(UserError, match="missing"):
        known_devices()


def test_devices_are_read_with_what_they_leave_out(toml, tmp_path):
    toml("""
        [orin]
        url = "ssh://jetson@10.0.0.5:22"
        python = "~/venv/bin/python3"
        ssh_config = "own/config"
        folder = "/ssd/edgeprune"
        [pi-5]
        url = "ssh://pi"
    """)
    orin = Known("orin", "ssh://jetson@10.0.0.5:22", "~/venv/bin/python3", tmp_path / "own/config", "/ssd/edgeprune")
    assert known_devices() == {"orin": orin, "pi-5": Known("pi-5", "ssh://pi", "python3", None, "~/.cache/edgeprune")}
    device = open_device("orin")
    assert isinstance(device, Ssh)
    assert (device.name, device.python) == ("orin", "~/venv/bin/python3")
    line = device.by_hand([device.python, "-m", "runtimes"], "/ssd/x y")
    words = f"ssh -F {tmp_path}/own/config -p 22 jetson@10.0.0.5 "
    assert line == words + "'cd '\"'\"'/ssd/x y'\"'\"' && ~/venv/bin/python3 -m runtimes'"


def test_a_home_folder_is_that_of_its_side(toml, tmp_path, monkeypatch):
    """The config is here; where bundles lie, and the interpreter, is there."""
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    toml('[o]\nurl = "ssh://a"\nssh_config = "~/.ssh/boards"\nfolder = "~/bundles"\npython = "~/venv/bin/python"')
    home = tmp_path / "me/.ssh/boards"
    assert known_devices()["o"] == Known("o", "ssh://a", "~/venv/bin/python", home, "~/bundles")


def test_the_file_may_be_named_from_a_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDGEPRUNE_DEVICES", "~/boards.toml")
    assert devices_file() == tmp_path / "boards.toml"
    monkeypatch.setenv("EDGEPRUNE_DEVICES", "~nobody-of-that-name/x")
    with pytest.raises(UserError, match="EDGEPRUNE_DEVICES: ~nobody-of-that-name/x begins with a user"):
        devices_file()


@pytest.mark.parametrize("name", ["orin.lab", "orin-nano_2", "10.0.0.5", "a..b"])
def test_a_name_may_have_dots_and_dashes(toml, name):
    toml(f'["{name}"]\nurl = "ssh://a"')
    assert open_device(name).name == name


def test_the_command_line_wins(toml, tmp_path):
    toml('[orin]\nurl = "ssh://orin"\npython = "/a"\nssh_config = "/b"')
    device = open_device("orin", python="/c", ssh_config=tmp_path / "d")
    assert device.python == "/c"
    assert f"-F {tmp_path}/d " in device.by_hand(["/c"], "/")
    assert open_device("local", python="/c").python == "/c"
    assert open_device("local").python != "/c"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[orin", "is not TOML", "for example"),
        ('[orin]\nurl = "ssh://a"\npyhton = "x"', "unknown key in .*'pyhton'", "did you mean 'python'"),
        ('[orin]\npython = "x"', r"\[orin\]: url is missing", "ssh://"),
        ('[orin]\nurl = "10.0.0.5"', r"\[orin\]: '10.0.0.5' is not the address", "ssh://user@host:port"),
        ('[orin]\nurl = "ssh://a"\npython = ""', "python is ''", "text in quotes"),
        ('[orin]\nurl = "ssh://a"\npython = "-c"', "cannot be the interpreter", "give its path"),
        ("[orin]\nurl = 5", "url is 5", "text in quotes"),
        ('[local]\nurl = "ssh://a"', "'local' is this machine", "another name"),
        ('["../x"]\nurl = "ssh://a"', "not a name for a device", "letters"),
        ('url = "ssh://a"', "outside of any table", r"\[orin\]"),
        ('[orin.lab]\nurl = "ssh://a"', "holds another table, 'lab'", '["orin.lab"]'),
        ('[o]\nurl = "ssh://a"\nssh_config = "~nobody-of-that-name/x"', "begins with a user", "the whole path"),
        (f'[{101 * "o"}]\nurl = "ssh://a"', "not a name for a device", "letters"),
        ('[o]\nurl = "ssh://me:s3cret@a"', "a password stands in the URL", "use a key"),
    ],
)
def test_a_damaged_file_is_told_with_the_place_and_the_remedy(toml, text, message, hint):
    toml(text)
    with pytest.raises(UserError, match=message) as caught:
        known_devices()
    assert hint.replace("\\", "") in caught.value.hint
    assert "s3cret" not in str(caught.value)


def test_a_file_in_another_encoding_is_told(toml, tmp_path):
    (tmp_path / "my devices.toml").write_bytes(b"[orin]\nurl = '\xff'")
    with pytest.raises(UserError, match="cannot be read"):
        known_devices()


def test_an_unknown_device_is_answered_with_the_nearest_of_all(toml):
    toml('[orin]\nurl = "ssh://a"')
    with pytest.raises(UserError, match="unknown device 'orni'") as caught:
        open_device("orni")
    assert "did you mean 'orin'" in caught.value.hint
    assert "local" in caught.value.hint


def test_a_url_needs_no_file(toml):
    toml("[damaged")
    assert open_device("ssh://me@board:2200").name == "me@board-2200"
    assert open_device("local").name == "local"
