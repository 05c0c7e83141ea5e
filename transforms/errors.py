"""User errors: every error that a user can cause and fix, one line each.

    AudienceError           what was got, what is allowed, what to do; `audience` prints it and exits with 2
    ├── OptionError         a command line option, or two that contradict each other
    │   └── QueryError      a query that the database refuses: its words, which may have several lines
    ├── ConfigError         the configuration file, a mapping or a metric; carries the path of the field
    ├── SourceError         an input that is missing, unreadable or not of the declared format
    ├── WarehouseError      a warehouse that cannot be read or written, or days that already have rows
    │   ├── DamagedError    a file of it is not what was committed; the text names the file and how to repair it
    │   └── OvertakenError  another run has committed since this one read the warehouse
    └── RunnerError         a runner that does not start, or exited unexpectedly

A malformed record is never an error: it goes to quarantine with a reason.
"""


def first_line(problem: BaseException) -> str:
    """Return the first line of an error's message; its type if the message is empty."""
    return f"{problem}".strip().partition("\n")[0] or type(problem).__name__


class AudienceError(Exception):
    """A user error; its text is one line, of a QueryError several."""


class OptionError(AudienceError):
    """An option is unknown, missing, or contradicts another one."""


class QueryError(OptionError):
    """The database refuses a query; the text has its candidates, and the line with a caret under the place."""


class ConfigError(AudienceError):
    """A configuration file, a mapping or a metric is not valid."""


class SourceError(AudienceError):
    """An input is missing, unreadable, or not of the declared format."""


class WarehouseError(AudienceError):
    """The warehouse cannot be read or written, or the run would touch days that have rows."""


class DamagedError(WarehouseError):
    """A file of the warehouse is not what was committed."""


class OvertakenError(WarehouseError):
    """Another run has committed since this one read the warehouse; a retry may succeed."""


class RunnerError(AudienceError):
    """The runner does not start, or exited unexpectedly."""
