"""Cells and timers in memory: what a stateful step keeps, with the bytes of each cell as its own coder writes them."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from apache_beam import DoFn
from apache_beam.coders import Coder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, StateSpec, TimerSpec
from apache_beam.utils.timestamp import Timestamp


class Cell:
    """A cell of state, a bag or a value: what it holds, and its bytes as its coder writes them."""

    def __init__(self, coder: Coder, bag: bool):
        self.coder, self.bag = coder, bag
        self.held: list[Any] = []
        self.bytes = 0
        self.rewritten = 0  # bytes of all that was ever written

    def read(self) -> Any:
        return list(self.held) if self.bag else (self.held[-1] if self.held else None)

    def add(self, value: Any) -> None:
        size = len(self.coder.encode(value))
        self.held.append(value)
        self.bytes += size
        self.rewritten += size

    def write(self, value: Any) -> None:
        self.clear()
        self.add(value)

    def clear(self) -> None:
        self.held, self.bytes = [], 0


class Timer:
    """When it is due, in seconds; None while it is not set."""

    def __init__(self, spec: TimerSpec):
        self.watermark = spec.time_domain == TimeDomain.WATERMARK
        self.fire: Callable = spec._attached_callback
        self.due: float | None = None

    def set(self, at: Any) -> None:
        self.due = at.micros / 1e6

    def clear(self) -> None:
        self.due = None


class Key:
    """The state and the timers of one key of a step."""

    def __init__(self, states: Iterable[StateSpec], timers: Iterable[TimerSpec]):
        self.cells = {spec.name: Cell(spec.coder, isinstance(spec, BagStateSpec)) for spec in states}
        self.timers = {spec.name: Timer(spec) for spec in timers}

    @property
    def bytes(self) -> int:
        return sum(cell.bytes for cell in self.cells.values())

    @property
    def rewritten(self) -> int:
        return sum(cell.rewritten for cell in self.cells.values())

    def due(self, now: float, delay: float) -> Iterator[Timer]:
        """Clear and yield the timers that are due, the earliest first; the watermark is `delay` behind the clock."""

        def clock(timer: Timer) -> float:
            assert timer.due is not None
            return timer.due + (delay if timer.watermark else 0.0)

        for timer in sorted((each for each in self.timers.values() if each.due is not None), key=clock):
            if timer.due is not None and clock(timer) <= now:
                timer.clear()
                yield timer


class Parameter(NamedTuple):
    """A parameter of a stateful method: its name, and of what kind: `state`, `timer`, `timestamp` or `key`."""

    name: str
    kind: str
    spec: str


def parameters(method: Callable) -> list[Parameter]:
    """Return the parameters of a stateful method that Beam would pass."""
    found = []
    for name, parameter in inspect.signature(method).parameters.items():
        default = parameter.default
        if default is DoFn.KeyParam:
            found.append(Parameter(name, "key", ""))
        elif default is DoFn.TimestampParam:
            found.append(Parameter(name, "timestamp", ""))
        elif hasattr(default, "state_spec"):
            found.append(Parameter(name, "state", default.state_spec.name))
        elif hasattr(default, "timer_spec"):
            found.append(Parameter(name, "timer", default.timer_spec.name))
    return found


def arguments(method: Callable, key: Any, held: Key, now: float = 0.0) -> dict[str, Any]:
    """Return what Beam would pass to a stateful method for an element whose timestamp is `now`."""
    values = {"key": lambda spec: key, "state": held.cells.__getitem__, "timer": held.timers.__getitem__}
    values["timestamp"] = lambda spec: Timestamp.of(now)
    return {each.name: values[each.kind](each.spec) for each in parameters(method)}
