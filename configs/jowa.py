"""JOWA as published: `jowa.py:40m`, `:70m`, `:150m`, and `:smoke` for tests."""

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = '150m') -> ConfigDict:
  """The training config of one size."""
  config = common.base(size, 'jowa')
  config.returns = ConfigDict(
    dict(num_atoms=51, v_min=-10.0, v_max=30.0, gamma=0.99)
  )
  config.losses = ConfigDict(
    dict(
      world_weight=0.1,
      cql_weight=0.1,
      penalty='cql',  # or 'combo'
      # What targets bootstrap from; not the paper's: 'data', the next action.
      backup='max',
      stop_gradient=False,  # keep Q's gradients from the backbone
      rem=False,  # random ensemble mixtures
      target_period=1000,  # steps
      # Of a batch, trains Q on contexts of random actions; not the paper's.
      hide_actions=0.0,
    )
  )
  # Half of every batch goes on in dreams; the paper's ablation, off by default.
  config.imagination = ConfigDict(
    dict(
      policy='',  # or 'planning', 'epsilon_greedy'
      start_step=20_000,  # of a stage
      horizon=2,
      width=2,
      epsilon=0.1,
    )
  )
  steps = (10, 10) if size == 'smoke' else (250_000, 1_500_000)
  config.stages = common.stages(
    stage1=common.stage(
      steps[0],
      tokenizer=common.optimizer(1e-4, 0.0),
      world=common.optimizer(1e-4, 0.01),
    ),
    stage2=common.stage(steps[1], world_action=common.optimizer(5e-5, 0.01)),
  )
  return config.lock()
