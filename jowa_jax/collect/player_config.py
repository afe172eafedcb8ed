"""How a player learns from memory: what `network_training` is told."""

import dataclasses
from collections.abc import Sequence

from jowa_jax import games

# Decisions of each environment between two updates of a player that learns.
ROLLOUT = 128


@dataclasses.dataclass(frozen=True)
class PlayerConfig:
  """How a player learns.

  Attributes:
    game: that it learns to play.
    decisions: of all environments together, at least.
    actions: those that it chooses among, of ALE's 18; few are learned, and
      imitated, sooner. All that are legal if empty.
    checkpoints: files that are kept, at equal distances, the last at the end.
    environments: that play at once, one after the other.
    max_episode_steps: decisions after which an episode is cut off.
    epsilon: the chance of a random decision, so that what it learns does not
      hang on a single course of events.
    seed: of the weights and of all chance.
  """

  game: str
  decisions: int = 1_500_000
  actions: Sequence[int] = ()
  checkpoints: int = 5
  environments: int = 16
  max_episode_steps: int = 2000
  epsilon: float = 0.02
  seed: int = 0

  def __post_init__(self):
    games.check_game(self.game)
    legal = games.LEGAL_ACTIONS[self.game]
    if wrong := set(self.actions) - set(legal):
      raise ValueError(
        f'actions {sorted(wrong)} are not legal in {self.game}, which has '
        f'{legal}'
      )
    for name in (
      'decisions',
      'checkpoints',
      'environments',
      'max_episode_steps',
    ):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} must be at least 1')
    if not 0 <= self.epsilon <= 1:
      raise ValueError(f'epsilon={self.epsilon} is no probability')
    least = (self.checkpoints - 2) * ROLLOUT * self.environments + 1
    if self.decisions < least:
      raise ValueError(
        f'decisions={self.decisions} are too few for {self.checkpoints} '
        f'checkpoints of {self.environments} environments: at least {least}'
      )

  @property
  def choices(self) -> tuple[int, ...]:
    return tuple(self.actions) or games.LEGAL_ACTIONS[self.game]
