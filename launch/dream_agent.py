"""Trains a small agent inside the dream, and scores it in the real game.

pip install '.[dream]'
python -m launch.dream_agent --checkpoint=pretrained --game=Freeway \
  --data=data --output=runs/dream_agent

The agent is PPO of stable-baselines3. It reads the tokens of the last frames
and never meets the game before it is scored, by the rules of --config, beside
random play by the same rules. By default it learns for a few minutes of two
cores.
"""

import json
import pathlib

from absl import flags

import jowa_jax
from jowa_jax import files
from jowa_jax.configuration import build
from jowa_jax.envs.protocol import Protocol
from jowa_jax.stable_baselines import import_library
from launch import common

_CONFIG = common.define_config('configs/evaluate.py:paper', 'The protocol.')
_CHECKPOINT = common.define_path(
  'checkpoint', 'pretrained', "Run directory, packed agent, or 'pretrained'."
)
_STEP = flags.DEFINE_integer('step', None, 'Which checkpoint; default latest.')
_GAME = flags.DEFINE_string(
  'game', None, 'That is dreamed and played; default the first of the agent.'
)
_DATA = common.define_path(
  'data',
  None,
  'Data sets that dreams begin in; default random play in the emulator.',
)
_CONTEXTS = flags.DEFINE_integer(
  'contexts', 1000, 'Places that dreams begin at, evenly spaced.'
)
_OUTPUT = common.define_path(
  'output', None, 'Directory for the agent, its episodes and scores.json.'
)
_STEPS = flags.DEFINE_integer(
  'steps', 50_000, 'Dreamed by all environments together.'
)
_ENVIRONMENTS = flags.DEFINE_integer(
  'environments', 16, 'Dreamed together, as one batch.'
)
_HORIZON = flags.DEFINE_integer(
  'horizon', 50, 'Steps after which a dream is cut off.'
)
_TEMPERATURE = flags.DEFINE_float(
  'temperature', 1.0, 'Of the dream; 0 dreams what is likeliest.'
)
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Of the dream, of learning and of the episodes that are scored.'
)
_ROLLOUTS = flags.DEFINE_integer(
  'rollouts', None, "Episodes that are scored; the config's by default."
)


def main() -> None:
  from jowa_jax.play import dreams, pupil
  from jowa_jax.play.programs import check_dreams
  from jowa_jax.play.session import check_trained

  config = pupil.PupilConfig(
    steps=_STEPS.value,
    environments=_ENVIRONMENTS.value,
    horizon=_HORIZON.value,
    temperature=_TEMPERATURE.value,
    seed=_SEED.value,
  )
  rules = _CONFIG.value.protocol.to_dict()
  if _ROLLOUTS.value is not None:
    rules['rollouts'] = _ROLLOUTS.value
  protocol = build(Protocol, rules, 'protocol')
  import_library(pupil.PUPIL)
  agent = jowa_jax.load(_CHECKPOINT.value, _STEP.value)
  check_dreams(agent)
  game = check_trained(agent, _GAME.value or agent.games[0])
  contexts = dreams.contexts_of(agent, game, _DATA.value, _CONTEXTS.value)
  output = pathlib.Path(_OUTPUT.value)
  taught = pupil.learned(agent, game, contexts, config, output)
  scores = pupil.scores(
    *(agent, game, config.frames, taught, output, protocol, config.seed)
  )
  files.write_text(output / 'scores.json', json.dumps(scores, indent=2) + '\n')
  for name, score in scores.items():
    error = score['standard_error']
    error = '' if error is None else f' +- {error:.1f}'
    count = len(score['scores'])
    print(f'{name}: mean score {score["mean"]:.1f}{error} of {count} episodes')


if __name__ == '__main__':
  flags.mark_flag_as_required('output')
  common.run(main)
