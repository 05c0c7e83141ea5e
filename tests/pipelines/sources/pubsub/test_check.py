"""What stands against reading a subscription is one line with the command that fixes it, before anything starts."""

import shlex
import socket

import pytest

from pipelines.sources.pubsub.check import check_subscription, check_topic, temporary_subscription
from pipelines.sources.pubsub.client import EMULATOR
from tests.servers.needed import wait_until
from transforms.errors import OptionError, SourceError


def test_a_subscription_that_is_there_tells_of_itself(queue):
    assert check_subscription(queue.subscription) == (queue.topic, 10, False)
    check_topic(queue.topic)


@pytest.mark.parametrize(
    "name", ["", "events", "projects/p/subscriptions/events", "projects/demo-project/subscriptions/ab",
             "projects/demo-project/topics/events", "projects/demo-project/subscriptions/google"]
)  # fmt: skip
def test_a_malformed_name_is_refused_with_the_form(name):
    with pytest.raises(
        OptionError, match=r"--input_subscription: got .*; allowed: projects/PROJECT/subscriptions/NAME"
    ):
        check_subscription(name)
    with pytest.raises(OptionError, match=r"--output_topic: got .*; allowed: projects/PROJECT/topics/NAME"):
        check_topic("topic", option="output_topic")


def test_what_is_not_there_comes_with_the_command_that_makes_it(queue):
    missing = "projects/demo-project/subscriptions/none"
    command = "`gcloud pubsub subscriptions create none --project=demo-project --topic=TOPIC`"
    with pytest.raises(SourceError, match=f"^subscription {missing} does not exist; make it with {command}$"):
        check_subscription(missing)
    command = "`gcloud pubsub topics create none --project=demo-project`"
    with pytest.raises(SourceError, match=f"^topic projects/demo-project/topics/none does not exist; .* {command}$"):
        check_topic("projects/demo-project/topics/none")


def test_a_subscription_that_pushes_is_refused(queue):
    pushed = queue.subscription + "-push"
    queue.pubsub.make_subscription(pushed, queue.topic, push_config={"push_endpoint": "http://127.0.0.1:1/x"})
    with pytest.raises(SourceError, match="is no pull subscription; make one: `gcloud pubsub subscriptions create"):
        check_subscription(pushed)


def test_an_emulator_that_does_not_answer_is_named(monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv(EMULATOR, host)
        with pytest.raises(SourceError, match=f"no Pub/Sub emulator answers at {host} .* start --host-port={host}`"):
            check_subscription("projects/demo-project/subscriptions/events")


def test_without_a_login_the_command_for_it_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv(EMULATOR, raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(SourceError, match="run `gcloud auth application-default login`") as raised:
        check_subscription("projects/demo-project/subscriptions/events")
    assert shlex.split(str(raised.value))


def test_a_subscription_for_a_run_is_there_for_the_run_only(queue):
    with temporary_subscription(queue.topic) as made:
        assert check_subscription(made).topic == queue.topic
        (name,) = queue.publish(b"1")
        found: list[str] = []
        pull = queue.pubsub.pull
        wait_until(
            lambda: found.extend(m.message.message_id for m in pull(made, 9).result().received_messages) or found
        )
        assert found == [name]
    with pytest.raises(SourceError, match="does not exist"):
        check_subscription(made)


def test_a_subscription_that_is_gone_at_the_end_of_a_run_is_no_failure(queue, caplog):
    with temporary_subscription(queue.topic) as made:
        queue.pubsub.delete_subscription(made)
    wait_until(lambda: "is left behind" in caplog.text)
