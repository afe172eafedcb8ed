"""A server of a small agent in a thread, and a client of its WebSocket."""

import contextlib
import json
import threading
import time

import uvicorn
from websockets.sync.client import connect

from jowa_jax.play import server as server_lib
from jowa_jax.play import wire


class Running:
  """A server that runs; `port` says where."""

  def __init__(self, programs, config, token=''):
    self.server = server_lib.Server(programs, config)
    self._socket = server_lib.bind('127.0.0.1', 0)
    self.port = self._socket.getsockname()[1]
    self._uvicorn = uvicorn.Server(
      server_lib.uvicorn_config(self.server.application(token))
    )
    self._thread = threading.Thread(
      target=self._uvicorn.run, kwargs=dict(sockets=[self._socket])
    )

  def __enter__(self):
    self._thread.start()
    wait_for(lambda: self._uvicorn.started)
    return self

  def __exit__(self, *error):
    self._uvicorn.should_exit = True
    self._thread.join()
    self.server.close()

  @property
  def address(self):
    return f'127.0.0.1:{self.port}'

  @contextlib.contextmanager
  def page(self, query='', **options):
    address = f'ws://{self.address}/play{query}'
    with connect(address, proxy=None, **options) as socket:
      yield Page(socket)


class Page:
  """What a page does: it draws what it gets, and says so."""

  def __init__(self, socket):
    self.socket = socket
    self.hello, self.settings = {}, {}
    self.notes, self.errors = [], []
    self._seen = 0
    self.decision()

  def say(self, **message):
    self.socket.send(json.dumps(message))

  def decision(self):
    """What the next frames come with, and these."""
    while True:
      data = self.socket.recv(timeout=60)
      if isinstance(data, bytes):
        self._seen += 1
        self.say(seen=self._seen)
        return wire.unpack(data)
      told = json.loads(data)
      self.hello = told.get('hello', self.hello)
      self.settings = told.get('settings', self.settings)
      self.notes += [told['note']] if 'note' in told else []
      self.errors += [told['error']] if 'error' in told else []

  def until(self, true):
    """The first decision of which something is true."""
    for _ in range(500):
      told, frames = self.decision()
      if true(told):
        return told, frames
    raise AssertionError('It does not come true')


def wait_for(true, seconds=60):
  """Waits until something is true."""
  end = time.monotonic() + seconds
  while not true():
    assert time.monotonic() < end, 'It does not come true'
    time.sleep(0.01)
