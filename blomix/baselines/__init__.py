"""Finetuning methods by name: the recipe and its rivals, behind one interface."""

from blomix.recipe.recipe import Recipe
from blomix.recipe.training import Training

METHODS: dict[str, type[Training]] = {method.name: method for method in (Recipe, Training)}
