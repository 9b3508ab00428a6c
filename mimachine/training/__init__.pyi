# Where it was in 0.1; its home is `mimachine.model`.
from .recipe import Annealing as Annealing  # type: ignore[attr-defined]
from .recipe import Training as Training
from .recipe import Warmup as Warmup
from .schedules import Constant as Constant
from .schedules import Cosine as Cosine
from .schedules import Noam as Noam
from .schedules import WarmupStableDecay as WarmupStableDecay
