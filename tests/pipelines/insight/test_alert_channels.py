"""How an alert is sent: signed, retried, refused; each kind to a real receiver on loopback."""

import base64
import email
import hashlib
import hmac
import json
import pickle
import time
from email import policy

import msgspec
import pytest

from pipelines.cli import main
from pipelines.insight.alerts.channels import sender, signature
from pipelines.insight.alerts.outbox import Message, NotNow, Refused
from pipelines.settings.alerts import Alerts, Email, PubSubTopic, Secret, Slack, Webhook
from pipelines.settings.config import read_config
from pipelines.sources.pubsub.client import PubSub
from tests.servers.needed import wait_until
from tests.servers.receiver import receiving, taking_mail
from transforms.errors import ConfigError

KEY = b"012345678901234567890123"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
MESSAGE = Message("alert_1_opened", "ops", "t", 1e9, "[opened] a < b & c", "shop: silent", '{"type":"alert.opened"}')


@pytest.fixture(autouse=True)
def secrets(monkeypatch):
    monkeypatch.setenv("KEY_OF_ALERTS", SECRET)


def webhook(url: str) -> Webhook:
    return Webhook(url, Secret(env="KEY_OF_ALERTS"))


def test_the_signature_is_that_of_the_published_example():
    """The example of the reference libraries of Standard Webhooks."""
    made = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_webhook_is_signed_and_sent_again_with_the_same_id_and_body_until_it_is_taken():
    with receiving(503, 429) as receiver:
        sender(webhook(receiver.url), 20)(MESSAGE)
    assert receiver.ids == ["alert_1_opened"] * 3
    for got in receiver.got:
        assert got.body == MESSAGE.body.encode() and got.path == "/hook"
        sent = int(got.headers["webhook-timestamp"])
        assert 0 <= time.time() - sent < 300
        signed = hmac.new(KEY, f"alert_1_opened.{sent}.".encode() + got.body, hashlib.sha256).digest()
        assert got.headers["webhook-signature"] == "v1," + base64.b64encode(signed).decode()


@pytest.mark.parametrize(("status", "error"), [(404, Refused), (302, Refused), (410, Refused), (500, NotNow)])
def test_a_receiver_that_does_not_take_a_webhook_is_left_alone_or_asked_later(status, error):
    with receiving(status) as receiver, pytest.raises(error, match=f"127.0.0.1 answers {status}"):
        sender(webhook(receiver.url), 0)(MESSAGE)
    assert len(receiver.got) == 1, "no redirect is followed"


def test_slack_gets_its_form_and_its_url_is_in_no_error(monkeypatch):
    with receiving(200, 500) as receiver:
        monkeypatch.setenv("SLACK_OF_ALERTS", receiver.url)
        send = sender(Slack(Secret(env="SLACK_OF_ALERTS")), 0)
        send(MESSAGE)
        with pytest.raises(NotNow) as caught:
            send(MESSAGE)
    assert json.loads(receiver.got[0].body) == {"text": "[opened] a &lt; b &amp; c\nshop: silent"}
    assert "/hook" not in str(caught.value)


def test_mail_goes_over_tls_to_a_server_with_a_certificate_that_is_trusted(tmp_path, monkeypatch):
    with taking_mail(tmp_path) as server:
        send = sender(Email("localhost", "alerts@example.org", ("a@example.org", "b@example.org"), server.port), 0)
        with pytest.raises(NotNow, match="SSLCertVerificationError"):
            send(MESSAGE)
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        server.answers = [550, 550]
        with pytest.raises(Refused, match="refuses the receivers"):
            send(MESSAGE)
        assert server.got == []
        send(MESSAGE)
    [mail] = server.got
    assert (mail.encrypted, mail.sender, mail.to) == (True, "alerts@example.org", ["a@example.org", "b@example.org"])
    parsed = email.message_from_string(mail.text, policy=policy.default)
    assert (parsed["Subject"], parsed["Message-ID"]) == ("[opened] a < b & c", "<alert_1_opened@example.org>")
    assert "shop: silent" in parsed.get_content()


def test_mail_is_not_sent_in_the_clear_where_tls_is_asked_for(tmp_path):
    with taking_mail(tmp_path, tls=False) as server:
        with pytest.raises(NotNow, match="SMTPNotSupportedError"):
            sender(Email("localhost", "a@b", ("c@d",), server.port), 0)(MESSAGE)
        assert server.got == []
        sender(Email("localhost", "a@b", ("c@d",), server.port, tls=False), 0)(MESSAGE)
    assert [mail.encrypted for mail in server.got] == [False]


def test_a_topic_gets_the_body_with_the_id_as_attribute(queue):
    sender(PubSubTopic(queue.topic), 20)(MESSAGE)
    found = []

    def pulled() -> bool:
        answer = PubSub(queue.pubsub.emulator).pull(queue.subscription, 10).result()
        found.extend((each.message.data, dict(each.message.attributes)) for each in answer.received_messages)
        return bool(found)

    wait_until(pulled, 40, "the message")
    assert found == [(MESSAGE.body.encode(), {"webhook-id": "alert_1_opened"})]
    with pytest.raises(Refused, match="NOT_FOUND"):
        sender(PubSubTopic(queue.topic + "x"), 0)(MESSAGE)


def test_a_secret_of_a_file_is_read_only_where_others_cannot(tmp_path):
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o644)
    with receiving() as receiver:
        send = sender(Webhook(receiver.url, Secret(file=str(path))), 0)
        with pytest.raises(NotNow, match="chmod 600"):
            send(MESSAGE)
        path.chmod(0o600)
        send(MESSAGE)
        path.write_text("whsec_c2hvcnQ=")
        with pytest.raises(NotNow, match="24 to 64 bytes") as caught:
            send(MESSAGE)
    assert len(receiver.got) == 1 and "c2hvcnQ" not in str(caught.value)


RULE = "{name: a, kind: silence, send: [ops]}"
FILE = "alerts:\n  channels: {ops: {kind: webhook, url: 'https://e.org/x', secret: {env: K}}}\n  rules: [%s]\n"
MAIL = "{kind: email, host: e.org, tls: false, sender: a@b, to: [c@d]}"
WRONG = {
    FILE % RULE.replace("[ops]", "[oops]"): "$.alerts.rules[0].send: got 'oops'; allowed: a name of channels (ops)",
    FILE % f"{RULE}, {RULE}": "$.alerts.rules[1].name: got 'a' twice",
    FILE % RULE.replace("}", ", after: 1w}"): "$.alerts.rules[0].after: got '1w'",
    FILE % RULE.replace("}", ", mute_until: soon}"): "$.alerts.rules[0].mute_until: got 'soon'; allowed: a time with",
    FILE % RULE.replace("silence", "noise"): "$.alerts.rules[0].kind",
    (FILE % RULE).replace("https", "http"): "$.alerts.channels.ops.url: got the scheme 'http' for e.org",
    (FILE % RULE).replace("https://", "https://me@"): "got a user name in the URL",
    (FILE % RULE).replace("{env: K}", "whsec_x"): "$.alerts.channels.ops.secret",
    (FILE % RULE).replace("env: K", "env: K, file: f"): "got both of env and file, or neither; allowed: one of them",
    "alerts: {channels: {mail: " + MAIL + "}}": "$.alerts.channels.mail.tls: got false for 'e.org'",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_in_the_configuration_is_one_line_with_its_path(text, tmp_path):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(str(tmp_path / "own.yaml"))
    assert WRONG[text] in str(caught.value) and "\n" not in str(caught.value)


def test_a_test_message_goes_over_the_channels_of_a_rule_and_no_secret_leaves(tmp_path, capsys):
    with receiving(204, 404) as receiver:
        text = (FILE % RULE).replace("https://e.org/x", receiver.url).replace("env: K", "env: KEY_OF_ALERTS")
        (tmp_path / "own.yaml").write_text(text)
        command = ["alert", "--test", "--config", str(tmp_path / "own.yaml")]
        assert main([*command, "--rule", "a"]) == 0
        assert "channel ops: sent" in capsys.readouterr().err
        assert main(command) == 1
        assert "channel ops: 127.0.0.1 answers 404" in capsys.readouterr().err
        assert main([*command, "--rule", "b"]) == 2
        assert "--rule: got 'b'; allowed: a name of a rule: a" in capsys.readouterr().err
    first, second = receiver.ids
    assert first.startswith("test_") and first != second
    alerts = read_config(str(tmp_path / "own.yaml")).alerts
    assert isinstance(alerts, Alerts)
    assert all(
        KEY not in each and SECRET.encode() not in each for each in (pickle.dumps(alerts), repr(alerts).encode())
    )
    assert msgspec.json.decode(receiver.got[0].body)["type"] == "alert.test"
