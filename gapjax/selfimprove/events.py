"""What happens in a run: the events that `self_improve` yields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from gapjax.generation import Samples
from gapjax.models import LoadedModel, Transformer
from gapjax.selfimprove.candidates import Candidates, Effort
from gapjax.selfimprove.learning import CutOff
from gapjax.selfimprove.sft import TrainState
from gapjax.selfimprove.stopping import Outlook


@dataclasses.dataclass(frozen=True)
class Overlong:
    """Before all else: problems that the model's context does not hold are not what they were."""

    how: str  # what was done to them: "skip" or "truncate"
    summary: str  # how many there are, in words
    # Each with its "split", "where" it is, its "tokens", how many would fit ("limit"), and the
    # characters that it was "shortened_by".
    problems: list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Sampled:
    """Answers of some of a phase's problems were sampled; they are verified next."""

    what: str  # the phase: "probe", "round", "test-before" or "test-after"
    step: int  # optimizer steps of the model that gave them
    first: int  # index of the first of these problems
    samples: Samples


@dataclasses.dataclass(frozen=True)
class Verified:
    """Some of a phase's problems were sampled, graded and verified; the phase goes on or ends.

    A phase of many problems comes in parts, of which none is kept.
    """

    what: str  # the phase, as in `Sampled`
    first: int  # index of the first of these problems
    records: list[dict[str, Any]]  # a row a problem; of a round, with what is learnt from it
    candidates: Candidates | None  # None where those of an earlier round are used


@dataclasses.dataclass(frozen=True)
class Measured:
    """All of the probe set was sampled and verified."""

    epoch: float  # passes over selected answers so far
    metrics: dict[str, float]
    model: LoadedModel  # the model that was measured, adapters merged
    effort: Effort


@dataclasses.dataclass(frozen=True)
class Judged:
    """What the measurements so far say about the rest of the run."""

    epoch: float
    outlook: Outlook | None  # None while there are too few of them, and at the end
    cautions: tuple[str, ...]
    stop: str | None  # why to stop; None to go on


@dataclasses.dataclass(frozen=True)
class Selected:
    """A round has chosen the answers it will learn from."""

    round: int
    learned: int  # problems with an answer to learn from; 0 if every answer was cut off
    external_share: float  # η_t: of all external examples of the run, how many are learnt now
    # Of the candidates, and what they cost; empty where those of an earlier round are used.
    metrics: dict[str, float]
    effort: Effort
    cut_off: CutOff = dataclasses.field(default_factory=CutOff)


@dataclasses.dataclass(frozen=True)
class Trained:
    """One optimizer step was made."""

    epoch: float
    step: int
    loss: float  # nats an answer token
    gradient_norm: float
    tokens: int  # prompts and answers, without padding
    seconds: float


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Training has come to a point where it is measured: the moment to save its state.

    The next step gives the memory of `state` away, so it is to be saved or copied at once.
    """

    round: int
    steps: int  # optimizer steps of this round
    state: TrainState


@dataclasses.dataclass(frozen=True)
class FinalTest:
    """At the end: the test problems, which nothing in the run has seen or was decided by."""

    epoch: float
    metrics: Mapping[str, dict[str, float]]  # "before" and "after" the run


@dataclasses.dataclass(frozen=True)
class Finished:
    """The run is over."""

    epoch: float
    model: LoadedModel  # adapters merged
    reason: str  # why it ended here
    adapted: Transformer | None = None  # the model before they were merged, if it has any


Event = (
    Overlong
    | Sampled
    | Verified
    | Measured
    | Judged
    | Selected
    | Trained
    | Snapshot
    | FinalTest
    | Finished
)
