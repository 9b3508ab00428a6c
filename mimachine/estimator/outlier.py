"""`MIMOutlier`: unusual rows of tables, arrays and images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OutlierMixin

from mimachine._support.checks import real
from mimachine.data.dataset import Dataset
from mimachine.estimation.likelihood.by_row import log_likelihood_by_row
from mimachine.estimation.tables.scores import Scores, score_at_mean
from mimachine.estimator.base import Fitted
from mimachine.training.recipe import Training

__all__ = ["MIMOutlier"]

_MOST_REFERENCES = 10_000


class MIMOutlier(OutlierMixin, Fitted):
    """Outlier detection by a Mutual Information Machine.

    Rows of tables are scored by column: how many training rows have a value that is at least as
    unlikely, given the row's code, combined over the columns. Other rows are scored by their
    log-likelihood.

    Args:
        contamination: Share of the training rows that count as outliers, in (0, 0.5].
        n_components: As for `MIMEncoder`.
        hidden: As for `MIMEncoder`.
        objective: As for `MIMEncoder`.
        likelihood: As for `MIMEncoder`.
        columns: As for `MIMEncoder`.
        max_epochs: As for `MIMEncoder`.
        training: As for `MIMEncoder`.
        validation_fraction: As for `MIMEncoder`.
        device: As for `MIMEncoder`.
        random_state: As for `MIMEncoder`.
        verbose: As for `MIMEncoder`.

    Attributes:
        offset_: Scores below it are those of outliers.
        model_: The trained model, an `mm.Joint`; in double precision, but for convolutions.
        generator_: The same with the prior that was fitted to the codes.
        n_features_in_: Number of columns, or of values per image.
        feature_names_in_: Names of the columns, for data frames.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(200, 3))
        >>> outlier = mm.MIMOutlier(random_state=0, max_epochs=20).fit(x)
        >>> outlier.predict([[0.0, 0.0, 0.0], [50.0, -50.0, 50.0]])
        array([ 1, -1])
    """

    def __init__(
        self,
        contamination: float = 0.05,
        *,
        n_components: int | None = None,
        hidden: tuple[int, ...] = (300,),
        objective: str = "a-mim",
        likelihood: str = "auto",
        columns: Any = None,
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
            objective=objective,
            likelihood=likelihood,
            columns=columns,
            max_epochs=max_epochs,
            training=training,
            validation_fraction=validation_fraction,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
        self.contamination = contamination

    def fit(self, X: Any, y: Any = None) -> Any:
        """Train the model, and choose the offset by the scores of the training rows.

        Args:
            X: As for `MIMEncoder.fit`.
            y: Ignored.

        Raises:
            ValueError: If X cannot be used, or a parameter is out of range.
            FloatingPointError: If the loss is not finite.
        """
        share = real("contamination", self.contamination, 0, above=True)
        if share > 0.5:
            raise ValueError(f"contamination must be at most 0.5, got {share}")
        super().fit(X)
        self.offset_ = float(np.percentile(self.score_samples(X), 100 * share))
        return self

    def _after_fit(self, data: Dataset, more: Any) -> None:
        self._reference: Scores | None = None
        if self._reader.is_table:
            self._reference = score_at_mean(self.generator_, data.train[:_MOST_REFERENCES])

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """How usual rows are; outliers have low scores.

        Args:
            X: Data with the columns of training.

        Returns:
            Shape (n_samples,).

        Raises:
            ValueError: If X cannot be used.
        """
        rows = self.rows(X)
        scores: NDArray[np.float64]
        if self._reference is not None:
            scores = -score_at_mean(self.generator_, rows).anomaly(self._reference).numpy()
        else:
            scores = log_likelihood_by_row(self.generator_, rows).numpy()
            scores = scores - self._reader.data.log_volume
        return scores

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Scores less the offset: negative for outliers.

        Args:
            X: Data with the columns of training.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """-1 for outliers and 1 for other rows.

        Args:
            X: Data with the columns of training.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)
