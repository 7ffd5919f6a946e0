"""The beat table and the tasks belong together. The tasks' module needs a whole installation, so its source is read."""

import re
from pathlib import Path

from tests.builders import engine_settings
from workers.schedule import table

_TASKS = Path(__file__).resolve().parents[2] / "workers" / "tasks.py"


def test_beat_sends_only_what_a_worker_knows() -> None:
    known = set(re.findall(r'@app\.task\(name="([a-z_.]+)"', _TASKS.read_text(encoding="utf-8")))
    sent = {entry["task"] for entry in table(engine_settings()).values()}
    assert sent <= known
    assert "maintenance.apply_plans" in sent
