"""templates/flex/metadata.json, generated from the list of options by `python -m pipelines.reference`.

python -m pipelines.dataflow.template IMAGE:TAG     prints the template file for an image; needs Python alone

The metadata is what the service checks before it starts a launcher, and what its console shows: a parameter for each
option that applies on Dataflow. One template serves all kinds of job: a queue starts a stream, files start a backfill,
`refresh=true` starts a refresh (launcher.py). The service's own schema is
`google.cloud.dataflow_v1beta3.TemplateMetadata`; its regular expressions are POSIX extended (egrep).
"""

import json
import sys
from typing import Any

from pipelines.settings.arguments import OF_QUEUES, options_of
from pipelines.settings.forms import Option
from pipelines.settings.options import OPTIONS
from pipelines.settings.refresh_options import REFRESH, REFRESH_OPTIONS
from pipelines.sources import queues

METADATA = "flex/metadata.json"
# Options that apply on this machine only: folders, worker processes, and those of our own queue reader.
LOCAL = {
    "warehouse",
    "group",
    "landing",
    "readers",
    "start_at",
    "stop_at",
    "expected_delay",
    "workers",
    "allow_quarantine",
    "output_kafka",
    "refresh_every",
} | ((set(queues.OPTIONS) | set(OF_QUEUES)) - set(queues.LAUNCH_OPTIONS))
# Of these, those of a job that reads Kafka with Beam's reader; `audience run` starts it, the template does not.
OF_BEAMS_KAFKA = {"input_kafka", "start_at", *(name for name in OF_QUEUES if name.startswith("kafka_"))}
REQUIRED = {"dataset"}
# Each kind of job requires one of them.
READS = {"run": queues.LAUNCH_OPTIONS, "backfill": ("input",), "refresh": (REFRESH.name,)}
TYPES = dict.fromkeys(("input", "mapping", "config"), "GCS_READ_FILE") | {
    queue.launch_option: queue.parameter_type for queue in queues.QUEUES if queue.launch_option
}


def parameters() -> list[Option]:
    """Return the options that are parameters of the template."""
    names = {name for command in READS for name in options_of(command)} - LOCAL | {REFRESH.name}
    return [option for option in (*OPTIONS, *REFRESH_OPTIONS) if option.name in names]


def metadata() -> str:
    """Return the text of metadata.json."""
    return json.dumps(_metadata(), indent=2) + "\n"


def container_spec(image: str) -> str:
    """Return the template file, a `google.cloud.dataflow_v1beta3.ContainerSpec`. gcloud would omit `streaming`."""
    spec = {"image": image, "sdkInfo": {"language": "PYTHON"}, "metadata": _metadata()}
    return json.dumps(spec, indent=2) + "\n"


def _metadata() -> dict[str, Any]:
    return {
        "name": "Audience insights: a stream, a backfill or a refresh",
        "description": "Stream events from a Pub/Sub subscription into live audience metrics in BigQuery, load files "
        "of events into its days, or compute answers as of a time from what is stored.",
        # The template may stream. The other kinds are batch jobs, to which the modes below do not apply.
        "streaming": True,
        # A default mode is valid only if both modes are supported. docs/why/exactly-once.md
        "supportsAtLeastOnce": False,
        "supportsExactlyOnce": True,
        "parameters": list(map(_parameter, parameters())),
    }


def _parameter(option: Option) -> dict[str, Any]:
    parameter: dict[str, Any] = {
        "name": option.name,
        "label": option.name.replace("_", " ").capitalize(),
        "helpText": option.help + (f", e.g. {option.example}" if option.example else ""),
        "isOptional": option.name not in REQUIRED,
        "groupName": option.group.capitalize(),
        "paramType": _type(option),
    }
    if option.default is not None:
        parameter["defaultValue"] = option.default
    if option.choices:
        parameter["enumOptions"] = [{"value": choice} for choice in option.choices]
    elif option.regex != ".+" and not option.flag:
        parameter["regexes"] = [f"^({egrep(option.regex)})$"]
    return parameter


def _type(option: Option) -> str:
    if option.flag:
        return "BOOLEAN"
    if option.choices:
        return "ENUM"
    return TYPES.get(option.name, "NUMBER" if option.limits else "TEXT")


def egrep(regex: str) -> str:
    """Translate an option's regular expression, which uses only these Python extensions, to POSIX extended.

    RE2 refuses a repetition count above 1,000.
    """
    for own, posix in ((r"\d", "[0-9]"), ("(?:", "("), (r"[^/\s]", "[^/[:space:]]"), (r"[^\s]", "[^[:space:]]")):
        regex = regex.replace(own, posix)
    return regex.replace("{1,1024}", "+")


if __name__ == "__main__":
    print(container_spec(sys.argv[1]), end="")
