"""A warehouse in a folder: what folder.py reads and the run of run.py writes."""

from contextlib import AbstractContextManager
from typing import ClassVar

from pipelines.warehouse.interface import CommitToken
from pipelines.warehouse.local import damage
from pipelines.warehouse.local.folder import Folder
from pipelines.warehouse.local.run import Run


class LocalWarehouse(Folder):
    """A warehouse in a local folder. Make one with `open`; write through `writer()`."""

    kind: ClassVar[str] = "local"

    def writer(self, token: CommitToken | None = None) -> Run:
        """The run that writes, as a context manager; raises WarehouseError while another process writes."""
        assert token is None, "no run of a local warehouse gives one out"
        return Run(self)

    def remove_staged(self, folder: str) -> None:
        """Nothing: a run removes its own staging folder."""

    def explain_errors(self) -> AbstractContextManager[None]:
        """While it lasts, what a damaged file makes fail is a WarehouseError that names the file."""
        return damage.explain_errors(self)

    def close(self) -> None:
        """Nothing is held open."""
