"""How fast play is: pages of a server, and dreamed environments."""

import contextlib
import json
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import uvicorn
from absl import logging
from websockets.sync.client import connect

from jowa_jax import agent as agent_lib
from jowa_jax import games as games_lib
from jowa_jax.agent import Agent
from jowa_jax.bench import models
from jowa_jax.envs.dream import DreamVectorEnv
from jowa_jax.envs.protocol import Protocol
from jowa_jax.envs.vector import AtariEnvs
from jowa_jax.play import dreams, server, wire
from jowa_jax.play.programs import Programs
from jowa_jax.play.session import warm_up
from jowa_jax.play.states import PLAYERS

# Pages at a time, of a server that has much to do, and how many leave at once.
_PAGES, _LEAVING = 20, 3


def measure(
  checkpoint: str,
  game: str | None,
  environments: Sequence[int],
  seconds: float,
) -> list[dict[str, Any]]:
  """Measures environments and pages of one agent.

  Args:
    checkpoint: of a run, or packed.
    game: that it was trained on; its first by default.
    environments: how many are stepped together.
    seconds: of each rate, at least. Pages of each player are served so long.

  Returns:
    A record of each rate: what is measured, steps or decisions a second of all
    together, and MiB that memory grew by where pages are served: in all of the
    time, in which the last minute of play fills, and in the second half of it.

  Raises:
    ValueError: the agent cannot dream, or was not trained on the game.
  """
  agent = agent_lib.load(checkpoint)
  game = game or agent.games[0]
  records = []
  for some in (
    *(_environments(agent, game, count, seconds) for count in environments),
    _pages(agent, game, seconds),
  ):
    for record in some:
      # Long measurements are worth something before they end.
      logging.info('%s', record)
      records.append(record)
  return records


def _record(what: str, count: int, rate: float, held: Sequence[float] = ()):
  """A record; `held` is memory at the beginning, the middle and the end."""
  grown, late = (
    (held[-1] - held[0], held[-1] - held[1]) if held else (None,) * 2
  )
  return {
    'what': what,
    'count': count,
    'per_second': rate,
    'grown_mib': grown,
    'grown_late_mib': late,
  }


def _environments(
  agent: Agent, game: str, count: int, seconds: float
) -> Iterator[dict[str, Any]]:
  contexts = dreams.played_contexts(
    game, 256, max(1, agent.simulator.max_steps // 2)
  )
  rng = np.random.default_rng(0)
  for observations in ('tokens', 'frames'):
    envs = DreamVectorEnv(
      agent, game, contexts, count, observations=observations
    )
    envs.reset(seed=0)

    def step(envs=envs):
      envs.step(rng.integers(0, len(envs.legal), count))

    rate = count * _rate(step, seconds)
    yield _record(f'dreamed, {observations}', count, rate)
  real = AtariEnvs([game], count, Protocol())
  real.reset(0)
  legal = np.array(games_lib.LEGAL_ACTIONS[game])
  yield _record(
    'emulated',
    count,
    count * _rate(lambda: real.step(rng.choice(legal, count)), seconds),
  )


def _rate(call: Callable[[], Any], seconds: float) -> float:
  """Calls a second, once compiled."""
  call()
  call()
  start, calls = time.monotonic(), 0
  while time.monotonic() - start < seconds:
    call()
    calls += 1
  return calls / (time.monotonic() - start)


def _pages(agent: Agent, game: str, seconds: float) -> Iterator[dict[str, Any]]:
  programs = Programs(agent)
  warm_up(programs, game)
  with _serving(programs, game) as address:
    for player in PLAYERS:
      with _Page(address, player) as page:
        page.draw(1.0)
        held, start = [_memory()], time.monotonic()
        drawn = 0
        for _ in range(2):
          drawn += page.draw(seconds / 2)
          held.append(_memory())
        rate = drawn / (time.monotonic() - start)
        yield _record(f'page, {player}', 1, rate, held)
    yield from _crowd(address, seconds)


def _crowd(address: str, seconds: float) -> Iterator[dict[str, Any]]:
  """Many pages, of which some leave in the middle."""
  with contextlib.ExitStack() as stack:
    pages = [
      stack.enter_context(_Page(address, 'greedy')) for _ in range(_PAGES)
    ]
    drawn = _together(pages, seconds / 2)
    for page in pages[:_LEAVING]:
      page.close()
    left = _together(pages[_LEAVING:], seconds / 2)
    if not left.all():
      raise ValueError('A page was lost as others left')
    rate = float(drawn.sum() / (seconds / 2))
    yield _record('pages, greedy', _PAGES, rate)
    rate = float(left.sum() / (seconds / 2))
    yield _record('pages, some left', len(left), rate)


def _together(pages: Sequence['_Page'], seconds: float) -> np.ndarray:
  """Decisions that each page draws, [N]."""
  drawn = np.zeros(len(pages), int)

  def draw(row: int) -> None:
    drawn[row] = pages[row].draw(seconds)

  threads = [
    threading.Thread(target=draw, args=(row,)) for row in range(len(pages))
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  return drawn


@contextlib.contextmanager
def _serving(programs: Programs, game: str) -> Iterator[str]:
  """The address of a server that runs in a thread."""
  listening = server.bind('127.0.0.1', 0)
  serves = server.Server(
    programs, server.ServerConfig(game, max_viewers=_PAGES)
  )
  runs = uvicorn.Server(server.uvicorn_config(serves.application()))
  thread = threading.Thread(target=runs.run, kwargs={'sockets': [listening]})
  thread.start()
  try:
    yield f'127.0.0.1:{listening.getsockname()[1]}'
  finally:
    runs.should_exit = True
    thread.join()
    serves.close()


class _Page:
  """A page that draws as fast as it gets anything, at the highest speed."""

  def __init__(self, address: str, player: str):
    self._socket = connect(f'ws://{address}/play', proxy=None)
    self._seen = 0
    self._say(set={'player': player, 'speed': wire.FASTEST}, do='play')

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()

  def close(self) -> None:
    self._socket.close()

  def draw(self, seconds: float) -> int:
    """Draws for so long; returns how many decisions."""
    end, drawn = time.monotonic() + seconds, 0
    while time.monotonic() < end:
      data = self._socket.recv(timeout=60)
      if isinstance(data, bytes):
        self._seen += 1
        drawn += 1
        self._say(seen=self._seen)
    return drawn

  def _say(self, **message: Any) -> None:
    self._socket.send(json.dumps(message))


def _memory() -> float:
  """MiB that the process holds; 0 where that cannot be asked."""
  status = pathlib.Path('/proc/self/status')
  if not status.is_file():
    return 0.0
  (line,) = (x for x in status.read_text().splitlines() if 'VmRSS' in x)
  return int(line.split()[1]) / 1024


_COLUMNS = (
  ('what', '{}', 16),
  ('count', '{}', 5),
  ('per_second', '{:.1f}', 8),
  ('grown_mib', '{:.1f}', 10),
  ('grown_late_mib', '{:.1f}', 20),
)
_HEADS = ('what', 'count', 'a second', 'grown, MiB', '... in the last half')


def describe(records: Sequence[Mapping[str, Any]]) -> str:
  """A table; rates are of all together."""
  return models.table(_HEADS, _COLUMNS, records)
