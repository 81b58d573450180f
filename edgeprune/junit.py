"""Verdicts of gates as a JUnit file: what build servers show as tests."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from edgeprune.gates import Verdict
from runtimes.files import write_bytes

# What XML 1.0 cannot hold, not even escaped.
_UNPRINTABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(path: Path, verdicts: Sequence[Verdict], name: str = "edgeprune gates") -> None:
    """Write one test case for each gate, device and setting to `path`, in one rename; `name` is the suite's."""
    write_bytes(path, junit(verdicts, name))


def junit(verdicts: Sequence[Verdict], name: str = "edgeprune gates") -> bytes:
    """The file's content, UTF-8. A class is a run and a device, whose dots would be read as packages and become `_`.

    A failure's `type` is its exit code, a `system-out` holds what a passed gate found."""
    failures = sum(not verdict.passed for verdict in verdicts)
    counts = {"tests": str(len(verdicts)), "failures": str(failures), "errors": "0", "skipped": "0", "time": "0"}
    root = ElementTree.Element("testsuites", {"name": _clean(name), **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": _clean(name), **counts})
    for verdict in verdicts:
        _case(suite, verdict)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _case(suite: ElementTree.Element, verdict: Verdict) -> None:
    title = f"{verdict.gate}: {verdict.device}, {verdict.setting}"
    place = ".".join(part.replace(".", "_") for part in (verdict.run, verdict.device))
    names = {"classname": f"edgeprune.gates.{place}", "name": title, "time": "0"}
    case = ElementTree.SubElement(suite, "testcase", {key: _clean(text) for key, text in names.items()})
    told = f"{verdict.found} (asked: {verdict.asked})"
    if verdict.passed:
        ElementTree.SubElement(case, "system-out").text = _clean(told)
        return
    failure = {"message": _clean(told), "type": f"exit-code-{verdict.code}"}
    ElementTree.SubElement(case, "failure", failure).text = _clean(f"{title}: {told}")


def _clean(text: str) -> str:
    """The text without what XML cannot hold; each such character becomes a replacement character."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
