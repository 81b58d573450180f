"""A serialized engine read back: what it takes and what it gives."""

from typing import Any, Dict, List, Tuple

from runtimes.errors import UserError
from runtimes.trt_adapter import Journal, Library, one_line


def deserialized(library: Library, plan: bytes, name: str, journal: Journal) -> Any:
    """The engine in `plan`; a `UserError` with TensorRT's words where it does not take it."""
    with library.telling(journal) as logger:
        journal.next_step()
        library.module.init_libnvinfer_plugins(logger, "")
        try:
            engine = library.module.Runtime(logger).deserialize_cuda_engine(plan)
        except Exception as error:  # pybind11 hands on what C++ throws
            raise _not_loaded(library, name, journal.said(one_line(str(error)))) from error
    if engine is None:
        raise _not_loaded(library, name, journal.said("no reason given"))
    return engine


def port_names(library: Library, engine: Any, name: str) -> Tuple[str, str]:
    """The one input and the one output, both float32; anything else is a `UserError`."""
    module = library.module
    found: Dict[bool, List[str]] = {True: [], False: []}
    for index in range(engine.num_io_tensors):
        tensor = engine.get_tensor_name(index)
        found[engine.get_tensor_mode(tensor) == module.TensorIOMode.INPUT].append(tensor)
        if engine.get_tensor_dtype(tensor) != module.DataType.FLOAT:
            raise UserError(
                "'{}' of {} is {}, not float32".format(tensor, name, engine.get_tensor_dtype(tensor)),
                "export it with float32 inputs and outputs, as `edgeprune export` does",
            )
    if [len(names) for names in found.values()] != [1, 1]:
        raise UserError(
            "{} has the inputs {} and the outputs {}".format(name, found[True], found[False]),
            "a classifier with one image input and one output of logits is expected",
        )
    return found[True][0], found[False][0]


def batch_of(engine: Any, source: str) -> int:
    """Images in one inference: the batch that is fixed, or the one that kernels were chosen for."""
    first = int(next(iter(engine.get_tensor_shape(source))))
    if first > 0:
        return first
    _, best, _ = [tuple(shape) for shape in engine.get_tensor_profile_shape(source, 0)]
    return int(best[0])


def _not_loaded(library: Library, name: str, said: str) -> UserError:
    return UserError(
        "{} cannot load {}: {}".format(library.title, name, said), "delete it: it is built again from the ONNX file"
    )
