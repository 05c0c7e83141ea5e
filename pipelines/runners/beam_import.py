"""Import what of Beam a run on this machine needs: half of the time that `import apache_beam` takes goes to the rest.

Beam's package imports every connector (BigQuery, Pub/Sub, MongoDB, ...), Google's clients and the Dataflow runner. In a
process that reads and writes local files alone, `import_local_beam` leaves those out:

- the packages of SHORT begin with a few of their names; any other name runs the package's own code when it is asked for
- the modules of HIDDEN seem absent while Beam is imported, which Beam allows for each of them; later imports find them

A process that has imported Beam already keeps what it has.
"""

import functools
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

LOCAL = "local"  # the argument that makes a worker process import the same
# The first imports of each package, which decide the order of Beam's circles.
SHORT = {
    "apache_beam.io": "from apache_beam.io.iobase import Read, Sink, Write, Writer",
    "apache_beam.runners": (
        "from apache_beam.runners.direct.direct_runner import DirectRunner\n"
        "from apache_beam.runners.runner import PipelineRunner, PipelineState, create_runner"
    ),
}
HIDDEN = frozenset(
    {
        "apache_beam.io.aws.s3filesystem",
        "apache_beam.io.azure.blobstoragefilesystem",
        "apache_beam.io.gcp.gcsfilesystem",
        "apache_beam.io.hadoopfilesystem",
        "apitools",  # of which Beam retries errors
        "pyarrow_hotfix",  # of versions of PyArrow below 14.0.1
    }
)


def import_local_beam() -> None:
    """Import Beam and its in-process runner for a process that touches no place but this machine's."""
    if "apache_beam" in sys.modules:
        return
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module("apache_beam.runners.portability.fn_api_runner")
    finally:
        sys.meta_path.remove(finder)


def is_local() -> bool:
    """Whether this process has imported Beam in its short form."""
    return isinstance(getattr(sys.modules.get("apache_beam.io"), "__loader__", None), _ShortLoader)


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name in HIDDEN:
            raise ModuleNotFoundError(f"{name} is left out of a run on this machine", name=name)
        if name not in SHORT or (whole := PathFinder.find_spec(name, path)) is None or whole.loader is None:
            return None
        short = ModuleSpec(name, _ShortLoader(whole.loader), origin=whole.origin, is_package=True)
        short.submodule_search_locations = whole.submodule_search_locations
        return short


class _ShortLoader(Loader):
    """Runs the short form of a package; its own code, by `whole`, once a name is missing."""

    def __init__(self, whole: Loader):
        self.whole = whole

    def exec_module(self, module: ModuleType) -> None:
        exec(SHORT[module.__name__], module.__dict__)
        module.__dict__["__getattr__"] = functools.partial(self._find, module)

    def _find(self, module: ModuleType, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        if importlib.util.find_spec(f"{module.__name__}.{name}"):
            return importlib.import_module(f"{module.__name__}.{name}")
        module.__dict__.pop("__getattr__", None)
        self.whole.exec_module(module)
        return getattr(module, name)
