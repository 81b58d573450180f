"""`python -m runtimes trtexec`, as a person types it in the bundle, with a stand-in that prints captured logs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from captured_prints import captured
from trtexec_stand_in import FAILED, PASSED, WHOLE, StandIn, exported

from runtimes import trtexec
from runtimes.bundle import read_bundle
from runtimes.errors import UserError
from runtimes.files import sha256


@pytest.fixture
def stand_in(tmp_path):
    return StandIn(tmp_path / "bin")


def environment(stand_in):
    return {**os.environ, "PATH": f"{stand_in.folder}{os.pathsep}{os.environ['PATH']}"}


def run(bundle, stand_in, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "runtimes", "trtexec", ".", *arguments],
        cwd=bundle,
        env=environment(stand_in),
        capture_output=True,
        text=True,
        check=False,
    )


def refused(bundle, stand_in, *arguments):
    """The two lines of an error; nothing is on standard output."""
    finished = run(bundle, stand_in, *arguments)
    assert (finished.returncode, finished.stdout) == (2, ""), finished.stderr
    lines = [line for line in finished.stderr.splitlines() if not line.startswith("progress ")]
    assert len(lines) == 2, finished.stderr
    return lines


# A run that goes well ------------------------------------------------------------------------------------------------


def test_the_subcommand_writes_what_trtexec_told_and_exported(bundle, stand_in):
    finished = run(bundle, stand_in, "--network", "sparse", "--batch", "4", "--duration", "0.5")
    assert finished.returncode == 0, finished.stderr
    answer = json.loads(finished.stdout.splitlines()[-1])
    assert (answer["trtexec"], answer["out"]) == (["trtexec-sparse.json"], str(bundle / "results"))
    found = json.loads((bundle / "results" / "trtexec-sparse.json").read_text())
    assert (found["schema_version"], found["kind"]) == (1, "edgeprune.trtexec")
    assert (found["network"], found["precision"], found["batch"]) == ("sparse", "fp32", 4)
    assert (found["bundle"], found["tensorrt"]) == (answer["bundle"], "10.16.2")
    assert found["network_sha256"] == sha256(bundle / "model.onnx")
    assert found["device"]["name"] == "NVIDIA GeForce RTX 3060 Laptop GPU"
    assert found["build"] == {"precision": "FP32+FP16", "sparsity": None, "seconds": 8.69986, "engine_mib": 117.087}
    assert found["inference"]["Duration"] == "3s (+ 200ms warm up)"
    assert found["performance"]["throughput_qps"] == 32.7494
    assert found["performance"]["gpu"]["percentiles"] == {"90": 30.2061, "95": 30.6002, "99": 30.9484}
    assert [doubt["code"] for doubt in found["warnings"]] == ["gpu-time-unstable"]
    assert found["reasons"] == {}
    assert 0 < found["seconds"] < 60
    assert "before" in found["facts"]["clocks_mhz"]


def test_percentiles_stand_side_by_side_and_both_methods_are_named(bundle, stand_in):
    run(bundle, stand_in, "--network", "dense")
    found = json.loads((bundle / "results" / "trtexec-dense.json").read_text())["percentiles"]
    assert found["trtexec"]["gpu"] == {"median": 30.1722, "p90": 30.2061, "p95": 30.6002, "p99": 30.9484}
    assert found["trtexec"]["latency"]["median"] == 30.7695
    ours = found["edgeprune"]["gpu"]
    assert (ours["n"], ours["min"], ours["median"], ours["max"]) == (3, 30.1, 30.1722, 30.25)
    assert ours["p90"] == pytest.approx(30.1722 + 0.8 * (30.25 - 30.1722))  # position 1.8 of 0, 1, 2
    assert "interpolation" in found["edgeprune"]["method"]
    assert "without interpolation" in found["trtexec"]["method"]


def test_the_receipt_has_the_counts_of_the_log_and_the_kernels_of_the_engine(bundle, stand_in):
    run(bundle, stand_in, "--network", "dense")
    found = json.loads((bundle / "results" / "trtexec-dense.json").read_text())["receipt"]
    assert (found["eligible"], found["chosen"], found["verdict"]) == (39, 0, "no")
    (tactic,) = found["tactics"]
    assert (tactic["layer"], tactic["sparse"], tactic["ms"]) == ("(Unnamed Layer* 1) [Convolution]", False, 0.25)


def test_the_log_and_the_exports_are_kept_and_nothing_else(bundle, stand_in):
    finished = run(bundle, stand_in, "--out", "elsewhere")
    assert json.loads(finished.stdout)["trtexec"] == ["trtexec-dense.json", "trtexec-sparse.json"]
    kept = {
        f"trtexec-{network}.{end}"
        for network in ("dense", "sparse")
        for end in ("json", "log", "times.json", "profile.json", "layers.json")
    }
    assert {path.name for path in (bundle / "elsewhere").iterdir()} == kept
    assert (bundle / "elsewhere" / "trtexec-dense.log").read_text() == WHOLE
    found = json.loads((bundle / "elsewhere" / "trtexec-dense.json").read_text())
    assert set(found["files"].values()) == {name for name in kept if "dense" in name} - {"trtexec-dense.json"}
    assert [line.split(" ")[1] for line in finished.stderr.splitlines()] == ["0/2", "1/2", "2/2"]


def test_trtexec_is_called_with_the_networks_shapes_and_the_argv_is_kept(bundle, stand_in):
    run(bundle, stand_in, "--network", "sparse", "--batch", "3", "--duration", "2.5")
    ((_, argv),) = stand_in.calls()
    assert argv == json.loads((bundle / "results" / "trtexec-sparse.json").read_text())["argv"]
    assert f"--onnx={bundle.resolve() / 'model.onnx'}" in argv
    wanted = {"--minShapes=input:3x1x8x8", "--optShapes=input:3x1x8x8", "--maxShapes=input:3x1x8x8"}
    assert wanted | {"--shapes=input:3x1x8x8", "--duration=2.5", "--stronglyTyped"} <= set(argv)
    assert "--sparsity=enable" in argv
    (workspace,) = (int(flag.rpartition(":")[2]) for flag in argv if flag.startswith("--memPoolSize=workspace:"))
    assert 1 <= workspace <= 1024
    assert "--useCudaGraph" not in argv


def test_8_4_prints_one_percentile_and_exports_its_warm_up(bundle, stand_in):
    log = (
        captured("header-orin-trt8.4-abridged.log")
        + captured("sparsity-trt8.0-docs.log")
        + "[I] Timing trace has 2 queries over 3.0 s\n"
        + captured("perf-trt8.0-only-p99.log")
        + PASSED
    )
    stand_in.plan(banner="8.4", log=log, exports={"exportTimes": exported([9, 1, 2], [9, 2, 2.0581])["exportTimes"]})
    finished = run(bundle, stand_in, "--network", "dense")
    assert finished.returncode == 0, finished.stderr
    found = json.loads((bundle / "results" / "trtexec-dense.json").read_text())
    assert found["tensorrt"] == "8.4.12"
    assert "--percentile=99" in found["argv"]
    assert found["percentiles"]["edgeprune"]["latency"]["n"] == 2
    assert found["percentiles"]["edgeprune"]["latency"]["max"] == 2.0581
    assert found["percentiles"]["trtexec"]["latency"] == {"median": 2.02905, "p99": 2.29761}
    assert found["receipt"]["chosen_layers"] == ["conv2", "conv3"]
    assert found["receipt"]["verdict"] == "yes"
    assert set(found["reasons"]) == {"performance", "receipt.tactics", "receipt.tactics.ms"}


def test_options_of_the_workload_reach_trtexec(bundle, stand_in):
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["workload"]["options"] = {"sparsity": "0", "cuda_graph": "1", "workspace_mb": "256"}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert run(bundle, stand_in, "--network", "dense").returncode == 0
    ((_, argv),) = stand_in.calls()
    assert {"--sparsity=disable", "--memPoolSize=workspace:256", "--useCudaGraph"} <= set(argv)


# What can go wrong ---------------------------------------------------------------------------------------------------


def test_trtexecs_own_last_words_are_told_and_its_log_is_kept(bundle, stand_in):
    log = "[I] fine\n[E] [TRT] ModelImporter: no importer for Foo\n[E] Engine set up failed\n" + FAILED
    stand_in.plan(log=log, code=1)
    message, hint = refused(bundle, stand_in, "--network", "dense")
    assert message == (
        "trtexec on network 'dense' ended with exit code 1: ModelImporter: no importer for Foo | Engine set up failed"
    )
    assert hint == f"its whole log is in {bundle / 'results' / 'trtexec-dense.failed.log'}"
    assert (bundle / "results" / "trtexec-dense.failed.log").read_text() == log
    assert [path.name for path in (bundle / "results").iterdir()] == ["trtexec-dense.failed.log"]


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"log": WHOLE.replace("PASSED", "FAILED")}, "ended with exit code 0: "),
        ({"log": WHOLE.replace(PASSED, "")}, "ended with exit code 0: "),
        ({"code": 3}, "ended with exit code 3: "),
        ({"log": "", "code": 1}, "ended with exit code 1: it said nothing"),
        ({"log": "[I] Building\n", "signal": signal.SIGKILL}, "was killed by signal 9: [I] Building"),
        ({"log": "x" * 9999 + "\n", "code": 1}, "ended with exit code 1: " + "x" * 300),
    ],
)
def test_no_result_without_an_exit_code_of_0_and_the_word_passed(bundle, stand_in, plan, says):
    stand_in.plan(**plan)
    message, _ = refused(bundle, stand_in, "--network", "dense")
    assert message.startswith("trtexec on network 'dense' " + says)
    assert len(message) < 1200
    assert not (bundle / "results" / "trtexec-dense.json").exists()


def test_an_engine_from_elsewhere_is_told_with_both_capabilities(bundle, stand_in):
    stand_in.plan(log=captured("engine-incompatible-error.log"), code=1)
    message, hint = refused(bundle, stand_in, "--network", "dense")
    assert "expecting compute 6.1 got compute 8.6" in message
    assert hint == "an engine for compute capability 6.1 was found on a GPU of 8.6: build it here"


def test_a_failure_leaves_the_results_of_an_earlier_run_alone(bundle, stand_in):
    run(bundle, stand_in, "--network", "dense")
    earlier = {path.name: path.read_bytes() for path in (bundle / "results").iterdir()}
    assert len(earlier) == 5
    stand_in.plan(log="[E] broke\n", exports={}, code=1)
    refused(bundle, stand_in, "--network", "dense")
    now = {path.name: path.read_bytes() for path in (bundle / "results").iterdir()}
    assert now.pop("trtexec-dense.failed.log") == b"[E] broke\n"
    assert now == earlier


def test_exports_of_an_earlier_run_do_not_stay_beside_a_later_one(bundle, stand_in):
    run(bundle, stand_in, "--network", "dense")
    stand_in.plan(exports={})
    assert run(bundle, stand_in, "--network", "dense").returncode == 0
    assert {path.name for path in (bundle / "results").iterdir()} == {"trtexec-dense.json", "trtexec-dense.log"}
    found = json.loads((bundle / "results" / "trtexec-dense.json").read_text())
    assert found["files"] == {"log": "trtexec-dense.log"}
    assert set(found["reasons"]) == {"percentiles", "receipt.tactics.ms"}
    assert len(found["receipt"]["tactics"]) == 2  # from the text form in the log


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--network", "spars"], "unknown network 'spars'"),
        (["--batch", "0"], "workload: batch is 0"),
        (["--duration", "0"], "the duration is 0 s"),
        (["--duration", "nan"], "the duration is nan s"),
    ],
)
def test_bad_arguments_are_two_lines_and_nothing_is_run(bundle, stand_in, arguments, says):
    assert refused(bundle, stand_in, *arguments)[0].startswith(says)
    assert stand_in.calls() == []
    assert not (bundle / "results").exists()


def test_an_option_that_nobody_has_is_refused(bundle, stand_in):
    manifest = json.loads((bundle / "manifest.json").read_text())
    for options, says in (({"cuda_grap": "1"}, "unknown option 'cuda_grap'"), ({"cuda_graph": "on"}, "cuda_graph is")):
        manifest["workload"]["options"] = options
        (bundle / "manifest.json").write_text(json.dumps(manifest))
        assert says in refused(bundle, stand_in)[0]


def test_a_changed_network_is_not_built(bundle, stand_in):
    (bundle / "model.onnx").write_bytes(b"")
    assert refused(bundle, stand_in)[0].startswith("model.onnx in the bundle")
    assert stand_in.calls() == []


@pytest.mark.parametrize(
    ("banner", "says"),
    [
        ("8.2", "trtexec of TensorRT 8.2.1 is too old"),
        ("usage: trtexec", "{} --help does not say its version"),
        ("", "{} --help does not say its version"),
    ],
)
def test_a_trtexec_of_unknown_or_too_old_version_is_not_used(bundle, stand_in, banner, says):
    stand_in.plan(banner=banner)
    assert refused(bundle, stand_in)[0] == says.format(stand_in.folder / "trtexec")


def test_a_trtexec_for_another_machine_is_told(bundle, stand_in):
    (stand_in.folder / "trtexec").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(99))
    message, hint = refused(bundle, stand_in)
    assert "cannot be run: " in message
    assert hint == "is it for this machine?"


def test_trtexec_is_looked_for_on_the_path_and_where_a_jetson_has_it(tmp_path, monkeypatch, stand_in):
    monkeypatch.setenv("PATH", str(tmp_path))
    place = stand_in.folder / "trtexec"
    assert trtexec.find((tmp_path / "none", place)) == str(place)
    with pytest.raises(UserError, match="not on PATH and not in") as caught:
        trtexec.find((tmp_path / "none",))
    assert "libnvinfer-bin" in caught.value.hint
    monkeypatch.setenv("PATH", str(stand_in.folder))
    assert trtexec.find(()) == str(place)


def test_one_that_says_nothing_for_too_long_is_ended(bundle, stand_in, monkeypatch):
    stand_in.plan(log="[I] still here\n", sleep=60)
    monkeypatch.setenv("PATH", environment(stand_in)["PATH"])
    monkeypatch.setattr(trtexec, "_SILENCE_S", 0.5)
    before = time.monotonic()
    with pytest.raises(UserError, match=r"network 'dense' said nothing for 0\.6 s"):
        trtexec.time_with_trtexec(read_bundle(bundle), bundle / "results", ["dense"], duration_s=0.1)
    assert time.monotonic() - before < 20
    assert (bundle / "results" / "trtexec-dense.failed.log").read_text() == "[I] still here\n"
    assert not alive(stand_in.calls()[0][0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_trtexec_does_not_outlive_the_command(bundle, stand_in, number):
    stand_in.plan(sleep=120)
    process = subprocess.Popen(
        [sys.executable, "-m", "runtimes", "trtexec", ".", "--network", "dense"],
        cwd=bundle,
        env=environment(stand_in),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: stand_in.calls())
    process.send_signal(number)
    process.wait(timeout=30)
    child = stand_in.calls()[0][0]
    assert wait_for(lambda: not alive(child))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(what):
    deadline = time.monotonic() + 30
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(what())
