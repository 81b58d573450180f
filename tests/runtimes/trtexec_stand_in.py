"""A `trtexec` that answers `--help` with a banner, prints a captured log, and writes what the real one exports."""

import json
import stat
import sys

from captured_prints import captured

BANNER = {
    "8.4": captured("header-orin-trt8.4-abridged.log").split("\n")[0] + "\n",
    "10.16": captured("header-trt10.16-jp7.2.1.log"),
    "11.1": "&&&& RUNNING TensorRT.trtexec [TensorRT v110100] [b1] # trtexec --help\n",
    "8.2": "&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec --help\n",
}
PASSED = "&&&& PASSED TensorRT.trtexec [TensorRT v101602] [b10] # trtexec\n"
FAILED = "&&&& FAILED TensorRT.trtexec [TensorRT v101602] [b10] # trtexec\n"
WHOLE = (
    captured("header-trt10.4-desktop-abridged.log")
    + captured("sparsity-trt10-orin-nano-none-chosen.log")
    + captured("build-tail-trt10.4.log")
    + captured("layer-text-trt10.4-HasSparseWeights.log")
    + captured("perf-trt10.7-cudagraph.log")
    + "[04/11/2025-15:15:48] [W] * GPU compute time is unstable, with coefficient of variance = 3.1%.\n"
    + PASSED
)
GPU = [30.1, 30.1722, 30.25]  # their median is that of the captured summary, and so below
LATENCY = [30.7003, 30.7695, 31.6415]
STAND_IN = """#!{python}
import json, os, sys, time
from pathlib import Path

plan = json.loads(Path(__file__).with_name("plan.json").read_text())
if "--help" in sys.argv:
    print(plan["banner"])
    sys.exit(0)
with open(Path(__file__).with_name("calls.jsonl"), "a") as calls:
    calls.write(json.dumps([os.getpid(), sys.argv]) + "\\n")
print(plan["log"], end="", flush=True)
given = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
for flag, text in plan["exports"].items():
    Path(given["--" + flag]).write_text(text)
time.sleep(plan["sleep"])
if plan["signal"]:
    os.kill(os.getpid(), plan["signal"])
sys.exit(plan["code"])
"""


class StandIn:
    """An executable `trtexec` in `folder`, which goes on the path."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        path = folder / "trtexec"
        path.write_text(STAND_IN.format(python=sys.executable))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self.plan()

    def plan(self, *, banner="10.16", log=WHOLE, exports=None, code=0, sleep=0, signal=0):
        """What it does when it is called."""
        plan = {
            "banner": BANNER.get(banner, banner),
            "log": log,
            "exports": exported() if exports is None else exports,
            "code": code,
            "sleep": sleep,
            "signal": signal,
        }
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def calls(self):
        """(process id, arguments) of each call, those for help left out."""
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def exported(gpu=GPU, latency=LATENCY):
    times = "\n, ".join(
        f'{{ "startEnqMs" : 0, "computeMs" : {compute}, "d2hMs" : 0, "latencyMs" : {host} }}'
        for compute, host in zip(gpu, latency, strict=True)
    )
    profile = ', { "name" : "(Unnamed Layer* 1) [Convolution]", "timeMs" : 9, "averageMs" : 0.3, "medianMs" : 0.25 }'
    return {
        "exportTimes": f"[\n  {times}\n]\n",
        "exportProfile": '[\n  { "count" : 30 }\n' + profile + "\n]\n",
        "exportLayerInfo": captured("engine-inspector-HasSparseWeights.json"),
    }
