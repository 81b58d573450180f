"""What `edgeprune compare` prints: each pair as sentences for a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from edgeprune.comparing import Compared, Pair
from edgeprune.report import wording
from edgeprune.report.sentences import BLIND_TO_ZEROS, interval, least_claimed, p_value
from edgeprune.report.to_markdown import line, plain

SCHEMA_VERSION = 1
KIND = "edgeprune.comparison"


def to_json(compared: Compared) -> str:
    """Everything, schema-versioned; NaN and infinity are refused with `ValueError`."""
    content = {"schema_version": SCHEMA_VERSION, "kind": KIND, **asdict(compared)}
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def to_text(compared: Compared) -> str:
    """For a terminal: a paragraph and a table for each device and setting."""
    parts = [f"{compared.b} relative to {compared.a}"]
    for pair in compared.pairs:
        rows = _aligned([["", "A", "B", "B to A"], *_lines(pair)])
        parts.append("\n".join([place(pair), *(f"  {text}" for text in told(pair)), "", *rows]))
    parts += [f"measured on one side only: {text}" for text in compared.alone]
    parts += [f"{remark.source}: {remark.message}" for remark in compared.left_out]
    return "\n\n".join(parts).replace(wording.SPACE, " ") + "\n"


def to_markdown(compared: Compared) -> str:
    """For a pull request: a list and a table for each device and setting."""
    parts = [f"# {plain(compared.b)} relative to {plain(compared.a)}"]
    for pair in compared.pairs:
        parts += [f"## {plain(place(pair))}", "\n".join(f"- {plain(text)}" for text in told(pair))]
        parts.append(
            "\n".join([line(["", "A", "B", "B to A"]), "| --- | ---: | ---: | ---: |", *map(line, _lines(pair))])
        )
    if compared.alone:
        parts.append("Measured on one side only:\n\n" + "\n".join(f"- {plain(text)}" for text in compared.alone))
    if compared.left_out:
        left_out = [f"- {plain(remark.source)}: {plain(remark.message)}" for remark in compared.left_out]
        parts.append("Damaged:\n\n" + "\n".join(left_out))
    return "\n\n".join(parts).replace(wording.SPACE, " ") + "\n"


FORMATS = {"text": to_text, "md": to_markdown, "json": to_json}


def _aligned(lines: list[list[str]]) -> list[str]:
    """The first column to the left, the numbers to the right."""
    left, *right = ([f"{cell:<{_widest(column)}}" for cell in column] for column in zip(*lines, strict=True))
    columns = [left, *([cell.strip().rjust(len(cell)) for cell in column] for column in right)]
    return [f"  {'  '.join(cells)}".rstrip() for cells in zip(*columns, strict=True)]


def _widest(column: tuple[str, ...]) -> int:
    return max(map(len, column))


def place(pair: Pair) -> str:
    """The device and the setting of a pair."""
    label = f" (stand-in: {pair.stand_in})" if pair.stand_in else ""
    return f"{pair.device}{label}, {pair.setting}: {pair.b} against {pair.a}"


def told(pair: Pair) -> list[str]:
    """The verdict, the accuracy, and in what the two measurements differ, a sentence each."""
    texts = [_speed(pair)]
    if pair.latency_ratio is not None:
        texts += [_floor(pair), f"Intervals by {pair.resamples:,} resamples, seed {pair.seed}."]
    texts.append(_accuracy(pair))
    if pair.differences:
        texts.append(f"Not the same in both measurements: {'; '.join(pair.differences)}.")
    return texts


def _speed(pair: Pair) -> str:
    if pair.latency_ratio is None:
        return f"Speed not compared: {pair.reason}."
    how = "paired round by round" if pair.together else "measured apart, in two sessions"
    spread = f"no interval, {pair.reason}"
    if pair.latency_ratio_interval is not None:
        spread = interval(pair.latency_ratio_interval, pair.passes, pair.rounds)
    verdict = {
        "faster": "faster",
        "slower": "slower",
        "within noise": "within noise, no difference is claimed",
    }.get(pair.verdict, f"not known whether faster: {pair.reason}")
    cause = ""
    if pair.verdict == "faster" and pair.runtime in BLIND_TO_ZEROS:
        cause = f" (not by zeros: {wording.runtime(pair.runtime)} does not use them)"
    return f"{pair.latency_ratio:.3f} times the time ({pair.headline}; {spread}), {how}: {verdict}{cause}."


def _floor(pair: Pair) -> str:
    if pair.noise_floor is None:
        return f"Noise floor not known: {pair.noise_floor_reason}."
    told_by = f", told by {', '.join(pair.noise_floor_of)}" if pair.noise_floor_of else ""
    return f"Noise floor {wording.share(pair.noise_floor)}{told_by}: {least_claimed(pair.noise_floor)}."


def _accuracy(pair: Pair) -> str:
    if pair.top1_difference is None or pair.images is None:
        return "Top-1 not compared: one has none, or not of as many images."
    error = wording.points(pair.top1_difference_standard_error, 2).lstrip("+")
    text = f"Top-1 {wording.points(pair.top1_difference, 2)} on {wording.plural(pair.images, 'image')}"
    text += f", standard error at most {error}"
    if pair.differing_answers is None or pair.top1_p_value_at_most is None:
        return f"{text}."
    differ = f"{wording.plural(pair.differing_answers, 'answer')} not the same"
    return f"{text}; {differ}, p {p_value(pair.top1_p_value_at_most)} (McNemar, exact)."


def _lines(pair: Pair) -> list[list[str]]:
    """Each quantity that either side knows: its name, A's value, B's, and B's share of A's.

    Latencies that were measured in turns have no share here: the verdict's is the one.
    """
    lines = []
    for figure in pair.figures:
        if figure.value is None and figure.baseline is None:
            continue
        in_turns = pair.together and figure.key.startswith("latency_ms")
        both = figure.value is not None and bool(figure.baseline) and not in_turns
        change = f"{wording.TIMES} {(figure.value or 0) / (figure.baseline or 1):.3f}" if both else ""
        label = f"{figure.label} ({figure.scope})" if figure.key == "power.mean_mw" else figure.label
        told_a, told_b = (wording.figure(value, figure.unit) for value in (figure.baseline, figure.value))
        lines.append([label, told_a, told_b, "" if figure.unit == "%" else change])
    return lines
