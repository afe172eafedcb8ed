"""Videos of an agent playing: what it sees, values and expects.

Drawn on top of what never changes, a few milliseconds a frame.
"""

import os

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jowa_jax import games as games_lib
from jowa_jax.eval.recording import Recording
from jowa_jax.report import drawing
from jowa_jax.report.drawing import (
  CHOSEN,
  INK,
  PAGE,
  REWARD,
  RULE,
  SOFT,
  font,
  paste,
)
from jowa_jax.report.plots import axis_ticks, compact

BAR = '#47669a'

_MARGIN, _SIDE = 16, 84
WIDTH = 728
# From one column to the next, of which there are two.
_COLUMN = 356
# Where the game is: left, top, and how many pixels show one.
GAME_LEFT, GAME_TOP, GAME_SCALE = _MARGIN, 48, 4
_GAME_SIDE = _SIDE * GAME_SCALE
_CHART_LEFT = GAME_LEFT + _COLUMN
_CHART_RIGHT = WIDTH - _MARGIN
_CHART_TOP, _CHART_BOTTOM = GAME_TOP + 46, GAME_TOP + _GAME_SIDE - 18
_TALLEST_ROW = 38
_NAME_WIDTH, _VALUE_WIDTH = 118, 46
_BARS_LEFT = _CHART_LEFT + _NAME_WIDTH
_BARS_RIGHT = _CHART_RIGHT - _VALUE_WIDTH
_DREAM_TOP = GAME_TOP + _GAME_SIDE + 14
_DREAM_TITLE, _CAPTION = 24, 34
_MOST_DREAMED = 9

_ARROWS = {
  '': '',
  'UP': '↑',
  'RIGHT': '→',
  'LEFT': '←',
  'DOWN': '↓',
  'UPRIGHT': '↗',
  'UPLEFT': '↖',
  'DOWNRIGHT': '↘',
  'DOWNLEFT': '↙',
}


def write_video(
  path: str | os.PathLike,
  recording: Recording,
  *,
  max_seconds: float = 60.0,
  frames_per_second: int = 15,
) -> int:
  """Writes an H.264 video that browsers play, whole or not at all.

  It shows a decision per frame: the game; the values of the legal actions, the
  chosen one highlighted; and, of an agent that dreams, the best branch of its
  plan with what really followed.

  Args:
    path: ends in .mp4.
    recording: what to show, from its start.
    max_seconds: of the video; later decisions are left out.
    frames_per_second: decisions a second. A game's own pace is 15, where 4 of
      its 60 frames a second pass per decision.

  Returns:
    The frames written.

  Raises:
    ValueError: the path ends otherwise, a number is not positive, or values of
      legal actions are not finite.
    OSError: the file cannot be written.
  """
  path = drawing.check_film(path)
  if not (max_seconds > 0 and frames_per_second > 0):
    raise ValueError(
      f'max_seconds={max_seconds} and frames_per_second={frames_per_second} '
      'must be above 0'
    )
  painter = Painter(recording)
  shown = max(1, int(max_seconds * frames_per_second))
  shown = min(shown, len(recording.frames))
  pictures = (painter.draw(t) for t in range(shown))
  drawing.write_pictures(
    path, pictures, WIDTH, painter.height, frames_per_second
  )
  return shown


class Painter:
  """Draws the decisions of a recording, pictures of one size.

  Attributes:
    height: of the pictures, even; they are `WIDTH` wide.
    legal: [L] the game's actions.
  """

  def __init__(self, recording: Recording):
    """Draws what never changes.

    Args:
      recording: what will be drawn.

    Raises:
      ValueError: values of legal actions are not finite.
    """
    self._recording = recording
    game = games_lib.parse_variant(recording.game).game
    self.legal = np.array(games_lib.LEGAL_ACTIONS[game])
    values = recording.values[:, self.legal]
    if not np.isfinite(values).all():
      raise ValueError('The values of legal actions must be finite')
    low, high = np.percentile(values, (0.5, 99.5))
    # Bars begin at zero unless that would hide how they differ.
    if 0 < low < high - low:
      low = 0.0
    elif low - high < high < 0:
      high = 0.0
    self._ticks = axis_ticks(low, high)
    self._row_height = min(
      (_CHART_BOTTOM - _CHART_TOP) / len(self.legal), _TALLEST_ROW
    )
    dreams = recording.dreams
    horizon = 0 if dreams is None else dreams.frames.shape[1]
    self._dreamed = min(horizon, _MOST_DREAMED)
    # Two pairs in a row, or three small ones, whose captions need more room.
    few = self._dreamed <= 4
    self._dream_scale, self._pairs, self._dream_gap = (
      (2, 2, 4) if few else (1, 3, 20)
    )
    bottom = GAME_TOP + _GAME_SIDE
    if self._dreamed:
      rows = -(-self._dreamed // self._pairs)
      bottom = _DREAM_TOP + _DREAM_TITLE + rows * self._cell_height
    self.height = (bottom + _MARGIN + 1) // 2 * 2
    self._background = self._draw_background()

  def bar_box(self, action: int) -> tuple[int, int, int, int]:
    """Where the bar of an action may be: left, top, right, bottom."""
    row = int(np.flatnonzero(self.legal == action)[0])
    middle = round(_CHART_TOP + (row + 0.5) * self._row_height)
    half = round(self._row_height * 0.3)
    return _BARS_LEFT, middle - half, _BARS_RIGHT, middle + half

  def draw(self, t: int) -> np.ndarray:
    """The picture of decision t, [height, WIDTH, 3] uint8."""
    recording = self._recording
    image = self._background.copy()
    draw = ImageDraw.Draw(image)
    self._draw_header(draw, t)
    self._draw_bars(draw, t)
    cells = []
    for step in range(self._dreamed):
      cells += self._draw_pair(draw, t, step)
    if self._dreamed:
      worth = f'worth {recording.dreams.scores[t]:.2f}'.replace('-', '−')
      place = (_CHART_RIGHT, _DREAM_TOP + 12)
      draw.text(place, f'to the planner {worth}', SOFT, font(11), 'rs')
    pixels = np.array(image)
    paste(pixels, recording.frames[t], GAME_LEFT, GAME_TOP, GAME_SCALE)
    for frame, left, top in cells:
      paste(pixels, frame, left, top, self._dream_scale)
    return pixels

  def dream_places(self, step: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Left and top of a dreamed frame and of the real one beside it."""
    row, column = divmod(step, self._pairs)
    side = _SIDE * self._dream_scale
    left = _MARGIN + column * 2 * _COLUMN // self._pairs
    top = _DREAM_TOP + _DREAM_TITLE + row * self._cell_height
    return (left, top), (left + side + self._dream_gap, top)

  @property
  def _cell_height(self) -> int:
    return _SIDE * self._dream_scale + _CAPTION

  def _place(self, value: float) -> int:
    """The horizontal place of a value in the chart."""
    low, high = self._ticks[0], self._ticks[-1]
    share = (np.clip(value, low, high) - low) / (high - low)
    return round(_BARS_LEFT + share * (_BARS_RIGHT - _BARS_LEFT))

  def _draw_background(self) -> Image.Image:
    image = Image.new('RGB', (WIDTH, self.height), PAGE)
    draw = ImageDraw.Draw(image)
    recording = self._recording
    draw.text((_MARGIN, 31), recording.game, INK, font(19, bold=True), 'ls')
    draw.text(
      (_CHART_LEFT, 31), recording.agent, SOFT, _fitting(recording.agent), 'ls'
    )
    draw.text(
      (_CHART_LEFT, GAME_TOP + 32), recording.value_name, SOFT, font(11), 'ls'
    )
    bottom = round(_CHART_TOP + len(self.legal) * self._row_height)
    for tick in self._ticks:
      x = self._place(tick)
      draw.line((x, _CHART_TOP, x, bottom), RULE)
      draw.text((x, bottom + 14), compact(tick), SOFT, font(11), 'ms')
    if self._dreamed:
      draw.text(
        (_MARGIN, _DREAM_TOP + 12),
        'The best dreamed future beside what followed',
        SOFT,
        font(13),
        'ls',
      )
    return image

  def _draw_header(self, draw: ImageDraw.ImageDraw, t: int) -> None:
    recording = self._recording
    right = GAME_LEFT + _GAME_SIDE
    score = f'score {recording.scores[t]:,.0f}'.replace('-', '−')
    draw.text((right, 31), score, INK, font(13), 'rs')
    number = f'decision {t + 1}'
    place = (_CHART_RIGHT, GAME_TOP + 32)
    draw.text(place, number, SOFT, font(11), 'rs')

  def _draw_bars(self, draw: ImageDraw.ImageDraw, t: int) -> None:
    recording = self._recording
    chosen = int(recording.actions[t])
    name = games_lib.ACTION_NAMES[chosen]
    place = (_CHART_LEFT, GAME_TOP + 14)
    draw.text(place, name, CHOSEN, font(17, bold=True), 'ls')
    best = self.legal[np.argmax(recording.values[t, self.legal])]
    if best != chosen:
      note = f'highest: {games_lib.ACTION_NAMES[best]}'
      draw.text((_CHART_RIGHT, place[1]), note, SOFT, font(11), 'rs')
    zero = self._place(0.0)
    for action in self.legal:
      value = recording.values[t, action]
      taken = action == chosen
      left, top, right, bottom = self.bar_box(action)
      ends = sorted((zero, self._place(value)))
      fill = CHOSEN if taken else BAR
      draw.rectangle((ends[0], top, ends[1], bottom), fill)
      middle, ink = (top + bottom) // 2, CHOSEN if taken else INK
      letters = font(12)
      action_name = games_lib.ACTION_NAMES[action]
      draw.text((_CHART_LEFT, middle), action_name, ink, letters, 'lm')
      number = f'{value:.2f}'.replace('-', '−')
      draw.text((_CHART_RIGHT, middle), number, ink, letters, 'rm')

  def _draw_pair(self, draw: ImageDraw.ImageDraw, t: int, step: int):
    """Writes under two frames; returns them as (frame, left, top)."""
    recording, dreams = self._recording, self._recording.dreams
    dream_place, real_place = self.dream_places(step)
    self._caption(
      draw,
      dream_place,
      f'+{step + 1} dreamed',
      dreams.actions[t, step],
      dreams.rewards[t, step],
    )
    cells = [(dreams.frames[t, step], *dream_place)]
    then = t + step
    if then + 1 < len(recording.frames):
      cells.append((recording.frames[then + 1], *real_place))
    else:
      self._say_nothing_followed(draw, real_place)
    if then < len(recording.frames):
      self._caption(
        draw,
        real_place,
        f'+{step + 1} real',
        recording.actions[then],
        recording.rewards[then],
      )
    return cells

  def _caption(self, draw, place, title, action, reward) -> None:
    left, top = place[0], place[1] + _SIDE * self._dream_scale
    draw.text((left, top + 13), title, SOFT, font(11), 'ls')
    words = _short(int(action))
    draw.text((left, top + 27), words, INK, font(12), 'ls')
    if reward:
      number = f'{reward:+,.0f}'.replace('-', '−')
      right = left + _SIDE * self._dream_scale
      draw.text((right, top + 27), number, REWARD, font(12, bold=True), 'rs')

  def _say_nothing_followed(self, draw, place) -> None:
    side = _SIDE * self._dream_scale
    box = (*place, place[0] + side - 1, place[1] + side - 1)
    draw.rectangle(box, outline=RULE)
    words = 'episode over' if self._recording.ended else 'not recorded'
    middle = (place[0] + side // 2, place[1] + side // 2)
    draw.text(middle, words, SOFT, font(11), 'mm')


def _fitting(text: str) -> ImageFont.FreeTypeFont:
  """The largest font in which a text is no wider than a column."""
  sizes = [
    size
    for size in range(13, 8, -1)
    if font(size).getlength(text) <= _CHART_RIGHT - _CHART_LEFT
  ]
  return font(sizes[0] if sizes else 8)


def _short(action: int) -> str:
  """An action in a few letters: 'RIGHTFIRE' -> '→ fire'."""
  name = games_lib.ACTION_NAMES[action]
  if name == 'NOOP':
    return 'no-op'
  arrow = _ARROWS[name.removesuffix('FIRE')]
  return f'{arrow} fire'.strip() if name.endswith('FIRE') else arrow
