from .build import build as build

# Where these were in 0.1; their home is `mimachine.data`.
from .presets import IMAGES as IMAGES  # type: ignore[attr-defined]
from .presets import LOW_DIMENSIONAL as LOW_DIMENSIONAL  # type: ignore[attr-defined]
from .presets import default as default
from .presets import fast as fast
from .presets import paper_image_training as paper_image_training
from .presets import paper_images as paper_images
from .presets import published as published
from .presets import published_image_training as published_image_training
from .settings import HIERARCHIES as HIERARCHIES
from .settings import IMAGE_ARCHITECTURES as IMAGE_ARCHITECTURES
from .settings import NAMES as NAMES  # type: ignore[attr-defined]
from .settings import Architecture as Architecture
from .settings import Data as Data
from .settings import Experiment as Experiment
from .settings import File as File  # type: ignore[attr-defined]
from .settings import Model as Model
from .settings import from_json as from_json
from .settings import to_json as to_json
