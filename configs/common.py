"""What the configs of all methods share, with the paper's values."""

from ml_collections import ConfigDict, FieldReference, config_dict

from jowa_jax.mesh_rules import RULES
from jowa_jax.published_sizes import SIZES


def optimizer(
  learning_rate: float,
  weight_decay: float,
  warmup_steps: int = 0,
  decay: str = 'constant',
  final_fraction: float = 0.0,
) -> ConfigDict:
  """One objective's optimizer: AdamW (Table 13)."""
  return ConfigDict(
    dict(
      kind='adamw',  # or 'adam', 'lamb', 'sgd'
      learning_rate=learning_rate,
      weight_decay=weight_decay,
      decay_mask='kernels',  # and all of the Q heads; or 'all'
      clip=1.0,  # global norm of the objective's gradients
      clip_each=False,  # or of each of its top-level parameters by itself
      b1=0.9,  # of 'sgd' the momentum
      b2=0.999,
      eps=1e-8,
      warmup_steps=warmup_steps,
      warmup='linear',  # or 'exponential', from `warmup_from`
      warmup_from=0.0,  # of the rate, in the first of them
      # Of the rate after the warm-up, over the rest of the stage: 'constant' is
      # none, 'linear', 'cosine' and 'exponential' end with `final_fraction`.
      decay=decay,
      final_fraction=final_fraction,
    )
  )


def trainer(method: str, smoke: bool = False) -> ConfigDict:
  """The sections that the trainer reads itself, for any method."""
  config = ConfigDict()
  config.method = method
  config.data = _data()
  config.run = _run(smoke)
  config.mesh = _mesh()
  config.init_from = _init_from()
  return config


def _data() -> ConfigDict:
  return ConfigDict(
    dict(
      directory='',  # required
      games=('pretrain',),  # games, or names of lists of them
      stride=4,  # between neighbouring segments
      padding='right',  # or 'left': the side of short segments
      held_out_fraction=0.0,  # of each game's episodes
      balance_games=False,  # draw all games equally often
      game_weights=config_dict.placeholder(tuple),  # or this often
      # Of every batch, drawn from segments with a reward; 0 as in the paper.
      reward_share=0.0,
      prefetch=config_dict.placeholder(int),  # batches; by cores
      runs=config_dict.placeholder(tuple),  # all
      checkpoints=config_dict.placeholder(tuple),  # all
      # Or 'expert', 'suboptimal' or 'highly_suboptimal': the last fifth of the
      # checkpoints, all, or the first fifth.
      quality=config_dict.placeholder(str),
      transitions=config_dict.placeholder(int),  # of each game; all
      token_cache='',  # frames pre-encoded for stages of a frozen tokenizer
    )
  )


def _run(smoke: bool) -> ConfigDict:
  return ConfigDict(
    dict(
      seed=0,
      batch_size=8 if smoke else 512,  # segments
      accumulate=1,  # micro-batches of a batch, for memory
      log_every=5 if smoke else 100,
      save_every=10 if smoke else 5000,
      keep_checkpoints=3,  # the latest
      keep_every=0,  # and those of every so many steps; 0 none
      best_metric='',  # and the best one by this, such as 'held_out/q/td'
      best_mode='min',
      evaluate_every=0,  # on held-out segments; 0 never
      evaluate_batches=4,
      play_every=0,  # greedy episodes; 0 never
      play_episodes=2,  # of each game
      play_max_frames=18_000,  # of an episode
    )
  )


def _mesh() -> ConfigDict:
  return ConfigDict(
    dict(
      # -1: all devices that are left. `fsdp` splits batch and parameters,
      # `tensor` parameters and what is computed with them.
      axes=ConfigDict(dict(data=-1, fsdp=1, tensor=1)),
      # Mesh axes by a parameter's logical axis, first choice first; what they
      # do not divide is replicated.
      rules=ConfigDict(RULES),
    )
  )


def _init_from() -> ConfigDict:
  return ConfigDict(
    dict(
      checkpoints='',  # of another run; empty starts afresh
      params=(),  # which top-level parameters to take from it; all
      step=config_dict.placeholder(int),  # of its checkpoints; the latest
      # What a game's embedding starts from: its own row, or that of the
      # 'related' game (games.py), a 'new' one, or that of a game named here.
      task_row=config_dict.placeholder(str),
    )
  )


def of_quickstart(config: ConfigDict, batch_size: int) -> None:
  """Makes it a run of minutes on the quickstart's recorded games."""
  config.data.games = ()  # filled in
  config.data.held_out_fraction = 0.1
  config.data.balance_games = True
  config.run.batch_size = batch_size
  config.run.log_every = 20
  config.run.save_every = 200
  config.run.keep_checkpoints = 2
  config.run.evaluate_every = 200


def decision_transformer(
  method: str, size: str, sizes: dict[str, tuple[int, int, int]]
) -> ConfigDict:
  """What configs of transformers of frames and returns share.

  Args:
    method: its name.
    size: a name in `sizes`.
    sizes: layers, width and heads of attention.
  """
  if size not in sizes:
    raise ValueError(f'Unknown size {size!r}; there are {sorted(sizes)}')
  smoke, quickstart = size == 'smoke', size == 'quickstart'
  layers, width, heads = sizes[size]
  config = trainer(method, smoke)
  # What the agent sees as an episode begins is padded so.
  config.data.padding = 'left'
  config.data.stride = 1
  config.backbone = ConfigDict(
    dict(
      num_layers=layers,
      width=width,
      num_heads=heads,
      steps=4,  # of a window
      patch=14,  # side of a token's pixels
      num_actions=18,
      dropout=0.1,
      fused_attention=False,
      remat=False,  # saves memory for a third more computation
      dtype='float32' if smoke or quickstart else 'bfloat16',
    )
  )
  # The paper says that there are both, and no sizes: these are ours.
  config.augmentation = ConfigDict(
    dict(
      crop=4,  # pixels that frames are shifted by at most
      rotation=5.0,  # degrees that they are turned by at most
    )
  )
  steps, warmup = 1_750_000, 10_000
  if smoke:
    steps, warmup = 10, 2
  if quickstart:
    of_quickstart(config, batch_size=32)
    steps, warmup = 2500, 200
  policy = optimizer(1e-3 if quickstart else 1e-4, 1e-4, warmup - 1)
  policy.decay_mask = 'all'
  policy.clip = 0.25
  # Step k, counted from 0, is taken at (k + 1) / warmup of the rate.
  policy.warmup_from = 1 / warmup
  if quickstart:
    policy.decay, policy.final_fraction = 'cosine', 0.02
  config.stages = stages(policy=stage(steps, policy=policy))
  return config


def base(size: str, method: str) -> ConfigDict:
  """Everything but the stages and the losses of JOWA and its kin."""
  if size not in SIZES:
    raise ValueError(f'Unknown size {size!r}; there are {sorted(SIZES)}')
  smoke = size == 'smoke'
  config = trainer(method, smoke)
  config.tokenizer = _tokenizer(smoke)
  config.backbone = _backbone(size, config.tokenizer.get_ref('vocab_size'))
  config.heads = _heads(size)
  config.tokenizer_training = _tokenizer_training()
  return config


def _tokenizer(smoke: bool) -> ConfigDict:
  return ConfigDict(
    dict(
      channels=8 if smoke else 64,
      res_blocks=1 if smoke else 2,
      downsample=(7, 2),  # 84 -> 12 -> 6
      latent_channels=16 if smoke else 512,
      vocab_size=32 if smoke else 2048,
      embedding_dim=16 if smoke else 512,
      resolution=84,
      norm_groups=2,
      # Or 'patch', by dense layers: tokens change only where pixels do.
      encoder_field='frame',
      dtype='float32' if smoke else 'bfloat16',
    )
  )


def _backbone(size: str, vocab_size: FieldReference) -> ConfigDict:
  sizes = SIZES[size]
  return ConfigDict(
    dict(
      num_layers=sizes['layers'],
      width=sizes['width'],
      num_heads=sizes['heads'],
      vocab_size=vocab_size,
      tokens_per_frame=36,
      max_blocks=8,  # steps in a segment, and the planner's longest sequence
      num_actions=18,
      num_tasks=60,
      dropout=0.1,  # embeddings and residual branches
      attention_dropout=0.1,
      # Departs from the paper: needs attention_dropout=0.
      fused_attention=False,
      remat=False,  # saves memory for a third more computation
      task_embedding=True,
      init_scale=0.02,
      dtype='float32' if size == 'smoke' else 'bfloat16',
    )
  )


def _heads(size: str) -> ConfigDict:
  sizes = SIZES[size]
  return ConfigDict(
    dict(
      num_heads=sizes['num_q'],
      width=sizes['q_width'],
      dropout=0.01,  # after the first layer only
    )
  )


def _tokenizer_training() -> ConfigDict:
  return ConfigDict(
    dict(
      frames_per_step=2048,
      # File of LPIPS weights; without it the term is left out.
      perceptual_weights=config_dict.placeholder(str),
      # What keeps small tokenizers from collapsing; off in the paper.
      codebook_init_step=0,
      restart_period=0,
      restart_until=0,
      restart_noise=0.01,
      restart_at_errors=False,
      motion_weight=0.0,
      motion_threshold=0.06,
      embed_codes=0.0,
    )
  )


def stage(steps: int, **optimizers: ConfigDict) -> ConfigDict:
  """A stage with these objectives, updated in this order."""
  return ConfigDict(dict(steps=steps, parts=tuple(optimizers), **optimizers))


def stages(**named: ConfigDict) -> ConfigDict:
  """Stages, run in this order."""
  return ConfigDict(dict(order=tuple(named), **named))
