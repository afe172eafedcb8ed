"""The web server of `launch.play`: one page, a WebSocket, two downloads."""

import asyncio
import contextlib
import dataclasses
import pathlib
import secrets
import socket as socket_lib
import tempfile
import time
from concurrent import futures
from importlib import resources
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from jowa_jax import games as games_lib
from jowa_jax import processes
from jowa_jax.collect import recordings
from jowa_jax.play import film, guard, wire
from jowa_jax.play.programs import Programs
from jowa_jax.play.session import Session
from jowa_jax.play.viewer import TooMuch, Viewer

# What the page loads.
_ASSETS = {
  'play.css': 'text/css',
  'drawing.js': 'text/javascript',
  'play.js': 'text/javascript',
  'play.svg': 'image/svg+xml',
}
# Of WebSockets: taken over by another page, full, asked too much.
_TAKEN_OVER, _FULL, _POLICY = 4001, 1013, 1008


@dataclasses.dataclass(frozen=True)
class ServerConfig:
  """How a server is set up.

  Attributes:
    game: that pages begin with.
    watching: whether the agent plays by itself.
    max_viewers: sessions at a time.
    patience: seconds that a session waits for its page to come back.
  """

  game: str
  watching: bool = False
  max_viewers: int = 20
  patience: float = 60.0

  def __post_init__(self):
    if self.max_viewers < 1 or self.patience < 0:
      raise ValueError(
        f'max_viewers={self.max_viewers} must be at least 1 and '
        f'patience={self.patience} at least 0'
      )


class Server:
  """The sessions of all pages.

  Attributes:
    viewers: by name.
  """

  def __init__(self, programs: Programs, config: ServerConfig):
    """Starts nothing yet, see `application`.

    Args:
      programs: of the agent.
      config: how it is set up.

    Raises:
      ValueError: the agent was not trained on the game.
    """
    self.viewers: dict[str, Viewer] = {}
    self._programs, self._config = programs, config
    games = programs.agent.games
    # A variant is one of the games, too.
    self._games = tuple(dict.fromkeys((config.game, *games)))
    cores = processes.num_cores()
    self._workers = futures.ThreadPoolExecutor(cores, 'play')
    self._film = futures.ThreadPoolExecutor(1, 'film')
    self._playing: dict[str, asyncio.Task] = {}
    self._beginning = 0

  def application(self, token: str = '') -> Any:
    """The ASGI application.

    Args:
      token: that addresses must carry, see `guard.make_token`.
    """
    self._token = token
    app = Starlette(
      routes=[
        Route('/', self._page),
        *(Route(f'/{name}', self._asset) for name in _ASSETS),
        Route('/film.mp4', self._download_film),
        Route('/episode.npz', self._download_episode),
        WebSocketRoute('/play', self._socket),
      ],
    )
    return guard.Guard(app, token)

  def close(self) -> None:
    """Ends the threads; nothing is served any more."""
    self._workers.shutdown(cancel_futures=True)
    self._film.shutdown(cancel_futures=True)

  async def _page(self, request: Request) -> Response:
    del request
    query = f'?token={self._token}' if self._token else ''
    page = _asset('play.html').replace('{{query}}', query)
    return Response(page, media_type='text/html')

  async def _asset(self, request: Request) -> Response:
    name = request.url.path.rpartition('/')[2]
    return Response(_asset(name), media_type=_ASSETS[name])

  async def _download_film(self, request: Request) -> Response:
    viewer = self.viewers.get(request.query_params.get('session', ''))
    if viewer is None:
      return _gone()
    session = viewer.session
    scenes = await viewer.with_session(lambda session: list(session.scenes()))
    loop = asyncio.get_running_loop()
    try:
      data = await loop.run_in_executor(self._film, _film, scenes, session.game)
    except ValueError as error:
      return PlainTextResponse(f'{error}\n', 409)
    return _attachment(data, _file_name(session.game, 'mp4'), 'video/mp4')

  async def _download_episode(self, request: Request) -> Response:
    viewer = self.viewers.get(request.query_params.get('session', ''))
    if viewer is None:
      return _gone()
    try:
      data = await viewer.with_session(_episode)
    except ValueError as error:
      return PlainTextResponse(f'{error}\n', 409)
    name = _file_name(viewer.session.game, 'npz')
    return _attachment(data, name, 'application/octet-stream')

  async def _socket(self, socket: WebSocket) -> None:
    """Serves one page until it is gone."""
    await socket.accept()
    name = socket.query_params.get('session', '')
    viewer = self.viewers.get(name) or await self._begin()
    if viewer is None:
      most = self._config.max_viewers
      await socket.close(_FULL, f'All {most} places are taken: try later')
      return
    before = self._playing.pop(viewer.name, None)
    if before is not None:
      # The same page in two tabs, or one that was not seen to leave.
      before.cancel('taken over')
    viewer.left_at = None
    playing = asyncio.create_task(viewer.play(socket, self._hello(viewer)))
    self._playing[viewer.name] = playing
    hearing = asyncio.create_task(_hear(socket, viewer))
    try:
      await asyncio.wait(
        [playing, hearing], return_when=asyncio.FIRST_COMPLETED
      )
    finally:
      for task in (playing, hearing):
        task.cancel()
      ends = await asyncio.gather(playing, hearing, return_exceptions=True)
      if self._playing.get(viewer.name) is playing:
        del self._playing[viewer.name]
        self._leave(viewer)
        await _close(socket, ends)
      else:
        await _close(socket, [], _TAKEN_OVER, 'opened in another tab')

  async def _begin(self) -> Viewer | None:
    """A new session; None if all places are taken."""
    while len(self.viewers) + self._beginning >= self._config.max_viewers:
      waiting = [v for v in self.viewers.values() if v.left_at is not None]
      if not waiting:
        return None
      oldest = min(waiting, key=lambda viewer: viewer.left_at)
      del self.viewers[oldest.name]
    self._beginning += 1
    try:
      loop = asyncio.get_running_loop()
      name, config = secrets.token_urlsafe(16), self._config
      session = await loop.run_in_executor(
        self._workers, Session, self._programs, config.game
      )
      viewer = Viewer(
        *(name, self._programs, self._games, session),
        *(self._workers, config.watching),
      )
    finally:
      self._beginning -= 1
    self.viewers[name] = viewer
    return viewer

  def _hello(self, viewer: Viewer) -> dict[str, Any]:
    agent = self._programs.agent
    return {
      'session': viewer.name,
      'games': self._games,
      'actions': games_lib.ACTION_NAMES,
      'agent': f'{agent.config["method"].upper()}, step {agent.step:,}',
      'context': self._programs.context,
      'max_horizon': self._programs.max_horizon,
      'max_width': wire.MAX_WIDTH,
      'watching': self._config.watching,
    }

  def _leave(self, viewer: Viewer) -> None:
    """Notes that a page is gone, and drops its session if it stays away."""
    left_at = viewer.left_at = time.monotonic()

    def forget():
      if viewer.left_at == left_at:
        self.viewers.pop(viewer.name, None)

    asyncio.get_running_loop().call_later(self._config.patience, forget)


async def _hear(socket: WebSocket, viewer: Viewer) -> None:
  """Takes what a page sends, until it is gone or sends too much."""
  while True:
    text = await socket.receive_text()
    try:
      viewer.hear(text)
    except ValueError as error:
      await socket.send_json({'error': str(error)})


async def _close(
  socket: WebSocket, ends: list, code: int = 1000, reason: str = ''
) -> None:
  """Closes a connection, if it is still there, and says why."""
  for end in ends:
    if isinstance(end, TooMuch):
      code, reason = _POLICY, 'too much was asked at once'
    elif isinstance(end, Exception) and not isinstance(
      end, WebSocketDisconnect | RuntimeError
    ):
      raise end
  with contextlib.suppress(RuntimeError, WebSocketDisconnect):
    await socket.close(code, reason)


def _asset(name: str) -> str:
  return (resources.files('jowa_jax.play') / 'page' / name).read_text('utf-8')


def _gone() -> Response:
  return PlainTextResponse('This session is over: load the page again\n', 404)


def _attachment(data: bytes, name: str, kind: str) -> Response:
  headers = {'Content-Disposition': f'attachment; filename="{name}"'}
  return Response(data, media_type=kind, headers=headers)


def _file_name(game: str, suffix: str) -> str:
  return f'{game}-{time.strftime("%Y%m%d-%H%M%S")}.{suffix}'


def _film(scenes: list, game: str) -> bytes:
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'film.mp4'
    film.write_film(path, scenes, game)
    return path.read_bytes()


def _episode(session: Session) -> bytes:
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'episode.npz'
    recordings.write(path, session.recording())
    return path.read_bytes()


def bind(host: str, port: int) -> socket_lib.socket:
  """A socket that listens; port 0 takes any that is free.

  Raises:
    ValueError: the port is in use, or the host is not of this machine.
  """
  family = socket_lib.AF_INET6 if ':' in host else socket_lib.AF_INET
  listening = socket_lib.socket(family, socket_lib.SOCK_STREAM)
  listening.setsockopt(socket_lib.SOL_SOCKET, socket_lib.SO_REUSEADDR, 1)
  try:
    listening.bind((host, port))
    listening.listen(128)
  except OSError as error:
    listening.close()
    raise ValueError(
      f'--host={host} --port={port}: {error.strerror or error}; choose another '
      'port, or --port=0 for any that is free'
    ) from error
  except OverflowError as error:
    listening.close()
    raise ValueError(f'--port={port} must be from 0 to 65535') from error
  return listening


def serve(
  server: Server, listening: socket_lib.socket, token: str = ''
) -> None:
  """Serves until the process is asked to stop.

  Args:
    server: whose sessions pages play in.
    listening: see `bind`.
    token: see `guard.make_token`.
  """
  try:
    uvicorn.Server(uvicorn_config(server.application(token))).run(
      sockets=[listening]
    )
  finally:
    server.close()


def uvicorn_config(application: Any) -> uvicorn.Config:
  """How an application is served: bounded, and believing no proxy."""
  return uvicorn.Config(
    application,
    log_level='warning',
    lifespan='off',
    ws_max_size=wire.MAX_BYTES,
    ws_max_queue=32,
    ws_ping_interval=10,
    ws_ping_timeout=10,
    timeout_graceful_shutdown=3,
    proxy_headers=False,
    server_header=False,
  )
