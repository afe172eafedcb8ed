"""Opens the world model in a browser: the game and its dream, side by side.

python -m launch.play --checkpoint=pretrained --game=RoadRunner
python -m launch.play --checkpoint=runs/jowa --game=Assault --mode=watch

It is served to this machine alone. With another --host, the address that is
printed carries a token, and nobody without it is let in.
"""

from absl import flags

import jowa_jax
from jowa_jax import games as games_lib
from launch import common

_CHECKPOINT = common.define_path(
  'checkpoint', 'pretrained', "Run directory, packed agent, or 'pretrained'."
)
_STEP = flags.DEFINE_integer('step', None, 'Which checkpoint; default latest.')
_GAME = flags.DEFINE_string(
  'game', None, 'That the page begins with; default the first of the agent.'
)
_MODE = flags.DEFINE_enum(
  'mode', 'play', ['play', 'watch'], 'Who plays first: a person, or the agent.'
)
_CONTEXT = flags.DEFINE_integer(
  'context',
  None,
  'Real frames that the agent acts on and a dream begins with; default half of '
  'what the world model has room for.',
)
_HOST = flags.DEFINE_string(
  'host', '127.0.0.1', 'Address to listen at, such as 0.0.0.0 for all.'
)
_PORT = flags.DEFINE_integer('port', 8080, 'Port; 0 takes any that is free.')
_MAX_VIEWERS = flags.DEFINE_integer(
  'max_viewers', 20, 'Pages at a time; each plays by itself.'
)


def main() -> None:
  from jowa_jax.play import guard, server
  from jowa_jax.play.programs import Programs, check_dreams
  from jowa_jax.play.session import check_trained, warm_up

  # Taken before anything is loaded, so that a busy port is told at once.
  listening = server.bind(_HOST.value, _PORT.value)
  agent = jowa_jax.load(_CHECKPOINT.value, _STEP.value)
  try:
    check_dreams(agent)
  except ValueError as error:
    raise ValueError(f'--checkpoint={_CHECKPOINT.value}: {error}') from error
  game = agent.games[0]
  if _GAME.value is not None:
    (game,) = games_lib.parse_games([_GAME.value], variants=True)
  try:
    check_trained(agent, game)
  except ValueError as error:
    raise ValueError(f'--game={game}: {error}') from error
  config = server.ServerConfig(game, _MODE.value == 'watch', _MAX_VIEWERS.value)
  programs = Programs(agent, _CONTEXT.value)
  print('Compiling ...', flush=True)
  warm_up(programs, game)
  token = guard.make_token(_HOST.value)
  host, port = listening.getsockname()[:2]
  address = f'http://{f"[{host}]" if ":" in host else host}:{port}/'
  print(f'Open {address}{f"?token={token}" if token else ""}', flush=True)
  server.serve(server.Server(programs, config), listening, token)


if __name__ == '__main__':
  common.run(main)
