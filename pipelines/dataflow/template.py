"""templates/flex/metadata.json, made anew from the list of the options by `python -m pipelines.apps.reference`.

python -m pipelines.dataflow.template IMAGE:TAG     print the template's file for an image; needs Python alone

What the service checks before it starts a launcher, and what its console shows: a parameter for each option that means
something on Dataflow. One template is for both kinds of job: a queue makes a stream, files make a backfill
(launcher.py). The service's own form is `google.cloud.dataflow_v1beta3.TemplateMetadata`; its regular
expressions are POSIX egrep's.
"""

import json
import sys
from typing import Any

from pipelines.settings.arguments import options_of
from pipelines.settings.options import OPTIONS, Option
from pipelines.sources import queues

METADATA = "flex/metadata.json"
# Of this machine alone: a folder, processes of ours, and what our own reader of a queue needs.
LOCAL = {"warehouse", "group", "landing", "readers", "batch_delay", "expected_delay", "workers"} | (
    set(queues.OPTIONS) - set(queues.LAUNCH_OPTIONS)
)
REQUIRED = {"dataset"}
READS = {"run": queues.LAUNCH_OPTIONS, "backfill": ("input",)}  # each kind of job needs one of them
TYPES = dict.fromkeys(("input", "mapping", "config"), "GCS_READ_FILE") | {
    queue.launch_option: queue.parameter_type for queue in queues.QUEUES
}


def parameters() -> list[Option]:
    """The options that are parameters of the template."""
    names = {name for command in READS for name in options_of(command)} - LOCAL
    return [option for option in OPTIONS if option.name in names]


def metadata() -> str:
    """metadata.json."""
    return json.dumps(_metadata(), indent=2) + "\n"


def container_spec(image: str) -> str:
    """The template's file: `google.cloud.dataflow_v1beta3.ContainerSpec`. gcloud would leave out what streams."""
    told = {"image": image, "sdkInfo": {"language": "PYTHON"}, "metadata": _metadata()}
    return json.dumps(told, indent=2) + "\n"


def _metadata() -> dict[str, Any]:
    return {
        "name": "Audience insights: a stream or a backfill",
        "description": "Events of a Pub/Sub subscription to live, correct audience metrics in BigQuery; or files of "
        "events into its days.",
        # It may stream: the modes below mean nothing to a backfill, which decides by itself that it is a batch job.
        "streaming": True,
        # A default mode would be valid only beside a choice of two. docs/why/exactly-once.md
        "supportsAtLeastOnce": False,
        "supportsExactlyOnce": True,
        "parameters": list(map(_parameter, parameters())),
    }


def _parameter(option: Option) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": option.name,
        "label": option.name.replace("_", " ").capitalize(),
        "helpText": option.help + (f", e.g. {option.example}" if option.example else ""),
        "isOptional": option.name not in REQUIRED,
        "groupName": option.group.capitalize(),
        "paramType": _type(option),
    }
    if option.default is not None:
        told["defaultValue"] = option.default
    if option.choices:
        told["enumOptions"] = [{"value": choice} for choice in option.choices]
    elif option.regex != ".+" and not option.flag:
        told["regexes"] = [f"^({egrep(option.regex)})$"]
    return told


def _type(option: Option) -> str:
    if option.flag:
        return "BOOLEAN"
    if option.choices:
        return "ENUM"
    return TYPES.get(option.name, "NUMBER" if option.limits else "TEXT")


def egrep(regex: str) -> str:
    """A regular expression of an option, which has no more than these of Python's own, as POSIX egrep's.

    A count above 1,000 is more than RE2 takes.
    """
    for own, posix in ((r"\d", "[0-9]"), ("(?:", "("), (r"[^/\s]", "[^/[:space:]]"), (r"[^\s]", "[^[:space:]]")):
        regex = regex.replace(own, posix)
    return regex.replace("{1,1024}", "+")


if __name__ == "__main__":
    print(container_spec(sys.argv[1]), end="")
