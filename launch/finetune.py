"""Fine-tunes a pretrained agent on one game, or trains one from scratch on it.

python -m launch.finetune --config=configs/finetune.py:150m --game=Pong \
  --checkpoint=runs/jowa --data=data/pong --quality=expert --workdir=runs/pong
python -m launch.finetune --config=configs/finetune.py:quickstart --game=Pong \
  --checkpoint=pretrained --data=data/pong --workdir=runs/pong

Without --checkpoint the agent is trained from scratch. Running the same
command again continues, as launch.train does; flags of a run are the same.
"""

import jax
from absl import flags, logging

from configs import finetune
from jowa_jax.data.prepare.selection import QUALITIES
from jowa_jax.recipes import finetuning
from jowa_jax.train.run import Run
from launch import common, training

_CONFIG = common.define_config(None, 'How, such as configs/finetune.py:150m.')
_GAME = flags.DEFINE_string('game', None, 'Its name, such as Pong.')
_CHECKPOINT = common.define_path(
  'checkpoint',
  None,
  "Directory of the pretrained run, packed agent, or 'pretrained'; none: from "
  'scratch.',
)
_DATA = common.define_path('data', None, 'Directory of play of the game.')
_QUALITY = flags.DEFINE_enum(
  'quality',
  None,
  list(QUALITIES),
  'Play of the last fifth of the checkpoints, of all, or of the first fifth; '
  "by default the config's data.quality.",
)


def main() -> None:
  with training.session():
    config, model = _CONFIG.value.to_dict(), None
    if _CHECKPOINT.value and finetuning.wants_model(config):
      model = finetuning.checkpoint_config(_CHECKPOINT.value)
    run = training.make_run(
      finetuning.resolve(
        config,
        game=_GAME.value,
        data=_DATA.value,
        checkpoint=_CHECKPOINT.value,
        quality=_QUALITY.value,
        model=model,
      )
    )
    if not run.directory.config.exists():
      finetuning.check_source(run.config, _variants())
    if _CHECKPOINT.value is None:
      logging.info(
        'From scratch: %d steps, the tokenizer included', run.total_steps
      )
    training.train(run)
    if jax.process_index() == 0:
      print(_summary(run))


def _variants() -> dict[str, dict]:
  return {
    f'configs/finetune.py:{name}': finetune.get_config(name).to_dict()
    for name in finetune.NAMES
  }


def _summary(run: Run) -> str:
  """Says which snapshots were best and last, and how to evaluate them."""
  metric, mode = (run.config['run'][f'best_{n}'] for n in ('metric', 'mode'))
  found = finetuning.snapshots(run.workdir, metric, mode) if metric else None
  if not found:
    return (
      f'No snapshot was played with (run.play_every). To score the last:\n'
      f'{training.to_evaluate(run, [_GAME.value])}'
    )
  best, last = found
  score = 'not measured' if last.score is None else f'{last.score:g}'
  return (
    f'{metric}: best {best.score:g} after step {best.step}, last {score} '
    f'after step {last.step}\n'
    f'{training.to_evaluate(run, [_GAME.value], best.step)}'
  )


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'game', 'data', 'workdir'])
  common.run(main)
