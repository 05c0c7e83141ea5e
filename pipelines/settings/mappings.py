"""Read the mappings that --mapping names: files, or patterns such as `mappings/*.yaml`, also of a bucket."""

from collections.abc import Sequence
from glob import glob
from pathlib import Path

from pipelines.settings.config import read_mapping
from pipelines.settings.resolve import Settings, refuse_several
from transforms.errors import ConfigError, OptionError, first_line
from transforms.mapping import Mapping


def read_mappings(settings: Settings) -> tuple[Mapping, ...]:
    """Return the mappings of a run in the order in which they are named, those of a pattern by their paths.

    Errors: ConfigError for a file that cannot be read or is no mapping; OptionError for two mappings of one source, and
    for several where nothing says which records each of them reads.
    """
    found: dict[str, Mapping] = {}
    paths: dict[str, str] = {}
    for path in (path for pattern in settings.mapping for path in matching(pattern)):
        mapping = read_mapping(path)
        if mapping.source in found:
            other = paths[mapping.source]
            raise OptionError(
                f"--mapping: got {path} and {other} with the source {mapping.source!r}; allowed: one mapping "
                "for each source"
            )
        found[mapping.source], paths[mapping.source] = mapping, path
    refuse_several(settings, len(found))
    return tuple(found.values())


def matching(pattern: str) -> Sequence[str]:
    """Return the paths that a pattern with * ? or [ stands for, sorted. A path without such a sign, and the name of a
    file of this machine, stand for themselves. Errors: ConfigError if no file matches."""
    if not any(sign in pattern for sign in "*?[") or ("://" not in pattern and Path(pattern).exists()):
        return [pattern]
    found = _in_bucket(pattern) if "://" in pattern else glob(pattern)
    if not found:
        raise ConfigError(f"{pattern}: no file matches; check --mapping, and quote the pattern in a shell")
    return sorted(found)


def _in_bucket(pattern: str) -> list[str]:
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.filesystems import FileSystems
    from google.api_core.exceptions import GoogleAPICallError

    try:
        return [file.path for match in FileSystems.match([pattern]) for file in match.metadata_list]
    except (BeamIOError, GoogleAPICallError, OSError, ValueError) as problem:  # ValueError: an unknown scheme
        raise ConfigError(f"{pattern}: cannot list the mappings: {first_line(problem)}; check --mapping") from None
