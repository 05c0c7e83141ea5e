"""A warehouse in a folder: what folder.py reads and the run of run.py writes."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

from pipelines.warehouse.interface import CommitToken
from pipelines.warehouse.local import damage
from pipelines.warehouse.local.answers import places
from pipelines.warehouse.local.folder import Folder
from pipelines.warehouse.local.run import Run
from pipelines.warehouse.recent import Recent, Since

if TYPE_CHECKING:
    from pipelines.warehouse.local.recent import RecentFiles


class LocalWarehouse(Folder):
    """A warehouse in a local folder. Make one with `open`; write through `writer()`."""

    kind: ClassVar[str] = "local"
    _recent: "RecentFiles | None" = None

    def writer(self, token: CommitToken | None = None, of_answers: bool = False) -> Run:
        """The run that writes, as a context manager; raises WarehouseError while another process writes. Answers have
        a folder of their own, and so a lock of their own."""
        assert token is None, "no run of a local warehouse gives one out"
        return Run(self)

    def asking_recent(self, since: Since, most_bytes: int | None = None) -> AbstractContextManager[Recent]:
        """Answers over the files that may hold rows from these times on; `most_bytes` is for BigQuery, which bills."""
        from pipelines.warehouse.local.recent import RecentFiles  # with DuckDB: a worker process only writes

        self._recent = self._recent or RecentFiles(self)
        return self._recent.asking(since)

    def view_texts(self) -> dict[str, str]:
        """The views by name, in the order of creation."""
        return dict(self.views(self.manifest()))

    def version(self, with_answers: bool = False) -> object:
        """What changes with each commit, also of answers if so asked."""
        from pipelines.warehouse.local.recent import version_of

        return tuple(map(version_of, places(self.folder) if with_answers else (self.folder,)))

    def remove_staged(self, folder: str) -> None:
        """Nothing: a run removes its own staging folder."""

    def explain_errors(self) -> AbstractContextManager[None]:
        """While it lasts, what a damaged file makes fail is a WarehouseError that names the file."""
        return damage.explain_errors(self)

    def close(self) -> None:
        """Nothing is held open."""
