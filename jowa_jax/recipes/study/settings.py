"""What the fields of `configs/study.py` mean and must be."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Command:
  """A script of `launch/` and its flags.

  Attributes:
    script: its name, such as 'train'.
    flags: by name. Texts may hold '{study}' and '{cell}', the directories of
      the study and of the cell, and the names of `StudyConfig.places`.
    set: fields of the config that `flags` names, by section.
    minutes: how long it is expected to take on one device; 0 asks its config
      how much it computes.
  """

  script: str
  flags: dict
  set: dict = dataclasses.field(default_factory=dict)
  minutes: float = 0.0

  def __post_init__(self):
    if self.minutes < 0:
      raise ValueError(f'minutes={self.minutes} is negative')
    if self.set and 'config' not in self.flags:
      raise ValueError(
        f'set={self.set} are fields of a config: give flags.config'
      )


@dataclasses.dataclass(frozen=True)
class CellConfig:
  """One place in the table: what is learned, from what, and who plays then.

  Attributes:
    method: a name in `methods.factory.METHODS`; empty for play that nothing
      was trained for.
    size: the model's, as its config names it.
    games: those that it is scored in.
    data: what it learns from, in a word.
    quality: of the data that a game is fine-tuned on; empty for no
      fine-tuning.
    ablation: what is otherwise than in the method; empty for nothing.
    seed: of training.
    agents: who plays: planners by the names of agents, whose rollouts are
      `results/<agent>.jsonl` in the cell. One agent may play in several cells:
      seeds of one training, or games that it was fine-tuned on.
    needs: cells that come first.
    shared: whether each machine that needs the cell makes it for itself where
      it is not there; others are of one machine's share.
    commands: by name, see `Command`, and their `order`.
  """

  commands: dict
  method: str = ''
  size: str = ''
  games: tuple[str, ...] = ()
  data: str = ''
  quality: str = ''
  ablation: str = ''
  seed: int = 0
  agents: dict = dataclasses.field(default_factory=dict)
  needs: tuple[str, ...] = ()
  shared: bool = False

  def __post_init__(self):
    order = tuple(self.commands.get('order', ()))
    if sorted(order) != sorted({*self.commands} - {'order'}):
      raise ValueError(
        f'commands.order={order} must name {sorted({*self.commands})}'
      )


@dataclasses.dataclass(frozen=True)
class StudyConfig:
  """All of a study.

  Attributes:
    title: what the report is headed by.
    text: what was compared, and how, in a sentence or two.
    device: what `Command.minutes` are those of, such as 'two CPU cores'.
    flops: operations a second that one such device reaches in training, for
      commands without minutes.
    places: directories outside the study, by the names that flags have for
      them in braces.
    cells: by name, see `CellConfig`.
  """

  title: str
  text: str
  device: str
  flops: float
  places: dict
  cells: dict

  def __post_init__(self):
    if not self.flops > 0:
      raise ValueError(f'flops={self.flops} must be above 0')
    if not self.cells:
      raise ValueError('cells is empty')
    for name in self.cells:
      if not re.fullmatch(r'\w+', name):
        raise ValueError(f'cells.{name}: letters, digits and _ make a name')
