"""Who may ask the server for anything."""

import hmac
import secrets
import urllib.parse
from typing import Any

from starlette.datastructures import Headers, QueryParams
from starlette.responses import PlainTextResponse

_HERE = frozenset({'127.0.0.1', 'localhost', '::1'})
_HEADERS = {
  'Content-Security-Policy': (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
  ),
  'X-Content-Type-Options': 'nosniff',
  # Addresses have the token in them.
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-store',
}


def is_here(host: str) -> bool:
  """Whether a host is this machine alone, which needs no token."""
  return host in _HERE


def make_token(host: str) -> str:
  """What the addresses of a server have to carry; empty if nothing."""
  return '' if is_here(host) else secrets.token_urlsafe(16)


def host_of(address: str) -> str:
  """The host of 'host:port', of '[::1]:port' or of 'http://host:port'."""
  text = address if '//' in address else f'//{address}'
  return urllib.parse.urlsplit(text).hostname or ''


class Guard:
  """Refuses what comes from other pages, or without the token.

  A page of another origin could otherwise speak to a server on the visitor's
  own machine, by its address or by a name that it made point there.
  """

  def __init__(self, app: Any, token: str):
    """Wraps an ASGI application.

    Args:
      app: what is guarded.
      token: see `make_token`.
    """
    self._app, self._token = app, token

  async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
    if scope['type'] not in ('http', 'websocket'):
      await self._app(scope, receive, send)
      return
    refused = self._refusal(scope)
    if refused and scope['type'] == 'websocket':
      await receive()
      await send({'type': 'websocket.close', 'code': 1008, 'reason': refused})
    elif refused:
      await PlainTextResponse(f'{refused}\n', 403)(scope, receive, send)
    else:
      await self._app(scope, receive, _with_headers(send))

  def _refusal(self, scope: Any) -> str:
    """Why a request is refused; empty if it is not."""
    headers = Headers(scope=scope)
    host, origin = headers.get('host', ''), headers.get('origin')
    if origin is not None and urllib.parse.urlsplit(origin).netloc != host:
      return 'pages of other origins may not ask here'
    if not self._token:
      if not is_here(host_of(host)):
        return 'this server is for its own machine: start it with --host'
      return ''
    given = QueryParams(scope.get('query_string', b'')).get('token', '')
    if not hmac.compare_digest(given.encode(), self._token.encode()):
      return 'the address lacks its token: use the one that the server printed'
    return ''


def _with_headers(send: Any):
  async def sender(message):
    if message['type'] == 'http.response.start':
      more = [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]
      message = {**message, 'headers': [*message.get('headers', ()), *more]}
    await send(message)

  return sender
