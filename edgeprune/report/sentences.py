"""What the numbers say, in sentences. Nothing here claims a difference that the intervals do not carry."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.report import wording
from edgeprune.report.records import Comparison, Network, Row
from edgeprune.report.uncertainty import claimable

# Runtimes that multiply a zero like any other number: on these an unstructured mask cannot save time.
BLIND_TO_ZEROS = ("ort", "openvino")


def comparison_sentence(sparse: Row, dense: Row, found: Comparison) -> str:
    """One device and setting: both latencies, their ratio with its interval, and the verdict."""
    where = f"{found.device}, {found.setting}" + (", compacted" if wording.compacted(found.name) else "")
    times = [wording.milliseconds(row.latency_ms.get(found.headline)) for row in (sparse, dense)]
    if found.latency_ratio is None:
        return f"On {where}: no ratio of latencies, {found.reason}."
    spread = f"no interval, {found.reason}"
    if found.latency_ratio_interval is not None:
        spread = interval(found.latency_ratio_interval, found.passes, found.rounds)
    ratio = f"paired round by round {found.latency_ratio:.3f} times the time ({spread})"
    quoted = f"{found.headline} {times[0]} against {times[1]} dense; {ratio}"
    return f"On {where}: {quoted}; {floor(found)}: {_conclusion(found, sparse)}"


def interval(ends: tuple[float, float], passes: int, rounds: int) -> str:
    """The interval of a ratio, and from how many rounds and fresh processes it comes."""
    of = f"{rounds} rounds" + (f" in {passes} passes" if passes > 1 else " in one pass")
    return f"95{wording.SPACE}% interval {ends[0]:.3f} to {ends[1]:.3f}, {of}"


def floor(found: Comparison) -> str:
    """The noise floor in words: how far an engine lies from itself."""
    if found.noise_floor is None:
        return f"noise floor not known ({found.noise_floor_reason})"
    same = "the dense engine" if found.noise_floor_of == found.baseline else f"the engine of {found.noise_floor_of}"
    lies = f"{same} lies up to {wording.share(found.noise_floor)} from itself in a second process (noise floor)"
    below = f", and {least_claimed(found.noise_floor)}" if claimable(found.noise_floor) > found.noise_floor else ""
    return f"{lies}{below}"


def least_claimed(noise_floor: float) -> str:
    """From where on a difference is claimed: the noise floor, or what is too little to be worth it."""
    return f"below {wording.share(claimable(noise_floor))} no difference is claimed"


def floor_in_short(noise_floor: float) -> str:
    """The noise floor, and what a claim takes where that is more."""
    least = claimable(noise_floor)
    more = f"; a claim takes {wording.share(least)}" if least > noise_floor else ""
    return f"noise floor {wording.share(noise_floor)}{more}"


def statements(sparse: Network | None, dense: Network | None, comparisons: Sequence[Comparison]) -> list[str]:
    """The findings behind the headline, one sentence or two each."""
    files = {found.name: found for found in reversed(comparisons)}  # one device is enough: the file is the same
    several = len(files) > 1
    texts = [_accuracy(found, several) for found in comparisons if files[found.name] is found]
    texts += [found.sentence for found in comparisons]
    if sparse is not None:
        texts += [*_sizes(sparse, dense), *_counts(sparse)]
    return [text for text in texts if text]


def cause(found: Comparison) -> str:
    """What is to be said of the zeros where something was faster: nothing is claimed for them without proof."""
    if found.uses_zeros == "yes":
        return ""
    runtime = wording.runtime(found.runtime)
    if found.runtime in BLIND_TO_ZEROS and wording.compacted(found.name):
        return f", but not by zeros that are left: {runtime} does not use them"
    if found.runtime in BLIND_TO_ZEROS:
        return f", but not by its zeros: {runtime} does not use them"
    if found.uses_zeros == "no":
        return f", but not by its zeros: {runtime} chose no sparse tactic"
    return f", and whether its zeros did it is not known: {runtime} did not say which layers run sparse"


def _conclusion(found: Comparison, sparse: Row) -> str:
    receipt = f" {sparse.receipt['reason']}" if sparse.receipt and sparse.receipt.get("reason") else ""
    return f"{_verdict(found, sparse.pattern)}{receipt}"


def _verdict(found: Comparison, pattern: str | None) -> str:
    if found.verdict == "faster":
        return f"the sparse network is faster{cause(found)}."
    if found.verdict == "slower":
        return "the sparse network is slower."
    if found.verdict == "not known":
        return f"whether the sparse network is faster is not known: {found.reason}."
    if found.runtime in BLIND_TO_ZEROS and pattern not in (None, "dense") and not wording.compacted(found.name):
        return (
            f"within noise. {wording.runtime(found.runtime)} does not use zeros: "
            "it multiplies them like any other number, so the sparse network costs what the dense one costs."
        )
    return "within noise; no speed-up is claimed."


def _accuracy(found: Comparison, named: bool) -> str:
    where = f" in {found.precision}" if named else ""
    where += ", compacted," if wording.compacted(found.name) else ""
    if found.top1_difference is None or found.images is None:
        return f"The difference in accuracy to the dense network{where} is not known."
    error = found.top1_difference_standard_error or 0.0
    paired = ""
    if found.differing_answers is not None and found.top1_p_value_at_most is not None:
        differ = f"{found.differing_answers:,} of {wording.plural(found.images, 'answer')} differ"
        paired = f" {differ}; McNemar's exact test gives p {p_value(found.top1_p_value_at_most)}."
    noise = "within" if within_error(found) else "beyond"
    difference, one = wording.points(found.top1_difference, 2), 100 / found.images
    return (
        f"Top-1{where} differs from the dense network by {difference} on {found.images:,} test images, where one image "
        f"is {one:.2f} points and the standard error of the difference is at most {error:.2f} points: {noise} twice "
        f"that error.{paired}"
    )


def within_error(found: Comparison) -> bool:
    """Whether a difference of accuracies is no more than twice its standard error."""
    return abs(found.top1_difference or 0.0) <= 2 * (found.top1_difference_standard_error or 0.0)


def p_value(bound: float) -> str:
    """An upper bound of a p-value."""
    return "at most 1" if bound >= 1 else "below 0.001" if bound < 0.001 else f"at most {bound:.3f}"


def _sizes(sparse: Network, dense: Network | None) -> list[str]:
    onnx, nonzero, packed = (sparse.size_bytes.get(key) for key in ("onnx", "nonzero", "compressed"))
    if onnx is None or packed is None:
        return []
    against = dense.size_bytes.get("compressed") if dense else None
    stored = f"The ONNX file stores its zeros and takes {wording.size(onnx)}; compressed it is {wording.size(packed)}"
    if against and packed:
        stored += f" against {wording.size(against)} dense, {against / packed:.1f} times smaller"
    if nonzero is not None:
        stored += f"; its non-zero values alone take {wording.size(nonzero)}"
    return [f"{stored}."]


def _counts(sparse: Network) -> list[str]:
    texts = []
    if sparse.zeros is not None and sparse.weights and sparse.sparsity_paper is not None:
        texts.append(
            f"{sparse.zeros:,} of {sparse.weights:,} prunable weights are zero ({wording.share(sparse.sparsity, 2)}); "
            f"counted over convolutions, linear layers and batch-norms, as papers do, it is "
            f"{wording.share(sparse.sparsity_paper, 2)}."
        )
    if sparse.macs and sparse.nonzero_macs is not None:
        texts.append(
            f"{wording.count(sparse.nonzero_macs)} of {wording.count(sparse.macs)} multiply-adds per image involve a "
            "non-zero weight: what a runtime that skipped every zero would still have to do."
        )
    return texts
