"""Makes the cells of a study, the rows of `configs/study.py`."""

from collections.abc import Sequence

from ml_collections import ConfigDict


def command(
  script: str, minutes: float = 0.0, fields=None, **flags
) -> ConfigDict:
  """A script of `launch/`, its flags, and fields of its config."""
  return ConfigDict(
    dict(
      script=script,
      flags=flags,  # {study}, {cell} and the names of `places` are directories
      set=fields or {},
      # Of one `device`; 0 leaves it to what its config computes.
      minutes=minutes,
    )
  )


def cell(commands: dict[str, ConfigDict], **fields) -> ConfigDict:
  """One place in the table."""
  cell = dict(
    method='',  # and size: what the report groups agents by
    size='',
    games=(),  # that it is scored in
    data='',
    quality='',  # of the data of a game that it is fine-tuned on
    ablation='',
    seed=0,
    agents={},  # planners by the names of agents: results/<agent>.jsonl
    needs=(),  # cells that come first
    shared=False,  # made by every machine that needs it
  )
  cell |= fields
  cell['commands'] = ConfigDict(dict(order=tuple(commands), **commands))
  return ConfigDict(cell)


def study(title: str, text: str, device: str, flops: float) -> ConfigDict:
  config = ConfigDict()
  config.title = title
  config.text = text
  # What minutes are those of, and operations a second that it reaches.
  config.device = device
  config.flops = flops
  config.places = ConfigDict()  # directories outside the study, by name
  config.cells = ConfigDict()
  return config


def training(
  config: str,
  games: Sequence[str],
  source: str,
  seed: int,
  minutes: float = 0.0,
  data=None,
  **fields,
) -> ConfigDict:
  """`launch.train` on the data of another cell."""
  where = f'{{study}}/cells/{source}/data'
  return command(
    'train',
    minutes,
    dict(
      run=dict(seed=seed),
      data=dict(directory=where, games=games, **(data or {})),
      **fields,
    ),
    config=config,
    workdir='{cell}/run',
    progress=False,
  )


def evaluation(
  agent: str,
  games: Sequence[str],
  seed: int,
  minutes: float,
  protocol=None,
  checkpoint='{cell}/run',
  **flags,
) -> ConfigDict:
  """`launch.evaluate`, by the paper's rules but for what `protocol` says."""
  if checkpoint:
    flags['checkpoint'] = checkpoint
  return command(
    'evaluate',
    minutes,
    dict(protocol=protocol) if protocol else {},
    config='configs/evaluate.py:paper',
    games=','.join(games),
    seed=seed,
    output=f'{{cell}}/results/{agent}.jsonl',
    progress=False,
    **flags,
  )


def baselines(
  config: ConfigDict, games: Sequence[str], minutes: float, protocol: dict
) -> None:
  """Random play, and the scores of what is learned from."""
  config.cells.random = cell(
    dict(play=evaluation('random', games, 0, minutes, protocol, '')),
    games=games,
    agents=dict(random=''),
  )
