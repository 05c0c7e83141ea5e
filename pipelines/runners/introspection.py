"""What Beam asks of the same functions and classes for each step and each bundle is asked once a process.

Building and running a small pipeline is a second of processor time without this. Nearly half of it goes to signatures
of some hundred functions (found 15,000 times), to parsers of options (560) and to the specs of state and timers (490).
The answers depend on the code alone.
"""

import atexit
import functools
import gc
import sys
import types
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary


@functools.cache
def remember_introspection() -> None:
    """Remember what Beam finds out, and leave its thousands of objects out of each collection of garbage."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.transforms import core, ptransform, userstate, util
    from apache_beam.typehints import decorators

    signature = by_function(decorators.get_signature)
    for module in (decorators, core, ptransform, util):
        module.get_signature = signature
    core._get_function_body_without_inners = by_function(core._get_function_body_without_inners)
    userstate.get_dofn_specs = by_class(userstate.get_dofn_specs)
    PipelineOptions.view_as = by_class_of_view(PipelineOptions.view_as)
    gc.collect()
    gc.freeze()
    atexit.register(_thaw)


def _thaw() -> None:
    """Let what was left out be collected after all: DuckDB's binding lists on the terminal what is not, at the end."""
    if "duckdb" in sys.modules:
        gc.unfreeze()


def by_function(find: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Remember by function, whichever object a method is bound to; what is neither is asked each time."""
    found: WeakKeyDictionary[types.FunctionType, dict[bool, Any]] = WeakKeyDictionary()

    @functools.wraps(find)
    def remembered(asked: Any) -> Any:
        function, is_bound = getattr(asked, "__func__", asked), isinstance(asked, types.MethodType)
        if not isinstance(function, types.FunctionType):
            return find(asked)
        answers = found.setdefault(function, {})
        if is_bound not in answers:
            answers[is_bound] = find(asked)
        return answers[is_bound]

    return remembered


def by_class(find: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Remember by the class of a DoFn; one that wraps a function says itself what it takes, and is asked each time."""
    found: WeakKeyDictionary[type, Any] = WeakKeyDictionary()

    @functools.wraps(find)
    def remembered(dofn: Any) -> Any:
        if hasattr(dofn, "_inspect_process"):
            return find(dofn)
        if type(dofn) not in found:
            found[type(dofn)] = find(dofn)
        return found[type(dofn)]

    return remembered


def by_class_of_view(view_as: Callable[[Any, type], Any]) -> Callable[[Any, type], Any]:
    """Remember the views of options: all of them share one dictionary of values."""
    found: WeakKeyDictionary[Any, dict[type, Any]] = WeakKeyDictionary()

    @functools.wraps(view_as)
    def remembered(options: Any, cls: type) -> Any:
        views = found.setdefault(options, {})
        if cls not in views or views[cls]._all_options is not options._all_options:
            views[cls] = view_as(options, cls)
        return views[cls]

    return remembered
