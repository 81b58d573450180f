"""What the numbers say, in sentences. Nothing here claims a difference that the intervals do not carry."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.report import wording
from edgeprune.report.records import Comparison, Network, Row

# Runtimes that multiply a zero like any other number: on these an unstructured mask cannot save time.
BLIND_TO_ZEROS = ("ort",)
ALIKE = 0.02  # two shares of zeros this close are told as one


def headline(sparse: Network | None, comparisons: Sequence[Comparison], rows: Sequence[Row]) -> str:
    """What was gained and what it cost, in one sentence."""
    if sparse is None:
        return "Nothing has been exported yet, so there is nothing to compare."
    return f"{_zeros_clause(sparse)}{_accuracy_clause(comparisons, rows)}; {_latency_clause(comparisons)}."


def foremost(comparisons: Sequence[Comparison]) -> Comparison | None:
    """The comparison that headline and tiles tell of, so that an accuracy and a speed are those of one file.

    Where something was faster: what its zeros made faster before the rest, then the fastest. Else the first one.
    """
    faster = [found for found in comparisons if found.verdict == "faster"]
    if faster:
        return min(faster, key=lambda found: (found.uses_zeros != "yes", found.latency_ratio or 1.0))
    return next(iter(comparisons), None)


def comparison_sentence(sparse: Row, dense: Row, found: Comparison) -> str:
    """One device and runtime: both latencies, their ratio with its interval, and the verdict."""
    threads = wording.plural(found.threads, "thread")
    precision = "" if sparse.precision == "fp32" else f", {sparse.precision}"
    where = f"{found.device}, {wording.runtime(found.runtime)}{precision}, batch {found.batch}, {threads}"
    times = [wording.milliseconds(row.latency_ms.get(sparse.headline)) for row in (sparse, dense)]
    if found.latency_ratio is None:
        return f"On {where}: no ratio of latencies, {found.reason}."
    spread = f"no interval, {found.reason}"
    if found.latency_ratio_interval is not None:
        spread = interval(found.latency_ratio_interval, found.passes, found.rounds)
    ratio = f"{found.latency_ratio:.3f} times the time ({spread})"
    quoted = f"{sparse.headline} {times[0]} against {times[1]} dense, {ratio}"
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
    return f"{same} lies up to {wording.share(found.noise_floor)} from itself in a second process (noise floor)"


def statements(sparse: Network | None, dense: Network | None, comparisons: Sequence[Comparison]) -> list[str]:
    """The findings behind the headline, one sentence or two each."""
    files = {found.name: found for found in reversed(comparisons)}  # one device is enough: the file is the same
    several = len(files) > 1
    texts = [_accuracy(found, several) for found in comparisons if files[found.name] is found]
    texts += [found.sentence for found in comparisons]
    if sparse is not None:
        texts += [*_sizes(sparse, dense), *_counts(sparse)]
    return [text for text in texts if text]


def _zeros_clause(sparse: Network) -> str:
    """The share of zeros; where only part of the network is prunable, of what, and the share of all beside it."""
    if sparse.sparsity is None:
        return "The share of zero weights is not known"
    share, of_all = wording.share(sparse.sparsity), sparse.sparsity_paper
    if of_all is None:
        return f"{share} of the prunable weights are zero"
    if abs(sparse.sparsity - of_all) > ALIKE:
        return f"{share} of the prunable weights are zero ({wording.share(of_all)} of all, as papers count)"
    return f"{share} of the weights are zero"


def _accuracy_clause(comparisons: Sequence[Comparison], rows: Sequence[Row]) -> str:
    """The accuracy of the very file whose speed is told next; any other device may have scored it."""
    told = foremost(comparisons)
    of_it = [told, *(found for found in comparisons if found.name == told.name)] if told else []
    for found in of_it:
        if found.top1_difference is not None:
            top1 = _top1(rows, found, found.name)
            return f" at {wording.percent(top1)} top-1, {_distance(found)}"
    name = told.name if told else "sparse"
    known = [row.top1 for row in rows if row.name == name and row.top1 is not None]
    return f" at {wording.percent(known[0])} top-1" if known else ", with an accuracy that has not been measured"


def _top1(rows: Sequence[Row], found: Comparison, name: str) -> float | None:
    there = (found.device, found.runtime)
    return next((row.top1 for row in rows if row.name == name and (row.device, row.runtime) == there), None)


def _distance(found: Comparison) -> str:
    """`0.3 points below the dense network`, or as good as it when the difference is nothing."""
    difference = found.top1_difference or 0.0
    text = wording.points(abs(difference)).lstrip("+")
    if text.startswith("0.0"):
        return "the same as the dense network"
    return f"{text} {'below' if difference < 0 else 'above'} the dense network"


def _latency_clause(comparisons: Sequence[Comparison]) -> str:
    if not any(found.latency_ratio for found in comparisons):
        return "its speed has not been compared with the dense network"
    timed = [found for found in comparisons if found.verdict != "not known"]
    if not timed:
        return "whether it is faster is not known, for want of rounds"
    told = foremost(comparisons)
    slower = [c for c in timed if c.verdict == "slower"]
    if told is not None and told.verdict == "faster":
        others = sum(c.verdict != "faster" for c in timed)
        rest = f" (not so in {wording.plural(others, 'other setting')})" if others else ""
        return f"it runs {1 / (told.latency_ratio or 1.0):.2f} times as fast on {_place(told)}{rest}{_cause(told)}"
    if slower:
        worst = max(slower, key=lambda c: c.latency_ratio or 1.0)
        return f"it is not faster: on {_place(worst)} it takes {worst.latency_ratio:.2f} times as long"
    if all(c.runtime in BLIND_TO_ZEROS for c in timed):
        return f"it is no faster here, because {wording.runtime(timed[0].runtime)} does not use zeros"
    return f"no difference in speed could be measured on {_place(timed[0]) if len(timed) == 1 else 'any device'}"


def _place(found: Comparison) -> str:
    precision = "" if found.precision == "fp32" else f" in {found.precision}"
    return f"{found.device} with {wording.runtime(found.runtime)}{precision}"


def _cause(found: Comparison) -> str:
    """What is to be said of the zeros where something was faster: nothing is claimed for them without proof."""
    if found.uses_zeros == "yes":
        return ""
    runtime = wording.runtime(found.runtime)
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
        return f"the sparse network is faster{_cause(found)}."
    if found.verdict == "slower":
        return "the sparse network is slower."
    if found.verdict == "not known":
        return "whether the sparse network is faster is not known."
    if found.runtime in BLIND_TO_ZEROS and pattern not in (None, "dense"):
        return (
            f"within noise. {wording.runtime(found.runtime)} does not use zeros: "
            "it multiplies them like any other number, so the sparse network costs what the dense one costs."
        )
    return "within noise; no speed-up is claimed."


def _accuracy(found: Comparison, named: bool) -> str:
    where = f" in {found.precision}" if named else ""
    if found.top1_difference is None or found.images is None:
        return f"The difference in accuracy to the dense network{where} is not known."
    error = found.top1_difference_standard_error or 0.0
    paired = ""
    if found.differing_answers is not None and found.top1_p_value_at_most is not None:
        differ = f"{found.differing_answers:,} of {wording.plural(found.images, 'answer')} differ"
        paired = f" {differ}; McNemar's exact test gives p {p_value(found.top1_p_value_at_most)}."
    noise = "within" if abs(found.top1_difference) <= 2 * error else "beyond"
    difference, one = wording.points(found.top1_difference, 2), 100 / found.images
    return (
        f"Top-1{where} differs from the dense network by {difference} on {found.images:,} test images, where one image "
        f"is {one:.2f} points and the standard error of the difference is at most {error:.2f} points: {noise} twice "
        f"that error.{paired}"
    )


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
