"""The result files of a study, by who played."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

from jowa_jax.eval.records import Rollout, merge, read_rollouts
from jowa_jax.report import labels

_WAYS = {
  'none': 'greedy',
  'beam': 'beam search',
  'mcts': 'tree search',
}


@dataclasses.dataclass(frozen=True)
class Source:
  """Where rollouts of an agent are from.

  Attributes:
    cell: its name.
    rollouts: the file.
    run: the directory of what was trained; None for nothing.
  """

  cell: str
  rollouts: pathlib.Path
  run: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Agent:
  """Who played, of all seeds, and of all games that it was fine-tuned on.

  Attributes:
    name: in the rollouts.
    method: empty for play that nothing was trained for.
    size: the model's.
    planner: how it chose actions; empty where the method has one way.
    quality: of the data of the games that it was fine-tuned on; empty for none.
    ablation: what was otherwise than in the method.
    sources: of its rollouts.
  """

  name: str
  method: str = ''
  size: str = ''
  planner: str = ''
  quality: str = ''
  ablation: str = ''
  sources: tuple[Source, ...] = ()

  @property
  def title(self) -> str:
    """A name for people."""
    if not self.method:
      return labels.label(labels.AGENTS, self.name).title
    method = labels.METHODS.get(self.method, self.method).partition(',')[0]
    parts = [
      f'{method} {self.size}'.strip(),
      labels.plain(self.ablation).lower(),
      _WAYS.get(self.planner, self.planner),
      f'{self.quality.replace("_", "-")} play' if self.quality else '',
    ]
    return ', '.join(filter(None, parts))


@dataclasses.dataclass(frozen=True)
class Results:
  """What was found of a study.

  Attributes:
    agents: by name, those that have rollouts.
    rollouts: of each of them.
    speeds: decisions a second of each of them, where it is known.
    missing: cells that have no results yet.
  """

  agents: dict[str, Agent]
  rollouts: dict[str, list[Rollout]]
  speeds: dict[str, float]
  missing: tuple[str, ...]


def read(agents: Iterable[Agent]) -> Results:
  """Reads what is there of the agents' rollouts.

  Raises:
    RecordError: a file is broken, or an agent's files are of different agents
      or rules.
  """
  found, rollouts, speeds, missing = {}, {}, {}, []
  for agent in agents:
    sources = tuple(s for s in agent.sources if s.rollouts.is_file())
    missing += [s.cell for s in agent.sources if s not in sources]
    files = [read_rollouts(source.rollouts) for source in sources]
    # The name in the study counts: what was played is the same file.
    played = merge(
      dataclasses.replace(one, agent=agent.name)
      for file in files
      for one in file
    )
    if played:
      found[agent.name] = dataclasses.replace(agent, sources=sources)
      rollouts[agent.name] = played
      speed = decisions_per_second(files)
      if speed:
        speeds[agent.name] = speed
  return Results(found, rollouts, speeds, tuple(dict.fromkeys(missing)))


def decisions_per_second(files: Sequence[Sequence[Rollout]]) -> float | None:
  """How fast was played, compiling and emulators included.

  A rollout's seconds are from when its batch began; they fall where another
  batch begins, or an evaluation that was interrupted goes on.

  Args:
    files: rollouts in the order in which they ended.

  Returns:
    Decisions a second of all environments together; None where nothing was
    timed, as of recorded play.
  """
  decisions, seconds = 0, 0.0
  for file in files:
    last = 0.0
    for one in file:
      if one.seconds < last:
        seconds += last
      last = one.seconds
      decisions += one.decisions
    seconds += last
  return decisions / seconds if seconds else None
