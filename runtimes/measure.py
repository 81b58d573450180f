"""The coordinator: every engine in a process of its own, timed in turns, one at a time.

    rounds of three engines:   A B C   B A C   C A B   B C A ...

Interleaving gives each engine the same share of whatever happens to the machine meanwhile, and the order changes so
that each has the same neighbours (`runtimes.turns`); so dense and sparse compare even where neither number is
repeatable by itself. The engines that are not being timed are blocked in a read and use no processor, but they do hold
their memory.

That is one pass. The next one has fresh processes, because where the memory of a process happens to lie changes its
speed, and an engine of another build where there is one. A second process of the baseline's engine, its twin, takes
its turns like any other: how far the two are apart is what a difference has to exceed.

The images are answered at the end of the first pass, by the engines whose receipt is kept. An engine may take far more
memory for that than before and never give it back, so each process ends with its answer, and the twins before.
"""

import contextlib
import datetime
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from runtimes import RUNTIMES, results, sampler
from runtimes.board.settings import Settings, applied
from runtimes.bundle import Bundle, verify
from runtimes.energy import Span
from runtimes.engine_process import EngineProcess
from runtimes.errors import UserError
from runtimes.jobs import Job, builds, compiled, new_job, takes
from runtimes.protocol import Stated
from runtimes.records import Measurement, Workload
from runtimes.room import Room
from runtimes.tables import pick, resolve
from runtimes.trial import Pass, Round, Session, Trial, measurement, read_round
from runtimes.turns import Turns
from runtimes.watch import Watch

_BASELINE = "dense"
_COMING_DOWN = 0.25  # of the idle time, which is not counted: the clocks come down first


class Progress:
    """Counts steps and writes one line for each: `progress DONE/TOTAL WHAT`."""

    def __init__(self, total: int, say: Callable[[str], None]) -> None:
        self._total, self._done, self._say = total, 0, say

    def step(self, what: str) -> None:
        """One more step is done."""
        self._done += 1
        self._say("progress {}/{} {}".format(self._done, self._total, what))


class _Running(NamedTuple):
    """A trial and its process in this pass."""

    trial: Trial
    process: EngineProcess


def measure(
    bundle: Bundle,
    out: Path,
    runtimes: Sequence[str],
    networks: Sequence[str],
    workload: Workload,
    say: Callable[[str], None],
    settings: Settings = Settings(),  # noqa: B008
) -> Dict[str, Measurement]:
    """Measure the named networks (all where none is named) on the named runtimes (the bundle's where none is named).

    A runtime gets the networks of the precisions that it reads; others only where both it and they are named.

    Call it from the main thread: the workers end when the thread that started them does.

    Args:
        bundle: its files are hashed before anything is run.
        out: folder for `<runtime>-<network>.json` and `logits-<runtime>-<network>.npy`.
        workload: as the bundle has it, or changed. What the environment forces on a runtime becomes one of its options.
        say: gets one line of progress at a time.
        settings: of the board, for the time of the measurement; they are put back whatever happens.

    Returns:
        Name of the JSON file -> what is in it, in the order of runtimes, then networks.

    Raises:
        UserError: an unknown name, a damaged bundle, a missing runtime, a network the runtime cannot load, no runtime
            that reads the networks, too little memory, a processor or setting that cannot be had, an `out` that cannot
            be written or that another measurement writes to, or a worker that died or hung; no measurement is written
            then. Or a setting that could not be put back: the measurements are written then.
    """
    started_at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    names = list(dict.fromkeys(runtimes or bundle.runtimes))
    for name in names:
        pick(RUNTIMES, name, "runtime")
    chosen = bundle.choose(networks)
    verify(bundle)
    workload = _stated(workload, names)
    both_named = bool(runtimes and networks)
    pairs = [(name, network) for name in names for network in chosen if both_named or takes(name, network)]
    if not pairs:
        told = "none of the networks {} is for {}".format(", ".join(n.name for n in chosen), ", ".join(names))
        raise UserError(told, "name another runtime: --runtime ort")
    jobs = [new_job(bundle, name, network, workload) for name, network in pairs]
    measured: Dict[str, Measurement] = {}
    done: Optional[Tuple[List[Trial], Session]] = None
    with results.own(out):
        try:
            with applied(settings, say) as changed:
                done = _measured(jobs, bundle, out, workload, say, started_at)
        finally:
            if done is not None:
                trials, session = done
                session = session._replace(settings=changed)
                for trial in trials:
                    measured[trial.file + ".json"] = measurement(trial, session)
                    measured[trial.file + ".json"].write(out / (trial.file + ".json"))
    return measured


def _stated(workload: Workload, names: Sequence[str]) -> Workload:
    """The workload with the options that variables of the environment stand for."""
    options = dict(workload.options)
    for runtime in (resolve(RUNTIMES[name]) for name in names):
        if hasattr(runtime, "stated"):
            module: Stated = runtime
            options = module.stated(options)
    return workload.changed(options=options)


def _measured(
    jobs: Sequence[Job], bundle: Bundle, out: Path, workload: Workload, say: Callable[[str], None], started_at: str
) -> Tuple[List[Trial], Session]:
    before = sampler.changing()
    progress = Progress(_steps(jobs, workload), say)
    trials = [Trial(variants) for variants in compiled(jobs, workload, progress.step)]
    twins = _twins(trials)
    running, turns = [*trials, *twins], Turns(len(trials) + len(twins))
    idle: List[Span] = []
    with Watch(workload.sample_s, engines_on=workload.cpus) as watch:
        for number in range(workload.passes):
            with _started(running, number) as engines:
                _load(engines, len(twins), progress)
                idle += _idle(watch, workload.idle_s)
                _time_in_turns(engines, workload, watch, turns, progress)
                if number == workload.passes - 1:
                    facts = sampler.facts(before)
                if number == 0 and workload.accuracy:
                    _answer_all(engines, out, bundle.images, progress)
    return trials, Session(bundle, workload, facts, started_at, watch.seen(), idle, None)


def _steps(jobs: Sequence[Job], workload: Workload) -> int:
    engines = len(jobs) + len(baselines(jobs))
    built = sum(builds(job, workload) for job in jobs)
    return built + workload.passes * engines * (1 + workload.rounds) + len(jobs) * workload.accuracy


def baselines(jobs: Sequence[Job]) -> List[Job]:
    """Of each runtime and precision the network that others are compared with, where there are any.

    Where each precision has one network only, the runtime's first one.
    """
    found: List[Job] = []
    for runtime in dict.fromkeys(job.runtime for job in jobs):
        own = [job for job in jobs if job.runtime == runtime]
        precisions = dict.fromkeys(job.network.precision for job in own)
        alike = [[job for job in own if job.network.precision == precision] for precision in precisions]
        several = [group for group in alike if len(group) > 1] or ([own] if len(own) > 1 else [])
        found += [next(filter(_is_dense, group), group[0]) for group in several]
    return found


def _is_dense(job: Job) -> bool:
    return job.network.name.partition("-")[0] == _BASELINE


def _twins(trials: Sequence[Trial]) -> List[Trial]:
    """A second trial of each baseline, with the same engines; the first one knows it."""
    doubled = [(job.runtime, job.network.name) for job in baselines([trial.job for trial in trials])]
    twins = []
    for trial in trials:
        if (trial.job.runtime, trial.job.network.name) in doubled:
            trial.twin = Trial(trial.builds, is_twin=True)
            twins.append(trial.twin)
    return twins


@contextlib.contextmanager
def _started(trials: Sequence[Trial], number: int) -> Iterator[List[_Running]]:
    """All processes of one pass, started at once; nothing is timed while they import their libraries."""
    with contextlib.ExitStack() as stack:
        engines = []
        for trial in trials:
            job = trial.builds[number % len(trial.builds)]
            process = EngineProcess(job.network.name, job.runtime, job.content, trial.is_twin)
            engines.append(_Running(trial, stack.enter_context(process)))
        for trial, process in engines:
            version = str(process.answer("start")["runtime_version"])
            trial.passes.append(Pass(trial.builds[number % len(trial.builds)], version))
        yield engines


def _load(engines: Sequence[_Running], twins: int, progress: Progress) -> None:
    room = Room(len(engines) - twins, twins)
    for trial, process in engines:
        trial.passes[-1].loaded = process.ask("load")
        if len(trial.passes) == 1:  # the next pass fits as this one does
            room.one_more()
        progress.step("{} load".format(process.name))


def _idle(watch: Watch, seconds: float) -> List[Span]:
    """When all engines were loaded and none at work, where there is a power to be read then."""
    if watch.power.value is None or not seconds:
        return []
    time.sleep(_COMING_DOWN * seconds)
    begin = watch.mark()
    time.sleep((1 - _COMING_DOWN) * seconds)
    return [(begin, watch.mark())]


def _time_in_turns(
    engines: Sequence[_Running], workload: Workload, watch: Watch, turns: Turns, progress: Progress
) -> None:
    turns.open()
    for _ in range(workload.rounds):
        for trial, process in [engines[number] for number in turns.order()]:
            trial.passes[-1].rounds.append(_round(process, workload, watch))
            progress.step("{} round {}".format(process.name, len(trial.rounds)))


def _round(process: EngineProcess, workload: Workload, watch: Watch) -> Round:
    """One turn; what is read of the machine lies around it, and only the watch's thread is awake in it."""
    before = sampler.sample(cpus=workload.cpus)
    begin = watch.mark()
    reply = process.ask("round", silent_s=workload.longest_round_s)
    after = sampler.sample(cpus=workload.cpus)  # before the mark, which takes a while: the clock comes down
    return Round(reply, (begin, watch.mark()), read_round(before, after, reply["cpu_s"]))


def _answer_all(engines: Sequence[_Running], out: Path, images: int, progress: Progress) -> None:
    """The accuracy pass: all images through the engines that were timed."""
    for trial, process in engines:
        if trial.is_twin:
            process.end()
    for trial, process in engines:
        if not trial.is_twin:
            _answer(trial, process, out, images)
            process.end()
            progress.step("{} answers".format(process.name))


def _answer(trial: Trial, process: EngineProcess, out: Path, images: int) -> None:
    """What fails here costs no time that was measured: the trial keeps the reason."""
    classes, name = trial.passes[-1].loaded["classes"], "logits-{}.npy".format(trial.file)
    if not classes:
        return
    try:
        found = process.ask("answer", path=str((out / name).resolve()), n=images, classes=classes)
        trial.outputs = {"file": name, **found}
    except UserError as error:
        trial.unanswered = error.message
