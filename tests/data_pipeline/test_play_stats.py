from jowa_jax.data.play_stats import PlayStats


def test_the_mean_is_of_full_episodes():
  stats = PlayStats.of([3, 4, 5], [10.0, 99.0, -4.0], [True, False, True])
  assert stats == PlayStats(
    episodes=3, steps=12, full_episodes=2, mean_return=3.0
  )


def test_without_a_full_episode_there_is_no_mean():
  stats = PlayStats.of([3], [10.0], [False])
  assert stats.mean_return is None and stats.full_episodes == 0
  assert PlayStats.of([], [], []) == PlayStats(0, 0, 0, None)
