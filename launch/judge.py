"""Judges what a trained agent sees and dreams, on episodes it was not shown.

python -m launch.judge --checkpoint=runs/jowa --output=runs/judged
python -m launch.report --pictures=runs/judged --results=runs/eval \
  --output=runs/report/index.html

The episodes are those that training held out, or of other --data. Of an agent
that learned from watching it tells what its latent actions mean, and of a
decision transformer how often it names the right action, return and reward.
"""

import pathlib

from absl import flags

import jowa_jax
from jowa_jax.configuration import build
from jowa_jax.data.feed import statistics
from jowa_jax.data.feed.training import DataConfig, TrainingData
from jowa_jax.eval import classes, latents
from jowa_jax.eval.quality_report import judge
from launch import common

_CHECKPOINT = common.define_path(
  'checkpoint', None, "Run directory, packed agent, or 'pretrained'."
)
_STEP = flags.DEFINE_integer('step', None, 'Which checkpoint; default latest.')
_DATA = common.define_path('data', None, "Default: the run's.")
_GAMES = flags.DEFINE_string('games', None, "Default: the run's.")
_HELD_OUT = flags.DEFINE_float(
  'held_out_fraction', None, "Of each game's episodes; default: the run's."
)
_NUM_DREAMS = flags.DEFINE_integer(
  'num_dreams', 64, 'Of each game, compared with what really followed.'
)
_OUTPUT = common.define_path('output', None, 'Directory of the files.')


def main() -> None:
  agent = jowa_jax.load(_CHECKPOINT.value, _STEP.value)
  judged = agent.method.latents or agent.method.answers
  for name in ('tokenizer', 'simulator'):
    if getattr(agent.method, name) is None and judged is None:
      raise ValueError(
        f'{_CHECKPOINT.value}: {agent.config["method"]} has no {name}'
      )
  if not (_DATA.value or agent.config['data']['directory']):
    raise ValueError(
      f'{_CHECKPOINT.value} does not say where its data is: give --data, and '
      '--held_out_fraction unless it is all that was trained on'
    )
  given = {
    'directory': _DATA.value,
    'games': _GAMES.value and _GAMES.value.split(','),
    'held_out_fraction': _HELD_OUT.value,
  }
  section = {**agent.config['data'], 'token_cache': '', 'game_weights': None}
  section |= {name: value for name, value in given.items() if value is not None}
  data = TrainingData(
    build(DataConfig, section, 'data'),
    agent.method.spec,
    agent.config['run']['batch_size'],
    agent.config['run']['seed'],
  )
  held_out = data.held_out.episodes if data.held_out else ()
  if agent.method.latents is not None:
    found = latents.judge(agent, held_out, _OUTPUT.value)
    for game, table in found.items():
      print(
        f'{game}: latent actions tell {table["purity"]:.1%} of the real ones, '
        f'the most frequent one alone {table["purity_of_chance"]:.1%}; '
        f'{table["information"]:.3f} nats, shuffled '
        f'{table["information_of_chance"]:.3f}'
      )
    print(pathlib.Path(_OUTPUT.value))
    return
  if agent.method.answers is not None:
    answers = classes.judge(agent, data.train.episodes, held_out, _OUTPUT.value)
    for game, table in answers.items():
      print(classes.describe(game, table))
    print(pathlib.Path(_OUTPUT.value))
    return
  medians = statistics.compute(['median_frames'], data.train.episodes)
  judge(
    agent,
    held_out,
    medians['median_frames'],
    _OUTPUT.value,
    _NUM_DREAMS.value,
  )
  print(pathlib.Path(_OUTPUT.value))


if __name__ == '__main__':
  flags.mark_flags_as_required(['checkpoint', 'output'])
  common.run(main)
