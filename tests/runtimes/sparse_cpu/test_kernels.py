"""Every kernel of every set against the numpy reference, and against itself on more threads."""

import json
import re

import numpy as np
import pytest
from kernel_cases import FAMILIES, TOLERANCE, mixed
from kernel_library import written, wrong

from runtimes.sparse_cpu import library


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The cases of a family with their files, made when they are first asked for."""
    made = {}

    def of(family):
        if family not in made:
            made[family] = written(FAMILIES[family](), tmp_path_factory.mktemp(family))
        return made[family]

    return of


@pytest.fixture(scope="module")
def random_programs(tmp_path_factory):
    return written(map(mixed, range(2000)), tmp_path_factory.mktemp("random"))


def faults(answers, cases):
    return [line for (case, _), answer in zip(cases, answers, strict=True) if (line := wrong(case, answer, TOLERANCE))]


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_agree_with_the_reference_and_with_themselves_on_more_threads(
    sparse_library, kernels, programs, family
):
    cases = programs(family)
    found = {
        threads: [sparse_library.answer(path, case.given, kernels, threads) for case, path in cases]
        for threads in (1, 2, 3)
    }
    assert faults(found[1], cases) == []
    changed = [
        f"{case.name}: {threads} threads"
        for threads in (2, 3)
        for (case, _), alone, many in zip(cases, found[1], found[threads], strict=True)
        if alone.tobytes() != many.tobytes()
    ]
    assert changed == []


def test_every_kernel_of_the_table_is_tried(sparse_library, kernels, programs):
    tried = set()
    for family in FAMILIES:
        for _, path in programs(family):
            with sparse_library.network(path, kernels) as network:
                for step in json.loads(sparse_library.describe(network))["steps"]:
                    tried |= {step["kernel"], "conv_pair"} if step["joins_next"] else {step["kernel"]}
    kinds = re.findall(r"^ +ES_K_(\w+),", (library.NATIVE / "step.h").read_text(encoding="utf-8"), re.MULTILINE)
    folds = {"conv_folded"} if kernels in ("avx2", "scalar") else set()  # only where there are registers enough
    assert tried == {name.lower() for name in kinds} - folds


def test_the_narrow_tensor_is_cut_anew_where_a_window_cannot_stride_over_the_wide_one(
    sparse_library, kernels, programs
):
    """28 rows are seven for each of four tiles, which a stride of two does not divide; of two tiles they are 14."""
    case, path = next(
        found for found in programs("recuts") if found[0].name == "wide tensor for one depthwise, size 28"
    )
    assert [shape.shape[0] for shape in case.program.tensors] == [5, 6, 17, 17, 9]
    with sparse_library.network(path, kernels) as network:
        steps = json.loads(sparse_library.describe(network))["steps"]
    cut = [step["output"][0] for step in steps if step["kernel"] == "relay"]
    assert cut == ([] if kernels == "scalar" else [6])
    assert [step["kernel"] for step in steps if step["joins_next"]] == ["conv_sparse"]


def test_an_image_gets_the_same_answer_alone_and_among_others(sparse_library, kernels, programs):
    changed = []
    for case, path in programs("chains"):
        images = np.random.default_rng(1).standard_normal((5, *case.given.shape[1:])).astype(np.float32)
        together = sparse_library.answer(path, images, kernels, 2)
        alone = [sparse_library.answer(path, images[i : i + 1], kernels) for i in range(5)]
        changed += [case.name] if together.tobytes() != np.concatenate(alone).tobytes() else []
    assert changed == []


def test_a_network_keeps_nothing_of_the_images_before(sparse_library, kernels, programs):
    kept = []
    for case, path in programs("chains"):
        with sparse_library.network(path, kernels, 2) as network:
            before = sparse_library.run(network, case.given)
            sparse_library.run(network, np.full_like(case.given, np.nan))
            after = sparse_library.run(network, case.given)
        kept += [case.name] if before.tobytes() != after.tobytes() else []
    assert kept == []


@pytest.mark.slow
def test_random_networks_agree_with_the_reference(sparse_library, kernels, random_programs):
    answers = [sparse_library.answer(path, case.given, kernels, 2) for case, path in random_programs]
    assert faults(answers, random_programs) == []
