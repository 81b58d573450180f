"""What a device has and lacks, on made-up boards, with and without numpy, and for every kind of Python."""

import json
import os
import re
import subprocess
import sys

import pytest
from architecture_rules import ROOT
from fake_boards import BOARDS, make_board

from runtimes import __main__, installing, ort, sparse_cpu
from runtimes import probe as probing
from runtimes.board import needs as needing
from runtimes.board.needs import board_needs, is_jetson
from runtimes.board.settings import settings_left
from runtimes.errors import UserError
from runtimes.readings import Reading

ISOLATED = (
    "import sys, runpy; sys.path.insert(0, {root!r}); sys.argv[1:] = ['probe']\n"
    "runpy.run_module('runtimes', run_name='__main__')"
)
MODULES = {
    "orin-nano-super": ("Jetson Orin Nano 8GB, L4T 39.2.1, JetPack 7.2.1", "25W (of 15W, 25W, MAXN_SUPER)"),
    "agx-orin-64": ("Jetson AGX Orin 64GB, L4T 36.4.4, JetPack 6.2.1", "MODE_30W (of MAXN, "),
    "xavier-nx": ("Jetson Xavier NX 8GB, L4T 35.4.1, JetPack 5.1.2", "MODE_20W_6CORE (of MODE_15W_2CORE, "),
    "agx-thor": ("Jetson AGX Thor T5000, L4T 38.4.0, JetPack 7.1", "120W (of MAXN, 120W)"),
}
POWER = {  # the rule of each module, by hand, over the first captured line; the chips show whole milliamperes at 5 V
    "orin-nano-super": (3582, "module"),
    "agx-orin-64": (2412 + 1607 + 4707, "sum_of_rails"),
    "xavier-nx": (3240, "module"),
    "agx-thor": (19780, "total_input"),
}


def probed(board=None, home=None, isolated=False):
    """`python -m runtimes probe` on a board, with this Python, or with one that has its standard library alone."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(board.environment if board else {})}
    environment |= {"HOME": str(home)} if home else {}
    alone = ["-I", "-S", "-c", ISOLATED.format(root=str(ROOT))]
    command = [sys.executable, *(alone if isolated else ["-m", "runtimes", "probe"])]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def by_name(found):
    return {need["what"]: need for need in found["needs"]}


@pytest.mark.parametrize("kind", BOARDS)
def test_a_whole_board_says_what_it_is_and_what_it_has(tmp_path, kind):
    board = make_board(tmp_path / "board", kind)
    needs = by_name(probed(board, tmp_path))
    assert needs["board"]["found"].startswith(MODULES[kind][0])
    assert not needs["board"]["fine"], "no number from a made-up board is a result"
    assert "a made-up board" in needs["board"]["found"]
    assert needs["power mode"]["found"].startswith(MODULES[kind][1])
    milliwatts, scope = POWER[kind]
    read = re.fullmatch(r".*: (\d+) mW now, (\w+)", needs["power rails"]["found"])
    assert abs(int(read.group(1)) - milliwatts) <= 15
    assert read.group(2) == scope
    for program in ("tegrastats", "nvpmodel", "jetson_clocks", "trtexec"):
        assert needs[program] == {
            "what": program, "fine": True, "found": str(board.bin / program), "needed": False, "fix": None
        }  # fmt: skip
    assert needs["runtime trt"]["needed"]
    assert not needs["runtime ort"]["needed"]
    assert not needs["GPU clock fixed"]["fine"]
    assert all("-m" not in words for words, _ in board.calls("nvpmodel")), "a probe changes nothing"
    assert all(words == ["--show"] for words, _ in board.calls("jetson_clocks"))


def test_a_board_without_its_programs_says_how_to_get_them(tmp_path):
    board = make_board(tmp_path / "board", "orin-nano-super")
    board.without("tegrastats", "nvpmodel", "jetson_clocks", "trtexec")
    needs = by_name(probed(board, tmp_path))
    packages = {"tegrastats": "nvidia-l4t-tools", "nvpmodel": "nvidia-l4t-nvpmodel", "trtexec": "libnvinfer-bin"}
    for program, package in packages.items():
        assert not needs[program]["fine"]
        assert not needs[program]["needed"]
        assert needs[program]["fix"] == f"`sudo apt-get install {package}`"
    assert needs["power mode"]["fine"], "its status file says it too"


def test_rights_are_tried_without_changing_anything(tmp_path):
    board = make_board(tmp_path / "board", "orin-nano-super")
    board.as_ordinary_user()
    needs = by_name(probed(board, tmp_path))
    assert needs["rights for --power-mode and --lock-clocks"]["found"] == "sudo asks for no password"
    assert [words[-1] for words, _ in board.calls("sudo")] == ["-q"]
    board.behave(sudo="password")
    rights = by_name(probed(board, tmp_path))["rights for --power-mode and --lock-clocks"]
    assert not rights["fine"]
    assert "NOPASSWD: " + str(board.bin / "jetson_clocks") in rights["fix"]


def test_rights_to_the_governor_are_tried_without_changing_it(tmp_path):
    board = make_board(tmp_path / "board", "xavier-nx")
    board.as_ordinary_user()
    board.without("nvpmodel", "jetson_clocks")
    what = "rights for --power-mode and --lock-clocks"
    governor = "sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
    assert by_name(probed(board, tmp_path))[what]["found"] == "sudo asks for no password"
    assert board.text(governor) == "schedutil"
    assert [words[2:] for words, _ in board.calls("sudo")] == [[str(board.bin / "tee"), str(board.root / governor)]]
    board.behave(sudo="password")
    assert f"{board.bin / 'tee'} {board.root}/sys/" in by_name(probed(board, tmp_path))[what]["fix"]


def test_settings_that_were_never_restored_are_told(tmp_path, monkeypatch):
    place = tmp_path / ".cache/edgeprune/settings"
    place.mkdir(parents=True)
    board = make_board(tmp_path / "board", "orin-nano-super")

    def left(state, mode=1):
        note = {"do": "power_mode", "set": ["power_mode", mode], "name": "15W", "id": 0}
        content = {"state": state, "undo": [note], "changed_at": "T", "problems": ["run that"]}
        (place / "settings.json").write_text(json.dumps(content))
        return settings_left(board.root).value

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", board.environment["PATH"])
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert left("restored") is None
    assert left("changed", mode=2) is None, "somebody has put it right"
    assert left("not restored") == "not restored: run that"
    told = left("changed")
    assert told == "power mode 15W not restored since T"
    need = by_name(probed(board, tmp_path))["settings of an earlier measurement"]
    assert (need["fine"], need["found"]) == (False, told)


def test_without_numpy_it_says_so_and_everything_else(tmp_path):
    """-S -I: an interpreter that finds its standard library and nothing else."""
    board = make_board(tmp_path / "board", "xavier-nx")
    found = probed(board, tmp_path, isolated=True)
    needs = by_name(found)
    assert not needs["numpy"]["fine"]
    assert needs["numpy"]["needed"]
    assert "-m pip install numpy" in needs["numpy"]["fix"]
    assert needs["Python 3.8 or newer"]["fine"]
    assert needs["board"]["found"].startswith(MODULES["xavier-nx"][0])
    for name in ("null", "ort", "trt"):
        assert found["runtimes"][name]["version"] is None
        assert found["runtimes"][name]["missing"].startswith("numpy is not installed: ")
        assert "pip install numpy" in needs[f"runtime {name}"]["fix"]


def test_this_machine_has_what_it_needs(tmp_path):
    found = probed(home=tmp_path)
    needs = by_name(found)
    assert found["facts"]["stand_in"] is None
    assert [name for name, need in needs.items() if need["needed"] and not need["fine"]] == []
    assert needs["runtime ort"]["needed"]
    assert "nvpmodel" not in needs
    assert needs["disk"]["found"].endswith(f"GiB free in {os.getcwd()}")  # noqa: PTH109  # what the other side calls


def test_a_library_that_fails_in_its_own_way_is_no_traceback(monkeypatch):
    class Broken:
        def missing(self):
            raise RuntimeError("module compiled\nagainst another numpy")

    monkeypatch.setattr(probing, "resolve", lambda address: Broken())
    broken = "its library fails: RuntimeError: module compiled against another numpy"
    assert probing._runtime("runtimes.ort") == {"version": None, "missing": broken}


def test_what_a_runtime_says_is_cut_where_the_command_is_known_better():
    told = "onnxruntime cannot be imported (No module named 'x: y'): install it with `p -m pip install onnxruntime`"
    state = {"null": {"version": "1", "missing": None}, "ort": {"version": None, "missing": told}}
    null, ort = probing._runtime_needs(state, {"l4t": None, "soc": None})
    assert (null.fine, null.found) == (True, "version 1")
    assert (ort.fine, ort.found) == (False, "onnxruntime cannot be imported (No module named 'x: y')")
    assert ort.fix == installing.command("onnxruntime")


FACTS = {"reasons": {}, "l4t": None, "soc": None}


@pytest.mark.parametrize(("triple", "fine"), [("aarch64-linux-gnu", True), ("aarch64-linux-musl", False)])
def test_a_board_lacks_no_library_that_bundles_bring(monkeypatch, triple, fine):
    def need(told):
        return probing._runtime_needs({"sparse_cpu": {"version": None, "missing": told}}, FACTS)[0]

    monkeypatch.setattr("runtimes.sparse_cpu.library.triple", lambda: triple)
    monkeypatch.setattr("runtimes.sparse_cpu.library._found", lambda program: iter(()))
    monkeypatch.delenv("EDGEPRUNE_SPARSE_CPU_LIBRARY", raising=False)
    told = need(sparse_cpu.missing())
    assert (told.fine, told.needed) == (fine, False)
    assert ("bundles bring its library" in told.found) == fine
    assert not need("sparse_cpu: the library gone.so is not there: name another, or none").fine


def test_a_power_source_is_looked_for_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(needing, "power_source", lambda root: asked.append(root) or Reading(None, "no rail"))
    assert needing._rails(tmp_path).found == "no rail"
    assert asked == [tmp_path]


def test_each_doubt_about_the_peace_of_a_board_has_its_number(tmp_path):
    busy = {
        **FACTS,
        "swap_used_bytes": 300 << 20,
        "load_average": [3.0, 2, 1],
        "cores": 4,
        "busy_programs": ["Xorg"],
        "throttled": {"now": "under-voltage", "since boot": "under-voltage"},
        "governor": "ondemand",
    }
    needs = {need.what: need for need in board_needs(busy, tmp_path)}
    assert (needs["swap"].fine, needs["swap"].found) == (False, "300 MiB in use")
    assert (needs["other load"].fine, needs["other load"].found) == (False, "load 3 on 4 processors; busy now: Xorg")
    assert (needs["throttled"].fine, needs["throttled"].found) == (
        False, "now: under-voltage, since boot: under-voltage"
    )  # fmt: skip
    assert (needs["CPU clock fixed"].fine, needs["CPU clock fixed"].fix) == (False, "measure with --lock-clocks")
    quiet = {
        **FACTS,
        "swap_used_bytes": 0,
        "load_average": [0.2, 0, 0],
        "cores": 4,
        "busy_programs": [],
        "throttled": {"now": "no"},
        "governor": "performance",
    }
    needs = {need.what: need for need in board_needs(quiet, tmp_path)}
    assert all(needs[what].fine for what in ("swap", "other load", "throttled", "CPU clock fixed"))


@pytest.mark.parametrize(
    ("available_kb", "soc", "fine"), [(2900 << 10, "nvidia,tegra234", False), (600 << 10, None, True)]
)
def test_a_builder_needs_more_memory_than_a_network(tmp_path, available_kb, soc, fine):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 8000000 kB\nMemAvailable: {available_kb} kB\n")
    needs = [need for need in board_needs({**FACTS, "soc": soc}, tmp_path) if need.what.startswith("memory")]
    assert [need.fine for need in needs] == [fine]


def test_a_jetson_is_known_by_its_release_or_its_chip():
    assert is_jetson({"l4t": "36.4.4", "soc": None})
    assert is_jetson({"l4t": None, "soc": "nvidia,tegra194"})
    assert not is_jetson({"l4t": None, "soc": "brcm,bcm2712"})


# Pythons -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def python(tmp_path, monkeypatch):
    """A Python of a kind: in an environment or not, managed by the system or not, with or without pip and venv."""

    def make(*, venv=False, managed=False, lacks=(), system_packages=False, base="/usr"):
        prefix = tmp_path / "venv" if venv else base
        (tmp_path / "venv").mkdir()
        (tmp_path / "venv/pyvenv.cfg").write_text(
            f"home = /usr/bin\ninclude-system-site-packages = {str(system_packages).lower()}\n"
        )
        (tmp_path / "lib").mkdir()
        if managed:
            (tmp_path / "lib/EXTERNALLY-MANAGED").touch()
        monkeypatch.setattr(sys, "prefix", str(prefix))
        monkeypatch.setattr(sys, "base_prefix", base)
        monkeypatch.setattr(sys, "executable", f"{prefix}/bin/python3")
        monkeypatch.setattr(installing.sysconfig, "get_path", lambda name: str(tmp_path / "lib"))
        monkeypatch.setattr(installing.importlib.util, "find_spec", lambda name: None if name in lacks else object())
        return f"{prefix}/bin/python3"

    return make


def test_an_environment_and_a_free_python_take_pip(python):
    executable = python(venv=True, managed=True)
    assert installing.command("numpy", "onnxruntime") == f"`{executable} -m pip install numpy onnxruntime`"


def test_a_python_of_the_system_takes_an_environment_in_two_commands(python):
    python(managed=True)
    assert installing.command("numpy") == (
        "`/usr/bin/python3 -m venv --system-site-packages ~/edgeprune-venv` and "
        "`~/edgeprune-venv/bin/python -m pip install numpy`, then name it: --python ~/edgeprune-venv/bin/python"
    )


def test_a_debian_without_pip_and_venv_gets_the_package_first(python):
    python(lacks=("pip", "ensurepip"))
    assert installing.command("numpy").startswith("`sudo apt-get install python3-venv`, `/usr/bin/python3 -m venv ")


NO_TENSORRT = "TensorRT is not installed (tensorrt: No module named 'tensorrt')"


def test_an_environment_that_does_not_see_jetpacks_tensorrt_is_made_again(python, tmp_path):
    python(venv=True)
    assert probing._fix("trt", NO_TENSORRT, jetson=True) == (
        f"`/usr/bin/python3 -m venv --system-site-packages {tmp_path / 'venv'}` lets this environment see JetPack's "
        "TensorRT"
    )


def test_an_environment_that_sees_it_or_jetpacks_own_python_lacks_the_package(python):
    python(venv=True, system_packages=True)
    assert probing._fix("trt", NO_TENSORRT, jetson=True) == "`sudo apt-get install python3-libnvinfer libnvinfer-bin`"


def test_another_python_than_jetpacks_never_sees_it(python):
    python(venv=True, base="/opt/python3.12")
    assert "--python /usr/bin/python3" in probing._fix("trt", NO_TENSORRT, jetson=True)


def test_what_lacks_numpy_or_onnxruntime_is_told_the_same_command(python, monkeypatch):
    python(managed=True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert ort.missing().endswith(f"install it with {installing.command('onnxruntime')}")
    assert "-m venv" in ort.missing()
    monkeypatch.setattr(installing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as raised:
        __main__._check_numpy()
    assert raised.value.hint == f"run {installing.command('numpy')}"
    assert "-m venv" in raised.value.hint


def test_tensorrt_without_a_gpu_speaks_for_itself():
    assert probing._fix("trt", "no GPU that CUDA can use: look at `nvidia-smi`", jetson=True) is None
