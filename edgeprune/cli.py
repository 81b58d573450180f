"""The command line: a verb is read, call, write. No logic, and nothing heavy imported before a verb is called."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune import __version__, cli_bench
from edgeprune import cli_options as option
from runtimes.errors import UserError

app = typer.Typer(
    help="Prune an image classifier under a teacher's guidance, export it, and measure on the device what was gained.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or its .toml file: edgeprune list recipes.")],
    out: option.Out = None,
    settings: option.Settings = [],  # noqa: B006  # typer copies it
    method: option.Method = None,
    seed: option.Seed = None,
    data: option.DataName = None,
    data_dir: option.DataDir = None,
    weights_dir: option.WeightsDir = None,
) -> None:
    """Do every step of a recipe, and resume where it stopped.

    Teach, prune, retrain, export, compile, measure, report: each leaves a folder in the run folder.
    """
    _work(recipe, _given(locals()), settings, out, until="report")


@app.command()
def teach(
    recipe: option.RecipeOrRun = None,
    out: option.Out = None,
    settings: option.Settings = [],  # noqa: B006
    seed: option.Seed = None,
    data: option.DataName = None,
    data_dir: option.DataDir = None,
    weights_dir: option.WeightsDir = None,
    model: option.Model = None,
    checkpoint: option.Checkpoint = None,
    teacher_model: option.TeacherModel = None,
    teacher_checkpoint: option.TeacherCheckpoint = None,
) -> None:
    """Provide the teacher and the dense student (0-teacher).

    From checkpoints, or by training them on the labels.
    """
    _work(recipe, _given(locals()), settings, out, until="teach")


@app.command()
def prune(
    recipe: option.RecipeOrRun = None,
    out: option.Out = None,
    settings: option.Settings = [],  # noqa: B006
    method: option.Method = None,
    sparsity: Annotated[float | None, typer.Option(help="Share of the prunable weights that become zero.")] = None,
    pattern: Annotated[str | None, typer.Option(help="unstructured, or N:M such as 2:4.")] = None,
    seed: option.Seed = None,
    data: option.DataName = None,
    data_dir: option.DataDir = None,
    weights_dir: option.WeightsDir = None,
    model: option.Model = None,
    checkpoint: option.Checkpoint = None,
    teacher_model: option.TeacherModel = None,
    teacher_checkpoint: option.TeacherCheckpoint = None,
) -> None:
    """Prune a dense network under its teacher (1-prune).

    In one shot; the result before any retraining has its batch norm re-estimated.
    """
    _work(recipe, _given(locals()), settings, out, until="prune")


@app.command()
def retrain(
    recipe: option.RecipeOrRun = None,
    out: option.Out = None,
    settings: option.Settings = [],  # noqa: B006
    method: option.Method = None,
    seed: option.Seed = None,
    data: option.DataName = None,
    data_dir: option.DataDir = None,
    weights_dir: option.WeightsDir = None,
    model: option.Model = None,
    checkpoint: Annotated[str | None, typer.Option(help="A pruned network's weights: its zeros are the mask.")] = None,
    teacher_model: option.TeacherModel = None,
    teacher_checkpoint: option.TeacherCheckpoint = None,
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
    as_json: option.AsJson = False,
    tensorrt: option.TensorRt = None,
    image_size: option.ImageSize = None,
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
    recipe: option.Exported = None,
    target: option.Target = None,
    precision: option.Precision = None,
    check: option.Check = False,
    out: option.Out = None,
    settings: option.Settings = [],  # noqa: B006
    data: option.DataName = None,
    data_dir: option.DataDir = None,
    weights_dir: option.WeightsDir = None,
    model: option.Model = None,
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
def compile(run: option.Run) -> None:
    """Make the bundle that travels to devices (4-compile)."""
    _work(str(run), {}, [], None, until="compile")


@app.command()
def measure(
    run: option.Run,
    device: option.Devices = [],  # noqa: B006
    ssh_config: option.SshConfig = None,
    python: option.Python = None,
    target: option.OfTarget = None,
    runtime: option.Runtimes = [],  # noqa: B006
    protocol: option.Protocol = None,
    batch: option.Batch = None,
    threads: option.Threads = None,
    cpus: option.Cpus = None,
    power_mode: option.PowerMode = None,
    lock_clocks: option.LockClocks = False,
    results: option.ByHand = None,
) -> None:
    """Measure a run's networks on devices (5-measure).

    Several devices are measured at once. What was measured before and is not measured again stays.
    """
    from edgeprune.measuring import LOCAL, Boards, measure_run, take_over_results
    from edgeprune.verbs import workload

    asked = workload(runtime, protocol, batch, threads, cpus, power_mode, lock_clocks=lock_clocks)
    if results is not None:
        others = {"ssh_config": ssh_config, "python": python, "target": target}
        written = take_over_results(run, results, device, {**asked, **_given(others)})
    else:
        boards = Boards(tuple(device or [LOCAL]), ssh_config, python)
        written = measure_run(run, boards, asked, target, _progress(), partial(print, file=sys.stderr))
    print("\n".join(map(str, written)))


@app.command()
def report(
    runs: option.Runs,
    min_top1: option.MinTop1 = None,
    max_p99_ms: option.MaxP99 = None,
    max_memory_mb: option.MaxMemory = None,
    max_power_w: option.MaxPower = None,
    max_size_mb: option.MaxSize = None,
    require_sparse: option.RequireSparse = False,
    min_speedup: option.MinSpeedup = None,
    junit: option.Junit = None,
) -> None:
    """Write a run's JSON, Markdown and HTML report (6-report).

    Limits hold for the sparse network on every device; one that is not kept, or not measured, is an exit code of its
    own: 10 top-1, 11 p99, 12 memory, 13 power, 14 size, 15 sparse, 16 speed-up; of several the lowest.
    """
    from edgeprune.gates import Gates
    from edgeprune.verbs import held, reported

    gates = Gates(min_top1, max_p99_ms, max_memory_mb, max_power_w, max_size_mb, require_sparse, min_speedup)
    paths, reports = reported(runs)
    print("\n".join(map(str, paths)))
    _leave(*held(reports, gates, junit))


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A run folder, or RUN:NETWORK such as runs/mine:dense.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What is compared with it, named in the same way.")],
    device: option.AgainOn = [],  # noqa: B006
    ssh_config: option.SshConfig = None,
    python: option.Python = None,
    target: option.OfTarget = None,
    runtime: option.Runtimes = [],  # noqa: B006
    protocol: option.Protocol = None,
    batch: option.Batch = None,
    threads: option.Threads = None,
    cpus: option.Cpus = None,
    power_mode: option.PowerMode = None,
    lock_clocks: option.LockClocks = False,
    out: option.ComparedIn = None,
    form: option.Form = "text",
    min_top1: option.MinTop1 = None,
    max_p99_ms: option.MaxP99 = None,
    max_memory_mb: option.MaxMemory = None,
    max_power_w: option.MaxPower = None,
    max_size_mb: option.MaxSize = None,
    require_sparse: option.RequireSparse = False,
    min_speedup: option.MinSpeedup = None,
    junit: option.Junit = None,
) -> None:
    """Say whether network B is faster, smaller and as good as A.

    From what was measured, or with --device from a new measurement of both in turns, which is the one that settles it.
    Limits as for `report`, on B.
    """
    from edgeprune.gates import Gates
    from edgeprune.measuring import Boards
    from edgeprune.verbs import compared, held, workload

    gates = Gates(min_top1, max_p99_ms, max_memory_mb, max_power_w, max_size_mb, require_sparse, min_speedup)
    asked = workload(runtime, protocol, batch, threads, cpus, power_mode, lock_clocks=lock_clocks)
    boards = Boards(tuple(device), ssh_config, python) if device else None
    found, told = compared(a, b, boards, asked, target, out, _progress(), form=form)
    print(told, end="")
    _leave(*held({b: found}, gates, junit))


app.command()(cli_bench.bench)


@app.command()
def study(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study.toml, its folder, or a name in studies/.")],
    runs: Annotated[Path | None, typer.Option(help="Where run folders are.  [default: runs/studies/<name>]")] = None,
    only: option.Cells = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option(help="At most so many cells in this session.", min=0)] = None,
    workers: Annotated[int | None, typer.Option(help="Cells at once.  [default: the study's]", min=1)] = None,
    again: Annotated[bool, typer.Option("--again", help="Failed cells once more.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and how each stands.")] = False,
    data_dir: option.DataDir = None,
    weights_dir: option.WeightsDir = None,
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
    as_json: option.AsJson = False,
) -> None:
    """List all that can be chosen by name.

    Criteria, losses, methods, models, recipes, targets and so on.
    """
    from edgeprune.listing import as_text, listing

    found = listing(table)
    print(json.dumps(found, indent=1, ensure_ascii=False) if as_json else as_text(found))


@app.command()
def doctor(
    device: option.LookedAt = None,
    ssh_config: option.SshConfig = None,
    python: option.Python = None,
) -> None:
    """Say what is missing here, or on a device, and how to get it.

    Exit code 1 when something is missing that edgeprune needs.
    """
    from edgeprune.doctor import as_text, examine, examine_device

    findings = examine_device(device, ssh_config, python) if device else examine()
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


def _leave(lines: list[str], code: int) -> None:
    """Tell the verdicts on what was asked for, and exit with the code they come to."""
    for line in lines:
        print(line, file=sys.stderr)
    raise typer.Exit(code)


def _progress() -> Any:
    from edgeprune.progress import for_terminal

    return for_terminal()


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """A verb's own options that were given, without those that every verb handles alike."""
    alike = ("recipe", "out", "settings")
    return {key: value for key, value in values.items() if value is not None and key not in alike}
