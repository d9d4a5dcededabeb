"""What a method is made of: phases, each a pure step repeated over lanes.

A method (the recipe or a baseline) is a generator: it yields phases, is sent back their results and
returns what it fitted, so that its text reads from top to bottom while `drive` owns checkpoints,
logging, progress and whether lanes (folds, seeds) advance one by one or together under `vmap`.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Protocol

PyTree = Any


@dataclass(frozen=True)
class Phase:
    """`steps` applications of `step(state, shared, batch) -> (state, metrics)` to each lane.

    Attributes:
      name: checkpoints and log lines carry it, such as "search".
      step: pure. It may capture hyperparameters, never a lane's data: every lane runs this one.
      lanes: for each lane, what makes its initial state: made when the lane is run, so that lanes
        that wait take no memory.
      shared: what lanes share and no step changes (the pretrained weights).
      batch: `(lane, t) -> pytree of numpy arrays`, a function of its arguments alone.
      rows: `(lane, t) ->` digests of the examples in that batch, for messages.
      steps: steps a lane.
      updates: optimizer steps of the task weights in one of these; a study counts and matches them.
      gradients: what one step costs, in gradient evaluations (a plain training step is 1).
      result: what the method needs of a final state; the rest is neither kept nor stored.
      consumes: the first step may take the memory of the lanes' initial states, which no one reads
        again.
    """

    name: str
    step: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, dict]]
    lanes: list[Callable[[], PyTree]]
    shared: PyTree
    batch: Callable[[int, int], PyTree]
    rows: Callable[[int, int], list[str]]
    steps: int
    updates: int = 1
    gradients: float = 1.0
    result: Callable[[PyTree], PyTree] = lambda state: state
    consumes: bool = False


@dataclass(frozen=True)
class Fitted:
    """What a method returns.

    Attributes:
      params: the weights that are evaluated and exported, a pytree like the pretrained ones.
      shares: the dense share of the task weight a mixed leaf kept, where the method has one: a
        mapping from the leaf's joined path to an array that broadcasts to the leaf.
      facts: JSON-able facts worth keeping, such as a coefficient that was chosen.
    """

    params: PyTree
    shares: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


Fit = Generator[Phase, list, Fitted]


class Recorder(Protocol):
    """Where a driver keeps its progress: `blomix.runs.Run` on disk, `Unrecorded` nowhere."""

    @property
    def stopping(self) -> bool: ...
    @property
    def due(self) -> bool: ...
    def log(self, record: dict[str, Any]) -> None: ...
    def save(self, phase: str, step: int, state: PyTree, *, final: bool = False) -> None: ...
    def restore(
        self, phase: str, like: PyTree, like_final: PyTree = None
    ) -> tuple[int, PyTree] | None: ...
    def finished(self, phase: str) -> bool: ...
    def stop_if_asked(self, phase: str, step: int, state: PyTree) -> None: ...


class Unrecorded:
    """A recorder that keeps log records in memory and nothing else."""

    stopping = False
    due = False

    def __init__(self):
        self.records: list[dict[str, Any]] = []

    def log(self, record):
        self.records.append(record)

    def save(self, phase, step, state, *, final=False):
        pass

    def restore(self, phase, like, like_final=None):
        return None

    def finished(self, phase):
        return False

    def stop_if_asked(self, phase, step, state):
        pass
