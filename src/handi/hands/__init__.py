"""Hands: MediaPipe's detector in torch, and the 42 joints of a frame."""

from handi.core.types import Hands
from handi.hands.detector import HandDetector, Track
from handi.hands.joints import BONES, JOINT_NAMES, draw_hands

__all__ = ["BONES", "JOINT_NAMES", "HandDetector", "Hands", "Track", "draw_hands"]
