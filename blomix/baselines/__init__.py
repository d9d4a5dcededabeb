"""Finetuning methods by name: the recipe and its rivals, behind one interface."""

from blomix.baselines.bitfit import BitFit
from blomix.baselines.child_tuning import ChildTuning
from blomix.baselines.ema import Ema
from blomix.baselines.hype import Hype
from blomix.baselines.joint import Joint
from blomix.baselines.l2sp import L2sp
from blomix.baselines.lora import Lora
from blomix.baselines.lp_ft import LpFt
from blomix.baselines.mixout import Mixout
from blomix.baselines.probe import Probe
from blomix.baselines.r3f import R3f
from blomix.baselines.random_alpha import RandomAlpha
from blomix.baselines.rdrop import RDrop
from blomix.baselines.reinit import Reinit
from blomix.baselines.sam import Sam
from blomix.baselines.soup import Soup
from blomix.baselines.top_layers import TopLayers
from blomix.baselines.wise_ft import WiseFt
from blomix.recipe.recipe import Recipe
from blomix.recipe.training import Training

_METHODS = (Recipe, Training, Soup, Joint, RandomAlpha, Probe, LpFt, L2sp, Mixout, RDrop, R3f, Hype)
_METHODS += (ChildTuning, Reinit, TopLayers, Lora, BitFit, Sam, Ema, WiseFt)

METHODS: dict[str, type[Training]] = {method.name: method for method in _METHODS}
