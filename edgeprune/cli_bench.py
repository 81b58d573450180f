"""The verb `bench`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgeprune import cli_options as option


def bench(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="A network's name (edgeprune list models), or an ONNX file.")
    ],
    sparsity: Annotated[
        list[float], typer.Option(help="Share of zeros in each masked layer; repeat it. 0 is always measured.")
    ] = [],  # noqa: B006  # typer copies it
    threads: option.Threads = 1,
    batch: option.Batch = 1,
    runtime: Annotated[
        list[str], typer.Option("--runtime", help="Only these, and ort; repeat it.  [default: all that run here]")
    ] = [],  # noqa: B006
    python: Annotated[
        list[str],
        typer.Option(metavar="RUNTIME=PATH", help="The interpreter that has a runtime's library; repeat it."),
    ] = [],  # noqa: B006
    pattern: Annotated[str, typer.Option(help="What is masked: all, or pointwise convolutions only.")] = "all",
    kernels: Annotated[str | None, typer.Option(help="Kernels of sparse_cpu.  [default: the CPU's fastest]")] = None,
    protocol: option.Protocol = None,
    passes: Annotated[int | None, typer.Option(help="How often all processes start afresh.", min=1)] = None,
    rounds: Annotated[int | None, typer.Option(help="Turns of each engine in a pass.", min=1)] = None,
    cpus: option.Cpus = None,
    image_size: option.ImageSize = None,
    seed: Annotated[int, typer.Option(help="Of weights, masks and images.")] = 0,
    check_alone: Annotated[bool, typer.Option("--check-alone", help="Time ONNX Runtime alone too, and compare.")] = (
        False
    ),
    layers: Annotated[bool, typer.Option("--layers", help="Hold each layer of sparse_cpu to its roofline.")] = False,
    as_json: option.AsJson = False,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the JSON object to this file.")] = None,
) -> None:
    """Time one network on several runtimes side by side.

    Random weights and masks; in turns, one engine a process. Exit code 1 when a runtime's answers are not those of ONNX
    Runtime.
    """
    from edgeprune.benching import Asked, disagreements
    from edgeprune.benching import bench as measured
    from edgeprune.benching.asked import check_out, cpus_of, pythons_of, workload_of
    from edgeprune.benching.text import as_text
    from edgeprune.progress import for_terminal
    from runtimes.files import write_json

    counts, named = {"passes": passes, "rounds": rounds}, (tuple(sparsity), tuple(runtime), pythons_of(python))
    workload = workload_of(protocol, counts, threads or 1, batch or 1, cpus_of(cpus), kernels)
    asked = Asked(network, *named, workload, pattern, image_size, seed, alone=check_alone, layers=layers)
    check_out(out)
    try:
        document = measured(asked, for_terminal())
    except KeyboardInterrupt:
        print("\ninterrupted; nothing of a benchmark is kept", file=sys.stderr)
        raise typer.Exit(130) from None
    print(json.dumps(document, indent=1, ensure_ascii=False) if as_json else as_text(document), flush=True)
    if out is not None:  # after it was printed: the disk may have filled meanwhile
        write_json(out, document)
    wrong = disagreements(document)
    for line in wrong:
        print(line, file=sys.stderr)
    raise typer.Exit(1 if wrong else 0)
