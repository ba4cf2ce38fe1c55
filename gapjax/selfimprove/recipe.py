"""The recipe of a run: frozen, validated, read from YAML, overridable field by field."""

from __future__ import annotations

import dataclasses
import datetime
import re
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from gapjax import yaml_files
from gapjax.errors import UserError
from gapjax.foreign import shown
from gapjax.paths import Path

_STRICT = ConfigDict(extra="forbid")
# What any machine can count to, and no list of it exhausts; a slip of the finger is beyond.
_MANY = 10**7


def _day(value: object) -> datetime.date:
    """From YAML, where a date is a text. pydantic also takes numbers, as seconds since 1970."""
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        return datetime.date.fromisoformat(value)
    raise ValueError("is not a day, as 2026-11-27")


Day = Annotated[datetime.date, BeforeValidator(_day)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TaskConfig:
    """What to solve, and how many problems of it."""

    # Generated additions, or a JSONL file in one of the formats of `gapjax.tasks.jsonl`.
    name: Literal["arithmetic", "jsonl", "gsm8k", "math", "mbpp", "prontoqa"] = "arithmetic"
    digits: int = Field(default=1, ge=1, le=3)  # of either number, for arithmetic
    template: str | None = None  # the prompt, with {a} and {b}, or {prompt} for a file's
    system: str | None = None  # a system prompt, for the model's chat template
    # Variables of the chat template, as `enable_thinking: false`.
    template_options: dict[str, JsonValue] = Field(default_factory=dict)
    # Today, for a chat template that writes the date; by default the day on which the run begins.
    date: Day | None = None
    file: str | None = None  # the problems, relative to the working directory
    held_out_file: str | None = None  # where to take probe and test problems from instead
    prompt_field: str = "prompt"  # names of the fields, for jsonl
    answer_field: str = "answer"
    # How answers are graded; each format has its own default. Without answers: none.
    grading: Literal["numeric", "exact", "math", "python", "none"] | None = None
    run_code: bool = False  # python grading runs what the model wrote: limited, no sandbox
    site_packages: bool = False  # and may import installed packages, such as numpy
    train: int = Field(default=40, ge=1, le=_MANY)  # problems to sample answers for and learn from
    probe: int = Field(default=40, ge=2, le=_MANY)  # held-out problems to measure on
    test: int = Field(
        default=0, ge=0, le=_MANY
    )  # and others, which are looked at only when all is over
    seed: int = Field(
        default=0, ge=0, lt=2**32
    )  # of the split, so that runs with other seeds share it
    # Problems that do not fit the model's context with an answer: they end the run before it
    # begins, are left out, or lose the beginning of their text (never template or chat frame).
    overlong: Literal["refuse", "skip", "truncate"] = "refuse"


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SamplingConfig:
    """How candidates are sampled, for training and for measuring alike."""

    n: int = Field(default=16, ge=2, le=2**16)  # candidates of each problem
    max_new_tokens: int = Field(default=32, ge=1, le=2**22)  # longer answers are cut off
    stop: tuple[str, ...] = ()  # texts that end an answer, beside the end of the turn
    temperature: float = Field(default=1.0, gt=0)
    sequences_at_once: int = Field(default=256, ge=1, le=2**20)  # bounds the memory


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class VerifierConfig:
    """How candidates are scored, and which pass."""

    method: Literal["likelihood", "true_false", "quality", "self_consistency", "external"] = (
        "likelihood"
    )
    question: str | None = None  # put to the model, with {prompt} and {answer}; has a default
    temperature: float = Field(default=1.0, gt=0)  # of the model's verdict
    # Probability that the model has to give to the verdicts it may reply with, in all. Where it
    # would rather say something else, such as a thought, there is no score.
    least_mass: float = Field(default=0.01, ge=0, lt=1)
    threshold: float = Field(default=0.5, ge=0, le=1)  # σ: candidates with score ≥ σ pass
    # When nothing passes: choose among all candidates, or leave the problem out of training
    # (measurement always falls back, so that every problem counts).
    when_none_pass: Literal["choose_among_all", "skip"] = "choose_among_all"
    # Answers cut off at max_new_tokens: not to be chosen nor learnt, or candidates like any other
    # (measurement falls back on them where no answer of a problem came to an end).
    cut_off: Literal["reject", "accept"] = "reject"
    # What is learnt: the verifier's choice or, as a control, a random or a right candidate.
    learn_from: Literal["verified", "random", "truth"] = "verified"


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ExternalConfig:
    """A stronger model: the verifier `external`, and the source of examples to learn."""

    file: str | None = None  # its answers or scores, JSONL; or
    endpoint: str | None = None  # an OpenAI-compatible server, as http://localhost:8000/v1
    model: str | None = None  # the model's name there
    key_variable: str = "OPENAI_API_KEY"  # the environment variable with the key, if one is needed
    concurrency: int = Field(default=8, ge=1, le=2**12)  # requests at a time
    timeout: float = Field(default=60.0, gt=0)  # seconds, of a request
    # Fields of a request, as `max_completion_tokens`; null leaves one out (`temperature: null`).
    options: dict[str, JsonValue] = Field(default_factory=dict)
    judge: Literal["answer", "score"] = "answer"  # candidates: by its own answer, or its grade
    # Cross-improvement: about so many training problems it says what is learnt …
    examples: int = Field(default=0, ge=0, le=_MANY)
    # … in these rounds (or the shares η_t themselves, one a round) …
    schedule: Literal["early", "uniform", "late"] | tuple[float, ...] = "uniform"
    learn: Literal["choice", "answer"] = "choice"  # … the candidate it passes, or its own answer


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class AdapterConfig:
    """LoRA; `rank: 0` trains all weights instead."""

    rank: int = Field(default=16, ge=0, le=2**16)
    alpha: float = Field(default=16.0, gt=0)  # the change is scaled by alpha / rank
    targets: str = "attention|mlp"  # regular expression on layer paths


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TrainConfig:
    """Fine-tuning on the selected answers (AdamW)."""

    rounds: int = Field(default=1, ge=1, le=10**4)
    # Rounds after which answers are sampled and selected anew; 0: only the base model's are.
    refresh_every: int = Field(default=1, ge=0)
    epochs_per_round: int = Field(default=10, ge=1, le=10**5)  # passes over the selected answers
    measure_every: float = Field(default=0.5, gt=0)  # epochs
    measure_every_steps: int | None = Field(default=None, ge=1)  # in place of it
    batch_size: int = Field(default=8, ge=1, le=2**20)
    accumulate: int = Field(
        default=1, ge=1, le=2**20
    )  # parts in which a batch is computed, to save memory
    learning_rate: float = Field(default=1e-4, gt=0)
    warmup_steps: int = Field(default=5, ge=0)
    # A rate that decays makes late epochs count for less, so that the curve flattens by itself.
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    keep_checkpoints: int = Field(default=2, ge=1)  # the newest; one is made at each measurement


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ParallelConfig:
    """How the work is spread over all devices there are; what comes out is the same."""

    # Sizes of the axes data, fsdp and tensor (docs/parallel.md); what is left goes to data.
    mesh: dict[Literal["data", "fsdp", "tensor"], PositiveInt] = Field(default_factory=dict)
    # What of a layer is kept for the backward pass, less saving memory and costing time: its
    # matrix products, or nothing.
    remat: Literal["none", "dots", "full"] = "none"


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class StopConfig:
    """When to stop before the budget of epochs is spent, by the live posterior."""

    rule: Literal["budget", "small_gain", "price"] = "budget"
    gain: float = Field(default=0.01, ge=0)  # small_gain: nats of the solver's uncertainty …
    probability: float = Field(default=0.05, gt=0, lt=1)  # … likely to remain with less than this
    price: float = Field(default=0.01, ge=0)  # price: nats that an epoch has to bring


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Recipe:
    """Everything that defines a run: the same recipe and versions give the same run."""

    model: str = "smollm2"  # as `gapjax.models.load` takes it
    # Of weights and arithmetic; what is trained, the optimizer and uncertainties are float32.
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = Field(default=0, ge=0, lt=2**32)
    task: TaskConfig = TaskConfig()
    sampling: SamplingConfig = SamplingConfig()
    verifier: VerifierConfig = VerifierConfig()
    external: ExternalConfig = ExternalConfig()
    adapter: AdapterConfig = AdapterConfig()
    train: TrainConfig = TrainConfig()
    stop: StopConfig = StopConfig()
    parallel: ParallelConfig = ParallelConfig()


_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(Recipe)


def read_recipe(path: Path, overrides: Mapping[str, str] | None = None) -> Recipe:
    """Read a YAML recipe.

    **Arguments:**

    - `path`: the file; fields it does not mention have their defaults.
    - `overrides`: dotted field names and values that replace the file's, such as
        `{"train.learning_rate": "1e-5"}`.

    **Raises:** `UserError` that names the field and the allowed values.
    """
    raw = yaml_files.read_table(path)
    for name, value in (overrides or {}).items():
        _override(raw, name, value)
    return parse_recipe(raw, where=path)


def parse_recipe(raw: Mapping[str, Any], *, where: object = None) -> Recipe:
    """A recipe from nested dictionaries, as in YAML.

    **Raises:** `UserError` that names the field and the allowed values.
    """
    try:
        return _ADAPTER.validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "unexpected_keyword_argument":
            raise UserError(
                f"unknown field {field}", where=where, hint=f"known: {_siblings(first['loc'])}"
            ) from error
        given = f", not {shown(reprlib.repr(first['input']), 80)}"
        raise UserError(f"{field}: {first['msg']}{given}", where=where) from error


def recipe_to_yaml(recipe: Recipe) -> str:
    """The resolved recipe, every field written out; `read_recipe` reads it back."""
    return yaml_files.dump(dataclasses.asdict(recipe))


def recipe_differences(old: Recipe, new: Recipe) -> list[str]:
    """The fields in which two recipes differ, as `name: old -> new`.

    But for `parallel`: a run may go on with other devices.
    """
    before, after = (
        _flat(dataclasses.replace(recipe, parallel=ParallelConfig())) for recipe in (old, new)
    )
    return [
        f"{name}: {before[name]!r} -> {after[name]!r}"
        for name in before
        if before[name] != after[name]
    ]


def _flat(table: Any, prefix: str = "") -> dict[str, Any]:
    """The fields by their dotted names; a field's own table, as of options, is one value."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        deeper = dataclasses.is_dataclass(value)
        flat |= _flat(value, f"{prefix}{field.name}.") if deeper else {prefix + field.name: value}
    return flat


def _override(raw: dict[str, Any], name: str, value: str) -> None:
    *parents, last = name.split(".")
    table = raw
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UserError(f"--{name}: {parent} is not a table of fields")
    try:
        table[last] = yaml_files.parse(value)
    except yaml_files.BadYAML:
        table[last] = value  # a text such as "{a} + {b}" needs no quoting on a command line


def _siblings(location: tuple[int | str, ...]) -> str:
    table: Any = Recipe()
    for part in location[:-1]:
        table = getattr(table, str(part))
    return ", ".join(field.name for field in dataclasses.fields(table))
