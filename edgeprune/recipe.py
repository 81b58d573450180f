"""A recipe: everything that decides what a run does, frozen and checked before anything is computed.

TOML in (`recipes/*.toml`, or the user's file), TOML out (`recipe.toml` in the run folder, complete). An unknown key, a
value out of range or an unknown name is a `UserError` that names the key. Nothing here imports torch.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgeprune import tables
from edgeprune.data import DATASETS
from edgeprune.methods import ALIASES, METHODS, method
from export.targets import TARGETS
from runtimes import RUNTIMES
from runtimes.errors import UserError
from runtimes.records import PROTOCOLS
from runtimes.tables import pick

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]


def fixed_sparsity(pattern: str) -> float | None:
    """1 - N/M of an N:M pattern, None for a pattern that leaves the sparsity free."""
    found = re.fullmatch(r"(\d+):([1-9]\d*)", pattern)
    return 1 - int(found[1]) / int(found[2]) if found else None


class Part(BaseModel):
    """A table of the recipe: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Part):
    """`[data]`: which images. `dir` is the folder (or file) they lie in; digits and synthetic need none."""

    name: str = "digits"  # or --data with a folder of images or an .npz
    dir: str = ""  # the folder or file; empty: EDGEPRUNE_DATA
    validation: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1  # share of the training images held out
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0  # which training images are held out
    image_size: Annotated[int, Field(ge=8)] | None = None  # pixels; for data sets of image files
    download: bool = True  # fetch what is missing, where that is possible


class Objective(Part):
    """A loss to minimise: `weight * distance to the teacher + (1 - weight) * cross entropy`."""

    loss: str = "ca_kld"  # the distance to the teacher; ce: labels alone
    weight: Share = 0.5  # alpha, the share of the distance
    weight_schedule: str = "constant"  # alpha over the training: constant, decayed to 0, or balanced by gradients
    temperature: Positive = 3.0  # T, divides the logits of both
    temperature_schedule: str = "constant"  # T over the training: constant, annealed to 1, or learned
    standardise: Literal["population", "unbiased", "none"] = (
        "population"  # the deviation that the logits are divided by
    )
    gamma: Literal["batch", "sample", "weight"] | Share = (
        "batch"  # share of the reverse KL: the teacher's confidence or a number; weight: it weighs the forward KL
    )
    confidence: Literal["raw", "softened", "entropy"] = "raw"  # of which probabilities it is taken, and how
    square_temperature: bool = True  # T^2 keeps the gradient's size independent of T


class Training(Part):
    """How a network is trained: `[teacher]` and `[student]` extend it, `[retrain]` too."""

    epochs: NonNegative = 10.0  # the last one is cut short where this is not a whole number
    lr: Positive = 0.1  # peak learning rate
    lr_schedule: str = "cosine"  # from the peak on
    warmup: Fraction = 0.0  # share of the steps in which the learning rate rises from 0


class Network(Training):
    """A network and where it comes from: a checkpoint, or else a training of `epochs`."""

    model: str = ""  # a name, or package.module:factory
    checkpoint: str = ""  # a file; none: the network is trained


class Student(Network):
    """The network to prune; `holds` says what its checkpoint is: the zeros of a pruned or finished one are its mask."""

    holds: Literal["dense", "pruned", "sparse"] = "dense"  # what the checkpoint is


class Hardware(Part):
    """`[train]`: what all trainings share: the machine, the batch and the optimiser (SGD)."""

    hardware: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU where there is one
    threads: Annotated[int, Field(ge=0)] = 0  # 0: as many as the machine has cores
    batch_size: Annotated[int, Field(ge=2)] = 128  # images in a step
    momentum: Fraction = 0.9  # of SGD
    nesterov: bool = False  # Nesterov's momentum
    weight_decay: NonNegative = 5e-4  # on all parameters, but none while scoring
    augment: Literal["full", "flip", "none"] = "full"  # what the data set prescribes, its mirror images only, nothing
    cache_teacher: bool = False  # run the teacher once on each image and its mirror image; not with augment = "full"


class Prune(Part):
    """`[prune]`: mask = pattern(criterion(w, signals(model, batches, guide)), allocate(sparsity))."""

    sparsity: Fraction = 0.9  # share of the prunable weights that become zero; 2:4 fixes it at 0.5
    pattern: str = "unstructured"  # which weights of a layer may be zero together
    criterion: str = "weighted_ema_gradient"  # importance of each weight
    guide: Objective = Objective()
    schedule: str = "one_shot"  # the mask at once, in stages, gradually, or over rounds of retraining
    rounds: Annotated[int, Field(ge=1)] = 1  # stages, or rounds of training; each removes the same share of the rest
    parts: Annotated[int, Field(ge=1)] = 2  # of the classes, for COLT
    rewind: bool = False  # the weights that are kept go back to their dense values, updates by the criterion included
    allocation: str = "global"  # how many weights each layer keeps
    floor: Fraction = 0.0  # the share of its weights that every layer keeps at least
    layers: tuple[Literal["conv", "linear"], ...] = ("conv",)  # kinds of layers that are pruned
    skip: tuple[str, ...] = ()  # names of layers left dense (shell patterns)
    beta: Fraction = 0.99  # of the exponential moving average
    epochs: NonNegative = 1.0  # of scoring, in which the student is fine-tuned under the guide; 0: no scoring
    lr: NonNegative = 0.01  # learning rate of the scoring; 0: the weights stand still
    repair: str = "batch_norm"  # what is mended before retraining
    repair_batches: Annotated[int, Field(ge=1)] = 30  # training batches the repair looks at

    @model_validator(mode="before")
    @classmethod
    def _sparsity_of_pattern(cls, stated: Any) -> Any:
        """N:M leaves no choice of sparsity: it need not be stated."""
        fixed = fixed_sparsity(str(stated.get("pattern", ""))) if isinstance(stated, Mapping) else None
        return stated if fixed is None else {"sparsity": fixed, **stated}


class Retrain(Training):
    """`[retrain]`: training under the fixed mask."""

    objective: Objective = Objective()


class Export(Part):
    """`[export]`: for which target the files are written."""

    target: str = "local"  # decides opset, IR version, precisions and the note in the report
    precision: Literal["", "fp32", "fp16", "int8"] = ""  # the lowest that is written; empty: what the target gains from
    compact: bool = False  # write the sparse network without dead and constant channels, too


class Measure(Part):
    """`[measure]`: how the networks are timed; the device is chosen on the command line."""

    runtimes: tuple[str, ...] = ("ort",)  # each network is measured on each
    protocol: str = "quick"  # how long and how often
    batch: Annotated[int, Field(ge=1)] = 1  # images in one inference
    threads: Annotated[int, Field(ge=1)] = 1  # of the runtime


class Recipe(Part):
    """The whole recipe, complete and checked."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "custom"  # also the name of the run folder
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0  # of everything drawn at random
    method: str = "default"  # fills in what the recipe does not state
    weights_dir: str = ""  # where checkpoints named without a path are looked for
    data: Data = Data()
    train: Hardware = Hardware()
    teacher: Network = Network()  # without a model, the dense student is the teacher
    student: Student = Student(model="digits-cnn")
    prune: Prune = Prune()
    retrain: Retrain = Retrain()
    export: Export = Export()
    measure: Measure = Measure()


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(resources.files("edgeprune") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load(recipe: str, settings: Iterable[str] = (), extra: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe: a `.toml` file or a shipped one's name; then `extra`, then each `key.path=value` of `settings`.

    `UserError` for an unknown name or key, a value out of range, or a file that is not TOML.
    """
    return complete(stated_in(recipe), settings, extra)


def complete(stated: Mapping[str, Any], settings: Iterable[str] = (), extra: Mapping[str, Any] | None = None) -> Recipe:
    """Fill a partly stated recipe: defaults, then its method, then what it states, then the command line.

    A method that is named on the command line also goes above what the recipe states, and what another method had
    prescribed there is forgotten, so that a method's name is never on settings that are another's; a single `--set` may
    still depart from it.
    """
    asked = merge({}, extra or {})
    for setting in settings:
        asked = merge(asked, _setting(setting))
    former = str(stated.get("method", "default"))
    named = str(asked.get("method", former))
    prescribed = _prescribed(named)
    if method(named) is not method(former):
        stated = _without(stated, _prescribed(former))
    values = merge(prescribed, stated)
    if "method" in asked:
        values = merge(values, prescribed)
    return check(merge(values, asked))


def _prescribed(name: str) -> dict[str, Any]:
    return {key: value for key, value in method(name).items() if key != "summary"}


def _without(values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """`values` but for those that `others` has, too, and equal."""
    kept = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(others.get(key), Mapping):
            kept[key] = _without(value, others[key])
        elif key not in others or others[key] != value:
            kept[key] = value
    return kept


def check(values: Mapping[str, Any]) -> Recipe:
    """Validate, and look up every name, so that a typing mistake costs no computing time."""
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise _explain(error, values) from None
    for kind, table, name in _names(recipe):
        pick(table, name, kind)
    _check_pattern(recipe.prune)
    if recipe.train.cache_teacher and recipe.train.augment == "full":
        raise UserError(
            "train.cache_teacher keeps the teacher's answer to an image and its mirror image; the crops are many more",
            'set train.augment="flip" or "none" with it',
        )
    if recipe.teacher.checkpoint and not recipe.teacher.model:
        raise UserError(
            f"the teacher's checkpoint {recipe.teacher.checkpoint} is given, but not its network",
            "name it: --teacher-model, or teacher.model in the recipe",
        )
    return recipe


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; missing or malformed: `UserError`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no recipe at {path}", f"give a .toml file or one of: {', '.join(shipped())}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}", "correct that line; docs/recipes.md shows the form") from None


def to_toml(recipe: Recipe) -> str:
    """The complete recipe as TOML that `load` reads back to an equal recipe."""
    return "\n".join(_table(recipe.model_dump(exclude_none=True), "")).strip() + "\n"


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with every value that `above` states, table by table."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old if isinstance(old, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return merged


def differences(one: Recipe, other: Recipe, ignore: frozenset[str] = frozenset()) -> dict[str, str]:
    """Each key in which two recipes differ -> `key: value there, value here`."""
    left, right = flat(one.model_dump()), flat(other.model_dump())
    return {
        key: f"{key}: {left[key]!r} there, {right[key]!r} here"
        for key in left
        if left[key] != right[key] and key not in ignore
    }


def stated_in(recipe: str, extending: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a recipe's file states, over what the one named by its `extends` states; `extending` led here."""
    path = Path(recipe)
    if not (path.suffix == ".toml" or path.is_file()):
        path = pick(shipped(), recipe, "recipe")
    stated = read_toml(path)
    below = stated.pop("extends", None)
    if below is None:
        return stated
    if path in extending or not isinstance(below, str):
        raise UserError(f"{path} extends {below!r}", f"name another recipe: {', '.join(shipped())}")
    return merge(stated_in(below, (*extending, path)), stated)


def _setting(setting: str) -> dict[str, Any]:
    key, equals, text = setting.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w]*(\.[A-Za-z_]\w*)*", key.strip()):
        raise UserError(f"--set takes KEY=VALUE, got '{setting}'", "for example --set prune.sparsity=0.9")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word is a string: --set train.hardware=cpu
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return dict(value)


def _names(recipe: Recipe) -> list[tuple[str, Mapping[str, object], str]]:
    objectives = (recipe.prune.guide, recipe.retrain.objective)
    trainings = (recipe.teacher, recipe.student, recipe.retrain)
    return [
        ("method", {**METHODS, **ALIASES}, recipe.method),
        ("data set", DATASETS, recipe.data.name),
        ("criterion", tables.CRITERIA, recipe.prune.criterion),
        ("allocation", tables.ALLOCATIONS, recipe.prune.allocation),
        ("schedule", tables.SCHEDULES, recipe.prune.schedule),
        ("pattern", tables.PATTERNS, recipe.prune.pattern),
        ("repair", tables.REPAIRS, recipe.prune.repair),
        *(("loss", tables.LOSSES, objective.loss) for objective in objectives),
        *(("schedule of the weight", tables.WEIGHTS, objective.weight_schedule) for objective in objectives),
        *(("schedule of the temperature", tables.TEMPERATURES, each.temperature_schedule) for each in objectives),
        *(("learning-rate schedule", tables.LR_SCHEDULES, training.lr_schedule) for training in trainings),
        ("target", TARGETS, recipe.export.target),
        ("protocol", PROTOCOLS, recipe.measure.protocol),
        *(("runtime", RUNTIMES, name) for name in recipe.measure.runtimes),
    ]


def _check_pattern(prune: Prune) -> None:
    fixed = fixed_sparsity(prune.pattern)
    if fixed is not None and not math.isclose(prune.sparsity, fixed):
        raise UserError(
            f"pattern {prune.pattern} has sparsity {fixed:g}, the recipe asks for {prune.sparsity:g}",
            f"set prune.sparsity={fixed:g}, or prune.pattern=unstructured for a free choice",
        )


def _explain(error: ValidationError, values: Mapping[str, Any]) -> UserError:
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if not str(part).startswith(("literal[", "constrained-"))]
    key = ".".join(where)
    if first["type"] == "extra_forbidden":
        known = _fields(where[:-1])
        try:
            pick(dict.fromkeys(known), where[-1], "recipe key")
        except UserError as unknown:
            return UserError(f"unknown recipe key '{key}'", unknown.hint)
    given = first["input"] if not isinstance(first["input"], Mapping) else "a table"
    return UserError(
        f"{key} = {given!r}: {first['msg']}", "correct it in the recipe, or on the command line with --set"
    )


def _fields(where: list[str]) -> list[str]:
    part: Any = Recipe()
    for name in where:
        part = getattr(part, name)
    return list(type(part).model_fields)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value in tables within tables, by its dotted key."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _table(values: Mapping[str, Any], prefix: str) -> list[str]:
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    nested = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    lines = [f"{key} = {_value(value)}" for key, value in plain.items()]
    for key, value in nested.items():
        lines += ["", f"[{prefix}{key}]", *_table(value, f"{prefix}{key}.")]
    return lines


def _value(value: Any) -> str:
    """A scalar or a list of scalars: JSON's form of them is TOML's too, but for one character."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False).replace("\x7f", r"\u007f")
