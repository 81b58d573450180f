"""A torch module as torch's exporter writes it down: the graph before any of ours is done to it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from export import graph as graphs
from export.adaptive_pool import separate_pools
from runtimes.errors import UserError

INPUT, OUTPUT, BATCH = "input", "logits", "batch"


def traced(
    plain: nn.Module, images: Tensor, opset: int, *, free_batch: bool = True, weights: bool = True
) -> ModelProto:
    """The graph of `plain` for `images` as torch's TorchScript exporter gives it.

    That exporter, because the other one converts to a higher opset than asked for without a word, splits the weights
    off and notes absolute paths. `PRESERVE` keeps batch normalization unfolded and initializers under their names.

    :param images: float32 (N, C, H, W).
    :param free_batch: N is free in the graph; else it is that of `images`.
    :param weights: without them the initializers are left out: quick, and enough to know the layers.
    :raises UserError: the module has no ONNX at this opset, or there is no room for a temporary file.
    """
    axes: Mapping[str, Mapping[int, str]] = {INPUT: {0: BATCH}, OUTPUT: {0: BATCH}} if free_batch else {}
    try:
        with _silence(), _plain_attention(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "traced.onnx"
            torch.onnx.export(
                separate_pools(plain),
                (images,),
                path,
                dynamo=False,
                opset_version=opset,
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
                export_params=weights,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes=axes,
            )
            return onnx.load_model(path)
    except OSError as error:
        reason = f"no room for a temporary file in {tempfile.gettempdir()}: {error.strerror}"
        raise UserError(reason, "free some space there, or set TMPDIR to another folder") from error
    except Exception as error:  # whatever an operator's translation raises: it is about the user's module
        raise _cannot_export(plain, opset, error) from error


def _cannot_export(plain: nn.Module, opset: int, error: Exception) -> UserError:
    operator = re.search(r"'?\b((?:aten|prim|torchvision|quantized)::\w+)", str(error))
    cause = f"no ONNX for the operator {operator.group(1)}" if operator else graphs.first_line(error)
    return UserError(
        f"torch cannot export {type(plain).__name__} at opset {opset}: {cause}",
        "replace that part of the module by operators ONNX has; see torch.onnx's list of supported operators",
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's remarks, which are for torch's developers, from the user's terminal."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings(), _nowhere(1), _nowhere(2):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)


@contextlib.contextmanager
def _nowhere(descriptor: int) -> Iterator[None]:
    """Discard what is written to a file descriptor: the exporter's C++ part prints whole graphs when it fails."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = os.dup(descriptor)
    try:
        with Path(os.devnull).open("wb") as sink:
            os.dup2(sink.fileno(), descriptor)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(kept, descriptor)
        os.close(kept)


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Have torch compute attention by its parts: its fused fast path has no ONNX."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
