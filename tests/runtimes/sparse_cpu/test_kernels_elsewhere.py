"""The kernels where Python cannot load them: those for ARM in an emulator, and all of them watched by sanitizers."""

import pytest
from kernel_cases import FAMILIES, TOLERANCE, mixed
from kernel_library import SETS, written, wrong


def faults(runner, cases, kernels, folder, threads):
    answers = runner.answers(folder, [(path, case.given, kernels, threads) for case, path in cases])
    return [line for (case, _), answer in zip(cases, answers, strict=True) if (line := wrong(case, answer, TOLERANCE))]


def everything(folder, step):
    """Every `step`-th case of all families with its files."""
    return written([case for family in FAMILIES.values() for case in family()][::step], folder)


@pytest.mark.parametrize("kernels", ["neon", "scalar"])
def test_kernels_for_arm_agree_with_the_reference(neon_runner, tmp_path, kernels):
    cases = everything(tmp_path, 1 if kernels == "neon" else 7)
    assert faults(neon_runner, cases, kernels, tmp_path, 1) == []


def test_kernels_for_arm_give_the_same_bits_on_more_threads(neon_runner, tmp_path):
    cases = written(FAMILIES["chains"](), tmp_path)
    asked = [(path, case.given, "neon", threads) for case, path in cases for threads in (1, 2, 3)]
    found = neon_runner.answers(tmp_path, asked)
    for i in range(0, len(found), 3):
        assert found[i].tobytes() == found[i + 1].tobytes() == found[i + 2].tobytes()


@pytest.mark.parametrize("kernels", [name for name in SETS if name != "neon"])
def test_no_kernel_leaves_its_memory_or_what_c_defines(checked_runner, sparse_library, tmp_path, kernels):
    if kernels not in sparse_library.kernels:
        pytest.skip(f"this CPU, or its system, has no {kernels}")
    assert faults(checked_runner, everything(tmp_path, 3), kernels, tmp_path, 2) == []


@pytest.mark.slow
@pytest.mark.parametrize("kernels", [name for name in SETS if name != "neon"])
def test_random_networks_leave_no_memory_or_what_c_defines(checked_runner, sparse_library, tmp_path, kernels):
    if kernels not in sparse_library.kernels:
        pytest.skip(f"this CPU, or its system, has no {kernels}")
    cases = written(map(mixed, range(2000, 2400)), tmp_path)
    assert faults(checked_runner, cases, kernels, tmp_path, 2) == []


@pytest.mark.slow
def test_random_networks_on_arm_agree_with_the_reference(neon_runner, tmp_path):
    cases = written(map(mixed, range(3000, 3400)), tmp_path)
    assert faults(neon_runner, cases, "neon", tmp_path, 2) == []
