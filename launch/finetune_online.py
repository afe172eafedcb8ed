"""Fine-tunes an agent on a game by its own play, while it plays.

python -m launch.finetune_online --config=configs/finetune_online.py:resnet34 \
  --game=Freeway@m1d0 --checkpoint=runs/scaled_ql --workdir=runs/freeway_m1

The game may be a variant, `launch.inspect_game` lists them. Without
--checkpoint the agent is trained from scratch. Running the same command again
continues, with the emulators and the replay as they were.
"""

from absl import flags

from jowa_jax.collect.online import OnlineFeed
from jowa_jax.recipes import online
from launch import common, training

_CONFIG = common.define_config(
  None, 'How, such as configs/finetune_online.py:resnet34.'
)
_GAME = flags.DEFINE_string('game', None, 'Its name, such as Freeway@m1d0.')
_CHECKPOINT = common.define_path(
  'checkpoint', None, 'Directory of the pretrained run; none: from scratch.'
)


def main() -> None:
  with training.session():
    config, settings = online.resolve(
      _CONFIG.value.to_dict(), _GAME.value, _CHECKPOINT.value
    )
    run = training.make_run(config)
    feed = OnlineFeed(
      settings,
      _GAME.value,
      run.method,
      run.config['run']['batch_size'],
      run.config['run']['seed'],
    )
    training.train(run, feed, games=(_GAME.value,))


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'game', 'workdir'])
  common.run(main)
