"""Encodes the frames of a data set once, with a tokenizer that is frozen.

python -m launch.encode_tokens --checkpoint=runs/jowa --data=data/pretrain \
  --games=pretrain --output=data/pretrain_tokens

Training with --config.data.token_cache=data/pretrain_tokens then reads tokens
instead of frames, in the stages in which the tokenizer is frozen. All devices
share the work; running the same command again continues.
"""

from absl import flags

import jowa_jax
from jowa_jax.data.feed.tokens import encode_episodes
from jowa_jax.data.store import stored
from jowa_jax.train.encoding import frozen_encoder
from launch import common

_CHECKPOINT = common.define_path(
  'checkpoint', None, "Run directory, packed agent, or 'pretrained'."
)
_STEP = flags.DEFINE_integer('step', None, 'Which checkpoint; default latest.')
_DATA = common.define_path('data', None, 'Of launch.prepare_data or collect.')
_GAMES = flags.DEFINE_string('games', None, 'Games, or a list: pretrain, ...')
_OUTPUT = common.define_path('output', None, 'Where the tokens go.')
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show a progress bar.')


def main() -> None:
  episodes = stored.load_episodes(_DATA.value, _GAMES.value)
  agent = jowa_jax.load(_CHECKPOINT.value, _STEP.value)
  if agent.method.tokenizer is None:
    raise ValueError(
      f'{_CHECKPOINT.value}: {agent.config["method"]} has no tokenizer'
    )
  encode, tokenizer, batch_size = frozen_encoder(agent.method, agent.variables)
  encode_episodes(
    episodes, encode, _OUTPUT.value, tokenizer, batch_size, _PROGRESS.value
  )
  frames = sum(map(len, episodes))
  print(f'{frames} frames, tokenizer {tokenizer}: {_OUTPUT.value}')


if __name__ == '__main__':
  flags.mark_flags_as_required(['checkpoint', 'data', 'games', 'output'])
  common.run(main)
