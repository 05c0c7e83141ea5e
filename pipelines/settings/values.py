"""The value of an option: as written on the command line or in the configuration file, and in its type once checked.

Nothing here imports Beam: a wrong option is reported at once.
"""

import re
from typing import Any, NamedTuple

from pipelines.settings.forms import Option
from pipelines.settings.options import OPTIONS
from transforms.errors import AudienceError, ConfigError, OptionError

NAMED = {option.name: option for option in OPTIONS}
FILE_OPTIONS = tuple(option for option in OPTIONS if option.in_file)
_FLAG: dict[Any, bool] = {None: False, False: False, "false": False, True: True, "true": True}


class Given(NamedTuple):
    """The value of an option as written, and its origin: `option`, `file` (then with its name) or `default`."""

    value: Any
    origin: str
    file: str = ""

    def refusal(self, name: str, allowed: str) -> AudienceError:
        """Return the error to raise for a value that is not allowed."""
        if self.file:
            return ConfigError(f"{self.file}: $.{name}: got {self.value!r}, allowed {allowed}")
        return OptionError(f"--{name}: got {self.value!r}; allowed: {allowed}")


def value_of(option: Option, given: Given) -> Any:
    """Return the typed value of an option. Errors: OptionError, or ConfigError for a value in a file."""
    value = given.value
    if option.flag:
        if value not in _FLAG:
            raise given.refusal(option.name, "true or false; the option without a value means true")
        return _FLAG[value]
    if option.repeat:
        return (value,) if isinstance(value, str) else tuple(value or ())
    if value is None:
        return None
    # YAML has types: a number in quotes is text, and a folder named 2026 needs the quotes.
    of_its_kind = not given.file or type(value) is (int if option.limits else str)
    if option.choices and value not in option.choices:
        raise given.refusal(option.name, ", ".join(option.choices))
    if not of_its_kind or not re.fullmatch(option.regex, str(value)):
        raise given.refusal(option.name, option.allowed)
    try:
        return option.read(str(value))
    except ValueError as allowed:
        raise given.refusal(option.name, str(allowed)) from None
