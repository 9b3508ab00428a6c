from .apply_run import Drawn as Drawn
from .apply_run import reconstruct as reconstruct
from .apply_run import sample as sample
from .branch_run import branch as branch
from .load_run import Trained as Trained

# Where it was in 0.1; its home is `mimachine.experiment`.
from .load_run import build as build  # type: ignore[attr-defined]
from .load_run import load as load
from .load_run import open_model as open_model
from .load_run import open_run as open_run
from .measure_run import measure as measure
from .prepare_run import check as check
from .prepare_run import objective as objective
from .prepare_run import prepare as prepare
from .prepare_run import sources as sources
from .refit_run import Refitted as Refitted
from .refit_run import refit as refit
from .select_data import select as select
from .tables.apply_table import fill_table as fill_table
from .tables.apply_table import sample_table as sample_table
from .tables.score_rows import score_rows as score_rows
from .train_run import resume as resume
from .train_run import train as train
