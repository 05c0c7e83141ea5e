"""Read the options of the configuration file as written. Nothing here imports Beam.

A key is an option that a file may set, or `metrics`, `quality`, `funnel`, `attribution`, `insight`, `alerts` or `sync`,
which config.py reads. A null key is treated as absent.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pipelines.settings.values import FILE_OPTIONS, Given, value_of
from transforms.errors import ConfigError, first_line
from transforms.strict_yaml import load

if TYPE_CHECKING:
    Options = msgspec.Struct
else:  # the option's own rule checks the value and words the error
    Options = msgspec.defstruct("Options", [(option.name, Any, None) for option in FILE_OPTIONS], frozen=True)


class ConfigFile(Options, frozen=True, forbid_unknown_fields=True):
    """The keys of the file, as YAML has them."""

    metrics: dict[str, Any] = {}
    quality: Any = None
    funnel: Any = None
    attribution: Any = None
    insight: Any = None
    alerts: Any = None
    sync: Any = None


T = TypeVar("T", bound=ConfigFile)


def read_document(path: str, type_: type[T]) -> T:
    """Read the file as `type_`. Errors: ConfigError with the path of the wrong key."""
    return parse_document(read_text(path, "configuration", "config"), type_, path)


def parse_document(text: str, type_: type[T], path: str) -> T:
    """Parse the text of the file at `path` as `type_`. Errors: ConfigError with the path of the wrong key."""
    # A file with only comments is a null document.
    return load(text, type_ | None, path) or type_()  # type: ignore[arg-type]


def stated_options(path: str) -> dict[str, Given]:
    """Return the options that the file states, each checked by itself. Errors: ConfigError with the path of the key."""
    document = read_document(path, ConfigFile)
    stated = {option: Given(getattr(document, option.name), "file", path) for option in FILE_OPTIONS}
    stated = {option: given for option, given in stated.items() if given.value is not None}
    for option, given in stated.items():
        value_of(option, given)
    return {option.name: given for option, given in stated.items()}


def _remote(path: str) -> bytes:
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.filesystems import FileSystems
    from google.api_core.exceptions import GoogleAPICallError

    try:
        with FileSystems.open(path) as file:
            return file.read()
    except (BeamIOError, GoogleAPICallError, ValueError) as problem:  # ValueError: a scheme that Beam does not know
        raise OSError(f"{problem}") from problem


def read_text(path: str, what: str, option: str) -> str:
    """Return the text of a file that an option names, local or `gs://`. Errors: ConfigError."""
    try:
        return (_remote(path) if "://" in path else Path(path).read_bytes()).decode("utf-8")
    except OSError as problem:
        why = problem.strerror or first_line(problem)
        raise ConfigError(f"{path}: cannot read the {what}: {why}; check --{option}") from None
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path}: the {what} is not UTF-8: {problem.reason} at byte {problem.start}") from None
