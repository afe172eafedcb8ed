"""Agents of two million parameters, trained on two cores.

`small.py:jowa` and `:mtbc`, which goes on from it; `:mtbc_scratch` does not.
All have a `_smoke` for tests. The sizes and the choices that differ from the
paper's are those that make so small a model learn something in so little time;
`overnight.py` trains on for longer.
"""

from ml_collections import ConfigDict

from configs import common, jowa, mtbc


def _shrink(config: ConfigDict, smoke: bool) -> None:
  """Sizes and optimisation that both methods share."""
  # Sharp frames after minutes, and codes of a patch alone, which do not flicker
  # where nothing moves: what the world model has to predict is what happened.
  config.tokenizer.encoder_field = 'patch'
  config.tokenizer.channels = 16 if smoke else 128
  config.tokenizer.res_blocks = 1 if smoke else 2
  config.tokenizer.vocab_size = 64 if smoke else 1024
  config.tokenizer.embedding_dim = 16 if smoke else 64
  config.tokenizer.latent_channels = 16 if smoke else 64
  config.backbone.num_layers = 2 if smoke else 3
  config.backbone.width = 32 if smoke else 128
  # Two frames of context, and two that are dreamed: play on a CPU.
  config.backbone.max_blocks = 4
  # Few heads make few score matrices, which is what two cores spend time on.
  config.backbone.num_heads = 2
  # Both parts underfit as it is.
  config.backbone.dropout = 0.0
  config.backbone.attention_dropout = 0.0
  # A narrow model's branches start almost closed with the paper's 0.02.
  config.backbone.init_scale = config.backbone.width**-0.5
  config.heads.width = 32 if smoke else 256
  config.heads.dropout = 0.1
  config.tokenizer_training.frames_per_step = 16 if smoke else 32
  config.data.games = ()  # filled in
  # Play meets a frame anywhere in its context, and so must training: in
  # segments of four frames, four apart, each frame would have one place.
  config.data.stride = 1
  config.data.held_out_fraction = 0.1
  config.data.balance_games = True
  config.run.batch_size = 4 if smoke else 32
  config.run.log_every = 2 if smoke else 20
  config.run.save_every = 4 if smoke else 200
  config.run.keep_checkpoints = 2
  config.run.evaluate_every = 4 if smoke else 200
  config.run.evaluate_batches = 1 if smoke else 4


def _tokenizer_stage(steps: int) -> ConfigDict:
  rate = common.optimizer(2e-3, 0.0, min(50, steps // 4), 'cosine', 0.05)
  return common.stage(steps, tokenizer=rate)


def _keep_codes_in_use(config: ConfigDict, steps: int, smoke: bool) -> None:
  """The recipe that keeps a small codebook in use and sprites in sight."""
  training = config.tokenizer_training
  training.codebook_init_step = 2 if smoke else 20
  training.restart_period = 3 if smoke else 50
  training.restart_until = int(0.8 * steps)
  training.motion_weight = 20.0
  training.embed_codes = 0.3


def jowa_stages(tokenizer: int, joint: int) -> ConfigDict:
  """The tokenizer first, then everything else at once, of so many steps.

  On two cores, a model is better trained on tokens that are encoded once than
  on those of a tokenizer that still moves.
  """
  second = common.optimizer(1e-3, 0.01, min(200, joint // 4), 'cosine', 0.02)
  return common.stages(
    stage1=_tokenizer_stage(tokenizer),
    stage2=common.stage(joint, world_action=second),
  )


def mtbc_stages(steps: int) -> ConfigDict:
  """Cloning on a tokenizer and a backbone that JOWA trained."""
  rate = common.optimizer(1e-3, 0.01, min(100, steps // 4), 'cosine', 0.02)
  return common.stages(policy=common.stage(steps, policy=rate))


def _jowa(smoke: bool) -> ConfigDict:
  config = jowa.get_config('smoke').unlock()
  _shrink(config, smoke)
  steps = (6, 10) if smoke else (1500, 2500)
  _keep_codes_in_use(config, steps[0], smoke)
  # Clipped rewards come every few decisions, or a few times in a hundred. With
  # the paper's discount and support, Q would start far from the returns and
  # creep towards them, one copy of the target heads at a time; here it starts
  # close, and has room for the differences between actions that CQL asks for.
  config.returns.v_min = -5.0
  config.returns.v_max = 10.0
  config.returns.gamma = 0.95
  config.losses.target_period = 5 if smoke else 10
  # The penalty is what teaches which actions the data took. So strong, it would
  # lift the values that a maximum is taken over to the end of the support.
  config.losses.cql_weight = 1.0
  config.losses.backup = 'data'
  config.losses.world_weight = 0.5
  # The teacher holds its actions: Q would learn to copy the last one. What is
  # harder to learn, one label a frame and not 36, has three segments of four.
  config.losses.hide_actions = 0.75
  # Without it the reward head learns that there is seldom a reward.
  config.data.reward_share = 0.25
  config.stages = jowa_stages(*steps)
  return config


def _mtbc(smoke: bool) -> ConfigDict:
  config = mtbc.get_config('smoke').unlock()
  _shrink(config, smoke)
  # The tokenizer is the one JOWA trained, frozen: set init_from.checkpoints.
  # The backbone starts from JOWA's too: cloning has few labels (one per frame)
  # to learn one from.
  config.init_from.params = ('tokenizer', 'backbone')
  config.losses.hide_actions = 1.0
  config.stages = mtbc_stages(8 if smoke else 300)
  return config


def _mtbc_scratch(smoke: bool) -> ConfigDict:
  """Cloning alone: a tokenizer of its own, and then the policy."""
  config = _mtbc(smoke)
  config.init_from.params = ()
  steps = (6, 10) if smoke else (1500, 2500)
  _keep_codes_in_use(config, steps[0], smoke)
  config.stages = common.stages(
    stage1=_tokenizer_stage(steps[0]),
    stage2=mtbc_stages(steps[1]).policy,
  )
  return config


def get_config(name: str = 'jowa') -> ConfigDict:
  """The training config of a small agent.

  Raises:
    ValueError: there is no such agent.
  """
  makers = {'jowa': _jowa, 'mtbc': _mtbc, 'mtbc_scratch': _mtbc_scratch}
  method = name.removesuffix('_smoke')
  if method not in makers:
    raise ValueError(
      f'Unknown agent {name!r}; there are {tuple(makers)}, and with _smoke'
    )
  return makers[method](method != name).lock()
