"""What TensorRT and trtexec complain of in a log: warnings with their codes, errors, and how a run ended.

Pure functions of text, as in `runtimes.trt_logs`, which has where the wording was read.
"""

import re
from typing import Dict, List, Optional, Tuple

from runtimes.records import Doubt
from runtimes.trt_inspector import lines_of

_PREFIX = re.compile(r"^(?:\[[\d/]+-[\d:]+\] )?(?:\[(?P<severity>[A-Z])\] ?)?(?:\[TRT\] ?)?")
_INCOMPATIBLE = re.compile(r"expecting compute (\d+\.\d+) got compute (\d+\.\d+)")
_ENDED = re.compile(r"^&&&& (PASSED|FAILED) ", re.MULTILINE)
_FAILURES = ("E", "F")  # error, fatal
_SERIOUS = ("W", *_FAILURES)
_MEMORY = r"OutOfMemory|[Oo]ut of memory|nsufficient memory|memory is insufficient|memory on requested size"
_WARNINGS = (  # code, what has to be in the line, whether the line has to be a warning or an error
    ("gpu-time-unstable", re.compile("GPU compute time is unstable, with coefficient of variance"), False),
    ("enqueue-bound", re.compile("Throughput may be bound by Enqueue Time"), False),
    ("transfer-bound", re.compile("may be bound by (?:host-to-device|device-to-host) transfers"), False),
    ("low-memory", re.compile(_MEMORY), False),
    ("low-memory", re.compile("allocat"), True),  # TensorRT also tells of allocations that went well
    ("tactic-failed", re.compile("Skipping tactic(?!.*(?:{}))".format(_MEMORY)), False),  # a kernel that is left out
    ("sparsity-forced", re.compile("--sparsity=force has been deprecated"), False),
)
_ANY = re.compile("|".join(words.pattern for _, words, _ in _WARNINGS))


def warnings(text: str) -> List[Doubt]:
    """What makes the numbers doubtful, by TensorRT's own account: one entry for each code, with its first line."""
    lines: Dict[str, List[str]] = {}
    for line in lines_of(text):
        for code in codes_of(line):
            lines.setdefault(code, []).append(bare(line).strip(" *"))
    return [
        Doubt(code, found[0] + (" (and {} more such lines)".format(len(found) - 1) if len(found) > 1 else ""))
        for code, found in lines.items()
    ]


def codes_of(line: str) -> List[str]:
    """The codes of `warnings` that one line stands for; none for nearly every line."""
    if not _ANY.search(line):  # a verbose log has a million lines
        return []
    found = [code for code, words, serious in _WARNINGS if words.search(line) and (not serious or _serious(line))]
    return list(dict.fromkeys(found))


def errors(text: str) -> List[str]:
    """The lines that tell of a failure, in order, without time and severity."""
    return [
        bare(line).strip()
        for line in lines_of(text)
        if _severity(line) in _FAILURES or re.search(r"\bError Code \d|expecting compute \d", line)
    ]


def incompatible(text: str) -> Optional[Tuple[str, str]]:
    """(compute capability the engine was built for, that of this GPU) where an engine from elsewhere was refused."""
    found = _INCOMPATIBLE.search(text)
    return (found.group(1), found.group(2)) if found else None


def passed(text: str) -> Optional[bool]:
    """Whether trtexec's last line says PASSED or FAILED; None where it says neither."""
    ended = _ENDED.findall(text)
    return ended[-1] == "PASSED" if ended else None


def bare(line: str) -> str:
    """`line` without time, severity and the mark of TensorRT."""
    return _PREFIX.sub("", line)


def _serious(line: str) -> bool:
    return _severity(line) in _SERIOUS


def _severity(line: str) -> Optional[str]:
    found = _PREFIX.match(line)
    return found["severity"] if found else None
