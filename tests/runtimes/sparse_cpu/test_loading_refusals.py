"""What the loader in C refuses, and how it says so: one line with the file, the operation and what is wrong."""

import numpy as np
import pytest
from loader import watched_loader
from made_up import changed, everything, npy

JSON, NPZ = "all.program.json", "all.program.npz"


@pytest.fixture(scope="module")
def loader():
    return watched_loader()


# Operations of `of_everything` by their index; operation i writes tensor i + 1.
STEM, DOWN, ADDED, MOST, MEAN, GATE, MUL, ADD, CONCAT, SELECT, PAD, RESIZE, HIDDEN, SOFTMAX = (
    *(0, 1, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14, 16, 20),
)


def at(operation: int) -> str:
    """How a complaint about an operation begins."""
    return f"operation {operation} ({everything().json['operations'][operation]['name']}): "


def put(*way):
    """Put the last of `way` where the others lead in the JSON."""

    def change(content):
        place = content.json
        for key in way[:-2]:
            place = place[key]
        place[way[-2]] = way[-1]

    return change


def drop(*way):
    """Remove what `way` leads to in the JSON."""

    def change(content):
        place = content.json
        for key in way[:-1]:
            place = place[key]
        del place[way[-1]]

    return change


def held(index, **attributes):
    """Give an operation other attributes."""
    return lambda content: content.json["operations"][index].update(attributes)


def shaped(index, *shape):
    """Give a tensor another shape."""
    return put("tensors", index, "shape", list(shape))


def array(key, value):
    """Put another array into the archive."""
    return lambda content: content.arrays.__setitem__(key, value)


def element(key, index, value):
    """Change one element of an array; `value` may be a function of the old one."""

    def change(content):
        content.arrays[key] = content.arrays[key].copy()
        content.arrays[key][index] = value(content.arrays[key][index]) if callable(value) else value

    return change


def both(*changes):
    """One change after the other."""
    return lambda content: [change(content) for change in changes]


WRONG_JSON = {
    "another version": (put("schema_version", 2), "schema_version is 2 and must be 1 to 1"),
    "no version": (drop("schema_version"), "schema_version is missing"),
    "a name that is none": (put("name", None), "name is not a string"),
    "a key too many": (put("labels", []), 'the key "labels" is not known'),
    "no tensors": (put("tensors", []), "it has 0 tensors and must have 1 to 65536"),
    "no operations": (put("operations", []), "it has 0 operations and must have 1 to 65536"),
    "a list of another kind": (put("operations", {}), "operations is not an array"),
    "an operation that is none": (put("operations", DOWN, 7), f"operation {DOWN}: an object is missing"),
    "a wrong peak": (put("peak_floats", 5), "peak_floats is not "),
    "an input out of range": (put("input", 22), "input is 22 and must be 0 to 21"),
    "an output that is the input": (put("output", 0), "its output is its input"),
    "a dimension of 0": (shaped(2, 0, 4, 4), "tensor 2: shape[0] is 0 and must be 1 to 2147483647"),
    "a dimension with a point": (shaped(2, 4.0, 4, 4), "tensor 2: shape[0] is not a whole number"),
    "two dimensions": (shaped(2, 4, 4), "tensor 2: shape is not an array of 3 whole numbers"),
    "an array for a number": (shaped(2, [4], 4, 4), "tensor 2: shape[0] is not a whole number"),
    "a tensor too large": (shaped(2, 2, 2**15, 2**15), "tensor 2: it has 2^31 numbers or more"),
    "a buffer out of range": (put("tensors", 3, "buffer", 9), "tensor 3: its buffer is 9 of "),
    "more buffers than tensors": (put("buffers", 23), "buffers is 23 and must be 1 to 22"),
    "another shape": (shaped(2, 4, 5, 4), at(DOWN) + "its tensor 2 is (4, 5, 4) and must be (4, 4, 4)"),
    "an unknown op": (held(MEAN, op="mean_pool"), at(MEAN) + "its op is not known"),
    "an unknown key": (held(MEAN, ceil=True), f'operation {MEAN}: the key "ceil" is not known'),
    "an attribute of another": (held(MEAN, groups=1), at(MEAN) + "average_pool has no groups"),
    "an attribute too few": (drop("operations", STEM, "kernel"), at(STEM) + "conv needs its kernel"),
    "an input too few": (held(ADD, inputs=[3]), at(ADD) + "add has 1 inputs"),
    "too many inputs": (held(CONCAT, inputs=[4] * 65), at(CONCAT) + "concat has 65 inputs"),
    "an input of the future": (held(MOST, inputs=[6]), at(MOST) + "it reads tensor 6 before that is written"),
    "a tensor written twice": (
        both(held(MOST, inputs=[3], output=4), shaped(5, 6, 4, 4)),
        at(MOST) + "it writes tensor 4, which is written before",
    ),
    "an index out of range": (held(DOWN, inputs=[22]), at(DOWN) + "inputs[0] is 22 and must be 0 to 21"),
    "a negative index": (held(DOWN, output=-1), at(DOWN) + "output is -1 and must be 0 to 21"),
    "an index beyond 64 bits": (held(DOWN, output=10**30), at(DOWN) + "output is "),
    "groups that do not divide": (held(DOWN, groups=3), at(DOWN) + "4 and 4 channels do not divide into 3 groups"),
    "a stride of 0": (held(DOWN, stride=[0, 2]), at(DOWN) + "stride[0] is 0 and must be 1 to 2147483647"),
    "a stride too large": (held(ADDED, stride=[2**30, 1]), at(ADDED) + "its stride is too large"),
    "too much padding": (
        held(STEM, padding=[1, 3, 1, 1]),
        at(STEM) + "its padding of 3 and 1 is more than the kernel reaches, 2",
    ),
    "padding beyond any memory": (
        held(STEM, padding=[2**31 - 1] * 4, dilation=[2**31 - 1] * 2),
        at(STEM) + "its input is too large with its padding",
    ),
    "a kernel larger than the image": (
        held(ADDED, dilation=[9, 1]),
        at(ADDED) + "its kernel reaches over 19 pixels, and there are 8",
    ),
    "too many weights": (
        both(held(STEM, kernel=[8, 4096], padding=[0, 4095, 0, 0]), shaped(1, 2**15, 1, 8)),
        at(STEM) + "it has too many weights",
    ),
    "a pool with holes": (held(MOST, dilation=[2, 2]), at(MOST) + "a pool's dilation must be 1"),
    "a flag that is a number": (held(MEAN, count_padding=1), at(MEAN) + "count_padding is neither true nor false"),
    "an unknown activation": (held(STEM, activation={"kind": "mish"}), at(STEM) + "its activation is not known"),
    "an activation that is a name": (held(STEM, activation="silu"), at(STEM) + "an object is missing"),
    "bounds where there are none": (
        held(STEM, activation={"kind": "silu", "low": 0}),
        at(STEM) + "an activation of this kind has neither low nor high",
    ),
    "a bound that is missing": (
        held(STEM, activation={"kind": "clip", "low": 0}),
        at(STEM) + "the activation's high is missing",
    ),
    "a bound beyond float32": (
        held(STEM, activation={"kind": "clip", "low": 0, "high": 1e39}),
        at(STEM) + "high is not a finite float32",
    ),
    "a border that is null": (held(PAD, value=None), at(PAD) + "value is not a number"),
    "a wrong sum": (held(ADDED, add=1), at(ADDED) + "its tensor 1 is (4, 8, 8) and must be (6, 4, 4)"),
    "a sum with itself": (held(ADDED, add=4), at(ADDED) + "it reads tensor 4 before that is written"),
    "inputs that differ": (held(MUL, inputs=[6, 1]), at(MUL) + "its tensor 1 is (4, 8, 8) and must be (6, 4, 4)"),
    "a vector of other channels": (held(MUL, inputs=[2, 8]), at(MUL) + "its inputs differ in channels"),
    "a joined one that differs": (
        held(CONCAT, inputs=[1, 10, 11]),
        at(CONCAT) + "its tensor 10 is (6, 4, 4) and must be (6, 8, 8)",
    ),
    "a linear layer on an image": (held(HIDDEN, inputs=[15]), at(HIDDEN) + "its input and its output must be vectors"),
    "a softmax on an image": (held(SOFTMAX, inputs=[15]), at(SOFTMAX) + "its input must be a vector"),
    "a factor of 0": (held(RESIZE, factor=[0, 1]), at(RESIZE) + "factor[0] is 0 and must be 1 to 2147483647"),
    "a tensor that nobody writes": (
        lambda content: content.json["tensors"].append({"shape": [1, 1, 1], "buffer": 0}),
        "tensor 22: no operation writes it",
    ),
    "an operation in its input's memory": (
        lambda content: content.json["tensors"][2].update(buffer=content.json["tensors"][1]["buffer"]),
        at(DOWN) + "its tensor 2 overwrites tensor 1 in buffer ",
    ),
    "memory that is read later": (
        lambda content: content.json["tensors"][8].update(buffer=content.json["tensors"][6]["buffer"]),
        at(GATE) + "its tensor 8 overwrites tensor 6 in buffer ",
    ),
    "a factor too large": (
        held(RESIZE, factor=[2**31 - 1, 2**31 - 1]),
        at(RESIZE) + "its tensor 15 is (5, 10, 6) and must be (5, 10737418235, 12884901882)",
    ),
}

WRONG_ARRAYS = {
    "no bias": (lambda content: content.arrays.pop("0.bias"), at(STEM) + "array bias is missing"),
    "no weights": (lambda content: content.arrays.pop("0.weight"), at(STEM) + "array counts is missing"),
    "an array too many": (array("5.bias", np.zeros(6, np.float32)), "no operation asks for its entry '5.bias.npy'"),
    "both forms": (array("1.weight", np.zeros((4, 9), np.float32)), "no operation asks for its entry '1."),
    "another type": (
        array("0.bias", np.zeros(4, np.float64)),
        at(STEM) + "array bias is not one that is read: its type is none of float32, uint8, uint32, int32",
    ),
    "a type of another array": (
        array("0.bias", np.zeros(4, np.int32)),
        at(STEM) + "array bias is '<i4' (4,) and must be '<f4' (4,)",
    ),
    "the other order of bytes": (array("0.bias", np.zeros(4, ">f4")), at(STEM) + "array bias is not one that is read"),
    "bytes without a type": (
        lambda content: content.entries.update({"0.bias.npy": npy(np.zeros(4, "V4"))}),
        at(STEM) + "array bias is not one that is read: its type is none of float32, uint8, uint32, int32",
    ),
    "another length": (
        array("0.bias", np.zeros(5, np.float32)),
        at(STEM) + "array bias is '<f4' (5,) and must be '<f4' (4,)",
    ),
    "rows for columns": (
        array("0.weight", np.zeros((27, 4), np.float32)),
        at(STEM) + "array weight is '<f4' (27, 4) and must be '<f4' (4, 27)",
    ),
    "Fortran's order": (
        array("0.weight", np.asfortranarray(np.ones((4, 27), np.float32))),
        at(STEM) + "array weight is not one that is read: its order is not C's",
    ),
    "five dimensions": (array("0.bias", np.zeros((1,) * 4 + (4,), np.float32)), at(STEM) + "array bias is not"),
    "a scalar": (array("0.bias", np.float32(3)), at(STEM) + "array bias is '<f4' () and must be '<f4' (4,)"),
    "data that are cut": (
        lambda content: content.entries.update({"0.bias.npy": npy(content.arrays["0.bias"])[:-1]}),
        at(STEM) + "array bias has 15 bytes of data, which is not what its shape says",
    ),
    "data that go on": (
        lambda content: content.entries.update({"0.bias.npy": npy(content.arrays["0.bias"]) + b"x"}),
        at(STEM) + "array bias has 17 bytes of data, which is not what its shape says",
    ),
    "a header that is cut": (
        lambda content: content.entries.update({"0.bias.npy": npy(content.arrays["0.bias"])[:60]}),
        at(STEM) + "array bias is not one that is read: its header is cut",
    ),
    "no array at all": (
        lambda content: content.entries.update({"0.bias.npy": b""}),
        at(STEM) + "array bias is not one that is read: it is not an array of numpy's",
    ),
    "more weights than columns": (element("16.counts", 3, 301), at(HIDDEN) + "row 3 has 301 weights in 300 columns"),
    "a count beyond 31 bits": (element("16.counts", 0, 2**32 - 1), at(HIDDEN) + "row 0 has 4294967295 weights"),
    "counts of more weights": (
        element("16.counts", 3, lambda old: old + 1),
        at(HIDDEN) + "array values is '<f4' (",
    ),
    "a column too far": (element("1.gaps", 0, 200), at(DOWN) + "row 0 has a weight in column 200 of 9"),
    "gaps without end": (element("1.gaps", -1, 255), at(DOWN) + "array gaps ends within row 3"),
    "gaps too few": (
        lambda content: content.arrays.update({"1.gaps": content.arrays["1.gaps"][:-1]}),
        at(DOWN) + "array gaps ends within row 3",
    ),
    "gaps left over": (
        lambda content: content.arrays.update({"16.gaps": np.append(content.arrays["16.gaps"], np.uint8(0))}),
        at(HIDDEN) + "array gaps has 1 bytes too many",
    ),
    "more gaps than rows have columns": (
        lambda content: content.arrays.update({"1.gaps": np.zeros(99, np.uint8)}),
        at(DOWN) + "array gaps is '|u1' (99,) and must be '|u1' (n,)",
    ),
    "a channel too many": (element("12.channels", 1, 18), at(SELECT) + "it selects channel 18 of 18"),
    "a negative channel": (element("12.channels", 1, -1), at(SELECT) + "it selects channel -1 of 18"),
    "arrays that are swapped": (
        lambda content: content.arrays.update(
            {"0.bias": content.arrays["2.bias"], "2.bias": content.arrays["0.bias"]},
        ),
        at(STEM) + "array bias is '<f4' (6,) and must be '<f4' (4,)",
    ),
}


@pytest.fixture(scope="module")
def said(loader, tmp_path_factory):
    """What the loader says of each case, all of them in one process: name -> line."""
    cases = {**WRONG_JSON, **WRONG_ARRAYS}
    paths = [changed(change, tmp_path_factory.mktemp("case") / JSON) for change, _ in cases.values()]
    return dict(zip(cases, loader.try_all(paths), strict=True))


@pytest.mark.parametrize("case", WRONG_JSON)
def test_json_that_breaks_a_rule_is_refused(said, case):
    assert said[case].startswith(f"no {JSON}: {WRONG_JSON[case][1]}")


@pytest.mark.parametrize("case", WRONG_ARRAYS)
def test_an_array_that_does_not_fit_is_refused(said, case):
    assert said[case].startswith(f"no {NPZ}: {WRONG_ARRAYS[case][1]}")
