"""Films of a game beside its dream."""

import av
import numpy as np
import pytest

from jowa_jax.eval.recording import record
from jowa_jax.play import film
from jowa_jax.play.dreamed import dreamed_scenes
from jowa_jax.play.keys import LEFT
from jowa_jax.play.session import Session

GAME = 'Carnival'


@pytest.mark.slow
def test_pictures_show_both(programs):
  session = Session(programs, GAME)
  shown = [session.step(LEFT) for _ in range(4)]
  scenes = list(session.scenes())
  pictures = list(film.pictures(scenes, GAME, 'a person'))
  assert len(pictures) == 4
  assert pictures[0].shape == (film.HEIGHT, film.WIDTH, 3)
  assert not film.HEIGHT % 2 and not film.WIDTH % 2
  for picture, each in zip(pictures, shown, strict=True):
    for left, frame in (
      (film.GAME_LEFT, each.state.frame),
      (film.DREAM_LEFT, each.state.dream_frame),
    ):
      part = picture[film.TOP :: film.SCALE, left :: film.SCALE, 0][:84, :84]
      np.testing.assert_array_equal(part, frame)


@pytest.mark.slow
def test_an_episode_is_dreamed_whole(programs, tmp_path):
  recording = record(programs.agent, GAME, max_decisions=8, seed=1)
  scenes = dreamed_scenes(programs, recording)
  assert [scene.dreamed for scene in scenes] == list(range(1, 7))
  session = Session(programs, GAME)
  # The same actions in a session that branches after its context.
  moves = {0: 0, 1: 16, 3: 8, 4: 4, 11: 24, 12: 20}
  for action in recording.actions[: programs.context - 1]:
    session.step(moves[int(action)])
  session.branch()
  for scene in scenes:
    shown = session.step(moves[scene.action])
    real, dream = scene.frames()
    np.testing.assert_array_equal(real, shown.state.frame)
    np.testing.assert_array_equal(dream, shown.state.dream_frame)
    assert scene.token_accuracy == shown.token_accuracy
  path = tmp_path / 'dream.mp4'
  film.write_film(path, scenes, GAME, recording.agent)
  with av.open(str(path)) as container:
    frames = [frame.to_ndarray(format='gray') for frame in container.decode(0)]
  assert len(frames) == 6 and frames[0].shape == (film.HEIGHT, film.WIDTH)


def test_what_cannot_be(programs, tmp_path):
  recording = record(programs.agent, GAME, max_decisions=2, seed=1)
  with pytest.raises(ValueError, match='begins with 2 frames, and there are 2'):
    dreamed_scenes(programs, recording)
  with pytest.raises(ValueError, match='nothing to film'):
    film.write_film(tmp_path / 'x.mp4', [], GAME)
  with pytest.raises(ValueError, match='must end in .mp4'):
    film.write_film(tmp_path / 'x.gif', [], GAME)
  assert not list(tmp_path.iterdir())
