"""One page's play: a session, its pace, and what the page is told.

Every page has a session of its own. A page that is gone stops its session's
work at once; the session waits a while for the page to come back.
"""

import asyncio
import collections
import dataclasses
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any, Protocol

from jowa_jax.play import wire
from jowa_jax.play.programs import Programs
from jowa_jax.play.session import REWIND, Session

# Decisions that are on the way to a page at most.
_UNSEEN = 4
# Deeds and settings of a page that wait to be done, at most.
_WAITING = 32


class Socket(Protocol):
  """What a viewer needs of a connection."""

  async def send_bytes(self, data: bytes) -> None: ...

  async def send_json(self, data: Any) -> None: ...


class TooMuch(Exception):
  """A page asks for more than is done for one page."""


class Viewer:
  """A session that pages come and go from, one at a time.

  Attributes:
    name: that a page comes back with; nobody can guess it.
    session: what is played.
    left_at: when the last page left, by `time.monotonic`; None while one is
      there.
  """

  def __init__(
    self,
    name: str,
    programs: Programs,
    games: tuple[str, ...],
    session: Session,
    workers: futures.Executor,
    watching: bool,
  ):
    """Makes the session ready for a page.

    Args:
      name: see above.
      programs: of the agent.
      games: that the page may choose.
      session: that has just begun.
      workers: where sessions are stepped.
      watching: whether the agent plays from the start.
    """
    self.name = name
    self.session = session
    self.left_at: float | None = time.monotonic()
    self._programs, self._games = programs, games
    self._workers = workers
    self._speed = 15.0
    self._held = self._pressed = 0
    self._sent = self._seen = 0
    self._playing = asyncio.Event()
    self._waiting: collections.deque[wire.Message] = collections.deque()
    self._woken = asyncio.Event()
    # One thing at a time is done with a session.
    self._lock = asyncio.Lock()
    if watching:
      self.session.settings.player = 'greedy'
      self.session.settings.branch_every = 60
      self._playing.set()

  def told(self) -> dict[str, Any]:
    """How everything is set, for the page's controls."""
    session = self.session
    return {
      **dataclasses.asdict(session.settings),
      'game': session.game,
      'legal': list(session.legal),
      'speed': self._speed,
      'playing': self._playing.is_set(),
      'dream_on': session.dream_on,
      'rewindable': session.rewindable,
    }

  def hear(self, text: str) -> None:
    """Takes what a page sent.

    Raises:
      ValueError: it cannot be.
      TooMuch: the page sends faster than anything can be done.
    """
    message = wire.parse(text, self._games, self._programs.max_horizon)
    if message.held is not None:
      self._held = message.held
    self._pressed |= message.pressed
    if message.seen is not None:
      self._seen = message.seen
    if message.deed or message.changes:
      if len(self._waiting) >= _WAITING:
        raise TooMuch
      self._waiting.append(message)
    self._woken.set()

  async def play(self, socket: Socket, hello: Any) -> None:
    """Greets a page, and plays until cancelled, at the pace that is set."""
    self._sent = self._seen = 0
    await socket.send_json({'hello': hello})
    await self._tell(socket)
    due = time.monotonic()
    while True:
      await self._do_what_waits(socket)
      if not self._playing.is_set():
        await self._woken.wait()
        due = time.monotonic()
        continue
      if self._sent - self._seen >= _UNSEEN:
        await self._woken.wait()
        continue
      await self._decide(socket)
      due = max(due + 1 / self._speed, time.monotonic())
      await asyncio.sleep(due - time.monotonic())

  async def with_session(self, function: Callable[[Session], Any]) -> Any:
    """What a function of the session returns, between two decisions."""
    await self._lock.acquire()
    loop = asyncio.get_running_loop()
    done = loop.run_in_executor(self._workers, function, self.session)
    # A thread cannot be cancelled: whoever is next waits for it.
    done.add_done_callback(lambda _: self._lock.release())
    return await asyncio.shield(done)

  async def _decide(self, socket: Socket) -> None:
    """Takes a decision and sends what it led to."""
    settings = self.session.settings
    size = settings.width, settings.horizon
    if settings.player == 'planning' and size not in self._programs.planned:
      width, horizon = size
      note = f'Compiling a plan of width {width} and horizon {horizon} …'
      await socket.send_json({'note': note})
    keys, self._pressed = self._held | self._pressed, 0
    start = time.monotonic()
    try:
      shown = await self.with_session(lambda session: session.step(keys))
    except (ValueError, FloatingPointError) as error:
      self._playing.clear()
      await socket.send_json({'error': str(error)})
      return
    spent = 1000 * (time.monotonic() - start)
    self._sent += 1
    await socket.send_bytes(wire.pack(shown, self.session.legal, spent))

  async def _do_what_waits(self, socket: Socket) -> None:
    """Does what the page asked for, and tells it how things are then."""
    self._woken.clear()
    if not self._waiting:
      return
    while self._waiting:
      message = self._waiting.popleft()
      try:
        for name, value in message.changes.items():
          await self._set(name, value)
        if message.deed:
          await self._do(message.deed)
      except (ValueError, FloatingPointError) as error:
        await socket.send_json({'error': str(error)})
    await self._tell(socket)

  async def _set(self, name: str, value: Any) -> None:
    if name == 'speed':
      self._speed = value
    elif name == 'game':
      if value != self.session.game:
        settings = self.session.settings
        self.session = await self.with_session(
          lambda session: Session(self._programs, value)
        )
        self.session.settings = settings
    else:
      setattr(self.session.settings, name, value)

  async def _do(self, deed: str) -> None:
    if deed in ('play', 'pause'):
      (self._playing.set if deed == 'play' else self._playing.clear)()
      return
    deeds = {
      'branch': lambda session: session.branch(),
      'dream_on': lambda session: session.set_dream_on(True),
      'dream_off': lambda session: session.set_dream_on(False),
      'restart': lambda session: session.restart(),
      'rewind': lambda session: session.rewind(REWIND),
    }
    await self.with_session(deeds[deed])

  async def _tell(self, socket: Socket) -> None:
    await socket.send_json({'settings': self.told()})
    shown = await self.with_session(lambda session: session.now())
    self._sent += 1
    await socket.send_bytes(wire.pack(shown, self.session.legal, 0.0))
