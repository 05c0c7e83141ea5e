"""Every error a person can cause, one line each.

    AudienceError           what was got, what is allowed, what to do; `audience` prints it and exits with 2
    ├── OptionError         a command line option, or two that contradict each other
    ├── ConfigError         the configuration file, a mapping or a metric; carries the path of the field
    ├── SourceError         an input that is missing, unreadable or of another shape than declared
    ├── WarehouseError      a warehouse that cannot be read or written, or days that already have rows
    │   ├── DamagedError    a file of it is not what was committed; the text names the file and what puts it right
    │   └── OvertakenError  another run has committed since this one read the warehouse
    └── RunnerError         a runner that does not start, or ended while it should run

A malformed record is never an error: it goes to quarantine with a reason.
"""


def first_line(problem: BaseException) -> str:
    """The first line of what an error says; its kind, if it says nothing."""
    return f"{problem}".strip().partition("\n")[0] or type(problem).__name__


class AudienceError(Exception):
    """A mistake that a person can mend; its text is one line."""


class OptionError(AudienceError):
    """An option is unknown, missing, or contradicts another one."""


class ConfigError(AudienceError):
    """A configuration file, a mapping or a metric is not what it may be."""


class SourceError(AudienceError):
    """An input is missing, unreadable, or of another shape than declared."""


class WarehouseError(AudienceError):
    """The warehouse cannot be read or written, or the run would touch days that have rows."""


class DamagedError(WarehouseError):
    """A file of the warehouse is not what was committed."""


class OvertakenError(WarehouseError):
    """Another run has committed since this one read the warehouse; run again, it may commit."""


class RunnerError(AudienceError):
    """The runner does not start, or ended while it should run."""
