"""`MIMImputer`: fill in missing values of tables."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OneToOneFeatureMixin, TransformerMixin

from mimachine._support.checks import whole
from mimachine.data.dataset import Dataset
from mimachine.estimation.tables.impute import impute
from mimachine.estimation.tables.proposal import TableProposal, fit_proposal, recipe
from mimachine.estimator.base import Fitted
from mimachine.estimator.reader import given
from mimachine.model.joint import Joint
from mimachine.training.recipe import Training
from mimachine.workflow.tables.stored_frame import is_frame

__all__ = ["MIMImputer"]


class MIMImputer(OneToOneFeatureMixin, TransformerMixin, Fitted):
    """Fill in missing values of tables by a Mutual Information Machine.

    Codes are drawn given what is known of a row, by importance resampling, and the missing values
    from the decoder: numbers become the value next to the mean, and categories the most probable
    one. Values are assumed to be missing at random. Known values stay as they are. Columns without
    any value in training stay as they are, too.

    Args:
        n_components: As for `MIMEncoder`.
        hidden: As for `MIMEncoder`.
        columns: As for `MIMEncoder`.
        draws: Number of codes drawn for each incomplete row.
        max_epochs: As for `MIMEncoder`.
        training: As for `MIMEncoder`.
        validation_fraction: As for `MIMEncoder`.
        device: As for `MIMEncoder`.
        random_state: As for `MIMEncoder`.
        verbose: As for `MIMEncoder`.

    Attributes:
        model_: The trained model, an `mm.Joint` in double precision.
        generator_: The same with the prior that was fitted to the codes.
        proposal_: The distribution that codes are drawn from. `mm.impute(imputer.generator_,
            imputer.rows(X), proposal=imputer.proposal_)` gives intervals, probabilities and draws.
        n_features_in_: Number of columns.
        feature_names_in_: Names of the columns, for data frames.

    Example:
        >>> import numpy as np
        >>> x = np.linspace(0, 1, 200)[:, None] * [1.0, 2.0, 3.0]
        >>> x[5, 1] = np.nan
        >>> filled = mm.MIMImputer(random_state=0, max_epochs=40).fit_transform(x)
        >>> bool(np.isnan(filled).any())
        False
    """

    proposal_: TableProposal

    def __init__(
        self,
        n_components: int | None = None,
        *,
        hidden: tuple[int, ...] = (300,),
        columns: Any = None,
        draws: int = 1000,
        max_epochs: int | None = None,
        training: Training | None = None,
        validation_fraction: float = 0.1,
        device: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            n_components,
            hidden=hidden,
            likelihood="columns",
            columns=columns,
            max_epochs=max_epochs,
            training=training,
            validation_fraction=validation_fraction,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
        self.draws = draws

    def transform(self, X: Any) -> Any:
        """Fill in the missing values.

        Args:
            X: Data with the columns of training.

        Returns:
            A copy of X: a data frame of the same library for a data frame, and otherwise an array.

        Raises:
            ValueError: If X cannot be used.
        """
        X = given(X)
        rows = self.rows(X)
        draws = whole("draws", self.draws, 1)
        found = impute(self.generator_, rows, proposal=self.proposal_, draws=draws, keep=1)
        complete = self._reader.data.table(found.rows)
        if not is_frame(X):
            return self._filled_array(X, complete)
        return self._reader.filled_frame(X, rows, complete)

    def _filled_array(self, x: Any, complete: Any) -> NDArray[Any]:
        values = x.toarray() if hasattr(x, "toarray") else np.array(x)
        if values.dtype.kind not in "fO":
            return values
        names = self._reader.names
        assert names is not None
        for name in complete.columns:
            column = values[:, names.index(name)]
            # A missing value is None, or differs from itself.
            holes = np.array([value is None or value != value for value in column], dtype=bool)
            column[holes] = np.asarray(complete[name].to_list(), dtype=values.dtype)[holes]
        return values

    def _trained_too(self, generator: Joint, data: Dataset, training: Training) -> TableProposal:
        train = data.train[:]
        given = recipe(len(train), training.seed)
        if self.max_epochs is not None:
            given = dataclasses.replace(given, epochs=min(given.epochs, training.epochs))
        held_out = data.val if self.validation_fraction else None
        return fit_proposal(
            generator, train, held_out, training=given, seed=training.seed, progress=False
        )

    def _after_fit(self, data: Dataset, more: Any) -> None:
        self.proposal_ = more.double()
