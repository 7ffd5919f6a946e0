"""One collection: all sources at once, each in a thread of its own, and an end that does not wait for any of them."""

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.domain.power import disjoint
from shared.domain.telemetry import Collected, Failure, Inventory
from shared.observability.logging import get_logger
from shared.telemetry.config import Source, TelemetryConfig
from shared.telemetry.http import PrometheusClient, Series, SourceFailed
from shared.telemetry.promql import expressions
from shared.telemetry.reading import Findings, Joins, readings

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one query of one source brought."""

    source: Source
    reader: str
    series: Sequence[Series] = ()
    warnings: Sequence[str] = ()
    failure: Failure | None = None
    asked: bool = True


#: Sources' names with what they brought; None: that source is done.
_Arrived = queue.SimpleQueue[tuple[str, _Answer | None]]


class PrometheusTelemetry:
    """Implements :class:`shared.domain.telemetry.Telemetry`. Safe to use from many threads."""

    def __init__(self, config: TelemetryConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    def collect(self, inventory: Inventory, at: datetime) -> Collected:
        """See the port. Takes at most the file's ``budget_s``, and the time to work on what came.

        A source is asked by one collection at a time; to another it is a failure, ``STILL_BUSY``.
        """
        answers, failures = self._answers(at)
        findings = Findings()
        joins = Joins(inventory)
        for answer in answers:
            joins.learn(answer.source, answer.series)
            for words in answer.warnings:
                findings.add(answer.source.name, answer.reader, "warning", words)
        # In the order of the file: of two sources that say the same, the first counts.
        order = {source.name: i for i, source in enumerate(self._config.sources)}
        found = []
        for answer in sorted(answers, key=lambda a: order[a.source.name]):
            source = answer.source
            moment = at - timedelta(seconds=source.delay_s)
            found += readings(source, answer.reader, answer.series, joins, findings, moment)
        samples, doubts = disjoint(found)
        for doubt in doubts:
            findings.add(doubt.source, doubt.family, doubt.rule, doubt.detail)
        return Collected(at, tuple(samples), tuple(failures), findings.all(), sum(a.asked for a in answers))

    def _answers(self, at: datetime) -> tuple[list[_Answer], list[Failure]]:
        deadline = time.monotonic() + self._config.budget_s
        arrived: _Arrived = queue.SimpleQueue()
        failures: list[Failure] = []
        waiting = set()
        for source in self._config.sources:
            if self._start(source, at, deadline, arrived):
                waiting.add(source.name)
            else:
                words = "its answer to an earlier collection is still awaited; it was not asked again."
                failures.append(Failure(source.name, "", "STILL_BUSY", words))
        answers: list[_Answer] = []
        while waiting:
            try:
                name, answer = arrived.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if answer is None:
                waiting.discard(name)
            elif answer.failure:
                failures.append(answer.failure)
            if answer is not None:
                answers.append(answer)
        late = f"not done within {self._config.budget_s:g} s; what had come by then is used."
        failures += [Failure(source.name, "", "TIMEOUT", late) for source in self._config.sources if source.name in waiting]
        return answers, failures

    def _start(self, source: Source, at: datetime, deadline: float, arrived: _Arrived) -> bool:
        # Not an executor: its threads are waited for at exit, and one that hangs in a name look-up would hold the process.
        with self._lock:
            if source.name in self._busy:
                return False
            self._busy.add(source.name)
        arguments = (source, at, deadline, arrived)
        threading.Thread(target=self._ask, args=arguments, name=f"telemetry-{source.name}", daemon=True).start()
        return True

    def _ask(self, source: Source, at: datetime, deadline: float, arrived: _Arrived) -> None:
        """Ask one source all there is to ask. When it fails as a whole, the rest would only wait for the same failure."""
        client = PrometheusClient(source)
        until = min(deadline, time.monotonic() + source.budget_s)
        reader = ""
        try:
            client.sign_in()
            for reader, expression in expressions(source).items():
                try:
                    series, warnings = client.query(expression, at - timedelta(seconds=source.delay_s), until)
                    answer = _Answer(source, reader, series, warnings)
                except SourceFailed as exc:
                    if exc.whole:
                        raise
                    answer = _Answer(source, reader, failure=Failure(source.name, reader, exc.reason, exc.detail))
                arrived.put((source.name, answer))
        except SourceFailed as exc:
            failure = Failure(source.name, "", exc.reason, exc.detail)
            arrived.put((source.name, _Answer(source, reader, failure=failure, asked=bool(reader))))
        except Exception as exc:  # noqa: BLE001 - the thread's outermost line: a fault of ours must not leave a collection waiting
            _log.exception("telemetry.fault", source=source.name)
            failure = Failure(source.name, "", "INTERNAL", f"{type(exc).__name__}: {exc}"[:300])
            arrived.put((source.name, _Answer(source, reader, failure=failure, asked=bool(reader))))
        finally:
            client.close()
            with self._lock:
                self._busy.discard(source.name)
            arrived.put((source.name, None))
