"""Text encoders in JAX from Hugging Face checkpoints, and back."""

from blomix.encoders.encoder import Encoder
from blomix.encoders.families import FAMILIES

__all__ = ["FAMILIES", "Encoder"]
