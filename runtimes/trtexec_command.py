"""The argument list for trtexec: the same engine and the same measurement from every release.

Flags were read from samples/common/sampleOptions.cpp of NVIDIA/TensorRT, 8.4 to 11.1.
"""

from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from runtimes.errors import UserError
from runtimes.onnx_input import onnx_input
from runtimes.trt_wishes import Wishes, workspace_mb

EXPORTS = {"exportTimes": "times.json", "exportProfile": "profile.json", "exportLayerInfo": "layers.json"}
Version = Tuple[int, int, int]


class Job(NamedTuple):
    """What trtexec is asked to do."""

    network: Path
    shapes: Mapping[str, str]  # flag -> "input:1x3x224x224"; empty where the network leaves nothing free
    folder: Path  # for what it exports
    duration_s: float
    wishes: Wishes  # its precision is that of the file
    cuda_graph: bool = False  # as in the runtime `trt`
    available_mb: Optional[int] = None  # MiB that the machine has left


def command(release: Version, executable: str, job: Job) -> List[str]:
    """The argument list for trtexec of this release.

    Timed are the kernels, with a spinning host and without transfers; in a CUDA graph where the job says so. Before 11
    that has to be asked for; in 11 it is the default, and what asked for it is deprecated. Releases before 8.5 print
    one percentile only.
    """
    argv = [executable, "--onnx={}".format(job.network), "--verbose"]
    argv.append("--sparsity={}".format("enable" if job.wishes.sparsity else "disable"))
    argv += ["--{}={}".format(flag, shape) for flag, shape in job.shapes.items()]
    workspace = workspace_mb(job.wishes, job.available_mb)
    argv.append("--memPoolSize=workspace:{}".format(workspace))  # MiB, where no unit is given
    argv += _precision_flags(release, job.wishes.precision)
    argv += ["--profilingVerbosity=detailed", "--dumpLayerInfo"]
    argv += ["--warmUp=1000", "--duration={:g}".format(job.duration_s), "--avgRuns=100"]
    argv.append("--percentile={}".format("50,90,95,99" if release >= (8, 5, 0) else "99"))
    if release >= (11, 0, 0):
        argv += [] if job.cuda_graph else ["--noCudaGraph"]
    else:
        argv += ["--useSpinWait", "--noDataTransfers", "--separateProfileRun"]
        argv += ["--useCudaGraph"] if job.cuda_graph else []
    return argv + ["--{}={}".format(flag, job.folder / name) for flag, name in EXPORTS.items()]


def shapes(path: Path, batch: int) -> Dict[str, str]:
    """Flag -> shape of the input, such as `input:8x3x32x32`; nothing where the network leaves nothing free.

    They are those of the optimization profile of `runtimes.trt_build`: `batch` images, neither more nor fewer.

    Raises:
        UserError: an axis other than the batch is free, or the network has a fixed batch that is another one.
    """
    name, shape = onnx_input(path)
    if None in shape[1:]:
        raise UserError(
            "{}: an axis of its input other than the batch is free".format(path.name), "export it with a fixed size"
        )
    if None not in shape:
        if shape and shape[0] != batch:
            raise UserError(
                "{} takes batches of {}, not of {}".format(path.name, shape[0], batch), "ask for that with --batch"
            )
        return {}
    of_batch = "{}:{}".format(name, "x".join(str(size) for size in [batch, *shape[1:]]))
    return dict.fromkeys(("minShapes", "optShapes", "maxShapes", "shapes"), of_batch)


def _precision_flags(release: Version, precision: Optional[str]) -> List[str]:
    """Since 10 the types are those of the file, and 11 has no flag for it; before, the builder is allowed them."""
    if release >= (10, 0, 0):
        return ["--stronglyTyped"] if release < (11, 0, 0) else []
    return ["--" + precision] if precision in ("fp16", "int8") else []
