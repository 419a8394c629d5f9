"""Files that ship with the package.

example.png is frame 0 of the synthetic world's test seed 900011 at 256×256, `handi world --action cut`.
mini/ is the bundled model (docs/mini.md), a model folder of 16-bit weights. hands/ has MediaPipe's hand
networks, unchanged, with their licence and notice.
"""

from pathlib import Path

MINI = Path(__file__).parent / "mini"
HANDS = Path(__file__).parent / "hands"
