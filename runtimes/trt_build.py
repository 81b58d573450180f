"""From an ONNX file to a serialized engine, and a record of the way that was taken.

Strongly typed where TensorRT knows of it: types are then those of the file, as TensorRT 11 has it for all. Where it
does not (8.5, 8.6), the precision flags that the file needs are set. What is set is read back from the configuration.

Run with TensorRT for RTX, without a GPU. The ways of the other releases are tested with stand-ins only.
"""

import re
import time
import warnings as python_warnings
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from runtimes.errors import UserError
from runtimes.trt_adapter import Journal, Library, one_line
from runtimes.trt_wishes import Wishes, workspace_mb

WITHOUT_GPU = "SM86"  # of what TensorRT for RTX builds for, the nearest to the Jetson Orin's SM87
_QUANTIZING = frozenset(("QUANTIZE", "DEQUANTIZE"))
_NODE_NAME = re.compile(r'(?:^|\n)\s*(?:Node name: (?P<told>[^\n]+)|name: "(?P<held>[^"]+)")')
_NODE_OPERATOR = re.compile(r"While parsing node number \d+ \[(\w+)")
_AGAIN = "export the network again with `edgeprune export`"
_DAMAGED = "the file is damaged: copy it again, or export the network again with `edgeprune export`"


class Built(NamedTuple):
    """A serialized engine."""

    plan: bytes
    seconds: float
    layers: int  # of the network, before TensorRT fuses any
    record: Dict[str, Any]  # precision, typing, flags, ...: what goes into the sidecar
    timing_cache: bytes


def build(
    library: Library,
    path: Path,
    wishes: Wishes,
    journal: Journal,
    timing_cache: bytes = b"",
    without_gpu: bool = False,
    available_mb: Optional[int] = None,
) -> Built:
    """Parse the ONNX file at `path` and build it.

    Args:
        journal: gets all that TensorRT says meanwhile.
        timing_cache: what an earlier build on this machine gave, or nothing.
        without_gpu: build for `WITHOUT_GPU`, where the library can; else for the GPU that is here.
        available_mb: MiB that the machine has left; the default workspace is made from it.

    Raises:
        UserError: TensorRT refuses the file or cannot build it, with what it said.
    """
    if not path.is_file():
        raise UserError("{} is missing".format(path), _AGAIN)
    with library.telling(journal) as logger, python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore", DeprecationWarning)  # what is old in one release is all another has
        library.module.init_libnvinfer_plugins(logger, "")
        journal.next_step()
        builder = _builder(library, logger, journal)
        begin = time.perf_counter()
        parsed, typing = _typed_as_asked(library, builder, path, wishes, journal)
        network, config = parsed.network, builder.create_builder_config()
        record = _configure(library, config, wishes, typing, without_gpu)
        record["workspace_mb"] = workspace_mb(wishes, available_mb)
        config.set_memory_pool_limit(library.module.MemoryPoolType.WORKSPACE, record["workspace_mb"] << 20)
        record["batches"] = _set_batches(builder, config, network, path, wishes.batch)
        record["timing_cache"] = _set_timing_cache(library, config, timing_cache)
        journal.next_step()  # a timing cache that did not fit has been told of, and is no reason for what follows
        plan = _serialized(library, builder, network, config, path, journal)
        seconds = time.perf_counter() - begin
        timings = b"" if record["timing_cache"] == "none" else bytes(config.get_timing_cache().serialize())
        return Built(plan, seconds, network.num_layers, record, timings)


class _Typing(NamedTuple):
    strongly: bool
    precision: str  # of the engine
    flags: Tuple[str, ...]  # precision flags to set
    network_flags: Tuple[str, ...]


class _Parsed(NamedTuple):
    network: Any
    parser: Any  # it holds the weights until the engine is built
    flags: Tuple[str, ...]  # with which the network was made


def _builder(library: Library, logger: Any, journal: Journal) -> Any:
    try:
        builder = library.module.Builder(logger)
    except Exception as error:  # pybind11's TypeError: the factory gave nothing
        raise UserError(
            "{} cannot start a builder: {}".format(library.title, journal.said(one_line(str(error)))),
            "it needs a GPU and a driver; TensorRT for RTX builds without: `uv sync --group builder`",
        ) from error
    return builder


def _typed_as_asked(
    library: Library, builder: Any, path: Path, wishes: Wishes, journal: Journal
) -> Tuple[_Parsed, _Typing]:
    """The parsed network, strongly typed unless a precision is asked for that only a flag can give."""
    parsed = _parsed(library, builder, path, journal, strongly=True)
    held, types = _precision(parsed.network)
    named = library.has("NetworkDefinitionCreationFlag.STRONGLY_TYPED")
    typed = named or not library.has("BuilderFlag.FP16")  # neither: there is no other way to type a network any more
    asked = wishes.precision or held
    if asked == held:
        flags = () if typed else _flags_for(types)
        return parsed, _Typing(typed, held, flags, parsed.flags)
    if (asked, held) != ("fp16", "fp32"):
        raise UserError("{} holds {}, and {} is asked for".format(path.name, held, asked), _export_as(asked))
    if not library.has("BuilderFlag.FP16"):
        raise UserError(
            "{} holds fp32, and {} makes no fp16 of it: it has no precision flags".format(path.name, library.title),
            _export_as(asked),
        )
    parsed = _parsed(library, builder, path, journal, strongly=False)
    return parsed, _Typing(False, "fp16", ("FP16",), parsed.flags)


def _parsed(library: Library, builder: Any, path: Path, journal: Journal, strongly: bool) -> _Parsed:
    wanted = ["EXPLICIT_BATCH"] + (["STRONGLY_TYPED"] if strongly else [])
    found = {name: library.get("NetworkDefinitionCreationFlag." + name) for name in wanted}
    flags = {name: int(value) for name, value in found.items() if value is not None}
    network = builder.create_network(sum(1 << bit for bit in flags.values()))
    parser = library.module.OnnxParser(network, library.logger)
    journal.next_step()
    if not parser.parse_from_file(str(path)):
        raise _refused(library, parser, path, journal)
    if network.num_layers == 0:  # a file of zeros is read as an empty network
        raise UserError("{} is not an ONNX network: {} finds nothing in it".format(path.name, library.title), _DAMAGED)
    if network.num_inputs != 1 or network.num_outputs != 1:
        raise UserError(
            "{} has {} inputs and {} outputs".format(path.name, network.num_inputs, network.num_outputs),
            "a classifier with one image input and one output of logits is expected",
        )
    return _Parsed(network, parser, tuple(flags))


def _refused(library: Library, parser: Any, path: Path, journal: Journal) -> UserError:
    """What the parser says of its first error; what an older one does not say is in the log."""
    if parser.num_errors == 0:
        return UserError("{} refuses {}: {}".format(library.title, path.name, journal.said("no reason given")), _AGAIN)
    error = parser.get_error(0)
    log = "\n".join(journal.errors)
    name = _told(error, "node_name") or _first(_NODE_NAME, log)
    operator = _told(error, "node_operator") or _first(_NODE_OPERATOR, log)
    code, said = str(error.code()).split(".")[-1].split(":")[0], one_line(str(error.desc()))
    where = "layer '{}' ({}), ".format(name or "without a name", operator) if operator else ""
    said = code if said in ("", "false") else "{}: {}".format(code, said)
    inside = [one_line(str(entry)) for entry in _told(error, "local_function_stack") or ()]
    more = " (in {})".format(", ".join(inside)) if inside else ""
    more += " (and {} more)".format(parser.num_errors - 1) if parser.num_errors > 1 else ""
    hint = "write that part of the network with other operators, then export it again" if operator else _DAMAGED
    return UserError("{} refuses {}: {}{}{}".format(library.title, path.name, where, said, more), hint)


def _told(error: Any, name: str) -> Any:
    method = getattr(error, name, None)
    return method() if method is not None else None


def _first(pattern: "re.Pattern[str]", text: str) -> Optional[str]:
    found = pattern.search(text)
    return next((group for group in found.groups() if group), None) if found else None


def _precision(network: Any) -> Tuple[str, List[str]]:
    """What the file holds, by the types of its tensors, and all of those types."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    types = {str(layer.get_output(index).dtype.name) for layer in layers for index in range(layer.num_outputs)}
    if any(str(layer.type.name) in _QUANTIZING for layer in layers):
        types.add("INT8")
    held = "int8" if "INT8" in types else "fp16" if "HALF" in types else "fp32"
    return held, sorted(types)


def _flags_for(types: List[str]) -> Tuple[str, ...]:
    return tuple(flag for flag, kind in (("FP16", "HALF"), ("INT8", "INT8")) if kind in types)


def _configure(library: Library, config: Any, wishes: Wishes, typing: _Typing, without_gpu: bool) -> Dict[str, Any]:
    """Set all that is not about shapes, and say what was set."""
    module = library.module
    for name in (*typing.flags, *(("SPARSE_WEIGHTS",) if wishes.sparsity else ())):
        config.set_flag(getattr(module.BuilderFlag, name))
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    capability = _target(library, config) if without_gpu else None
    flags = sorted(name for name, flag in module.BuilderFlag.__members__.items() if config.get_flag(flag))
    return {
        "precision": typing.precision,
        "strongly_typed": typing.strongly,
        "network_flags": list(typing.network_flags),
        "flags": flags,
        "not_available": library.absent,
        "built_for": capability,
    }


def _target(library: Library, config: Any) -> str:
    """Build for a device that is not here."""
    chosen = library.get("ComputeCapability." + WITHOUT_GPU)
    if chosen is None or not library.has("IBuilderConfig.set_compute_capability"):
        raise UserError(
            "{} builds only for the GPU that is here, and there is none".format(library.title),
            "run it on the board, or install TensorRT for RTX: `uv sync --group builder`",
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(chosen, 0)
    return WITHOUT_GPU


def _set_batches(builder: Any, config: Any, network: Any, path: Path, batch: Optional[int]) -> List[int]:
    """State how many images come at once: [fewest, those to be quick for, most], all the same.

    A wider range would have TensorRT reserve memory and choose kernels for the largest batch.
    """
    tensor = network.get_input(0)
    first, *image = tuple(tensor.shape)
    if min(image, default=-1) < 1 or len(image) != 3:
        raise UserError(
            "{} takes images of the shape {}".format(path.name, tuple(tensor.shape)),
            "(batch, channels, height, width) is expected, with only the batch free",
        )
    if first > 0:
        if batch not in (None, first):
            raise UserError(
                "{} takes batches of {}, not of {}".format(path.name, first, batch), "ask for that with --batch"
            )
        return [first] * 3
    batches = [batch or 1] * 3
    profile = builder.create_optimization_profile()
    profile.set_shape(tensor.name, *[(images, *image) for images in batches])
    if config.add_optimization_profile(profile) < 0:
        raise RuntimeError("TensorRT refuses the optimization profile {} of {}".format(batches, path.name))
    return batches


def _set_timing_cache(library: Library, config: Any, content: bytes) -> str:
    """Start from an earlier build's timings, or anew where they do not fit; says which."""
    if library.has("IRuntimeCache"):  # then kernels are chosen when the engine is loaded, and this cache stays empty
        return "none"
    for used, start in (("used", content), ("new", b"")) if content else (("new", b""),):
        cache = config.create_timing_cache(start)
        if cache is not None and config.set_timing_cache(cache, False):
            return used if used == "used" or not content else "replaced"
    return "none"


def _serialized(library: Library, builder: Any, network: Any, config: Any, path: Path, journal: Journal) -> bytes:
    try:
        plan = builder.build_serialized_network(network, config)
    except Exception as error:  # pybind11 hands on what C++ throws
        raise _not_built(library, path, journal.said(one_line(str(error)))) from error
    content = b"" if plan is None else bytes(memoryview(plan))
    if not content:
        raise _not_built(library, path, journal.said("it gave no engine and no reason"))
    return content


def _not_built(library: Library, path: Path, said: str) -> UserError:
    return UserError(
        "{} cannot build {}: {}".format(library.title, path.name, said),
        "the layer it names is the place to look; where it speaks of memory, free some or lower `batch`",
    )


def _export_as(precision: str) -> str:
    return "export it with `edgeprune export --precision {}`".format(precision)
