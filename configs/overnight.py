"""The recipe of the agent that the package ships: three games, an hour on a CPU.

`launch.train` with it trains on recorded play (`launch.collect --replay`), in
as many pieces as one likes. `overnight.py:mtbc` is the baseline on the same
data; it starts from the tokenizer and the backbone of a JOWA run. What departs
from the paper, and why, is said where it is set.
"""

from ml_collections import ConfigDict

from configs import common, jowa, mtbc

GAMES = ('Boxing', 'MsPacman', 'UpNDown')


def _base(config: ConfigDict) -> None:
  """Sizes, data and logging that both methods share."""
  # Codes of a patch alone do not flicker where nothing moves, so that what the
  # world model has to predict is what happened.
  config.tokenizer.encoder_field = 'patch'
  config.tokenizer.vocab_size = 512
  config.tokenizer.embedding_dim = 64
  config.tokenizer.latent_channels = 64
  config.backbone.num_layers = 4
  config.backbone.width = 160
  # Heads of 80 make the fewest score matrices that two cores have to move.
  config.backbone.num_heads = 2
  # A narrow model's branches start almost closed with the paper's 0.02.
  config.backbone.init_scale = config.backbone.width**-0.5
  # A small model underfits as it is.
  config.backbone.dropout = 0.0
  config.backbone.attention_dropout = 0.0
  config.heads.width = 256
  config.data.games = GAMES
  config.data.held_out_fraction = 0.05
  config.data.balance_games = True
  config.run.batch_size = 16
  config.run.log_every = 50
  config.run.save_every = 500
  config.run.evaluate_every = 500
  config.run.evaluate_batches = 8


def _jowa() -> ConfigDict:
  config = jowa.get_config('smoke').unlock()
  _base(config)
  # A small tokenizer is short of steps, not of frames.
  config.tokenizer_training.frames_per_step = 8
  # The recipe that keeps a small codebook in use and sprites in sight.
  config.tokenizer_training.codebook_init_step = 20
  config.tokenizer_training.restart_period = 50
  config.tokenizer_training.restart_until = 1600
  config.tokenizer_training.motion_weight = 20.0
  # Rewards that come every few decisions, over a horizon of twenty.
  config.returns.v_min = -5.0
  config.returns.v_max = 15.0
  config.returns.gamma = 0.95
  config.losses.target_period = 50
  # The penalty is what teaches which actions the data took, and its gradient,
  # through the mean of 51 atoms, is several times weaker than the TD loss's.
  config.losses.cql_weight = 2.5
  config.losses.world_weight = 0.5
  # Without it the reward head learns that there is seldom a reward.
  config.data.reward_share = 0.25
  config.stages = common.stages(
    stage1=common.stage(
      2000, tokenizer=common.optimizer(2e-3, 0.0, 50, 'cosine', 0.05)
    ),
    stage2=common.stage(
      9000, world_action=common.optimizer(1.5e-3, 0.01, 200, 'cosine', 0.02)
    ),
  )
  return config


def _mtbc() -> ConfigDict:
  config = mtbc.get_config('smoke').unlock()
  _base(config)
  config.init_from.params = ('tokenizer', 'backbone')
  config.stages = common.stages(
    policy=common.stage(
      1500, policy=common.optimizer(1e-3, 0.01, 100, 'cosine', 0.02)
    )
  )
  return config


def get_config(method: str = 'jowa') -> ConfigDict:
  """Returns the training config of one method, `jowa` or `mtbc`.

  Raises:
    ValueError: there is no such method here.
  """
  methods = dict(jowa=_jowa, mtbc=_mtbc)
  if method not in methods:
    raise ValueError(f'Unknown method {method!r}; there are {tuple(methods)}')
  return methods[method]().lock()
