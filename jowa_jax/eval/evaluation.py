"""An evaluation on disk: games in batches, resumed, and shared by machines.

What is played is a list of rollouts. Each is written as it ends, and played
again in no case: starting the same evaluation again plays what is missing, and
comes to the same scores.
"""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jowa_jax.envs import ale
from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval import records, rollout
from jowa_jax.eval.records import Rollout
from jowa_jax.methods.acting import Acting
from jowa_jax.methods.base import Policy
from jowa_jax.train import sharding

# Environments in a batch, where nothing else is asked for.
MAX_ENVIRONMENTS = 64


class Shard(NamedTuple):
  """Which part of the rollouts of every game is played."""

  index: int = 1  # from 1
  count: int = 1

  @classmethod
  def parse(cls, text: str) -> 'Shard':
    """Reads 'i/n'.

    Raises:
      ValueError: it is none, or i is not in 1..n.
    """
    found = re.fullmatch(r'(\d+)/(\d+)', text)
    shard = cls(*map(int, found.groups())) if found else cls(0)
    if not 1 <= shard.index <= shard.count:
      raise ValueError(
        f'--shard={text} must be i/n with i from 1 to n, such as 1/4'
      )
    return shard

  def file(self, path: str | os.PathLike) -> pathlib.Path:
    """Where the shard is written: beside the others'."""
    path = pathlib.Path(path)
    if self.count == 1:
      return path
    return path.with_name(
      f'{path.stem}.{self.index}of{self.count}{path.suffix}'
    )

  def numbers(self, rollouts: int) -> list[int]:
    """The rollouts of the shard.

    Raises:
      ValueError: it has none.
    """
    numbers = list(range(self.index - 1, rollouts, self.count))
    if not numbers:
      raise ValueError(
        f'{rollouts} rollouts leave none for shard {self.index} of '
        f'{self.count}: use at most {rollouts} shards'
      )
    return numbers


WHOLE = Shard()


class EvaluatedAgent(NamedTuple):
  """Who plays."""

  name: str  # in the records
  policy: Callable[..., Policy]  # of options
  variables: Any
  source: Mapping[str, Any]  # where it comes from, for the records
  acting: type[Acting] = Acting  # its options


class Batch(NamedTuple):
  """Games that are played together, by one program."""

  games: tuple[str, ...]
  options: dict[str, Any]  # of the policy


def make_batches(
  games: Sequence[str], options: Mapping[str, Mapping[str, Any]], limit: int
) -> list[Batch]:
  """Puts games together whose policy has the same options.

  Args:
    games: in which order they are played.
    options: of each game's policy.
    limit: most games of a batch.
  """
  alike: dict[str, list[str]] = {}
  for game in games:
    key = json.dumps(options[game], sort_keys=True)
    alike.setdefault(key, []).append(game)
  return [
    Batch(tuple(same[i : i + limit]), dict(options[same[0]]))
    for same in alike.values()
    for i in range(0, len(same), limit)
  ]


def play(
  player: EvaluatedAgent,
  games: Sequence[str],
  protocol: Protocol,
  seed: int,
  output: str | os.PathLike,
  *,
  options: Mapping[str, Mapping[str, Any]] | None = None,
  shard: Shard = WHOLE,
  slots_per_game: int | None = None,
  max_environments: int = MAX_ENVIRONMENTS,
  shrink: bool = False,
  rom_directory: str | os.PathLike = '',
  progress: bool = True,
) -> list[Rollout]:
  """Plays what is missing of an evaluation.

  Args:
    player: who plays.
    games: distinct names.
    protocol: the rules.
    seed: of emulators and exploration, in [0, 2^31).
    output: JSON lines; a shard's name gets its number. What they hold already
      is not played again.
    options: of the policy in each game, beside epsilon.
    shard: which rollouts to play.
    slots_per_game: environments of a game at once; by default one for each of
      its rollouts, as far as `max_environments` reaches.
    max_environments: of a batch, of one or several games.
    shrink: whether a batch gets smaller as episodes end, see
      `rollout.evaluate`.
    rom_directory: of other cartridges than ale-py's, see `envs.ale.rom_path`.
    progress: whether to draw a progress bar.

  Returns:
    The rollouts of the games and the shard, old and new, by game and number.

  Raises:
    RecordError: the file is broken, of another evaluation, or in use.
    ValueError: a bad game, seed, option or number.
    FloatingPointError: values are not finite.
  """
  numbers = shard.numbers(protocol.rollouts)
  slots = slots_per_game
  if slots is None:
    slots = min(len(numbers), max_environments)
  if not 1 <= slots <= min(len(numbers), max_environments):
    raise ValueError(
      f'slots_per_game={slots} must be from 1 to the {len(numbers)} rollouts, '
      f'and to max_environments={max_environments}'
    )
  if not 0 <= seed < 2**31:
    raise ValueError(f'seed={seed} must be at least 0 and below 2^31')
  wanted = {game: dict((options or {}).get(game, {})) for game in games}
  if any('epsilon' in chosen for chosen in wanted.values()):
    raise ValueError("epsilon is the protocol's, and no option of an agent")
  batches = make_batches(games, wanted, max_environments // slots)
  # Policies first: an option that is none must not wait for the games before.
  policies = [
    player.policy(epsilon=protocol.epsilon, **batch.options)
    for batch in batches
  ]
  setups = {
    game: _setup(player, protocol, seed, batch, slots)
    | {'shrinks': shrink, 'rom': ale.rom_checksum(game, rom_directory)}
    for batch in batches
    for game in batch.games
  }
  with records.appended(shard.file(output), player.name, setups) as (
    found,
    append,
  ):
    done = {(r.game, r.rollout) for r in found}
    for batch, policy in zip(batches, policies, strict=True):
      if done.issuperset((game, n) for game in batch.games for n in numbers):
        continue
      found += rollout.evaluate(
        policy,
        player.variables,
        batch.games,
        protocol,
        seed,
        agent=player.name,
        numbers=numbers,
        done=done,
        slots_per_game=slots,
        shrink=shrink,
        setups=setups,
        on_rollout=append,
        rom_directory=rom_directory,
        progress=progress,
      )
  order = {game: i for i, game in enumerate(games)}
  chosen = [r for r in found if r.game in order and r.rollout in numbers]
  return sorted(chosen, key=lambda r: (order[r.game], r.rollout))


def _setup(
  player: EvaluatedAgent,
  protocol: Protocol,
  seed: int,
  batch: Batch,
  slots: int,
) -> dict[str, Any]:
  """What a rollout's outcome depends on, but for game and number.

  And how many rollouts there will be, for who reads an unfinished file.
  """
  rules = dataclasses.asdict(protocol)
  environments = slots * len(batch.games)
  return {
    **player.source,
    'rollouts': rules.pop('rollouts'),
    'options': batch.options,
    'protocol': rules,
    'seed': seed,
    # By rounding: kernels differ from one size of a batch, and from one kind of
    # device, to another.
    'environments': environments,
    'devices': [
      sharding.acting_mesh(environments).size,
      jax.devices()[0].device_kind,
    ],
  }
