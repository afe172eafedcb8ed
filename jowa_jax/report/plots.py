"""Small SVG plots that take their colours from the page.

Matplotlib draws with placeholder colours; they become CSS variables, so that
one drawing suits light and dark pages.
"""

import io
import re
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

import matplotlib
import numpy as np

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: E402

# Placeholder -> what the page shows. The page defines the variables.
_INK, _FAINT, _SHADE, _LINE = '#010101', '#020202', '#030303', '#040404'
PALETTE = 12  # colours of agents, see the page
_AGENTS = [f'#0101{index + 16:02x}' for index in range(PALETTE)]
_COLORS = {
  _INK: 'var(--ink-soft)',
  _FAINT: 'var(--rule)',
  _SHADE: 'var(--shade)',
  _LINE: 'var(--series)',
  **{color: f'var(--agent-{i})' for i, color in enumerate(_AGENTS)},
}

_STYLE = {
  'svg.fonttype': 'none',
  'svg.hashsalt': 'jowa',
  'font.family': 'DejaVu Sans',
  'font.size': 8,
  'axes.edgecolor': _FAINT,
  'axes.labelcolor': _INK,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.linewidth': 0.8,
  'text.color': _INK,
  'xtick.color': _FAINT,
  'ytick.color': _FAINT,
  'xtick.labelcolor': _INK,
  'ytick.labelcolor': _INK,
  'xtick.major.size': 3,
  'ytick.major.size': 0,
}
_MAX_POINTS = 300

Points = tuple[np.ndarray, np.ndarray]


class Line(NamedTuple):
  """One of several lines in a plot."""

  color: int  # of the palette
  x: Sequence[float]  # [N]
  y: Sequence[float]  # [N]
  band: np.ndarray | None = None  # [2, N] low and high
  dashed: bool = False
  label: str = ''  # in the plot's own legend; none if all are empty


def curve(
  training: Points | None,
  held_out: Points | None,
  stages: Sequence[tuple[str, float, float]],
) -> str:
  """Draws one metric over training steps.

  Args:
    training: positions and values, [N] each.
    held_out: the same on held-out data, drawn dashed.
    stages: (name, first, last position); every other one is shaded.

  Returns:
    An SVG element to be put into a page.
  """
  with plt.rc_context(_STYLE):
    figure, axes = plt.subplots(figsize=(3.4, 1.55), layout='constrained')
    for i, (_, begin, end) in enumerate(stages):
      if i % 2:
        axes.axvspan(begin, end, color=_SHADE, lw=0, zorder=0)
    if training is not None:
      _draw_training(axes, *training, [end for _, _, end in stages])
    if held_out is not None:
      axes.plot(
        *held_out,
        color=_LINE,
        lw=1.2,
        ls=(0, (3, 2)),
        marker='o' if len(held_out[0]) < 40 else None,
        ms=2.5,
      )
    axes.grid(axis='y', color=_FAINT, lw=0.5, alpha=0.7)
    axes.set_axisbelow(True)
    axes.spines['left'].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: compact(x)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: compact(y)))
    if stages:
      axes.set_xlim(stages[0][1], max(stages[-1][2], stages[0][1] + 1))
    axes.margins(y=0.08)
    return _svg(figure)


def lines(
  series: Sequence[Line],
  *,
  x_label: str,
  y_label: str,
  log_x: bool = False,
  from_zero: bool = False,
) -> str:
  """Draws lines, with their intervals; single points where N is 1.

  Args:
    series: what to draw.
    x_label: of the axis, with its unit.
    y_label: text beside the vertical axis.
    log_x: whether the x axis is logarithmic.
    from_zero: whether the y axis begins at 0.

  Returns:
    An SVG element to be put into a page.
  """
  with plt.rc_context(_STYLE):
    figure, axes = plt.subplots(figsize=(4.6, 2.5), layout='constrained')
    for line in series:
      color = _AGENTS[line.color % PALETTE]
      if line.band is not None:
        axes.fill_between(line.x, *line.band, color=color, alpha=0.15, lw=0)
      axes.plot(
        line.x,
        line.y,
        color=color,
        lw=1.5,
        ls=(0, (3, 2)) if line.dashed else '-',
        marker='o' if len(line.x) < 12 else None,
        ms=3.5,
        label=line.label or None,
      )
    if any(line.label for line in series):
      axes.legend(frameon=False)
    axes.grid(axis='y', color=_FAINT, lw=0.5, alpha=0.7)
    axes.set_axisbelow(True)
    axes.spines['left'].set_visible(False)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if log_x:
      axes.set_xscale('log')
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: compact(x)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: compact(y)))
    if from_zero:
      axes.set_ylim(bottom=0)
    return _svg(figure)


def bars(
  titles: Sequence[str],
  colors: Sequence[int],
  values: Sequence[float],
  intervals: Sequence[tuple[float, float] | None],
  *,
  x_label: str,
) -> str:
  """Draws horizontal bars, the first one on top, with their intervals.

  Args:
    titles: of N bars.
    colors: of the palette.
    values: where bars end.
    intervals: low and high ends of a line over each; None for none.
    x_label: of the axis, with its unit.

  Returns:
    An SVG element to be put into a page.
  """
  with plt.rc_context(_STYLE):
    size = (5.6, 0.6 + 0.26 * len(titles))
    figure, axes = plt.subplots(figsize=size, layout='constrained')
    places = np.arange(len(titles))
    inks = [_AGENTS[color % PALETTE] for color in colors]
    axes.barh(places, values, 0.7, color=inks, alpha=0.85)
    for place, interval in zip(places, intervals, strict=True):
      if interval is not None:
        axes.plot(interval, [place] * 2, color=_INK, lw=1, marker='|', ms=5)
    axes.axvline(0, color=_INK, lw=0.8)
    axes.set_yticks(places, titles)
    axes.invert_yaxis()
    axes.grid(axis='x', color=_FAINT, lw=0.5, alpha=0.7)
    axes.set_axisbelow(True)
    axes.spines['left'].set_visible(False)
    axes.set_xlabel(x_label)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: compact(x)))
    return _svg(figure)


def standalone(svg: str) -> str:
  """An SVG element as a file of its own, for light and dark surroundings."""
  style = (resources.files('jowa_jax.report') / 'palette.css.jinja').read_text()
  style += 'text { font-family: system-ui, sans-serif; }\n'
  begin, end, rest = svg.partition('>')
  return f'{begin}{end}\n<style>\n{style}</style>{rest}\n'


def _draw_training(axes, steps, values, stage_ends: Sequence[float]):
  """Draws a line per stage; a noisy one with its running mean on top."""
  width = len(values) // 30
  cuts = np.searchsorted(steps, stage_ends[:-1], side='right')
  for x, y in zip(np.split(steps, cuts), np.split(values, cuts), strict=True):
    if width >= 2:
      axes.plot(*_thin(x, y), color=_LINE, lw=0.7, alpha=0.35)
      y = _running_mean(y, width)
    axes.plot(
      *_thin(x, y), color=_LINE, lw=1.5, marker='.' if len(x) == 1 else None
    )


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
  """Averages over `width` neighbours on both sides, fewer at the ends."""
  sums = np.cumsum(np.concatenate([[0.0], values]))
  index = np.arange(len(values))
  low = np.maximum(index - width, 0)
  high = np.minimum(index + width + 1, len(values))
  return (sums[high] - sums[low]) / (high - low)


def _thin(steps: np.ndarray, values: np.ndarray) -> Points:
  stride = max(1, -(-len(steps) // _MAX_POINTS))
  return steps[::stride], values[::stride]


def axis_ticks(low: float, high: float) -> list[float]:
  """Round ticks whose first and last enclose the range."""
  if low == high:
    low, high = low - 1, high + 1
  return (
    MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high).tolist()
  )


def compact(value: float) -> str:
  """Writes an axis label shortly: 250000 -> '250k', 0.25 -> '0.25'."""
  size = abs(value)
  if size >= 1e6:
    return f'{value / 1e6:g}M'.replace('-', '−')
  if size >= 1e5:
    return f'{value / 1e3:g}k'.replace('-', '−')
  return f'{value:,.6g}'.replace('-', '−')


def _svg(figure) -> str:
  """Closes the figure; returns it as an SVG element in the page's colours."""
  buffer = io.StringIO()
  figure.savefig(
    buffer,
    format='svg',
    transparent=True,
    metadata={'Date': None, 'Creator': None},
  )
  plt.close(figure)
  text = buffer.getvalue()
  text = text[text.index('<svg') :]
  # Its style element would act on the whole page.
  text = re.sub(r'<defs>\s*<style.*?</style>\s*</defs>', '', text, flags=re.S)
  text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.S)
  text = re.sub(
    r' id="(?:figure|axes|patch|line2d|xtick|ytick|text|matplotlib)[^"]*"',
    '',
    text,
  )
  text = text.replace("font-family: 'DejaVu Sans';", '')
  text = re.sub(r' (?:width|height)="[\d.]+pt"', '', text, count=2)
  for color, variable in _COLORS.items():
    text = text.replace(color, variable)
  return text.replace(
    '<svg ', '<svg stroke-linejoin="round" aria-hidden="true" ', 1
  )
