"""What the fields of `configs/quickstart.py` mean and must be.

Minutes are how long something takes on some machine; what is left of all of it
is reckoned from them.
"""

import dataclasses

PLAY, NEW = 'play', 'new'
RANDOM = 'random'
TRAIN, FINETUNE = 'train', 'finetune'
# Names in a work directory that no run can have.
_TAKEN = ('data', 'tokens', 'eval', 'report', RANDOM)


def _check_minutes(minutes: float, name: str = 'minutes') -> None:
  if minutes <= 0:
    raise ValueError(f'{name}={minutes} is not positive')


@dataclasses.dataclass(frozen=True)
class Settings:
  """All of it; the sections are classes below."""

  games: str
  new_game: str
  recordings: str
  seed: int
  pretrained: dict
  data: dict
  runs: dict
  judge: dict
  evaluate: dict

  def __post_init__(self):
    if not self.data or set(self.data) - {PLAY, NEW}:
      raise ValueError(
        f'data={sorted(self.data)} must be {PLAY!r}, {NEW!r} or both'
      )
    if self.new_game and NEW not in self.data:
      raise ValueError(f'new_game={self.new_game!r} needs data.{NEW}')
    if PLAY in self.data and not self.games:
      raise ValueError(f'games is empty: data.{PLAY} needs some')
    names = {*self.runs} - {'order'}
    for name in sorted(names & {*self.pretrained, *_TAKEN}):
      raise ValueError(f'runs.{name}: the name is taken')
    order = tuple(self.runs.get('order', ()))
    if sorted(order) != sorted(names):
      raise ValueError(f'runs.order={order} must name {sorted(names)}')


@dataclasses.dataclass(frozen=True)
class Data:
  """Which part of the recordings of its games is played again."""

  checkpoints: tuple[int, ...]
  steps_per_checkpoint: int
  minutes: float

  def __post_init__(self):
    _check_minutes(self.minutes)
    if self.steps_per_checkpoint < 0:
      raise ValueError(
        f'steps_per_checkpoint={self.steps_per_checkpoint} is negative'
      )


@dataclasses.dataclass(frozen=True)
class Training:
  """A run of training."""

  kind: str
  data: str
  config: dict
  source: str
  model: str
  minutes: float

  def __post_init__(self):
    _check_minutes(self.minutes)
    if self.kind not in (TRAIN, FINETUNE):
      raise ValueError(f'kind={self.kind!r} is not {TRAIN} or {FINETUNE}')
    if self.kind == TRAIN and self.model:
      raise ValueError(f'model={self.model!r} goes with kind={FINETUNE}')
    if self.kind == FINETUNE and self.data != NEW:
      raise ValueError(f'data={self.data!r}: {FINETUNE} is for {NEW!r}')


@dataclasses.dataclass(frozen=True)
class Judge:
  """Of whom it is shown what it sees and dreams."""

  agent: str  # empty for nobody
  cloner: str
  num_dreams: int
  decisions: int
  minutes: float

  def __post_init__(self):
    _check_minutes(self.minutes)
    for name in ('num_dreams', 'decisions'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name} must be at least 1, for the report')
    if self.cloner and not self.agent:
      raise ValueError(f'cloner={self.cloner!r} goes with an agent')


@dataclasses.dataclass(frozen=True)
class AgentConfig:
  """Who plays."""

  agent: str  # a run, a pretrained agent, or 'random'
  title: str
  note: str
  options: dict  # of the method's policy
  minutes: float

  def __post_init__(self):
    _check_minutes(self.minutes)


@dataclasses.dataclass(frozen=True)
class Chapter:
  """A table that the page begins with."""

  title: str
  text: str
  agents: tuple[str, ...]  # players, or 'data'


@dataclasses.dataclass(frozen=True)
class Evaluate:
  """By which rules is played, by whom, and what is shown of it."""

  protocol: dict
  agents: dict
  films: tuple[str, ...]
  film_decisions: int
  film_minutes: float
  chapters: dict

  def __post_init__(self):
    _check_minutes(self.film_minutes, 'film_minutes')
