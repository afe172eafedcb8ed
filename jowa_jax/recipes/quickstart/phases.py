"""The phases of a quickstart, one after the other.

Each leaves files behind and is skipped, or continued, when they are there, so
that a run that was interrupted goes on where it was.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from jowa_jax import files, ownership
from jowa_jax.agent import Agent, load
from jowa_jax.configuration import ConfigError, differences
from jowa_jax.data.feed import statistics
from jowa_jax.data.store import stored
from jowa_jax.eval import evaluation
from jowa_jax.eval.players import load_player
from jowa_jax.eval.quality_report import QUALITY, Cloner, judge
from jowa_jax.eval.recording import record
from jowa_jax.eval.records import write_rollouts
from jowa_jax.eval.rollout import make_player
from jowa_jax.recipes.quickstart import recorded as recorded_lib
from jowa_jax.recipes.quickstart.clock import Clock
from jowa_jax.recipes.quickstart.plan import Plan, make_plan, summary
from jowa_jax.recipes.quickstart.settings import NEW, PLAY
from jowa_jax.report import write_report
from jowa_jax.report.inputs import SUMMARY
from jowa_jax.report.video import write_video
from jowa_jax.versions import versions_of

_MODULES = (
  *('jax', 'flax', 'optax', 'orbax', 'chex', 'numpy'),
  *('tensorflow_datasets', 'ale_py'),
)
_CONFIG = 'config.json'
_JUDGING = 'Look at what the model sees and dreams'
_FILMING = 'Film the agents'


def quickstart(
  config: Mapping[str, Any], workdir: str | pathlib.Path, progress: bool = True
) -> pathlib.Path:
  """Runs all phases that are not done yet.

  Args:
    config: of `configs/quickstart.py`.
    workdir: where everything goes.
    progress: show progress bars.

  Returns:
    The path of the report.

  Raises:
    ConfigError: the directory was begun with another config, or a field does
      not fit. Nothing is written then.
    ValueError: a game, a recording or a pretrained agent is not there, or
      unreadable. Nothing is written then either.
    InUseError: another quickstart is at work in the directory.
  """
  workdir = pathlib.Path(workdir).resolve()
  plan = make_plan(config, workdir)
  with ownership.owned(workdir / '.owner'):
    return _go_through(plan, workdir, progress)


def _go_through(
  plan: Plan, workdir: pathlib.Path, progress: bool
) -> pathlib.Path:
  _check_directory(workdir / _CONFIG, plan.config)
  clock = Clock(workdir / 'timings.json', dict(_phases(plan)))
  for name in plan.data:
    _play(plan, name, clock, progress)
  for name, run in plan.runs.items():
    with clock.phase(_training(name), run.is_finished()) as to_do:
      if to_do:
        plays = run.config['run']['play_every']
        run.train(progress, play=make_player(run.config) if plays else None)
  agents = plan.agents | {name: load(workdir / name) for name in plan.runs}
  _judge(plan, agents, clock, progress)
  _evaluate(plan, clock, progress)
  _film(plan, agents, clock)
  _write_json(workdir / 'eval' / SUMMARY, summary(plan))
  _write_json(workdir / 'versions.json', versions_of(_MODULES))
  return write_report(workdir)


def _phases(plan: Plan) -> Iterator[tuple[str, float]]:
  """What is done, in this order, and the minutes that each is said to take."""
  for name, spec in plan.data.items():
    yield _replaying(plan, name), spec.minutes
  for name in plan.runs:
    yield _training(name), plan.config['runs'][name]['minutes']
  if plan.judge.agent:
    yield _JUDGING, plan.judge.minutes
  for name, player in plan.players.items():
    yield _playing(plan, name), player.minutes
  if plan.evaluate.films:
    yield _FILMING, plan.evaluate.film_minutes


def _replaying(plan: Plan, name: str) -> str:
  what = {PLAY: 'to learn from', NEW: 'of a new game'}[name]
  return f'Replay play {what}: {", ".join(plan.games[name])}'


def _training(name: str) -> str:
  return f'Train {name}'


def _playing(plan: Plan, name: str) -> str:
  return (
    f'Evaluate {plan.players[name].title} on {", ".join(plan.games_of(name))}'
  )


def _play(plan: Plan, name: str, clock: Clock, progress: bool) -> None:
  """Plays again what is recorded of a data set."""
  spec, games = plan.data[name], plan.games[name]
  output = plan.workdir / 'data' / name
  done = set(games) <= set(stored.find_runs(output))
  with clock.phase(_replaying(plan, name), done) as to_do:
    if to_do:
      recorded_lib.play_again(
        plan.config['recordings'],
        output,
        games,
        spec.checkpoints,
        spec.steps_per_checkpoint,
        progress,
      )
  # From here on the directory is this config's.
  if not (plan.workdir / _CONFIG).exists():
    _write_json(plan.workdir / _CONFIG, plan.config)


def _judge(
  plan: Plan, agents: Mapping[str, Agent], clock: Clock, progress: bool
) -> None:
  """Looks at what an agent sees and dreams, on what it was not shown."""
  spec, folder = plan.judge, plan.workdir / 'eval'
  if not spec.agent:
    return
  with clock.phase(_JUDGING, (folder / QUALITY).exists()) as to_do:
    if not to_do:
      return
    cloner = None
    if spec.agent in plan.runs:
      data = plan.runs[spec.agent].load_data()
      held_out = data.held_out.episodes
      shown = data.train.episodes
      if spec.cloner:
        cloner = Cloner(agents[spec.cloner], data.train.episodes)
    else:
      held_out, others = recorded_lib.load_held_out(
        plan.config['recordings'],
        recorded_lib.held_out(
          agents[spec.agent], plan.recorded, plan.known_games, spec.decisions
        ),
        plan.workdir / 'data' / 'held_out',
        progress,
      )
      shown = [*others, *held_out]
    medians = statistics.compute(['median_frames'], shown)['median_frames']
    judge(
      agents[spec.agent], held_out, medians, folder, spec.num_dreams, cloner
    )


def _evaluate(plan: Plan, clock: Clock, progress: bool) -> None:
  """Writes the recorded scores, and plays."""
  folder = plan.workdir / 'eval'
  write_rollouts(folder / 'data.jsonl', _data_rollouts(plan))
  for name, player in plan.players.items():
    path, games = folder / f'{name}.jsonl', plan.games_of(name)
    wanted = len(games) * plan.protocol.rollouts
    done = path.exists() and path.read_text().count('\n') >= wanted
    with clock.phase(_playing(plan, name), done) as to_do:
      if to_do:
        evaluation.play(
          load_player(name, plan.checkpoint(name)),
          games,
          plan.protocol,
          plan.seed,
          path,
          options=dict.fromkeys(games, player.options),
          progress=progress,
        )


def _data_rollouts(plan: Plan) -> list:
  """The recorded episodes of what the agents were trained on."""
  found, played = [], set()
  limit = plan.protocol.max_decisions
  for name, spec in plan.data.items():
    for game in plan.games[name]:
      some = [
        one
        for one in plan.recorded[game]
        if not spec.checkpoints or one.checkpoint in spec.checkpoints
      ]
      found += recorded_lib.rollouts(
        some, spec.steps_per_checkpoint, limit=limit
      )
      played.add(game)
  for agent in plan.agents.values():
    for game in plan.known_games:
      if game not in played and game in agent.games:
        found += recorded_lib.rollouts_of(agent, plan.recorded, game, limit)
        played.add(game)
  return found


def _film(plan: Plan, agents: Mapping[str, Agent], clock: Clock) -> None:
  """Writes `videos/<player>-<Game>.mp4`; the folder appears when whole."""
  if not plan.evaluate.films:
    return
  folder = plan.workdir / 'eval'
  with clock.phase(_FILMING, (folder / 'videos').exists()) as to_do:
    if not to_do:
      return
    unfinished = folder / '.videos'
    unfinished.mkdir(parents=True, exist_ok=True)
    for name in plan.evaluate.films:
      for game in plan.games_of(name):
        recording = record(
          agents[plan.players[name].agent],
          game,
          protocol=plan.protocol,
          seed=plan.seed,
          max_decisions=plan.evaluate.film_decisions,
          **plan.players[name].options,
        )
        write_video(unfinished / f'{name}-{game}.mp4', recording)
    unfinished.rename(folder / 'videos')


def _write_json(path: pathlib.Path, value: Any) -> None:
  files.write_text(path, json.dumps(value, indent=2))


def _check_directory(path: pathlib.Path, config: dict[str, Any]) -> None:
  changed = []
  if path.exists():
    changed = differences(json.loads(path.read_text()), config)
  if changed:
    lines = '\n  '.join(changed)
    raise ConfigError(
      f'{path.parent} was begun with another config; give another directory '
      f'or restore these fields:\n  {lines}'
    )
