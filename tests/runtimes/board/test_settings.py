"""Power mode and clocks of made-up boards: by name, read back, and as they were after the block."""

import json
import os
import re
import shutil
import signal
import stat
from fnmatch import fnmatch

import pytest
from fake_boards import BOARDS, FakeBoard, make_board, play_user
from fake_programs import Board, set_mode

from runtimes.board import privileged, settings
from runtimes.board.settings import Settings, applied, kept_in, settings_left
from runtimes.errors import UserError


@pytest.fixture
def board_of(tmp_path, monkeypatch):
    """A board of a kind, on whose PATH and in whose home this process is from now on."""

    def make(name="orin-nano-super"):
        board = make_board(tmp_path / "board", name)
        for variable, value in board.environment.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        return board

    return make


@pytest.fixture
def board(board_of):
    return board_of()


@pytest.fixture
def plain_linux(tmp_path, board_of):
    """A machine without NVIDIA's programs, with two processors; this is root there."""
    board_of().without("nvpmodel", "jetson_clocks")
    root = tmp_path / "plain"
    play_user(root, 0)
    for number in range(2):
        place = root / f"sys/devices/system/cpu/cpufreq/policy{number}"
        place.mkdir(parents=True)
        (place / "scaling_governor").write_text("powersave\n")
        (place / "scaling_available_governors").write_text("performance powersave\n")
    return root


def governors(root):
    return [path.read_text().strip() for path in sorted(root.rglob("scaling_governor"))]


def refused(board, settings, says=None):
    """The message and the hint of the error, after which the board is as it was."""
    before = board.mode(), board.gpu_range()
    with pytest.raises(UserError) as raised, applied(settings, (says or []).append, board.root):
        pytest.fail("the block was entered")
    assert (board.mode(), board.gpu_range()) == before
    assert not (board.folder / "rebooted").exists()
    return raised.value.message, raised.value.hint


def journal():
    return json.loads((kept_in()[0] / "settings.json").read_text())


def switches(board):
    return [words[1] for words, _ in board.calls("nvpmodel") if words[0] == "-m"]


def test_nothing_is_changed_unless_it_is_asked_for(board):
    with applied(Settings(), pytest.fail, board.root) as report:
        assert report is None
    assert not (board.folder / "calls.jsonl").exists()
    assert not kept_in()[0].exists()


@pytest.mark.parametrize(
    ("kind", "name", "number"),
    [
        ("orin-nano-super", "MAXN_SUPER", 2),
        ("agx-orin-64", "MAXN", 0),
        ("xavier-nx", "MODE_15W_2CORE", 0),
        ("agx-thor", "MAXN", 0),
    ],
)
def test_the_power_mode_is_switched_by_name_and_back(board_of, kind, name, number):
    board, said = board_of(kind), []
    own = {"name": board.mode(), "id": BOARDS[kind].mode}
    with applied(Settings(power_mode=name), said.append, board.root) as report:
        assert board.mode() == name
        assert report["power_mode"] == {"asked": name, "before": own, "after": {"name": name, "id": number}} | {
            "restored": None
        }
    assert board.mode() == own["name"]
    assert (report["power_mode"]["restored"], report["problems"]) == (own, [])
    assert said == [f"power mode {name} (was {own['name']})", "settings restored"]
    assert switches(board) == [str(number), str(own["id"])]


def test_the_mode_that_the_board_is_in_is_not_switched_to(board):
    with applied(Settings(power_mode="25W"), str, board.root) as report:
        pass
    assert switches(board) == []
    assert report["power_mode"]["after"] == report["power_mode"]["restored"] == {"name": "25W", "id": 1}


def test_an_unknown_mode_gets_the_list_of_this_board(board):
    message, hint = refused(board, Settings(power_mode="MAXN"))
    assert message == "unknown power mode 'MAXN'"
    assert "did you mean 'MAXN_SUPER'?" in hint
    assert "15W, 25W, MAXN_SUPER" in hint


def test_a_mode_that_needs_a_reboot_is_not_taken_and_nobody_answers_yes(board):
    board.behave(reboot=[0])
    message, hint = refused(board, Settings(power_mode="15W"))
    assert message == "power mode 15W needs a reboot, so the board stayed in 25W"
    assert "`sudo nvpmodel -m 0`" in hint


def test_a_switch_that_is_passed_over_without_a_word_is_seen(board):
    board.behave(silent=[2])
    message, hint = refused(board, Settings(power_mode="MAXN_SUPER"))
    assert message.startswith("the board stayed in power mode 25W when MAXN_SUPER was asked for")
    assert "`sudo nvpmodel -m 2`" in hint


def test_a_machine_without_power_modes_says_what_it_has(plain_linux):
    with pytest.raises(UserError) as raised, applied(Settings(power_mode="15W"), str, plain_linux):
        pass
    assert "there are no power modes here" in raised.value.message
    assert "governors performance, powersave, now powersave: --lock-clocks sets performance" in raised.value.hint


def test_an_ordinary_user_goes_by_sudo_that_may_not_ask(board):
    board.as_ordinary_user()
    with applied(Settings("MAXN_SUPER", lock_clocks=True), str, board.root) as report:
        assert board.gpu_range() == (1020000000, 1020000000)
    assert (board.mode(), report["problems"]) == ("25W", [])
    assert [words[:2] for words, _ in board.calls("sudo")] == [["-n", "-k"]] * 5
    assert all(is_root for words, is_root in board.calls("nvpmodel") if words[0] == "-m")


def test_sudo_that_wants_a_password_is_told_with_the_rule_that_helps(board):
    board.as_ordinary_user()
    board.behave(sudo="password")
    message, hint = refused(board, Settings(power_mode="15W"))
    assert message == "changing this machine's settings needs root: sudo: a password is required"
    rule = re.search(r'echo "\$\(id -un\) ALL=\(root\) NOPASSWD: (.*?)" \| sudo tee /etc/sudoers.d/edgeprune', hint)
    assert rule.group(1) == f"{board.bin}/jetson_clocks, {board.bin}/nvpmodel"
    assert f"`sudo {board.bin}/nvpmodel -m 0` by hand" in hint


def test_without_sudo_an_ordinary_user_is_told_so(board, monkeypatch):
    board.as_ordinary_user()
    board.without("sudo")
    monkeypatch.setenv("PATH", str(board.bin))
    message, _ = refused(board, Settings(power_mode="15W"))
    assert message.endswith("there is no sudo here, and this is not root")


@pytest.mark.parametrize("kind", BOARDS)
def test_clocks_are_fixed_and_let_go(board_of, kind):
    board, said = board_of(kind), []
    own = board.gpu_range()
    with applied(Settings(lock_clocks=True), said.append, board.root) as report:
        assert board.gpu_range() == (own[1], own[1])
        assert report["clocks"]["how"] == "jetson_clocks"
        assert report["clocks"]["after"]["gpu_mhz"] == [own[1] / 1e6] * 2
    assert board.gpu_range() == own
    assert report["clocks"]["restored"] == report["clocks"]["before"]
    assert said == ["clocks fixed by jetson_clocks", "settings restored"]
    assert list(kept_in()[0].glob("clocks-*")) == []


def test_clocks_that_were_fixed_by_hand_are_fixed_again_after_another_mode(board):
    for place in ("min_freq", "max_freq"):
        (board.root / f"sys/class/devfreq/17000000.gpu/{place}").write_text("918000000\n")
    with applied(Settings(power_mode="MAXN_SUPER"), str, board.root) as report:
        assert board.gpu_range() == (306000000, 1020000000)
    assert (board.mode(), board.gpu_range(), report["problems"]) == ("25W", (918000000, 918000000), [])


def test_clocks_that_stay_free_are_seen_and_the_mode_is_taken_back(board):
    board.behave(clocks_stay=True)
    message, _ = refused(board, Settings("MAXN_SUPER", lock_clocks=True))
    assert message.startswith("jetson_clocks did not fix the GPU's clock")
    assert switches(board) == ["2", "1"]
    assert journal()["state"] == "restored"


def test_a_jetson_without_jetson_clocks_says_how_to_get_it(board):
    board.without("jetson_clocks")
    message, hint = refused(board, Settings(lock_clocks=True))
    assert message == "jetson_clocks is not on PATH"
    assert "apt-get install nvidia-l4t-tools" in hint


def test_elsewhere_the_governor_is_fixed_and_let_go(plain_linux):
    with applied(Settings(lock_clocks=True), str, plain_linux) as report:
        assert governors(plain_linux) == ["performance", "performance"]
        assert report["clocks"]["how"] == "cpufreq governor"
    assert governors(plain_linux) == ["powersave", "powersave"]
    assert report["clocks"]["restored"]["governor"] == {"policy0": "powersave", "policy1": "powersave"}


def test_a_governor_that_is_refused_half_way_is_taken_back(plain_linux):
    """The kernel lets nobody write to /proc/version, not even root."""
    first, second = sorted(plain_linux.rglob("scaling_governor"))
    second.unlink()
    second.symlink_to("/proc/version")
    with pytest.raises(UserError) as raised, applied(Settings(lock_clocks=True), str, plain_linux):
        pass
    assert "'policy0': 'performance'" in raised.value.message
    assert f"tee: {second}: " in raised.value.message
    assert "`echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor`" in raised.value.hint
    assert first.read_text().strip() == "powersave"


@pytest.fixture
def as_user(tmp_path, plain_linux):
    """The same machine, on which this is an ordinary user: the calls of its programs."""
    shutil.rmtree(plain_linux / "proc/self")
    play_user(plain_linux, 1000)
    return FakeBoard(BOARDS["orin-nano-super"], tmp_path / "board")


def test_an_ordinary_user_fixes_the_governor_by_sudo_that_may_not_ask(plain_linux, as_user):
    with applied(Settings(lock_clocks=True), str, plain_linux) as report:
        assert governors(plain_linux) == ["performance", "performance"]
    assert governors(plain_linux) == ["powersave", "powersave"]
    assert report["problems"] == []
    files = [str(path) for path in sorted(plain_linux.rglob("scaling_governor"))]
    tee = str(as_user.bin / "tee")
    assert [words for words, _ in as_user.calls("sudo")] == [["-n", "-k", tee, file] for file in files * 2]
    assert all(is_root for _, is_root in as_user.calls("tee"))


def test_sudo_that_wants_a_password_for_the_governor_is_told_with_the_rule_for_these_files_alone(plain_linux, as_user):
    as_user.behave(sudo="password")
    with pytest.raises(UserError) as raised, applied(Settings(lock_clocks=True), str, plain_linux):
        pass
    assert governors(plain_linux) == ["powersave", "powersave"]
    rule = re.search(r"NOPASSWD: (\S+) (\S+)\" \| sudo tee", raised.value.hint)
    assert rule.group(1) == str(as_user.bin / "tee")
    assert all(fnmatch(str(path), rule.group(2)) for path in plain_linux.rglob("scaling_governor"))
    assert not fnmatch(
        f"{plain_linux}/sys/devices/system/cpu/cpufreq/policy0 /etc/shadow /scaling_governor", rule.group(2)
    )
    assert "`echo performance | sudo " in raised.value.hint


def test_a_machine_without_governor_has_no_clock_to_fix(plain_linux):
    for path in plain_linux.rglob("scaling_governor"):
        path.unlink()
    with pytest.raises(UserError) as raised, applied(Settings(lock_clocks=True), str, plain_linux):
        pass
    assert raised.value.message == "no clock can be fixed here: /sys has no cpufreq governor"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_ends_the_block_the_settings_are_restored(board, error):
    def fail():
        assert board.mode() == "15W"
        raise error

    with pytest.raises(error), applied(Settings("15W", lock_clocks=True), str, board.root):
        fail()
    assert (board.mode(), board.gpu_range()) == ("25W", (306000000, 918000000))


def test_what_cannot_be_restored_is_told_with_the_line_for_a_person(board):
    said = []
    with applied(Settings(power_mode="MAXN_SUPER"), said.append, board.root) as report:
        board.behave(reboot=[1])
    assert board.mode() == "MAXN_SUPER"
    assert report["problems"] == [
        "the power mode was not restored: run `sudo nvpmodel -m 1` (25W) and answer yes, it needs a reboot"
    ]
    assert said[-1] == "NOT RESTORED: " + report["problems"][0]
    assert report["power_mode"]["restored"] == {"name": "MAXN_SUPER", "id": 2}
    assert (journal()["state"], journal()["problems"]) == ("not restored", report["problems"])


def test_an_error_of_the_measurement_also_says_what_was_not_restored(board):
    def fail():
        board.behave(silent=[1])
        raise UserError("no engine", "install it")

    with pytest.raises(UserError) as raised, applied(Settings(power_mode="MAXN_SUPER"), str, board.root):
        fail()
    assert raised.value.message == "no engine"
    assert raised.value.hint == "install it; the power mode was not restored: run `sudo nvpmodel -m 1` (25W)"


def test_sudo_that_is_taken_away_meanwhile_is_a_problem_and_no_traceback(board):
    board.as_ordinary_user()
    with applied(Settings(power_mode="MAXN_SUPER"), str, board.root) as report:
        board.behave(sudo="password")
    assert "needs root: sudo: a password is required" in report["problems"][0]


@pytest.fixture
def spare(tmp_path, monkeypatch):
    """The folder for a home that may not be written: /proc/nowhere cannot be made by anybody."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    monkeypatch.setattr(settings, "_SPARE", str(tmp_path / "var-tmp"))
    (tmp_path / "var-tmp").mkdir(mode=0o777)
    return tmp_path / "var-tmp" / f"edgeprune-{os.getuid()}"


def test_with_a_home_that_may_not_be_written_the_journal_lies_in_a_private_folder_elsewhere(board, spare):
    with applied(Settings(power_mode="15W"), str, board.root) as report:
        assert json.loads((spare / "settings.json").read_text())["state"] == "changed"
        assert stat.S_IMODE(spare.stat().st_mode) == 0o700
    assert (board.mode(), report["problems"]) == ("25W", [])
    assert settings_left(board.root).value is None


def test_what_was_left_changed_is_found_in_either_folder(board, spare, monkeypatch):
    """The home may be written again when the next measurement comes."""
    with applied(Settings(power_mode="15W"), str, board.root):
        os.kill(json.loads((spare / "settings.json").read_text())["keeper"], signal.SIGKILL)
        left = (spare / "settings.json").read_text()
    set_mode(Board(str(board.folder)), "0")
    (spare / "settings.json").write_text(left)
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert "power mode 25W not restored since" in settings_left(board.root).value
    with applied(Settings(power_mode="MAXN_SUPER"), str, board.root) as report:
        assert report["power_mode"]["before"]["name"] == "25W"
    assert settings_left(board.root).value is None


@pytest.mark.parametrize("trap", ["link", "open to all"])
def test_a_folder_that_somebody_else_may_have_prepared_is_not_used(board, spare, tmp_path, trap):
    if trap == "link":
        (tmp_path / "trap").mkdir()
        spare.symlink_to(tmp_path / "trap")
    else:
        spare.mkdir()
        spare.chmod(0o777)
    note = {"do": "power_mode", "set": ["power_mode", 1], "name": "15W", "id": 0}
    (spare / "settings.json").write_text(json.dumps({"state": "changed", "undo": [note], "changed_at": "T"}))
    message, hint = refused(board, Settings(power_mode="15W"))
    assert message == f"neither /proc/nowhere/edgeprune/settings nor {spare} can be a folder of this user's"
    assert "XDG_CACHE_HOME" in hint
    assert settings_left(board.root).value is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that belongs to somebody else")
def test_a_folder_of_somebody_else_is_not_used(board, spare):
    spare.mkdir()
    os.chown(spare, 1234, 1234)
    message, _ = refused(board, Settings(power_mode="15W"))
    assert message.endswith(f"nor {spare} can be a folder of this user's")


def test_a_program_that_does_not_end_is_told(board, monkeypatch):
    """Its exit code is not looked at otherwise: nvpmodel's says nothing."""
    monkeypatch.setattr(privileged, "_TIMEOUT_S", 0.2)
    with pytest.raises(UserError) as raised, board.held("nvpmodel"):
        privileged.as_root([str(board.bin / "nvpmodel"), "-q"], board.root)
    assert raised.value.message.endswith("nvpmodel -q` did not end within 0.2 s")
    with pytest.raises(UserError) as raised:
        privileged.as_root([str(board.bin / "nothing")], board.root)
    assert re.search("cannot be run: No such file|sudo: .*: command not found", raised.value.message)
