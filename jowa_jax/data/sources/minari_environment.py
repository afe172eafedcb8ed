"""What a data set's environment says of its steps: game, frames and ends."""

import dataclasses
import json
from typing import Any

from jowa_jax import games
from jowa_jax.data.episodes import DataError

FRAMES_PER_DECISION = 4
# Of wrappers that hold an action for several steps: what says for how many.
_SKIPS = ('frame_skip', 'frameskip', 'skip')
_LIVES = 'terminal_on_life_loss'


@dataclasses.dataclass(frozen=True)
class Environment:
  """How a data set was played, as far as it says so.

  Attributes:
    where: the data set, for messages.
    game: a name in `games.GAMES`; None of what is no Atari game.
    frame_skip: emulator frames of a step; four where nothing is said of them.
    switches: mode and difficulty that were set, by name.
    ends_with_lives: whether losing a life ended episodes.
  """

  where: str
  game: str | None
  frame_skip: Any = FRAMES_PER_DECISION
  switches: tuple[tuple[str, int], ...] = ()
  ends_with_lives: bool = False

  @property
  def steps_per_decision(self) -> int:
    """How many steps are one decision of four frames."""
    return FRAMES_PER_DECISION // self.frame_skip

  @property
  def joins_frames(self) -> bool:
    """Whether the last two frames of a decision are both there to be joined."""
    return self.frame_skip == 1

  def check(self) -> None:
    """Raises DataError if its steps cannot become decisions of this game."""
    if not isinstance(self.frame_skip, int) or self.frame_skip not in (1, 2, 4):
      raise DataError(
        f'{self.where} was played at a frame skip of {self.frame_skip}: '
        f'decisions here are of {FRAMES_PER_DECISION} frames, which steps of '
        '1, 2 or 4 make up'
      )
    if not self.switches:
      return
    from jowa_jax.envs import ale

    defaults = dict(
      zip(
        ('mode', 'difficulty'),
        (values[0] for values in ale.switches(self.game)),
        strict=True,
      )
    )
    for name, value in self.switches:
      if value != defaults[name]:
        raise DataError(
          f'{self.where} was played in {name} {value} of {self.game}, which is '
          f'another game than its default ({name} {defaults[name]})'
        )


def describe_environment(
  where: str, name: str, spec: str | None
) -> Environment:
  """Reads the environment of a data set.

  Args:
    where: the data set, for messages.
    name: its id, which may name the game where no environment does.
    spec: Gymnasium's `EnvSpec` as JSON, if there is one.
  """
  named = (_game_named(part) for part in name.split('/'))
  from_name = next((game for game in named if game), None)
  if spec is None:
    return Environment(where, from_name)
  facts = json.loads(spec)
  kwargs = facts.get('kwargs') or {}
  game = _game_named(str(kwargs.get('game', ''))) or _game_named(
    str(facts.get('id', ''))
  )
  wrappers = [
    (str(wrapper.get('name', '')), wrapper.get('kwargs') or {})
    for wrapper in facts.get('additional_wrappers') or ()
  ]
  skip = kwargs.get('frameskip', FRAMES_PER_DECISION)
  for _, options in wrappers:
    held = next((options[key] for key in _SKIPS if key in options), 1)
    skip = skip * held if isinstance(skip, int) else skip
  return Environment(
    where,
    game or from_name,
    tuple(skip) if isinstance(skip, list) else skip,
    tuple(
      (switch, int(kwargs[switch]))
      for switch in ('mode', 'difficulty')
      if kwargs.get(switch) is not None
    ),
    any(
      options.get(_LIVES) or kind.startswith('EpisodicLife')
      for kind, options in wrappers
    ),
  )


def _game_named(text: str) -> str | None:
  """The game that a name is of, None if it is of none."""
  if not text or text in games.GAME_LISTS:
    return None
  try:
    (game,) = games.parse_games([text])
  except ValueError:
    return None
  return game
