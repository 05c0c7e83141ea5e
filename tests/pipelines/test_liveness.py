"""What a stream tells of itself."""

import json

from pipelines import liveness
from pipelines.liveness import Liveness
from pipelines.sources.pubsub_leases import Snapshot
from pipelines.warehouse.appender import Figures
from tests.servers.needed import wait_until

WRITTEN = Figures({"events": 5}, None, None, None, 1, None, None)
READ = Snapshot(9, 900, 9, 0, 0, 0, 0, 0, None, float("-inf"))


def test_a_watermark_that_is_not_known_yet_is_null_and_the_line_stays_json():
    told = json.dumps(Liveness(lambda: WRITTEN, lambda: READ).figures(), allow_nan=False)
    assert json.loads(told)["watermark_lag_seconds"] is None


def test_a_log_tells_at_once_when_it_cannot_write_and_when_it_can_again(capsys, monkeypatch):
    monkeypatch.setattr(liveness, "EVERY", 0.01)
    figures, told = [WRITTEN], []
    with Liveness(lambda: figures[0], lambda: READ):
        for problem in ("no space", None):
            figures[0] = WRITTEN._replace(problem=problem)
            wait_until(lambda: told.append(capsys.readouterr().err) or told[-1])
            assert json.loads(told[-1])["problem"] == problem
