"""Things that hands act on. Each draws itself in any of its states."""

from handi.world.props.base import Prop, State
from handi.world.props.furniture import Buttons, Chest, Drawer, Stove
from handi.world.props.kitchen import Bowl, Pot, Vessel
from handi.world.props.sheets import Cloth, Paper
from handi.world.props.solids import Block, Board, Sponge

__all__ = [
    "Block",
    "Board",
    "Bowl",
    "Buttons",
    "Chest",
    "Cloth",
    "Drawer",
    "Paper",
    "Pot",
    "Prop",
    "Sponge",
    "State",
    "Stove",
    "Vessel",
]
