"""What makes the commands of READMEs small, and what some of them begin with.

Nothing is learned, and every number is nonsense.
"""

import pathlib
import pickle
import re
import shutil
from collections.abc import Callable

from safetensors.numpy import save_file

from jowa_jax.checkpoint import packed
from jowa_jax.collect import networks
from jowa_jax.collect.collect import collect
from jowa_jax.data.source import Split
from jowa_jax.data.store import formats, writer
from tests.checkpoint import released_states, test_released_mgdt
from tests.collect import test_networks
from tests.data_pipeline.sources import minari_play, raw_logs, test_video
from tests.launch.readmes import Command

# What lies on another machine, or where the test makes it.
OF_OTHERS = (r'/(logs|tfds)/', r'\1/')
# What is written in READMEs, as a pattern, and what stands in its place.
SUBSTITUTIONS = (
  (r'(configs/(jowa|finetune)\.py):40m', r'\1:smoke'),
  (r'(configs/finetune_online\.py):(resnet34|quickstart)', r'\1:smoke'),
  (r'(configs/study\.py):(laptop|overnight)', r'\1:smoke'),
  (r'(configs/quickstart\.py):(full|scratch)', r'\1:smoke'),
  (r'^--games=pretrain$', '--games=Assault,Carnival'),
  (r'^--games=Freeway,MsPacman,Qbert,RoadRunner$', '--games=RoadRunner'),
  (r'^--fraction=0\.1', '--fraction=0.5'),
  (r'^--transitions=5000', '--transitions=40'),
  OF_OTHERS,
  (r'~/\.minari/', 'minari_home/'),
  # torch is an extra: the same tensors in a format that needs none.
  (r'\.pt$', '.safetensors'),
)
_SHORT = '--rollouts=1 --config.protocol.max_frames=40'
# Other processes take seconds to start.
_ALONE = '--config.num_processes=1'
_RUN = '--config.run.batch_size=2 --config.run.log_every=1'
_SAVED = f'{_RUN} --config.run.save_every=2'
_TUNED = (
  f'{_SAVED} --config.run.play_every=2 --config.run.play_max_frames=40 '
  '--config.stages.finetune.steps=2 --config.finetune.scratch.steps=2 '
  '--config.data.transitions=40'
)
_STAGES = '--config.stages.stage1.steps=2 --config.stages.stage2.steps=2'
# Of JOWA: four tokens a frame.
_TINY = (
  '--config.tokenizer.downsample=(7,6) --config.backbone.tokens_per_frame=4 '
  '--config.tokenizer_training.frames_per_step=4'
)
# Flags that come after those of a README: script, how a flag that the command
# has begins, and these; the first row that fits.
EXTRA = (
  ('benchmark', '--suite=play', '--seconds=4 --environments=1'),
  ('benchmark', '--suite=eval', '--size=smoke --decisions=2 --environments=1'),
  ('benchmark', '--suite=train', '--size=smoke --batch_size=4 --seconds=0.1'),
  ('benchmark', '--suite=scale', '--size=smoke --mesh=data=2,fsdp=2'),
  (
    *('benchmark', '--suite=plan'),
    '--size=smoke --environments=1 --width=1 --horizon=1 --seconds=0.1 '
    '--decisions=2',
  ),
  (
    *('collect', '--replay=play.npz'),
    f'{_ALONE} --config.replay.steps_per_checkpoint=20',
  ),
  ('collect', '--replay=RoadRunner-', _ALONE),
  (
    # One of two episodes is held out, of as many transitions as `_TUNED` has.
    *('collect', '--output=data/climber_2'),
    f'{_ALONE} --config.replay.steps_per_checkpoint=20 '
    '--config.replay.checkpoints=(2,3)',
  ),
  (
    *('collect', '--replay'),
    f'{_ALONE} --config.replay.steps_per_checkpoint=60',
  ),
  (
    *('collect', '--config.players'),
    f'{_ALONE} --config.steps_per_checkpoint=60',
  ),
  (
    *('collect', ''),
    f'{_ALONE} --config.steps_per_checkpoint=60 --config.search.depth=2',
  ),
  ('diagnose', '', '--episodes=1 --decisions=4 --compare_every=2'),
  (
    *('distill_player', ''),
    '--rounds=1 --decisions=40 --environments=2 --steps=2 --final_steps=2',
  ),
  # Of the checkpoints of a long run there is the last one.
  ('evaluate', '--step=', f'{_SHORT} --step=4'),
  ('evaluate', '', _SHORT),
  # One episode cannot be held out of one.
  (
    *('finetune', '--config.data.held_out_fraction='),
    f'{_TUNED} --config.data.held_out_fraction=0 --config.run.evaluate_every=0',
  ),
  (
    *('finetune', '--config=configs/finetune.py:quickstart'),
    f'{_TUNED} --config.finetune.tokenizer_steps=2',
  ),
  ('finetune', '--config=configs/finetune.py:scaled_ql', _TUNED),
  ('finetune', '--config=configs/finetune.py:ficc', _TUNED),
  ('finetune', '', f'{_TUNED} {_TINY}'),
  (
    *('finetune_online', '--config.init_from.params'),
    # The small agent knows other games.
    f'{_RUN} --config.stages.online.steps=4 --config.init_from.task_row=new',
  ),
  ('finetune_online', '', f'{_RUN} --config.stages.online.steps=4'),
  ('import_checkpoint', '', '--num_heads=2 --dtype=float32'),
  # Runs that are provided held nothing out.
  ('inspect_data', '--actions', '--steps=5'),
  ('judge', '', '--num_dreams=2 --held_out_fraction=0.3'),
  ('play', '', '--port=0'),
  (
    *('prepare_data', ''),
    '--runner=FnApiRunner --direct_num_workers=1 '
    '--direct_running_mode=in_memory',
  ),
  (
    *('quickstart', '--config=configs/quickstart.py:smoke'),
    '--config.evaluate.protocol.rollouts=1',
  ),
  ('quickstart', '', '--config=configs/quickstart.py:smoke'),
  ('study', '--print_commands', ''),
  ('study', '', '--cells=scaled_ql_s0'),
  (
    *('sweep', ''),
    '--context_lengths=1,2 --select_rollouts=1 --config.protocol.rollouts=1 '
    '--config.protocol.max_frames=40',
  ),
  (
    *('train', '--config=configs/overnight.py'),
    f'{_SAVED} {_STAGES} --config.run.evaluate_every=2 '
    '--config.run.play_every=0 --config.stages.stage1.tokenizer.warmup_steps=0 '
    '--config.stages.stage2.world_action.warmup_steps=0',
  ),
  (
    *('train', '--config=configs/ficc.py'),
    f'{_SAVED} --config.stages.watching.steps=2 '
    '--config.stages.watching.watching.warmup_steps=1',
  ),
  (
    *('train', '--config=configs/small.py'),
    f'{_SAVED} {_STAGES} {_TINY} '
    '--config.stages.stage1.tokenizer.warmup_steps=0 '
    '--config.stages.stage2.world_action.warmup_steps=0',
  ),
  ('train', '', f'{_SAVED} {_STAGES} {_TINY}'),
  ('train_player', '', '--decisions=1100 --environments=2'),
  ('video', '', '--max_decisions=4'),
)


# Scripts whose packages are an extra.
NEEDS = {
  'dream_agent': 'stable_baselines3',
  'train_player': 'stable_baselines3',
}
# What may be refused since so little play holds too little: script, flag, and
# what is said then.
TOO_LITTLE = (('inspect_data', '--rewards', 'load more episodes'),)


def refusal(command: Command) -> str:
  """What a command may say of too little play; empty if it may not."""
  for script, flag, message in TOO_LITTLE:
    if script == command.script and flag in command.flags:
      return message
  return ''


def small(command: Command) -> list[str]:
  """The arguments of a command's script, at smoke size."""
  words = list(command.flags)
  for pattern, place in SUBSTITUTIONS:
    words = [re.sub(pattern, place, word) for word in words]
  for script, flag, extra in EXTRA:
    if script == command.script and any(w.startswith(flag) for w in words):
      return words + extra.split()
  return words


def _play(folder: pathlib.Path, games: str) -> None:
  collect(folder, games, (1.0, 1.0), 60, num_processes=1, progress=False)


def _games(game: str, count: int):
  """Games of forty decisions that are said to be over."""
  (episode,) = raw_logs.random_play(game, 40 * count)[:1]
  for start in range(0, 40 * count, 40):
    piece = raw_logs.piece(episode, start, start + 40)
    yield piece._replace(
      frames=[*piece.frames, piece.frames[-1]], terminated=True
    )


def _logs(folder: pathlib.Path) -> None:
  """Raw logs of DQN-Replay, from the first and the last fifth of training."""
  for game in ('Assault', 'Carnival', 'Pong'):
    first, last = _games(game, 2)
    for run in (1, 2):
      checkpoints = {0: [first], 49: [last]}
      raw_logs.write_dqn_replay(folder, game, run, checkpoints, level=1)


def _tfds(folder: pathlib.Path) -> None:
  made, work = (folder.with_name(name) for name in ('made', 'work'))
  splits = [Split('Pong', 1, checkpoint) for checkpoint in (0, 49)]
  for split, episode in zip(splits, _games('Pong', 2), strict=True):
    writer.write_split(work, split, [(0, episode)])
  writer.finish_run(made, work, splits, {})
  (made / formats.EPISODES).rename(folder)


def _minari(folder: pathlib.Path) -> None:
  episodes = [minari_play.random_episode(20)]
  minari_play.write(folder.parent, 'atari/pong/expert-v0', episodes)


def _films(folder: pathlib.Path) -> None:
  folder.mkdir()
  pictures = test_video.pictures(30, side=(520, 660))
  test_video.write(folder / 'play.mkv', pictures)


def _record(path: pathlib.Path) -> None:
  collect(
    *(None, 'RoadRunner', (1.0,), 40),
    num_processes=1,
    progress=False,
    record=path,
  )


def _players(path: pathlib.Path, count: int = 5) -> None:
  for game in ('Boxing', 'RoadRunner'):
    (path / game).mkdir(parents=True)
    for index in range(count):
      networks.save(
        path / game / f'checkpoint_{index:02d}.npz',
        test_networks.random_network(index, game),
      )


def _mgdt(path: pathlib.Path) -> None:
  path.write_bytes(pickle.dumps((test_released_mgdt.haiku(), {})))


# What no command of a README makes, by the path that its commands name; others
# of theirs are trained by `provide`.
_MADE: dict[str, Callable[[pathlib.Path], None]] = {
  'data': lambda path: _play(path, 'Assault,Carnival'),
  'data/pong': lambda path: _play(path, 'Pong'),
  'logs/dqn': _logs,
  'tfds/rlu_atari_checkpoints_ordered': _tfds,
  'minari_home/datasets/atari': _minari,
  'films': _films,
  'RoadRunner-20260101-120000.npz': _record,
  'players': _players,
  'best': lambda path: _players(path, 1),
  'teachers/RoadRunner.npz': lambda path: networks.save(
    path, test_networks.random_network(0, 'RoadRunner')
  ),
  # In the place of agents that the package had before.
  'students.safetensors': lambda path: shutil.copy(packed.shipped(), path),
  'strided.safetensors': lambda path: shutil.copy(packed.shipped(), path),
  'noisy.safetensors': lambda path: shutil.copy(packed.shipped(), path),
  'players.safetensors': lambda path: shutil.copy(packed.shipped(), path),
  'searched.safetensors': lambda path: shutil.copy(packed.shipped(), path),
  'tokenizer.safetensors': lambda path: save_file(
    released_states.small_states()[0], path
  ),
  'JOWA_150M.safetensors': lambda path: save_file(
    released_states.small_states()[1], path
  ),
  'checkpoint_38274228.pkl': _mgdt,
}
_TRAINED = {
  'runs/ficc': ('ficc', ('watching', 'q')),
  'runs/scaled_ql': ('scaled_ql', ('q',)),
}


def provide(
  name: str, folder: pathlib.Path, fixture: Callable, launch: Callable
) -> None:
  """Makes what a command reads and no command before it has made.

  Args:
    name: its path in the folder.
    folder: where the commands are run.
    fixture: gives one by its name.
    launch: runs a script.
  """
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  if name == 'runs/jowa':
    shutil.copytree(fixture('finished').workdir, path)
  elif name in _TRAINED:
    method, stages = _TRAINED[name]
    done = launch(
      'train',
      *(f'--config=configs/{method}.py:smoke', f'--workdir={path}'),
      f'--config.data.directory={fixture("atari_data_dir")}',
      *('--config.data.games=Assault,Carnival', *_SAVED.split()),
      *(f'--config.stages.{stage}.steps=2' for stage in stages),
    )
    assert done.returncode == 0, done.stderr
  else:
    assert name in _MADE, f'no command makes {name}, nor does the test'
    _MADE[name](path)
