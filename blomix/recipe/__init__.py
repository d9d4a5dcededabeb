"""The recipe: search over folds, average, finetune, export."""

from blomix.recipe.finetune import finetune
from blomix.recipe.recipe import Recipe
from blomix.recipe.result import Result
from blomix.recipe.training import Training

__all__ = ["Recipe", "Result", "Training", "finetune"]
