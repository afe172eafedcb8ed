"""What `launch.quickstart` does, `quickstart.py:full|scratch|smoke`.

`full` plays with a trained agent (`pretrained.shipped`: a run, a packed agent
or 'pretrained', the one of the package), and learns a game it never saw with
its tokenizer, beside the same steps from scratch and cloning. `scratch` trains
everything from nothing on two games. `smoke` does both at tiny sizes, for
tests: it fine-tunes what it trained.

`minutes` are those of two idle cores (AMD EPYC at 2.4 GHz): what is left of all
of it is reckoned from them, at the pace of the machine.
"""

from ml_collections import ConfigDict

from configs import finetune, overnight, small

_KNOWN = 'Games it was trained on'
_NEW = 'A game it never saw'


def _data(
  checkpoints: tuple[int, ...], steps: int, minutes: float = 0.1
) -> ConfigDict:
  """Which part of the recordings is played again."""
  return ConfigDict(
    dict(
      checkpoints=checkpoints,  # from poor to good play; all if empty
      steps_per_checkpoint=steps,  # decisions; all if 0
      minutes=minutes,  # that it takes; see above
    )
  )


def _run(
  kind: str,
  data: str,
  config: ConfigDict,
  source: str = '',
  model: str = '',
  minutes: float = 0.5,
) -> ConfigDict:
  """A run of training."""
  return ConfigDict(
    dict(
      kind=kind,  # 'train', or 'finetune' for configs of configs/finetune.py
      data=data,  # 'play' or 'new'
      # Run or pretrained agent that it starts from; empty starts afresh.
      source=source,
      # Run or pretrained agent whose sizes it has; empty for the config's.
      model=model,
      minutes=minutes,  # that it takes; see above
      # What the parts share (games, seed, paths) is left empty in it and filled
      # in by quickstart.
      config=config,
    )
  )


def _player(
  agent: str, title: str, note: str, minutes: float = 0.2, **options
) -> ConfigDict:
  """Who plays: a run, a pretrained agent, or 'random'."""
  return ConfigDict(
    dict(agent=agent, title=title, note=note, minutes=minutes, options=options)
  )


def _planner(agent: str, minutes: float, horizon: int = 2) -> ConfigDict:
  return _player(
    agent,
    'JOWA, planning',
    'beam search in its own world model',
    minutes,
    planner='beam',
    width=2,
    horizon=horizon,
    # Not the paper's: so small a model's values tell the actions of one frame
    # from each other better than what two dreams end in. See launch/results.
    path_score='mean',
    context_length=2,
  )


def _chapter(title: str, text: str, agents: tuple[str, ...]) -> ConfigDict:
  """What the page begins with."""
  return ConfigDict(dict(title=title, text=text, agents=agents))


def _base() -> ConfigDict:
  config = ConfigDict()
  # Of the data 'play'; without it those of the pretrained agent, all if empty.
  config.games = ''
  # Of the data 'new'; the first that is recorded and was not trained on, if
  # empty.
  config.new_game = ''
  # Files or names of recorded play, separated by commas; those of the package
  # that are called as their game if empty.
  config.recordings = ''
  config.seed = 0
  config.pretrained = ConfigDict()  # by name: 'pretrained', a file or a run
  config.data = ConfigDict()
  config.runs = ConfigDict(dict(order=()))
  # What of it sees and dreams is shown; num_dreams of each game, held beside
  # what followed. A pretrained agent is shown about so many decisions of each
  # game that it held out; a run, what it held out.
  config.judge = ConfigDict(
    dict(agent='', cloner='', num_dreams=64, decisions=1000, minutes=1.0)
  )
  return config


def _evaluate(smoke: bool) -> ConfigDict:
  """By which rules is played."""
  # The paper's rules but for fewer rollouts, and episodes cut off: an agent
  # that survives without scoring would take hours. The games know no chance,
  # and with the paper's 0.001 nearly all episodes would be the same one.
  return ConfigDict(
    dict(
      protocol=dict(
        rollouts=1 if smoke else 6,
        epsilon=0.05,
        max_frames=160 if smoke else 4_000,
      ),
      agents=ConfigDict(),
      films=(),  # agents whose play is filmed
      film_decisions=8 if smoke else 200,
      film_minutes=0.2 if smoke else 1.3,
      chapters=ConfigDict(),
    )
  )


def _finetuning(method: str, smoke: bool) -> ConfigDict:
  """On all 5,000 transitions, as long with a checkpoint as without."""
  size = 'smoke' if smoke else 'quickstart'
  config = finetune.get_config(f'{method}_{size}' if method else size).unlock()
  if smoke:
    finetune.train_tokenizer_first(config, 2, 2)
  config.data.transitions = None
  config.run.play_every = 0
  config.finetune.model = 'checkpoint'
  return config


def _new_game(config: ConfigDict, source: str, smoke: bool) -> None:
  """Adds a game from 5,000 transitions (section 5.5 of the paper)."""
  # Three decisions in ten of this play are random: the best of four shares
  # after 200 joint steps, in one seed (launch/results/students).
  config.data.new = _data((1,), 100 if smoke else 5_000)
  runs, players = config.runs, config.evaluate.agents
  minutes = 0.5 if smoke else 3.2
  finetuned = _finetuning('', smoke)
  # With the pretrained heads, and with the backbone, it plays worse
  # (launch/results/students).
  finetuned.init_from.params = ('tokenizer',)
  runs.finetuned = _run('finetune', 'new', finetuned, source, source, minutes)
  runs.order = (*runs.order, 'finetuned')
  # None of these plans: each sees as many frames as it has room for, four. With
  # two they score two thirds, over three seeds (launch/results).
  players.finetuned = _player(
    'finetuned',
    'JOWA, known tokenizer',
    'from the pretrained tokenizer; everything else is new',
  )
  if smoke:
    return
  runs.scratch = _run(
    'finetune', 'new', _finetuning('', smoke), '', source, minutes
  )
  cloned = _finetuning('mtbc', smoke)
  # The pretrained agent has no policy heads.
  cloned.init_from.params = ('tokenizer', 'backbone')
  runs.cloned = _run('finetune', 'new', cloned, source, source, minutes)
  runs.order = (*runs.order, 'scratch', 'cloned')
  players.scratch = _player(
    'scratch', 'JOWA, from scratch', 'the same steps from nothing'
  )
  players.cloned = _player(
    'cloned',
    'MTBC, fine-tuned',
    'behaviour cloning with the pretrained tokenizer and backbone',
  )


def _full() -> ConfigDict:
  config = _base()
  config.games = ','.join(overnight.GAMES)
  config.new_game = 'CrazyClimber'
  config.recordings = ','.join((*overnight.RECORDINGS, 'CrazyClimber_5'))
  config.pretrained.shipped = 'pretrained'
  config.judge.agent = 'shipped'
  config.judge.num_dreams = 32
  config.judge.minutes = 0.9
  config.evaluate = _evaluate(False)
  players = config.evaluate.agents
  players.random = _player('random', 'Random play', 'over the legal actions')
  players.shipped = _player(
    'shipped',
    'JOWA, greedy',
    'the best Q-value, no planning',
    0.6,
    # As many frames as planning leaves room for.
    context_length=2,
  )
  players.shipped_beam = _planner('shipped', 3.1)
  _new_game(config, 'shipped', False)
  config.evaluate.films = ('shipped_beam', 'finetuned')
  config.evaluate.chapters = ConfigDict(
    dict(
      order=('known', 'new'),
      known=_chapter(
        _KNOWN,
        'The agent that comes with jowa_jax, beside random play and the '
        'recorded play that it learned from.',
        ('random', 'data', 'shipped', 'shipped_beam'),
      ),
      new=_chapter(
        _NEW,
        'On 5,000 transitions: JOWA that begins with the tokenizer of this '
        'agent, beside as many steps from scratch, and of behaviour cloning '
        'that begins with its tokenizer and backbone. Complete games of it are '
        'far longer than these episodes, and the published scores are of '
        'complete games: human-normalised figures say nothing here.',
        ('random', 'data', 'scratch', 'cloned', 'finetuned'),
      ),
    )
  )
  return config


def _scratch(smoke: bool) -> ConfigDict:
  config = _base()
  config.games = 'Freeway,RoadRunner'
  if smoke:
    config.data.play = _data((0, 1), 120)
  else:
    # As networks that see frames played them, which the agent can learn to do.
    config.recordings = 'Freeway_5,RoadRunner_5'
    config.data.play = _data((), 12_000, 1.2)
  size = '_smoke' if smoke else ''
  config.runs.jowa = _run(
    'train',
    'play',
    small.get_config(f'jowa{size}'),
    minutes=0.5 if smoke else 22.0,
  )
  config.runs.mtbc = _run(
    'train', 'play', small.get_config(f'mtbc{size}'), 'jowa', minutes=2.0
  )
  config.runs.order = ('jowa', 'mtbc')
  config.judge.agent, config.judge.cloner = 'jowa', 'mtbc'
  config.judge.num_dreams = 4 if smoke else 64
  config.evaluate = _evaluate(smoke)
  players = config.evaluate.agents
  short = dict(context_length=2)
  players.random = _player('random', 'Random play', 'over the legal actions')
  players.mtbc = _player(
    'mtbc', 'MTBC', 'behaviour cloning with the same backbone', **short
  )
  players.jowa = _player(
    'jowa', 'JOWA, greedy', 'the best Q-value, no planning', **short
  )
  players.jowa_beam = (
    _planner('jowa', 0.2, horizon=1) if smoke else _planner('jowa', 1.6)
  )
  config.evaluate.films = ('jowa_beam',)
  config.evaluate.chapters = ConfigDict(
    dict(
      order=('known',),
      known=_chapter(
        _KNOWN,
        'Trained from nothing, beside random play and the recorded play, poor '
        'to good, that it learned from.',
        ('random', 'data', 'mtbc', 'jowa', 'jowa_beam'),
      ),
    )
  )
  if smoke:
    _new_game(config, 'jowa', smoke)
    config.evaluate.chapters.new = _chapter(
      _NEW, 'Fine-tuned.', ('random', 'data', 'finetuned')
    )
    config.evaluate.chapters.order = ('known', 'new')
  return config


def get_config(name: str = 'full') -> ConfigDict:
  """The config of a quickstart.

  Raises:
    ValueError: there is no such quickstart.
  """
  if name not in ('full', 'scratch', 'smoke'):
    raise ValueError(f'Unknown {name!r}; there are full, scratch and smoke')
  config = _full() if name == 'full' else _scratch(name == 'smoke')
  return config.lock()
