"""What hands can do here. The names are those of `render_clip(action=...)` and of the clips' JSON."""

from handi.world.actions.base import Action, Choice
from handi.world.actions.carry import LiftPot, PickUp, Pour, PushLeft, PushRight, PutDown, Stack
from handi.world.actions.furniture import (
    CloseDrawer,
    CloseLid,
    OpenDrawer,
    OpenLid,
    PressButton,
    TurnAnticlockwise,
    TurnClockwise,
)
from handi.world.actions.sheets import Fold, Tear, Unfold
from handi.world.actions.tools import Cut, Stir, Wipe

ACTIONS: dict[str, type[Action]] = {
    action.name: action
    for action in (
        PickUp,
        PutDown,
        PushLeft,
        PushRight,
        Stack,
        Pour,
        LiftPot,
        OpenDrawer,
        CloseDrawer,
        OpenLid,
        CloseLid,
        TurnClockwise,
        TurnAnticlockwise,
        PressButton,
        Wipe,
        Stir,
        Cut,
        Fold,
        Unfold,
        Tear,
    )
}

__all__ = ["ACTIONS", "Action", "Choice"]
