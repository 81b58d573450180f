"""What a kernel can get wrong, in families of small programs."""

from collections.abc import Iterator

import numpy as np
from kernel_programs import Builder, Case

TOLERANCE = 1e-5  # of the largest number in the answer
RELU = {"kind": "clip", "low": 0.0, "high": None}
ACTIVATIONS = (
    RELU,
    {"kind": "clip", "low": 0.0, "high": 6.0},
    {"kind": "clip", "low": None, "high": 0.5},
    {"kind": "hard_swish"},
    {"kind": "hard_sigmoid", "low": 1 / 6, "high": 0.5},
    {"kind": "sigmoid"},
    {"kind": "silu"},
)
AROUND_A_TILE = (1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 28, 31, 32, 33)


def shapes() -> Iterator[Case]:
    """Images at and around the tile, square and not, and channels at and around a vector."""
    for i, height in enumerate(AROUND_A_TILE):
        for width in {height, AROUND_A_TILE[(7 * i + 5) % len(AROUND_A_TILE)]}:
            built = Builder((3, height, width), seed=i)
            built.conv(5, act=RELU)
            built.conv(4, sparsity=0.9)
            yield built.case(f"{height}x{width}")
    for channels in (1, 3, 5, 8, 16, 17, 64):
        for out in (1, 3, 8, 17, 33):
            built = Builder((channels, 6, 7), seed=out)
            built.conv(out, sparsity=0.8)
            yield built.case(f"{channels} to {out} channels")


def sparsities() -> Iterator[Case]:
    """From a dense kernel through the crossover to weights that are all zero, and rows without any."""
    for sparsity in (0, 0.2, 0.5, 0.7, 0.9, 0.98, 1):
        for kernel in (1, 3):
            built = Builder((17, 9, 8), seed=kernel)
            built.conv(19, kernel, sparsity=sparsity)
            built.conv(6, kernel, sparsity=sparsity)
            yield built.case(f"kernel {kernel}, sparsity {sparsity}", images=2)
    for channels in (24, 40):  # larger than what two bytes reach across, in tiles of one lane
        built = Builder((channels, 56, 56))
        built.conv(3, sparsity=0.95)
        yield built.case(f"{channels} large channels")


def windows() -> Iterator[Case]:
    """Kernels, strides, paddings and dilations, each by itself and all mixed."""
    for kernel in (1, 2, 3, 5, 7, (1, 7), (7, 1), (3, 1)):
        for stride in (1, 2, 3, (2, 1), (1, 3)):
            for sparsity in (0, 0.7):
                built = Builder((4, 15, 17))
                built.conv(5, kernel, stride, sparsity=sparsity)
                yield built.case(f"kernel {kernel}, stride {stride}, sparsity {sparsity}")
    for padding in ((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 2, 0), (0, 0, 0, 2), (2, 1, 0, 2), (6, 5, 6, 4)):
        for stride in (1, 2, 3):
            for size in (5, 8, 14):
                built = Builder((3, size, size + 1))
                built.conv(4, 7 if max(padding) > 2 else 3, stride, padding, sparsity=0.6 if stride > 1 else 0.1)
                yield built.case(f"padding {padding}, stride {stride}, size {size}")
    for dilation in (1, 2, 3, (1, 3)):
        for stride in (1, 2):
            built = Builder((3, 13, 16))
            built.conv(4, 3, stride, dilation=dilation)
            yield built.case(f"dilation {dilation}, stride {stride}")


def groups() -> Iterator[Case]:
    """Grouped convolutions, sparse and dense, and depthwise ones with one or more outputs for each input."""
    for count, into, out in ((2, 4, 6), (3, 9, 3), (4, 8, 40), (2, 34, 34)):
        for sparsity in (0, 0.6):
            built = Builder((into, 9, 10))
            built.conv(out, 3, 1 + (count == 3), groups=count, sparsity=sparsity)
            yield built.case(f"{count} groups, {into} to {out}, sparsity {sparsity}")
    for many in (1, 2, 3):
        for kernel, stride in ((3, 1), (3, 2), (5, 1), (5, 2), (3, 3)):
            for size in (7, 14, 33):
                built = Builder((6, size, size))
                built.conv(6 * many, kernel, stride, groups=6, sparsity=0.3, act=RELU)
                yield built.case(f"depthwise, {many} each, kernel {kernel}, stride {stride}, size {size}")


def endings() -> Iterator[Case]:
    """What is done before a convolution's result is stored: the residual, each activation, both."""
    for act in (None, *ACTIVATIONS):
        kind = (act or {"kind": "none"})["kind"]
        for plus in (False, True):
            for sparsity, count in ((0.8, 1), (0, 1), (0, 5)):
                built = Builder((5, 7, 9))
                built.conv(5, groups=count, sparsity=sparsity, plus=0 if plus else None, act=act)
                built.conv(2, sparsity=0)
                yield built.case(f"{kind} {act}, residual {plus}, sparsity {sparsity}, groups {count}", images=2)


def elements() -> Iterator[Case]:
    """Element by element on planes and on vectors, each read by a convolution, which sees halo and overhang."""
    for size in (1, 5, 8, 17):
        for act in ACTIVATIONS:
            built = Builder((5, size, size))
            built.add("activate", built.shapes[0], activation=act)
            built.conv(3)
            yield built.case(f"activate {act}, size {size}")
        for op in ("add", "mul"):
            built = Builder((5, size, size))
            built.conv(5)
            built.add(op, built.shapes[0], 1, 0)
            built.conv(3)
            yield built.case(f"{op}, size {size}")
            built = Builder((5, size, size))
            built.add("global_average", (5, 1, 1))
            built.linear(5)
            built.add(op, (5, size, size), 0, 2)
            built.conv(3)
            yield built.case(f"{op} of a plane and a vector, size {size}")
        built = Builder((5, size, size))
        arrays = {key: built.rng.standard_normal(5).astype(np.float32) for key in ("scale", "shift")}
        built.add("affine", built.shapes[0], arrays=arrays)
        built.conv(3)
        yield built.case(f"affine, size {size}")


def vectors() -> Iterator[Case]:
    """Linear layers, sparse and dense, the softmax, and element by element, at and around a vector's lanes."""
    for columns in (1, 7, 15, 16, 17, 33, 300):
        for rows in (1, 3, 8, 17):
            for sparsity in (0, 0.5, 0.97, 1):
                built = Builder((columns, 1, 1), seed=rows)
                built.linear(rows, sparsity, RELU if rows == 3 else None)
                yield built.case(f"linear {columns} to {rows}, sparsity {sparsity}", images=2)
    for act in ACTIVATIONS:
        built = Builder((37, 1, 1))
        built.linear(37, act=act)
        built.add("activate", (37, 1, 1), activation=act)
        yield built.case(f"linear, then {act}")
    for n in (1, 5, 16, 37, 1000):
        built = Builder((n, 1, 1))
        built.linear(n, 0.98)
        built.add("add", (n, 1, 1), 0, 1)
        built.add("mul", (n, 1, 1), 2, 1)
        built.add("softmax", (n, 1, 1))
        yield built.case(f"softmax of {n}")
    built = Builder((70000, 1, 1))  # more columns than two bytes tell apart
    built.linear(3, 0.999)
    yield built.case("70,000 columns, sparse")


def pools() -> Iterator[Case]:
    """Pools whose windows leave the image on every side, each read by a convolution."""
    for size in (4, 7, 14, 17, 32):
        for kernel, stride, padding in (
            (2, 2, (0, 0, 0, 0)),
            (3, 2, (1, 1, 1, 1)),
            (3, 2, (0, 0, 1, 1)),
            (3, 1, (1, 1, 1, 1)),
            ((1, 3), (1, 2), (0, 2, 0, 1)),
            (4, 3, (2, 3, 1, 0)),
        ):
            for op, more in (
                ("max_pool", {}),
                *(("average_pool", {"count_padding": value}) for value in (True, False)),
            ):
                built = Builder((3, size, size + 2))
                built.pool(op, kernel, stride, padding, **more)
                built.conv(2)
                yield built.case(f"{op} {more}, kernel {kernel}, stride {stride}, padding {padding}, size {size}")
        built = Builder((20, size, size + 3))
        built.add("global_average", (20, 1, 1))
        yield built.case(f"global average, size {size}", images=2)
    built = Builder((3, 7, 7))
    built.pool("average_pool", 7, 1, count_padding=False)
    built.linear(4)
    yield built.case("a pool down to one pixel")


def moves() -> Iterator[Case]:
    """What copies pixels: concat, select, pad, resize, flatten."""
    for size in (1, 4, 5, 9, 14):
        built = Builder((3, size, size))
        built.conv(4, 1)
        built.conv(2, 3, at=0)
        built.add("concat", (9, size, size), 1, 0, 2)
        built.conv(3)
        yield built.case(f"concat, size {size}", images=3)
        built = Builder((5, size, size))
        built.add("select", (7, size, size), arrays={"channels": np.array([4, 4, 0, 3, 1, 2, 0], np.int32)})
        built.conv(3)
        yield built.case(f"select, size {size}")
        for padding, value in (((1, 2, 0, 3), 0.0), ((0, 0, 4, 0), -1.5)):
            built = Builder((3, size, size))
            grown = (3, size + padding[0] + padding[2], size + padding[1] + padding[3])
            built.add("pad", grown, padding=list(padding), value=value)
            built.conv(3)
            yield built.case(f"pad {padding}, size {size}")
        for factor in ((2, 2), (1, 3), (3, 1)):
            built = Builder((3, size, size + 1))
            built.add("resize", (3, size * factor[0], (size + 1) * factor[1]), factor=list(factor))
            built.conv(3)
            yield built.case(f"resize {factor}, size {size}")
        built = Builder((3, size, size + 1))
        built.add("flatten", (3 * size * (size + 1), 1, 1))
        built.linear(6, 0.3)
        yield built.case(f"flatten, size {size}", images=3)
        built = Builder((3, size, size + 2))
        built.add("select", built.shapes[0], arrays={"channels": np.array([2, 0, 1], np.int32)})
        yield built.case(f"only moved, size {size}", images=2)


def chains() -> Iterator[Case]:
    """Networks in little: tiles that no longer divide, residuals across a stride, branches, reused buffers."""
    for size in (28, 32, 33, 7):
        built = Builder((3, size, size))
        built.conv(8, act=RELU)
        for _ in range(3):
            before = len(built.shapes) - 1
            built.conv(8, 3, 1, sparsity=0.7, act=RELU)
            built.conv(8, 3, 1, sparsity=0.7, plus=before, act=RELU)
            kept = len(built.shapes) - 1
            built.conv(8, 3, 2, act=RELU, at=kept)
            half = len(built.shapes) - 1
            built.conv(8, 1, 2, at=kept, padding=(0, 0, 0, 0), plus=half, act=RELU)
        built.add("global_average", (8, 1, 1))
        built.linear(10)
        yield built.case(f"residual network, size {size}", images=3)
    for size in (14, 30):
        built = Builder((3, size, size))
        built.conv(12, 3, 2, act={"kind": "hard_swish"})
        built.conv(12, 5, groups=12, sparsity=0)
        kept = len(built.shapes) - 1
        built.add("global_average", (12, 1, 1))
        built.linear(4, act=RELU)
        built.linear(12, act={"kind": "hard_sigmoid", "low": 1 / 6, "high": 0.5})
        built.add("mul", built.shapes[kept], kept, len(built.shapes) - 1)
        built.conv(7, 1, sparsity=0.9)
        built.pool("max_pool", 3, 2, (0, 0, 1, 1))
        built.add("flatten", (int(np.prod(built.shapes[-1])), 1, 1))
        built.linear(10, 0.9)
        built.add("softmax", (10, 1, 1))
        yield built.case(f"squeeze and excite, size {size}", images=3)


def pairs() -> Iterator[Case]:
    """A pointwise convolution and the depthwise one that reads it, alone or among other readers: inverted residuals."""
    for size in (5, 7, 14, 17):
        for kernel, stride, many in ((3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 1), (3, 1, 2)):
            built = Builder((6, size, size + 1), seed=kernel)
            for act in ({"kind": "clip", "low": 0.0, "high": 6.0}, {"kind": "silu"}):
                before = len(built.shapes) - 1
                built.conv(19, 1, sparsity=0.8, act=act)
                built.conv(19 * many, kernel, stride, groups=19, sparsity=0, act=act)
                built.conv(6, 1, sparsity=0.7, plus=before if stride == 1 else None)
            yield built.case(
                f"inverted residuals, kernel {kernel}, stride {stride}, {many} each, size {size}", images=2
            )
        built = Builder((6, size, size))
        built.conv(6, 1, sparsity=0.6, plus=0)
        built.conv(6, 3, groups=6, sparsity=0, plus=0)
        built.conv(6, 1, sparsity=0.6)
        built.conv(6, 3, groups=6, sparsity=0, plus=3)
        yield built.case(f"pairs with residuals, size {size}", images=2)


def recuts() -> Iterator[Case]:
    """A window whose stride does not divide the tiles, after a pointwise convolution: which of the two is cut anew."""
    for size in (9, 20, 28, 33):
        for reader in ("depthwise", "dense", "max_pool", "average_pool"):
            built = Builder((5, size, size), seed=size)
            built.conv(6, act=RELU)
            built.conv(17, 1, sparsity=0.7, act=RELU)
            if reader == "depthwise":
                built.conv(17, 3, 2, groups=17, sparsity=0)
            elif reader == "dense":
                built.conv(4, 3, (2, 1), sparsity=0)
            else:
                more = {} if reader == "max_pool" else {"count_padding": False}
                built.pool(reader, 3, 2, (1, 1, 1, 1), **more)
            built.conv(9, 1, sparsity=0.5)
            yield built.case(f"wide tensor for one {reader}, size {size}", images=2)
        for narrow in (False, True):
            built = Builder((6, size, size), seed=size + 1)
            wide = built.conv(4 if narrow else 12, 1, sparsity=0.6, act=RELU)
            built.conv(8, 3, 2, at=wide, act=RELU)
            half = len(built.shapes) - 1
            built.conv(8, 1, 2, at=wide, padding=(0, 0, 0, 0), plus=half)
            yield built.case(f"two readers, {'narrow' if narrow else 'wide'}, size {size}", images=2)
        built = Builder((6, size, size), seed=size + 2)
        built.conv(12, 3, 1, sparsity=0.5)
        built.conv(12, 1, sparsity=0.6, plus=1, act=RELU)
        built.conv(8, 3, 2, sparsity=0.5)
        yield built.case(f"a residual in between, size {size}", images=2)


def small() -> Iterator[Case]:
    """Images of a few pixels a tile, with many channels, as at the end of a network."""
    for height, width in ((1, 1), (1, 4), (2, 2), (3, 3), (4, 4), (4, 8), (5, 5), (7, 8), (8, 3), (8, 8)):
        for sparsity in (0.6, 0.9, 0.99):
            built = Builder((48, height, width))
            built.conv(40, sparsity=sparsity, act=RELU)
            built.conv(40, sparsity=sparsity, plus=1)
            built.conv(40, sparsity=sparsity, act={"kind": "hard_swish"})
            built.conv(9, 1, sparsity=sparsity)
            built.pool("max_pool", 3, 1, (1, 1, 1, 1))
            yield built.case(f"{height}x{width}, sparsity {sparsity}", images=2)


FAMILIES = {
    "shapes": shapes,
    "sparsities": sparsities,
    "windows": windows,
    "groups": groups,
    "endings": endings,
    "elements": elements,
    "vectors": vectors,
    "pools": pools,
    "moves": moves,
    "pairs": pairs,
    "recuts": recuts,
    "small": small,
    "chains": chains,
}


def mixed(seed: int) -> Case:
    """A random network of one to four convolutions."""
    rng = np.random.default_rng(seed)
    built = Builder((int(rng.choice([1, 3, 8, 17])), *(int(size) for size in rng.integers(3, 40, 2))), seed)
    for _ in range(rng.integers(1, 5)):
        channels, *size = built.shapes[-1]
        kernel = tuple(int(each) for each in rng.choice([1, 2, 3, 5, 7], 2))
        dilation = tuple(int(each) for each in rng.integers(1, 3, 2))
        reach = [(kernel[side] - 1) * dilation[side] for side in (0, 1)]
        padding = [int(rng.integers(0, reach[side % 2] + 1)) for side in range(4)]
        stride = [int(step) for step in rng.choice([1, 1, 2, 3], 2)]
        if any(size[side] + padding[side] + padding[side + 2] <= reach[side] for side in (0, 1)):
            kernel, padding = (1, 1), [0, 0, 0, 0]
        count = int(rng.choice([1, 1, channels]))
        out = count * int(rng.integers(1, 3)) if count > 1 else int(rng.choice([1, 4, 9, 20]))
        act = (None, *ACTIVATIONS)[rng.integers(0, len(ACTIVATIONS) + 1)]
        sparsity = float(rng.choice([0, 0.5, 0.9, 1]))
        built.conv(out, kernel, stride, padding, dilation, count, sparsity, act=act)
    return built.case(f"seed {seed}", images=int(rng.integers(1, 3)))
