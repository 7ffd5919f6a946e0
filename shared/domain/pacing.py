"""How a tick looks at the cloud for the least of Magnum's time, and when the next one comes.

Measured on real Magnum (openstack-facts.md, "Cost of looking"): a list costs about 2 ms per cluster listed over a base of
about 8 ms, a GET 12 ms. The costs in use are learnt from the answers' times, starting there.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

LIST_BASE_S: Final = 0.008
LEARNING_RATE: Final = 0.1
#: So many are looked at one by one whatever a page costs: a GET also shows a deletion, and a cluster's faults.
FEW: Final = 3


#: The least pause between two ticks, in seconds: the scope's other work gets its turn.
BREATH_S = 0.1


class Look(StrEnum):
    """Ways to look at what is in flight."""

    NOTHING = "nothing"  #: nothing is in flight
    GETS = "gets"  #: each cluster by itself
    NEWEST = "newest"  #: pages sorted by updated_at, newest first, back to the last tick's mark


@dataclass(frozen=True, slots=True)
class Costs:
    """What a look costs of Magnum's time, in seconds, and how many clusters change per second."""

    listed_s: float = 0.002
    get_s: float = 0.012
    changes_per_s: float = 1.0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Costs":
        """From a row; unknown and missing keys are as new."""
        known = {k: float(v) for k, v in values.items() if k in {"listed_s", "get_s", "changes_per_s"}}
        return cls(**known)

    def as_dict(self) -> dict[str, Any]:
        """For a row."""
        return asdict(self)

    def learn(self, *, gets: int, gets_s: float, pages: int, listed: int, listed_s: float) -> "Costs":
        """Costs moved towards what this tick measured; bounded, because a slow answer may be a slow network."""
        get_s, per_row = self.get_s, self.listed_s
        if gets:
            get_s += LEARNING_RATE * (min(max(gets_s / gets, 0.002), 0.05) - get_s)
        if listed >= 20:  # noqa: PLR2004 - fewer rows say more about the base than about the rows
            seen = max(listed_s - pages * LIST_BASE_S, 0.0) / listed
            per_row += LEARNING_RATE * (min(max(seen, 0.0002), 0.05) - per_row)
        return Costs(per_row, get_s, self.changes_per_s)

    def saw_changes(self, changes: int, interval_s: float) -> "Costs":
        """The rate of change, moved half-way towards the last interval's."""
        rate = changes / max(interval_s, 1.0)
        return Costs(self.listed_s, self.get_s, 0.5 * self.changes_per_s + 0.5 * rate)


def choose(in_flight: int, costs: Costs, interval_s: float) -> tuple[Look, int]:
    """The cheaper way to look at ``in_flight`` clusters, and the first page's size where it is pages."""
    if in_flight == 0:
        return Look.NOTHING, 0
    if in_flight <= FEW:
        return Look.GETS, 0
    expected = int(costs.changes_per_s * max(interval_s, 1.0) * 1.25) + 5
    page = LIST_BASE_S + costs.listed_s * expected
    return (Look.GETS, 0) if in_flight * costs.get_s <= page else (Look.NEWEST, expected)


def next_interval(*, in_flight: int, spent_s: float, took_s: float, share: float, minimum_s: float, idle_s: float) -> float:
    """Seconds from one tick's beginning to the next one's: often while something is in flight, but never more than ``share`` of
    Magnum's time, of which this tick used ``spent_s`` in its ``took_s``.

    With a :data:`FEW` in flight somebody is likely watching, and looks cost next to nothing: twice as often.
    """
    if in_flight == 0:
        return took_s + idle_s
    if in_flight <= FEW:
        minimum_s /= 2
    return max(spent_s / share, minimum_s, took_s + BREATH_S)


def look_again_s(age_s: float, *, gone_is_the_goal: bool) -> float:
    """When a cluster is looked at by itself again: a deletion shows in no list, the others only need a safety net."""
    if gone_is_the_goal:
        return min(max(2.0, age_s / 8), 30.0)
    return min(max(45.0, age_s / 4), 300.0)
