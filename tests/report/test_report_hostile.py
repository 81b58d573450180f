"""What a hostile board can do to a report, a comparison and gates: be left out with a remark, and nothing else."""

import copy
import json
import math
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
import run_folder as made
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from edgeprune.comparing import compare_runs
from edgeprune.gates import Gates, check, lines
from edgeprune.junit import junit
from edgeprune.report import bootstrap, pairs, write_report
from edgeprune.report.collect import collect
from edgeprune.report.to_markdown import plain
from runtimes.errors import UserError
from runtimes.files import read_json
from runtimes.records import Measurement

FILE = "5-measure/orin-nano/trt-sparse.json"
GATES = Gates(90, 1, 500, 6, 2, True, 1.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """On this machine, and on a board with power, a watch, a receipt and settings; few samples."""
    run = made.build(tmp_path_factory.mktemp("hostile") / "quickstart")
    for name, median in (("dense", 0.84), ("sparse", 0.52)):
        timed = made.latencies(median, 1, rounds=6, samples=8)
        passes = [{**made.PASSES[0], "rounds": 3}] * 2
        twin = timed if name == "dense" else None
        made.put(run, made.on_board(name, median, latency_ns=timed, passes=passes, twin_ns=twin))
    return run


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 50)


def told(run):
    """Everything that is made of measurements, as texts: report (three formats), comparison, gates, JUnit."""
    write_report(run)
    compared = compare_runs(f"{run}:dense", str(run))
    verdicts = [*check(collect(run), GATES), *check(compared, GATES)]
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted((run / "6-report").iterdir())}
    return {
        **files,
        "compared.txt": pairs.to_text(compared),
        "compared.md": pairs.to_markdown(compared),
        "compared.json": pairs.to_json(compared),
        "gates.txt": "\n".join(lines(verdicts)),
        "junit.xml": junit(verdicts).decode(),
    }


# --- any change at all

VALUES = [
    None, True, -1, 0, 1, 0.5, 2, 1e-320, 1e17, 1e308, 10**18, 10**30, math.nan, math.inf,
    "", "text", "\x1b[2J", "\ud800", "<script>", "x" * 5000, "../../etc", "a\r\r# All good", "{}", "0",
    [], {}, [[]], [None], [[1, 2], [3]], ["a"], [{}], {"before": [], "after": {}}, {"name": ["x"], "id": {}},
    {"reasons": 7}, {"how": 7}, {"asked": []}, {"min": None},
]  # fmt: skip
GONE = object()


def places(content, path=()):
    """Every place in a document; of a list the first two entries."""
    found = [path] if path else []
    inner = (
        content.items() if isinstance(content, dict) else enumerate(content[:2]) if isinstance(content, list) else ()
    )
    return found + [place for key, value in inner for place in places(value, (*path, key))]


def changed(document, place, value):
    *path, last = place
    inner = document
    for key in path:
        inner = inner[key]
    if value is GONE:
        del inner[last]
    else:
        inner[last] = copy.deepcopy(value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_document_changed_at_random_is_left_out_or_reported(folder, quick, data):
    true = (folder / FILE).read_text()
    try:
        document = json.loads(true)
        for _ in range(data.draw(st.integers(1, 2))):
            place = data.draw(st.sampled_from(places(document)))
            changed(document, place, data.draw(st.sampled_from([*VALUES, GONE])))
        (folder / FILE).write_text(json.dumps(document))
        report = collect(folder)
        taken = any(row.source == FILE for row in report.rows)
        left_out = [remark.code for remark in report.warnings if remark.source == "orin-nano/trt-sparse"]
        assert taken or {"damaged", "stale"} & set(left_out)
        if taken:
            read = Measurement.read(folder / FILE)
            read.write(folder / "again.json")
            assert Measurement.read(folder / "again.json") == read
            assert all(told(folder).values())
    finally:
        (folder / FILE).write_text(true)


# --- damaged files


@pytest.mark.parametrize("content", ["{", "", "NaN", "[]", '{"kind": "edgeprune.measurement"}', "\xff", "[" * 100_000])
def test_a_damaged_file_is_a_remark_and_the_other_devices_are_told(boards, content):
    (boards / FILE).write_bytes(content.encode("latin-1"))
    report = collect(boards)
    (remark,) = [each for each in report.warnings if each.code == "damaged"]
    assert remark.source == "orin-nano/trt-sparse"
    assert remark.message.startswith("left out: ")
    assert {row.device for row in report.rows if row.role == "sparse"} == {"local", "pi@10.0.0.7", "emulated"}
    write_report(boards)
    assert "left out" in (boards / "6-report/report.html").read_text()


def test_a_damaged_measurement_passes_no_gate(boards):
    (boards / FILE).write_text("{")
    found = [each for each in check(collect(boards), Gates(min_top1=1.0)) if each.device == "orin-nano"]
    assert [(each.passed, each.found) for each in found] == [(False, "not measured: the file is damaged")]


def test_a_damaged_measurement_of_another_network_fails_no_gate(boards):
    (boards / "5-measure/local/ort-teacher.json").write_text("{")
    assert all(each.passed for each in check(collect(boards), Gates(min_top1=1.0)))


def test_a_damaged_measurement_is_told_by_a_comparison_and_passes_no_gate_of_it(boards):
    (boards / FILE).write_text("{")
    compared = compare_runs(f"{boards}:dense", str(boards))
    assert [remark.source for remark in compared.left_out] == ["orin-nano/trt-sparse"]
    for text in (pairs.to_text(compared), pairs.to_markdown(compared)):
        assert "orin-nano/trt-sparse: left out" in text
    failed = [each for each in check(compared, Gates(min_top1=1.0)) if not each.passed]
    assert [(each.device, each.found) for each in failed] == [("orin-nano", "not measured: the file is damaged")]


def test_a_comparison_of_nothing_but_a_damaged_file_says_so(run):
    (run / "5-measure/local/ort-sparse.json").write_text("{")
    with pytest.raises(UserError, match=r"no measurement of 'sparse'; local/ort-sparse was left out: .* is not JSON"):
        compare_runs(f"{run}:dense", str(run))


# --- hostile texts

TEXT = (
    "\x1b[2J\x9b31m\r\r# All good\r\r~~~\n- @octocat ![x](http://evil.example/a) www.evil.example a@b.example "
    "<script>x</script> $\\alpha$ ~~no~~ | \u202egnp `c` &lt; ]]> \ud800\u2028\x85end"
)
KEPT = {"kind", "name", "runtime", "precision", "protocol", "verdict", "headline", "network_sha256", "file", "sha256"}


def poisoned(content, key=None):
    """Every text that may be any text is hostile, and so are the names of facts and reasons."""
    if isinstance(content, dict):
        return {name: poisoned(value, name) for name, value in content.items()}
    if isinstance(content, list):
        return [poisoned(value, key) for value in content]
    return TEXT if isinstance(content, str) and key not in KEPT else content


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """All that was said about every measurement of a board, poisoned; and what was said before."""
    run = made.build_boards(tmp_path_factory.mktemp("texts") / "quickstart")
    before = told(run)
    for path in (run / "5-measure").glob("*/*.json"):
        document = read_json(path)
        facts = {**document["facts"], TEXT: TEXT, "throttled": {"before": {TEXT: [TEXT]}, "after": {}}}
        facts["reasons"] = {**facts["reasons"], "l4t": TEXT, TEXT: TEXT}
        document |= {"facts": {**facts, "l4t": None}, "warnings": [{"code": TEXT, "message": TEXT}]}
        path.write_text(json.dumps({**poisoned(document), "device": document["device"]}))
    assert "damaged" not in [remark.code for remark in collect(run).warnings]
    return before, told(run)


class Tags(HTMLParser):
    """The tags of a page with the names of their attributes."""

    def __init__(self, html):
        super().__init__()
        self.found = set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.add((tag, *sorted(name for name, _ in attrs)))


def test_hostile_texts_arrive_and_are_in_every_text(hostile):
    for name, text in hostile[1].items():
        assert "All good" in text, name


def test_no_text_orders_a_terminal_about(hostile):
    for name, text in hostile[1].items():
        odd = {mark for mark in text if mark != "\n" and (mark < " " or "\x7f" <= mark <= "\x9f")}
        assert not odd | ({"\u202e", "\u2028", "\ufeff"} & set(text)), name
        text.encode("utf-8")


def test_hostile_texts_make_no_tags_of_a_page(hostile):
    new = Tags(hostile[1]["report.html"]).found - Tags(hostile[0]["report.html"]).found
    assert new <= {("tr",), ("th", "scope"), ("td",), ("span",), ("small",), ("sup",)}


@pytest.mark.parametrize("name", ["report.md", "compared.md"])
def test_hostile_texts_make_no_markdown(hostile, name):
    """Read by another program, the text has the headings, code blocks and links that it had before."""
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    before, after = (reader.render(texts[name]) for texts in hostile)
    for tag in ("h1", "h2", "h3", "pre", "code", "a", "img", "s", "em", "strong", "blockquote", "hr", "ol", "script"):
        assert len(re.findall(f"<{tag}[ >]", after)) == len(re.findall(f"<{tag}[ >]", before)), tag
    columns = {line.count("<td") for line in after.split("</tr>") if "<td" in line}
    assert columns <= {line.count("<td") for line in before.split("</tr>") if "<td" in line}


@pytest.mark.parametrize("name", ["report.md", "compared.md"])
def test_no_name_address_or_link_is_live_in_a_pull_request(hostile, name):
    """They are looked for in the text that is shown, so that no escape helps."""
    shown = re.sub(r"<pre>.*?</pre>|<[^>]*>", "", MarkdownIt("commonmark").render(hostile[1][name]), flags=re.DOTALL)
    assert "octocat" in shown
    assert "evil.example" in shown
    assert not re.search(r"@[A-Za-z0-9]|://|www\.", shown)


def test_junit_holds_the_same_cases(hostile):
    cases = [len(ElementTree.fromstring(texts["junit.xml"]).findall(".//testcase")) for texts in hostile]  # noqa: S314
    assert cases[0] == cases[1] > 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pi@10.0.0.7", "pi@&#8203;10.0.0.7"),
        ("a\rb\nc", "a b c"),
        ("- item", "\\- item"),
        ("1. item", "1\\. item"),
        ("--- ", "\\--- "),
        ("-5 ms, 10.3.0", "-5 ms, 10.3.0"),
        ("# head", "\\# head"),
        ("~~x~~ > y", "\\~\\~x\\~\\~ &gt; y"),
        ("HTTPS://x.example", "HTTPS:&#8203;//x.example"),
        ("C:/x, a: b", "C:/x, a: b"),
        ("Www.x.example", "Www&#8203;.x.example"),
    ],
)
def test_plain_text_in_markdown(text, shown):
    assert plain(text) == shown


# --- stand-ins

LEAK = 918273.645


def test_nothing_that_a_stand_in_says_of_times_layers_or_clocks_is_anywhere(boards):
    path = boards / "5-measure/emulated/ort-sparse.json"
    document = read_json(path)
    words = f"it took {LEAK} ms"
    document["receipt"] = {"verdict": "yes", "reason": words, "tactics": [{"layer": words, "ms": LEAK}]}
    document["settings"] = {"clocks": {"how": words}, "power_mode": {"asked": words}, "problems": [words]}
    document["reasons"] = {"x": words, "gpu_ms": words, "top1": words, "sparsity": words}
    document["memory_mb"] = {"peak_rss": LEAK, "reasons": {"engine": words}}
    document["engine"] = {"x": words}
    document["warnings"] += [{"code": "drift", "message": words}]
    clocks = {"before": [LEAK], "after": None}
    document["facts"] |= {"round_clock_mhz": [LEAK], "clocks_mhz": clocks, "load_average": clocks, "x": words}
    document["facts"]["reasons"] |= {"round_clock_mhz": words, "x": words}
    path.write_text(json.dumps(document))
    for name, text in told(boards).items():
        assert not re.search(r"918.?273", text), name


def test_a_stand_in_does_not_say_whether_zeros_are_used(boards):
    path = boards / "5-measure/emulated/ort-sparse.json"
    path.write_text(json.dumps({**read_json(path), "receipt": {"verdict": "yes", "reason": "x"}}))
    (pair,) = [each for each in compare_runs(f"{boards}:dense", str(boards)).pairs if each.device == "emulated"]
    assert pair.uses_zeros == "unknown"
    assert pair.row.receipt["verdict"] == "unknown"


def test_who_a_stand_in_says_it_is_stays(boards):
    told_of = collect(boards).environment["emulated"]
    assert (told_of["board"], told_of["stand_in"]) == ("Example Pi", "emulated by qemu-aarch64")
    assert "clocks_mhz" not in told_of
    assert "clocks_mhz" in collect(boards).environment["orin-nano"]


def test_an_accuracy_that_only_a_stand_in_answered_says_so(boards):
    for device in ("local", "orin-nano", "pi@10.0.0.7"):
        shutil.rmtree(boards / "5-measure" / device)
    assert "top-1 (answered by a stand-in)" in collect(boards).headline
    write_report(boards)
    tile = (boards / "6-report/report.html").read_text().partition("Top-1</dt>")[2].partition("</div>")[0]
    assert "answered by a stand-in" in tile


def test_an_accuracy_of_a_board_does_not_say_so(boards):
    assert "answered by a stand-in" not in collect(boards).headline
