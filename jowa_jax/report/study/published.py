"""What the paper printed, and the mean scores that its authors released.

`published.json` holds Tables 2 to 6 and 18 to 21: scores by game where there
are, and the figures as printed. Some contradict the scores beside them, and all
are normalised by other reference scores than those of `games.py` (`references`
says which), so that figures are computed from the scores too, as ours are.
"""

import dataclasses
import functools
import importlib.resources
import json
from collections.abc import Collection
from typing import Any

from jowa_jax.configuration import build
from jowa_jax.report.study.results import Agent

FILE = 'published.json'


@dataclasses.dataclass(frozen=True)
class Published:
  """One agent of one table.

  Attributes:
    table: where it stands, such as 'Table 2'.
    name: of the agent there.
    method: and `size`, `planner`, `quality`, `ablation`: see `results.Agent`.
    reference: whose score is 1 in what is printed, 'human' or 'dqn'.
    games: that it is about.
    scores: by game; empty where they were not published.
    printed: figures by the names of `statistics.Aggregates`.
    contradicted: what the scores give in the place of a printed figure, by the
      paper's own reference scores, where that is another.
    decisions_per_second: of one environment on one GPU; 0 if not told.
  """

  table: str
  name: str
  method: str
  size: str
  planner: str
  quality: str
  ablation: str
  reference: str
  games: tuple[str, ...]
  scores: dict
  printed: dict
  decisions_per_second: float = 0.0
  contradicted: dict = dataclasses.field(default_factory=dict)

  def is_of(self, agent: Agent, games: Collection[str]) -> bool:
    """Whether an agent is of this kind, and played these games."""
    names = ('method', 'size', 'planner', 'quality', 'ablation')
    same = all(getattr(self, n) == getattr(agent, n) for n in names)
    return same and set(self.games) == set(games)


def references() -> dict[str, dict[str, float]]:
  """Reference scores of the paper where they are other than ours, by game."""
  return _file()['references']


@functools.cache
def published() -> tuple[Published, ...]:
  """All that was published, in the order of tables."""
  return tuple(build(Published, one, FILE) for one in _file()['agents'])


@functools.cache
def _file() -> dict[str, Any]:
  folder = importlib.resources.files('jowa_jax.report.study')
  return json.loads((folder / FILE).read_text())
