"""The command line: a verb is read, call, write. No logic, and nothing heavy imported before a verb is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune import __version__
from runtimes.errors import UserError

app = typer.Typer(
    help="Prune an image classifier under a teacher's guidance, export it, and measure on the device what was gained.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

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
Target = Annotated[str | None, typer.Option(help="What the files are for: edgeprune list targets.")]
Precision = Annotated[
    str | None, typer.Option(help="The lowest precision to write: fp32, fp16 or int8.  [default: the target's]")
]


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or its .toml file: edgeprune list recipes.")],
    out: Out = None,
    settings: Settings = [],  # noqa: B006  # typer copies it
    method: Method = None,
    seed: Seed = None,
    data: DataName = None,
    data_dir: DataDir = None,
    weights_dir: WeightsDir = None,
) -> None:
    """Do every step of a recipe, and resume where it stopped.

    Teach, prune, retrain, export, compile, measure, report: each leaves a folder in the run folder.
    """
    _work(recipe, _given(locals()), settings, out, until="report")


@app.command()
def teach(
    recipe: RecipeOrRun = None,
    out: Out = None,
    settings: Settings = [],  # noqa: B006
    seed: Seed = None,
    data: DataName = None,
    data_dir: DataDir = None,
    weights_dir: WeightsDir = None,
    model: Model = None,
    checkpoint: Checkpoint = None,
    teacher_model: TeacherModel = None,
    teacher_checkpoint: TeacherCheckpoint = None,
) -> None:
    """Provide the teacher and the dense student (0-teacher).

    From checkpoints, or by training them on the labels.
    """
    _work(recipe, _given(locals()), settings, out, until="teach")


@app.command()
def prune(
    recipe: RecipeOrRun = None,
    out: Out = None,
    settings: Settings = [],  # noqa: B006
    method: Method = None,
    sparsity: Annotated[float | None, typer.Option(help="Share of the prunable weights that become zero.")] = None,
    pattern: Annotated[str | None, typer.Option(help="unstructured, or N:M such as 2:4.")] = None,
    seed: Seed = None,
    data: DataName = None,
    data_dir: DataDir = None,
    weights_dir: WeightsDir = None,
    model: Model = None,
    checkpoint: Checkpoint = None,
    teacher_model: TeacherModel = None,
    teacher_checkpoint: TeacherCheckpoint = None,
) -> None:
    """Prune a dense network under its teacher (1-prune).

    In one shot; the result before any retraining has its batch norm re-estimated.
    """
    _work(recipe, _given(locals()), settings, out, until="prune")


@app.command()
def retrain(
    recipe: RecipeOrRun = None,
    out: Out = None,
    settings: Settings = [],  # noqa: B006
    method: Method = None,
    seed: Seed = None,
    data: DataName = None,
    data_dir: DataDir = None,
    weights_dir: WeightsDir = None,
    model: Model = None,
    checkpoint: Annotated[str | None, typer.Option(help="A pruned network's weights: its zeros are the mask.")] = None,
    teacher_model: TeacherModel = None,
    teacher_checkpoint: TeacherCheckpoint = None,
) -> None:
    """Retrain a pruned network under its mask (2-retrain)."""
    _work(recipe, _given(locals()), settings, out, until="retrain", holds="pruned")


@app.command()
def plan(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="An ONNX file, a run folder, a network's name, or your own as package.module:factory."
        ),
    ],
    target: Annotated[str, typer.Option(help="Where it is to run: edgeprune list targets.")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    tensorrt: Annotated[
        str | None, typer.Option(help="The release of TensorRT there, e.g. 10.3.  [default: the target's newest]")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side of the images in pixels.  [default: the network's usual]", min=1)
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the JSON object to this file.")] = None,
) -> None:
    """Say layer by layer what pruning can be worth on a target.

    Before any training, and without a GPU: shapes, written rules and arithmetic. Nothing is measured.
    """
    from edgeprune.planning import plan_for, written

    planned = plan_for(model, target, tensorrt=tensorrt, image_size=image_size)
    print(written(planned, out, as_json=as_json))


@app.command()
def export(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE|RUN|FILE.onnx", help="A recipe, a run folder, or with --check an ONNX file to look at."
        ),
    ] = None,
    target: Target = None,
    precision: Precision = None,
    check: Annotated[bool, typer.Option("--check", help="Have TensorRT's own parser and builder take each file.")] = (
        False
    ),
    out: Out = None,
    settings: Settings = [],  # noqa: B006
    data: DataName = None,
    data_dir: DataDir = None,
    weights_dir: WeightsDir = None,
    model: Model = None,
    checkpoint: Annotated[str | None, typer.Option(help="A finished network's weights, zeros included.")] = None,
) -> None:
    """Write verified ONNX files for a target (3-export).

    Another target or precision than the recipe's gets a folder of its own. A checkpoint is exported as it is, zeros and
    all. The last line says what builds and measures it on the device.
    """
    given = {key: value for key, value in _given(locals()).items() if key != "check"}
    from edgeprune.delivery import accepted, deliver, examine

    if recipe is not None and recipe.lower().endswith(".onnx"):
        print("\n".join(examine(Path(recipe), given, settings, out, check=check)))
        return
    delivered = deliver(recipe, given, settings, out, _progress())
    for warning in delivered.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print("\n".join(map(str, delivered.files)))
    for line in accepted(delivered.files, delivered.target) if check else ():
        print(line)
    print(f"on the device, in a copy of {delivered.bundle}: {delivered.command}")


@app.command()
def compile(run: Run) -> None:
    """Make the bundle that travels to devices (4-compile)."""
    _work(str(run), {}, [], None, until="compile")


@app.command()
def measure(
    run: Run,
    device: Annotated[list[str], typer.Option(help="Where to measure; repeat it for several.")] = ["local"],  # noqa: B006
    runtime: Annotated[
        list[str], typer.Option(help="Which runtimes; repeat it for several.  [default: the recipe's]")
    ] = [],  # noqa: B006
    protocol: Annotated[str | None, typer.Option(help="How long and how often: edgeprune list protocols.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images in one inference.", min=1)] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the runtime.", min=1)] = None,
    results: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Take over what was measured by hand; --device names it.")
    ] = None,
) -> None:
    """Measure a run's networks on devices (5-measure).

    What was measured before and is not measured again stays.
    """
    from edgeprune.verbs import measure_run, take_over_results

    options = {"runtimes": runtime or None, "protocol": protocol, "batch": batch, "threads": threads}
    asked = {key: value for key, value in options.items() if value is not None}
    if results is not None:
        written = take_over_results(run, results, device, asked)
    else:
        written = measure_run(run, device, asked, _progress())
    print("\n".join(map(str, written)))


@app.command()
def report(runs: Runs) -> None:
    """Write a run's JSON, Markdown and HTML report (6-report)."""
    from edgeprune.report import write_report
    from edgeprune.verbs import opened

    for run in runs:
        for path in write_report(opened(run).path):
            print(path)


@app.command()
def study(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study.toml, its folder, or a name in studies/.")],
    runs: Annotated[Path | None, typer.Option(help="Where run folders are.  [default: runs/studies/<name>]")] = None,
    only: Annotated[
        list[str], typer.Option(metavar="METHOD@SPARSITY", help="These cells, or METHOD or @SPARSITY; repeatable.")
    ] = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option(help="At most so many cells in this session.", min=0)] = None,
    workers: Annotated[int | None, typer.Option(help="Cells at once.  [default: the study's]", min=1)] = None,
    again: Annotated[bool, typer.Option("--again", help="Failed cells once more.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and how each stands.")] = False,
    data_dir: DataDir = None,
    weights_dir: WeightsDir = None,
) -> None:
    """Compare methods over sparsities and seeds, and resume.

    Writes study.json, study.md and accuracy.svg beside the study; exit code 1 when a cell was lost to a bug of ours.
    """
    from edgeprune.study.conduct import Asked, conduct, overview
    from edgeprune.verbs import partial_recipe

    asked = Asked(runs, tuple(only), limit, workers, again)
    if dry_run:
        print("\n".join(overview(study, asked)))
        return
    given = {key: value for key, value in (("data_dir", data_dir), ("weights_dir", weights_dir)) if value is not None}
    outcome = conduct(study, partial_recipe(given), asked, _progress())
    print("\n".join(map(str, outcome.written)))
    for told in outcome.lost:
        print(f"lost: {told}", file=sys.stderr)
    raise typer.Exit(1 if outcome.lost else 0)


@app.command("list")
def list_tables(
    table: Annotated[str | None, typer.Argument(help="One table only, e.g. criteria.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """List all that can be chosen by name.

    Criteria, losses, methods, models, recipes, targets and so on.
    """
    from edgeprune.listing import as_text, listing

    found = listing(table)
    if as_json:
        import json

        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        print(as_text(found))


@app.command()
def doctor() -> None:
    """Say what is missing here, and how to get it.

    Exit code 1 when something is missing that edgeprune needs.
    """
    from edgeprune.doctor import as_text, examine

    findings = examine()
    print(as_text(findings))
    raise typer.Exit(0 if all(finding.fine for finding in findings if finding.needed) else 1)


@app.callback(invoke_without_command=True)
def common(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Prune an image classifier under a teacher's guidance, export it, and measure on the device what was gained."""
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """The console script: a `UserError` is two lines and exit code 2; anything else is our bug, with its traceback."""
    try:
        app()
    except UserError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command resumes", file=sys.stderr)
        sys.exit(130)


def _work(
    recipe: str | None,
    options: dict[str, Any],
    settings: list[str],
    out: Path | None,
    *,
    until: str,
    holds: str = "dense",
) -> None:
    """`holds` says what a checkpoint is to this verb: a dense network, a pruned one, or a finished sparse one."""
    from edgeprune.verbs import partial_recipe, read, work

    if "checkpoint" in options:
        options["holds"] = holds
    chosen, folder = read(recipe, partial_recipe(options), settings, out)
    for line in work(chosen, folder, _progress(), until=until):
        print(line)


def _progress() -> Any:
    from edgeprune.progress import for_terminal

    return for_terminal()


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """A verb's own options that were given, without those that every verb handles alike."""
    alike = ("recipe", "out", "settings")
    return {key: value for key, value in values.items() if value is not None and key not in alike}
