"""What `launch.quickstart` does: a working agent on two games in minutes.

The sizes and the choices that differ from the paper's are those that make a
model of a million parameters learn something in a few minutes on two cores.
`quickstart.py:smoke` runs through all phases in little time, for tests.
"""

from ml_collections import ConfigDict

from configs import collect, common, jowa, mtbc


def _shrink(config: ConfigDict, smoke: bool) -> None:
  """Sizes and optimisation that both methods share."""
  config.tokenizer.vocab_size = 64 if smoke else 256
  config.tokenizer.embedding_dim = 16 if smoke else 64
  config.tokenizer.latent_channels = 16 if smoke else 64
  config.backbone.num_layers = 2 if smoke else 3
  config.backbone.width = 32 if smoke else 128
  config.backbone.num_heads = 2 if smoke else 4
  # A small model underfits as it is.
  config.backbone.dropout = 0.0
  config.backbone.attention_dropout = 0.0
  # A narrow model's branches start almost closed with the paper's 0.02.
  config.backbone.init_scale = config.backbone.width**-0.5
  config.heads.width = 32 if smoke else 256
  # Many small steps: a small tokenizer is short of steps, not of frames.
  config.tokenizer_training.frames_per_step = 16 if smoke else 8
  config.data.games = ()  # filled in
  config.data.held_out_fraction = 0.1
  config.data.balance_games = True
  config.run.batch_size = 4 if smoke else 16
  config.run.log_every = 2 if smoke else 20
  config.run.save_every = 4 if smoke else 200
  config.run.keep_checkpoints = 2
  config.run.evaluate_every = 4 if smoke else 200
  config.run.evaluate_batches = 1 if smoke else 4


def _jowa(smoke: bool) -> ConfigDict:
  config = jowa.get_config('smoke').unlock()
  _shrink(config, smoke)
  steps = (6, 4, 6) if smoke else (800, 400, 550)
  # The recipe that keeps a small codebook in use and sprites in sight.
  config.tokenizer_training.codebook_init_step = 2 if smoke else 20
  config.tokenizer_training.restart_period = 3 if smoke else 50
  config.tokenizer_training.restart_until = int(0.8 * steps[0])
  config.tokenizer_training.motion_weight = 20.0
  # Clipped rewards come a few times in a hundred steps. With the paper's
  # discount and support, Q would start far from the returns and creep towards
  # them, one copy of the target heads at a time; here it starts close, and has
  # room for the differences between actions that CQL asks for.
  config.returns.v_min = -5.0
  config.returns.v_max = 5.0
  config.returns.gamma = 0.95
  config.losses.target_period = 5 if smoke else 25
  # The penalty is what teaches which actions the data took, and its gradient,
  # through the mean of 51 atoms, is several times weaker than the TD loss's.
  config.losses.cql_weight = 2.5
  config.losses.world_weight = 0.5
  # Stage 1 is split: on two cores, a world model is better trained on tokens
  # that are encoded once than on those of a tokenizer that still moves.
  config.stages = common.stages(
    stage1_tokenizer=common.stage(
      steps[0], tokenizer=common.optimizer(2e-3, 0.0)
    ),
    stage1_world=common.stage(steps[1], world=common.optimizer(2e-3, 0.01, 50)),
    stage2=common.stage(
      steps[2], world_action=common.optimizer(2e-3, 0.01, 50)
    ),
  )
  return config


def _mtbc(smoke: bool) -> ConfigDict:
  config = mtbc.get_config('smoke').unlock()
  _shrink(config, smoke)
  # The tokenizer is the one JOWA trained, frozen. The backbone starts from
  # JOWA's too: cloning has few labels (one per frame) to learn one from.
  config.init_from.params = ('tokenizer', 'backbone')
  config.stages = common.stages(
    policy=common.stage(
      6 if smoke else 300, policy=common.optimizer(2e-3, 0.01, 50)
    )
  )
  return config


def _evaluate(smoke: bool) -> ConfigDict:
  """Who plays, in which order, and by which rules."""
  # The paper's rules but for fewer rollouts, and episodes cut off after 750
  # decisions: an agent that survives without scoring would take hours.
  protocol = dict(
    rollouts=1 if smoke else 4,
    epsilon=0.001,
    max_frames=160 if smoke else 3_000,
  )
  short = dict(context_length=2 if smoke else 4)
  beam = dict(planner='beam', width=2, horizon=1 if smoke else 2, **short)
  agents = dict(
    random=dict(method='random', title='random play', options={}),
    mtbc=dict(method='mtbc', title='MTBC', options=short),
    jowa=dict(method='jowa', title='JOWA, greedy', options=short),
    jowa_beam=dict(method='jowa', title='JOWA, planning', options=beam),
  )
  return ConfigDict(
    dict(
      protocol=protocol,
      agents=agents,
      num_dreams=4 if smoke else 64,  # of each game, held beside what followed
      films=('jowa_beam',),  # agents whose play is filmed
      film_decisions=8 if smoke else 300,
    )
  )


def get_config(size: str = 'full') -> ConfigDict:
  """Returns the config of the full quickstart, or of `smoke`."""
  if size not in ('full', 'smoke'):
    raise ValueError(f'Unknown size {size!r}; there are full and smoke')
  smoke = size == 'smoke'
  config = ConfigDict()
  config.games = 'Assault,Carnival'
  config.seed = 0
  # What the parts share (games, seed, paths) is left empty in them and filled
  # in by quickstart.
  config.collect = collect.get_config('smoke' if smoke else 'default').unlock()
  config.collect.games = ''
  config.jowa = _jowa(smoke)
  config.mtbc = _mtbc(smoke)
  config.evaluate = _evaluate(smoke)
  return config.lock()
