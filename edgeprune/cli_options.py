"""The options that several verbs share: type, help and name of each, once."""

from pathlib import Path
from typing import Annotated

import typer

RecipeOrRun = Annotated[
    str | None,
    typer.Argument(metavar="RECIPE|RUN", help="A recipe's name, its .toml file, or a run folder to continue."),
]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Out = Annotated[Path | None, typer.Option("--out", help="The run folder.  [default: runs/<name>]")]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Any value of the recipe, e.g. prune.sparsity=0.95.")
]
Method = Annotated[str | None, typer.Option(help="A named method: edgeprune list methods.")]
Seed = Annotated[int | None, typer.Option(help="The seed of everything drawn at random.")]
DataName = Annotated[
    str | None, typer.Option("--data", help="A data set's name, or a folder of images, or an .npz file.")
]
DataDir = Annotated[str | None, typer.Option(help="Where the data set lies.  [env: EDGEPRUNE_DATA]")]
WeightsDir = Annotated[str | None, typer.Option(help="Where checkpoints lie.  [env: EDGEPRUNE_WEIGHTS]")]
Model = Annotated[str | None, typer.Option(help="A network's name, or your own as package.module:factory.")]
Checkpoint = Annotated[str | None, typer.Option(help="The network's weights: state_dict or safetensors.")]
TeacherModel = Annotated[str | None, typer.Option(help="The teacher's network.  [default: the dense student]")]
TeacherCheckpoint = Annotated[str | None, typer.Option(help="The teacher's weights.")]
Devices = Annotated[
    list[str],
    typer.Option(
        "--device", help="local, a name of your devices.toml, or ssh://[user@]host; repeat it.  [default: local]"
    ),
]
SshConfig = Annotated[Path | None, typer.Option(metavar="FILE", help="Instead of your own OpenSSH configuration.")]
Python = Annotated[str | None, typer.Option(metavar="PATH", help="The interpreter on the device.")]
Target = Annotated[str | None, typer.Option(help="What the files are for: edgeprune list targets.")]
Precision = Annotated[
    str | None, typer.Option(help="The lowest precision to write: fp32, fp16 or int8.  [default: the target's]")
]
Exported = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE|RUN|FILE.onnx", help="A recipe, a run folder, or with --check an ONNX file to look at."
    ),
]
Check = Annotated[bool, typer.Option("--check", help="Have TensorRT's own parser and builder take each file.")]

# How a measurement is made.
OfTarget = Annotated[str | None, typer.Option("--target", help="Whose exported files.  [default: the recipe's target]")]
Runtimes = Annotated[
    list[str], typer.Option("--runtime", help="Which runtimes; repeat it for several.  [default: the bundle's]")
]
Protocol = Annotated[str | None, typer.Option(help="How long and how often: edgeprune list protocols.")]
Batch = Annotated[int | None, typer.Option(help="Images in one inference.", min=1)]
Threads = Annotated[int | None, typer.Option(help="Threads of the runtime.", min=1)]
Cpus = Annotated[str | None, typer.Option(metavar="LIST", help="Processors to run on, such as 0-3.")]
PowerMode = Annotated[
    str | None, typer.Option(metavar="NAME", help="Switch a Jetson to this mode, and back afterwards.")
]
LockClocks = Annotated[bool, typer.Option("--lock-clocks", help="Fix the clocks, and free them afterwards.")]
# What a measured network is held to.
MinTop1 = Annotated[float | None, typer.Option(metavar="PERCENT", help="Least top-1.")]
MaxP99 = Annotated[float | None, typer.Option("--max-p99-ms", metavar="MS", help="Longest 99th percentile.")]
MaxMemory = Annotated[float | None, typer.Option("--max-memory-mb", metavar="MIB", help="Most memory.")]
MaxPower = Annotated[float | None, typer.Option("--max-power-w", metavar="W", help="Most power on average.")]
MaxSize = Annotated[float | None, typer.Option("--max-size-mb", metavar="MB", help="Largest ONNX file.")]
RequireSparse = Annotated[bool, typer.Option("--require-sparse", help="Some layer must run sparse, by its receipt.")]
MinSpeedup = Annotated[float | None, typer.Option(metavar="X", help="Least speed-up, by its interval's lower end.")]
Junit = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the limits' verdicts as JUnit XML.")]
TensorRt = Annotated[
    str | None, typer.Option(help="The release of TensorRT there, e.g. 10.3.  [default: the target's newest]")
]
ImageSize = Annotated[
    int | None, typer.Option(help="Side of the images in pixels.  [default: the network's usual]", min=1)
]
ByHand = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Take over what was measured by hand; --device names it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="As one JSON object.")]
AgainOn = Annotated[
    list[str],
    typer.Option("--device", help="Measure both there now; repeat it.  [default: what was measured]"),
]
ComparedIn = Annotated[Path | None, typer.Option("--out", help="Where both are measured.  [default: runs/compare-A-B]")]
LookedAt = Annotated[
    str | None, typer.Option("--device", help="Look at this device instead: a name of your devices.toml, or ssh://...")
]
Cells = Annotated[
    list[str], typer.Option(metavar="METHOD@SPARSITY", help="These cells, or METHOD or @SPARSITY; repeatable.")
]
Form = Annotated[str, typer.Option("--format", help="text, md or json.")]
