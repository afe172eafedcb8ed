"""Online fine-tuning of a game or of a variant: `finetune_online.py:resnet34`.

`scaled_ql.py`'s sizes, `quickstart` and `smoke` among them. The loss is that of
pretraining without its penalty; what its paper says nothing of is ours.
"""

from ml_collections import ConfigDict

from configs import common, scaled_ql


def get_config(size: str = 'resnet101') -> ConfigDict:
  """The config of online fine-tuning of one size.

  Raises:
    ValueError: there is no such size.
  """
  config = scaled_ql.get_config(size).unlock()
  smoke, quickstart = size == 'smoke', size == 'quickstart'
  config.data.games = ()  # filled in
  config.data.held_out_fraction = 0.0
  config.data.balance_games = False
  config.losses.cql_weight = 0.0
  # The perceptron and the head are new, as the paper has it; () takes all.
  config.init_from.params = ('encoder',)
  config.online = _online(smoke, quickstart)
  run = config.run
  run.batch_size = 8 if smoke else 32
  run.evaluate_every = 0
  run.log_every = {'smoke': 2, 'quickstart': 50}.get(size, 500)
  run.save_every = {'smoke': 4, 'quickstart': 500}.get(size, 5000)
  run.play_every = 0 if smoke else run.save_every
  rate = common.optimizer(6.25e-5, 0.0)
  rate.kind, rate.eps = 'adam', 1.5e-4
  # With four decisions for each, 750,000 together: 3 million frames.
  steps = {'smoke': 8, 'quickstart': 10_000}.get(size, 182_500)
  config.stages = common.stages(online=common.stage(steps, q=rate))
  return config.lock()


def _online(smoke: bool, quickstart: bool) -> ConfigDict:
  few = 8 if smoke else 2000
  return ConfigDict(
    dict(
      environments=2 if smoke else 1,
      every=1,  # updates between interactions
      decisions=4,  # of each environment in an interaction
      random_decisions=few if smoke or quickstart else 20_000,
      epsilon_start=1.0,
      epsilon_end=0.01,
      # After the random ones, of each environment.
      epsilon_decisions=4 * few if smoke or quickstart else 62_500,
      sticky_actions=0.0,
      max_frames=200 if smoke else 108_000,
    )
  )
