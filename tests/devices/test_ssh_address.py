"""Addresses of devices and interpreters: what is taken, what is refused, and what a shell makes of it."""

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.ssh.address import Address, interpreter_word, read_address
from runtimes.errors import UserError


@pytest.mark.parametrize(
    ("url", "address", "name"),
    [
        ("ssh://board", Address(None, "board", None), "board"),
        ("ssh://Orin-Nano.local/", Address(None, "Orin-Nano.local", None), "Orin-Nano.local"),
        ("ssh://jetson@10.0.0.5:22", Address("jetson", "10.0.0.5", 22), "jetson@10.0.0.5-22"),
        ("ssh://me@corp@host:65535", Address("me@corp", "host", 65535), "me@corp@host-65535"),
        ("ssh://u@[fe80::1%eth0]:2222", Address("u", "fe80::1%eth0", 2222), "u@fe80__1_eth0-2222"),
        ("ssh://.hidden", Address(None, ".hidden", None), "hidden"),
    ],
)
def test_an_address_is_read_and_has_a_name_for_a_folder(url, address, name):
    assert read_address(url) == address
    assert address.name == name


@pytest.mark.parametrize(
    "url",
    [
        "",
        "board",
        "http://board",
        "ssh://",
        "ssh://-oProxyCommand=touch",
        "ssh://-l@board",
        "ssh://u@-board",
        "ssh://@board",
        "ssh://board:",
        "ssh://board:0",
        "ssh://board:65536",
        "ssh://board:-1",
        "ssh://board:2²",
        "ssh://board/path",
        "ssh://board?x=1",
        "ssh://bo ard",
        "ssh://board\n",
        "ssh://b$(id)",
        "ssh://u;id@board",
        "ssh://[::1",
        "ssh://a:b:c",
        "ssh://..",
    ],
)
def test_what_ssh_or_a_shell_could_misread_is_refused(url):
    with pytest.raises(UserError):
        read_address(url)


def test_a_password_is_refused_and_not_repeated():
    with pytest.raises(UserError, match="a password stands in the URL of the device board") as caught:
        read_address("ssh://me:s3cret@board")
    assert "s3cret" not in str(caught.value)


@given(st.text(max_size=30))
def test_whatever_is_taken_cannot_be_an_option_or_leave_its_folder(text):
    try:
        address = read_address(f"ssh://{text}")
    except UserError:
        return
    assert address.words()[-2:] == ["--", address.host]
    assert not address.host.startswith("-")
    assert not (address.user or "").startswith("-")
    assert address.name.strip(".")
    assert set(address.name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@-")


ODD = [
    "/opt/my python/bin",
    '/a"b',
    "/a$HOME",
    "/a`id`",
    "/a;b",
    "/a*",
    "/a{b,c}",
    "/a~b",
    "/a#b",
    "/a(b)",
    "/a&b|c",
    "/ä",
]


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "csh", "tcsh", "fish"])
@pytest.mark.parametrize("path", ODD)
def test_every_shell_reads_an_interpreters_word_as_the_path_it_was(shell, path):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    line = f"/usr/bin/printf %s {interpreter_word(path)}"
    found = subprocess.run(
        [shell, "-c", line], capture_output=True, check=False, env={"HOME": "/h", "LC_ALL": "C.UTF-8"}
    )
    assert found.stdout.decode() == path, found.stderr


@pytest.mark.parametrize("path", ["", "~/", "-c", "a'b", "a\\b", "a!b", "a\nb", "a\x00b"])
def test_what_shells_read_in_different_ways_is_refused(path):
    with pytest.raises(UserError, match="cannot be the interpreter"):
        interpreter_word(path)


def test_the_home_folder_is_left_to_the_shell_there():
    assert interpreter_word("~/venv/bin/python3") == "~/venv/bin/python3"
    assert interpreter_word("~/my venv/python") == "~/'my venv/python'"
